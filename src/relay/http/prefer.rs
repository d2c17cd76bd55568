//! `Prefer: wait=N` and `Prefer: respond-async` (RFC 7240).

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

/// Without a preference: what a person before a screen, and a proxy's idle time-out, still bear.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// No command lives longer.
const MAX_WAIT: Duration = crate::protocol::limits::MAX_COMMAND_LIFETIME;

/// How long the caller is willing to wait.
pub(super) struct Wait(pub(super) Duration);

fn parse(header: &str) -> Option<Duration> {
    header.split(',').find_map(|preference| {
        let preference = preference.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if preference == "respond-async" {
            return Some(Duration::ZERO);
        }
        let (name, value) = preference.split_once('=')?;
        let seconds = value.trim().trim_matches('"').parse().ok()?;
        (name.trim() == "wait").then_some(Duration::from_secs(seconds).min(MAX_WAIT))
    })
}

impl<S: Sync> FromRequestParts<S> for Wait {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let headers = parts.headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        // A preference that can't be read is ignored (RFC 7240 §2).
        Ok(Self(headers.filter_map(parse).next().unwrap_or(DEFAULT_WAIT)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preference_is_read_wherever_it_stands() {
        assert_eq!(parse("wait=5"), Some(Duration::from_secs(5)));
        assert_eq!(parse("handling=lenient, Wait = \"7\"; x"), Some(Duration::from_secs(7)));
        assert_eq!(parse("respond-async"), Some(Duration::ZERO));
        assert_eq!(parse("wait=99999"), Some(MAX_WAIT));
        assert_eq!(parse("wait=soon"), None);
    }
}
