//! Which keys are known, and when the provider is asked again. No IO, and time is a parameter.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::refused::TokenRefused;
use crate::protocol::jose::IssuerKeys;

/// After this time the provider is asked before its keys are used again: a key that it has withdrawn is taken no longer.
const FRESH: Duration = Duration::from_secs(15 * 60);
/// So long keys are used while the provider is away.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// So long after an attempt that failed there is no other.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// An unknown `kid` has the provider asked at most so often: anybody can make one up.
const FOR_UNKNOWN: Duration = Duration::from_secs(30);

/// Which keys are known.
#[derive(Default)]
pub(super) struct Known {
    held: Option<(Arc<IssuerKeys>, Instant)>,
    /// The last attempt, if it failed.
    failed: Option<(String, Instant)>,
    asked_for_unknown: Option<Instant>,
}

impl Known {
    /// Whether the provider is to be asked before a token is looked at.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let fresh = self.held.as_ref().is_some_and(|(_, at)| now.duration_since(*at) < FRESH);
        !fresh && left(self.failed.as_ref().map(|(_, at)| *at), AFTER_FAILURE, now).is_none()
    }

    /// The keys that may be used.
    pub(super) fn keys(&self, now: Instant) -> Result<Arc<IssuerKeys>, TokenRefused> {
        match &self.held {
            Some((keys, at)) if now.duration_since(*at) < KEPT => Ok(Arc::clone(keys)),
            _ => Err(self.away(now)),
        }
    }

    /// Asks for leave to ask because of a `kid` that is not among the keys.
    pub(super) fn may_ask_for_unknown(&mut self, now: Instant) -> Result<(), TokenRefused> {
        if left(self.failed.as_ref().map(|(_, at)| *at), AFTER_FAILURE, now).is_some() {
            return Err(self.away(now));
        }
        if let Some(again) = left(self.asked_for_unknown, FOR_UNKNOWN, now) {
            return Err(TokenRefused::UnknownKey { again });
        }
        self.asked_for_unknown = Some(now);
        Ok(())
    }

    /// Takes the answer.
    pub(super) fn learn(&mut self, answer: Result<IssuerKeys, String>, now: Instant) {
        match answer {
            Ok(keys) => (self.held, self.failed) = (Some((Arc::new(keys), now)), None),
            Err(why) => self.failed = Some((why, now)),
        }
    }

    /// Whether the last attempt failed, and that means that nobody can tell.
    pub(super) fn away(&self, now: Instant) -> TokenRefused {
        let again = left(self.failed.as_ref().map(|(_, at)| *at), AFTER_FAILURE, now).unwrap_or_default();
        let why =
            self.failed.as_ref().map_or_else(|| "the issuer was not asked yet".to_owned(), |(why, _)| why.clone());
        TokenRefused::Away { why, again }
    }

    /// Whether the last attempt failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }
}

/// What is left of `span` since `at`.
fn left(at: Option<Instant>, span: Duration, now: Instant) -> Option<Duration> {
    span.checked_sub(now.duration_since(at?)).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn keys() -> IssuerKeys {
        let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a"}"#;
        IssuerKeys::parse(format!("{{\"keys\":[{jwk}]}}").as_bytes()).unwrap()
    }

    fn away() -> Result<IssuerKeys, String> {
        Err("it is away".to_owned())
    }

    #[test]
    fn keys_are_renewed_after_a_quarter_of_an_hour_and_outlive_the_issuers_absence_for_a_day() {
        let (mut known, start) = (Known::default(), Instant::now());
        assert!(known.is_due(start) && known.keys(start).is_err());
        known.learn(Ok(keys()), start);
        assert!(!known.is_due(start + FRESH - SECOND) && known.is_due(start + FRESH));
        known.learn(away(), start + FRESH);
        assert!(!known.is_due(start + FRESH + SECOND), "it was asked a moment ago");
        assert!(known.is_due(start + FRESH + AFTER_FAILURE));
        known.learn(away(), start + KEPT - SECOND);
        assert!(known.keys(start + KEPT - SECOND).is_ok());
        let refused = TokenRefused::Away { why: "it is away".to_owned(), again: AFTER_FAILURE - SECOND };
        assert_eq!(known.keys(start + KEPT).err(), Some(refused));
        known.learn(Ok(keys()), start + KEPT);
        assert!(known.keys(start + KEPT).is_ok() && !known.has_failed());
    }

    #[test]
    fn an_unknown_key_has_the_issuer_asked_at_once_and_then_not_for_half_a_minute() {
        let (mut known, start) = (Known::default(), Instant::now());
        known.learn(Ok(keys()), start);
        assert_eq!(known.may_ask_for_unknown(start), Ok(()));
        let refused = TokenRefused::UnknownKey { again: FOR_UNKNOWN - SECOND };
        assert_eq!(known.may_ask_for_unknown(start + SECOND), Err(refused));
        let later = start + FOR_UNKNOWN;
        assert_eq!(known.may_ask_for_unknown(later), Ok(()));
        known.learn(away(), later);
        let refused = TokenRefused::Away { why: "it is away".to_owned(), again: AFTER_FAILURE };
        assert_eq!(known.may_ask_for_unknown(later), Err(refused), "whether it is the issuer's can't be told");
    }
}
