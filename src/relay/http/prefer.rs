//! `Prefer: wait=N` and `Prefer: respond-async` (RFC 7240).

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};

/// Without a preference: what a person before a screen, and a proxy's idle time-out, still bear.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// No command lives longer.
const MAX_WAIT: Duration = crate::protocol::limits::MAX_COMMAND_LIFETIME;

/// How long the caller is willing to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// He has said nothing about it that can be read.
    Default,
    /// Not at all: `respond-async` alone.
    Not,
    /// So long: `wait=N`, with `respond-async` (whose own example in the RFC is that) or without.
    For(Duration),
}

impl Wait {
    /// The first `wait` counts, wherever it stands. What can't be read is ignored (RFC 7240 §2).
    fn of<'a>(headers: impl Iterator<Item = &'a str>) -> Self {
        let mut asynchronous = Self::Default;
        for preference in headers.flat_map(|header| header.split(',')) {
            let preference = preference.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            if preference == "respond-async" {
                asynchronous = Self::Not;
            }
            let Some((name, value)) = preference.split_once('=') else { continue };
            let seconds = value.trim().trim_matches('"').parse();
            if let (true, Ok(seconds)) = (name.trim() == "wait", seconds) {
                return Self::For(Duration::from_secs(seconds).min(MAX_WAIT));
            }
        }
        asynchronous
    }

    pub(super) fn duration(self) -> Duration {
        match self {
            Self::Default => DEFAULT_WAIT,
            Self::Not => Duration::ZERO,
            Self::For(wait) => wait,
        }
    }

    /// `Preference-Applied` (RFC 7240 §3).
    pub(super) fn applied(self) -> Option<(HeaderName, HeaderValue)> {
        let name = HeaderName::from_static("preference-applied");
        match self {
            Self::Default => None,
            Self::Not => Some((name, HeaderValue::from_static("respond-async"))),
            Self::For(wait) => {
                HeaderValue::try_from(format!("wait={}", wait.as_secs())).ok().map(|value| (name, value))
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Wait {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts.headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preference_is_read_wherever_it_stands() {
        let of = |headers: &[&'static str]| Wait::of(headers.iter().copied());
        let seconds = |seconds| Wait::For(Duration::from_secs(seconds));
        assert_eq!(of(&["wait=5"]), seconds(5));
        assert_eq!(of(&["handling=lenient, Wait = \"7\"; x"]), seconds(7));
        assert_eq!(of(&["respond-async"]), Wait::Not);
        assert_eq!(of(&["respond-async, wait=10"]), seconds(10));
        assert_eq!(of(&["wait=10, respond-async"]), seconds(10));
        assert_eq!(of(&["respond-async", "wait=10", "wait=20"]), seconds(10));
        assert_eq!(of(&["wait=99999"]), Wait::For(MAX_WAIT));
        assert_eq!(of(&["respond-async, wait=soon"]), Wait::Not);
        for unreadable in ["wait=soon", "wait=-1", "wait=1.5", "wait", ""] {
            assert_eq!(of(&[unreadable]), Wait::Default, "{unreadable}");
        }
    }
}
