//! How a domain controller is reached: its name, and at one of its addresses TCP and TLS. Commands and the check take this
//! one way, so the check says what a command will meet.

use std::collections::HashSet;
use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout};

use super::config::Endpoint;
use super::connection::Connection;
use crate::net::doubt::Doubts;
use crate::net::names::Names;
use crate::net::race::{ATTEMPT_DELAY, Lost, Pace, race};
use crate::net::tcp;

/// How connections are opened.
pub(super) struct Dialer {
    pub(super) tls: Arc<ClientConfig>,
    pub(super) names: Arc<Names>,
    pub(super) start_tls: bool,
    pub(super) connect_timeout: Duration,
    pub(super) operation_timeout: Duration,
    /// Addresses that brought nothing a while ago: those of the same name come first.
    pub(super) doubts: Doubts<SocketAddr>,
}

/// A connection with TLS, on which nobody is bound yet, and what there was on the way.
pub(super) struct Dialled {
    pub(super) connection: Connection,
    /// Where the name leads.
    pub(super) addresses: Vec<SocketAddr>,
    /// What was tried beside or before.
    pub(super) in_vain: InVain,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// The name leads nowhere.
    #[error("{0}")]
    Name(String),
    /// No address takes a connection.
    #[error("no connection ({in_vain})")]
    NoTcp { addresses: Vec<SocketAddr>, in_vain: InVain },
    /// One takes it, and then there is no TLS that can be trusted.
    #[error("{in_vain}")]
    NoTls { addresses: Vec<SocketAddr>, in_vain: InVain },
}

/// Addresses that brought nothing, and why.
#[derive(Debug, Default)]
pub(super) struct InVain(Vec<Attempt>);

#[derive(Debug)]
struct Attempt {
    address: SocketAddr,
    /// Whether TCP was up.
    taken: bool,
    /// Whether this host has no way to the whole network, such as IPv6, which is no fault of the controller.
    no_way: bool,
    why: String,
}

/// Of an attempt that failed.
struct Fault {
    no_way: bool,
    why: String,
}

impl InVain {
    /// Whether one of them should have brought something.
    pub(super) fn is_a_fault(&self) -> bool {
        self.0.iter().any(|attempt| !attempt.no_way)
    }

    fn any_taken(&self) -> bool {
        self.0.iter().any(|attempt| attempt.taken)
    }
}

impl fmt::Display for InVain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            // Whose name leads to one address, or where TLS failed, is asked for by its name.
            [Attempt { taken: true, why, .. }] => f.write_str(why),
            several => several.iter().enumerate().try_for_each(|(at, Attempt { address, why, .. })| {
                write!(f, "{}{address}: {why}", if at == 0 { "" } else { "; " })
            }),
        }
    }
}

impl Dialer {
    /// TCP and TLS, at the first of the addresses where both come up. In all no longer than the connect timeout.
    pub(super) async fn open(&self, endpoint: &Endpoint) -> Result<Dialled, DialError> {
        let (began, host) = (Instant::now(), endpoint.host.as_str());
        let asked = timeout(self.connect_timeout, self.names.addresses(host, endpoint.port)).await;
        let addresses = match asked {
            Ok(addresses) => addresses.map_err(|error| DialError::Name(error.to_string()))?,
            Err(_) => {
                let seconds = self.connect_timeout.as_secs();
                return Err(DialError::Name(format!("{host}: the name servers did not answer within {seconds} s")));
            }
        };
        let taken = Mutex::new(HashSet::new());
        let places = self.doubts.in_order(tcp::alternating(addresses.clone()));
        let within = self.connect_timeout.saturating_sub(began.elapsed());
        let raced = race(places, within, |address, pace| self.attempt(host, address, pace, &taken)).await;
        self.doubts.learn(&raced);
        let taken = taken.into_inner();
        let attempt = |(address, lost)| {
            let Fault { no_way, why } = match lost {
                Lost::Failed(fault) => fault,
                Lost::Silent(after) => Fault { no_way: false, why: silent(after) },
            };
            Attempt { address, taken: taken.contains(&address), no_way, why }
        };
        let in_vain = InVain(raced.lost.into_iter().map(attempt).collect());
        match raced.won {
            Some((_, connection)) => Ok(Dialled { connection, addresses, in_vain }),
            None if in_vain.any_taken() => Err(DialError::NoTls { addresses, in_vain }),
            None => Err(DialError::NoTcp { addresses, in_vain }),
        }
    }

    async fn attempt(
        &self,
        host: &str,
        address: SocketAddr,
        pace: Pace,
        taken: &Mutex<HashSet<SocketAddr>>,
    ) -> Result<Connection, Fault> {
        let tcp = tcp::open(address).await.map_err(|error| {
            let no_way = matches!(error.kind(), ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable);
            Fault { no_way, why: error.to_string() }
        })?;
        taken.lock().insert(address);
        pace.allow(ATTEMPT_DELAY);
        let opened = Connection::over(tcp, address, host, &self.tls, self.start_tls, self.operation_timeout).await;
        opened.map_err(|why| Fault { no_way: false, why })
    }
}

fn silent(after: Duration) -> String {
    match after.as_secs() {
        0 => format!("no answer within {} ms", after.as_millis()),
        seconds => format!("no answer within {seconds} s"),
    }
}
