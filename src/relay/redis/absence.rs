//! What comes by itself: servers that are not there yet, read their data, or are about to change places. A node that starts
//! waits for that. What an operator has to change is no reason to wait.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::link::refusal;
use crate::relay::writes::Cause;

/// What stands in an error of a whole Cluster, whose kind the library does not keep, and does not go away: TLS, and a server
/// that is no Cluster.
const LASTING: [&str; 4] = ["certificate", "fatal alert", "corrupt message", "cluster support disabled"];
/// A server that has no room for another client now.
const CROWDED: &str = "max number of clients";

/// Whether waiting may help.
pub(super) fn may_pass(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, ReadOnly, TryAgain};
    match error.kind() {
        ErrorKind::Io => !lasts(error),
        // No sentinel has named a master that says of itself that it is one.
        ErrorKind::MasterNameNotFoundBySentinel | ErrorKind::ClusterConnectionNotFound => true,
        ErrorKind::Server(BusyLoading | ClusterDown | MasterDown | ReadOnly | TryAgain) => true,
        _ if refusal(error) == Some(Cause::Rights) => false,
        _ => refusal(error).is_some() || error.code() == Some("BUSY") || error.to_string().contains(CROWDED),
    }
}

fn lasts(error: &RedisError) -> bool {
    match error.source().and_then(io_error).map(io::Error::kind) {
        // So the link says what is wrong with TLS.
        Some(kind) => matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput),
        None => {
            let said = error.to_string();
            LASTING.iter().any(|word| said.contains(word))
        }
    }
}

fn io_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    // The library shares it.
    let shared = cause.downcast_ref::<Arc<dyn Error + Send + Sync>>();
    shared.map_or_else(|| cause.downcast_ref(), |shared| shared.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: &str) -> RedisError {
        let line = format!("-{code} what a server says\r\n");
        let value = redis::parse_redis_value(line.as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn what_a_server_says_while_it_comes_up_or_changes_places_passes_and_what_an_operator_has_to_change_does_not() {
        for code in
            ["LOADING", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "TRYAGAIN", "BUSY", "OOM", "MISCONF", "NOREPLICAS"]
        {
            assert!(may_pass(&server(code)), "{code}");
        }
        for code in ["WRONGPASS", "NOAUTH", "NOPERM", "ERR", "MOVED", "CROSSSLOT"] {
            assert!(!may_pass(&server(code)), "{code}");
        }
        assert!(may_pass(&(ErrorKind::MasterNameNotFoundBySentinel, "no master").into()));
        assert!(!may_pass(&(ErrorKind::InvalidClientConfig, "no url").into()));
        assert!(!may_pass(&(ErrorKind::Parse, "no redis").into()));
    }

    #[test]
    fn nobody_there_passes_and_a_certificate_that_is_refused_does_not() {
        let io = |kind, said: &'static str| RedisError::from(io::Error::new(kind, said));
        for kind in [
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::TimedOut,
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::HostUnreachable,
            io::ErrorKind::Other,
        ] {
            assert!(may_pass(&io(kind, "nobody there")), "{kind}");
        }
        assert!(!may_pass(&io(io::ErrorKind::InvalidData, "TLS failed")));
        let of_a_cluster = |said: &str| RedisError::from((ErrorKind::Io, "Failed to create", said.to_owned()));
        assert!(may_pass(&of_a_cluster("Connection refused (os error 111)")));
        assert!(!may_pass(&of_a_cluster("invalid peer certificate: UnknownIssuer")));
    }
}
