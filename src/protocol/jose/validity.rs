//! `iat` and `exp`, judged the same way everywhere.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::JoseError;
use crate::clock::UnixTime;
use crate::protocol::json::form;
use crate::protocol::limits::MAX_CLOCK_AHEAD;

/// The claims `iat` and `exp` (RFC 7519 §4.1.4, §4.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Validity {
    /// Issued at.
    pub iat: UnixTime,
    /// Not to be used at or after this time.
    pub exp: UnixTime,
}

impl<'de> Deserialize<'de> for Validity {
    /// Objects hold it flattened, where serde forgets which of the two is not of its form.
    fn deserialize<D: Deserializer<'de>>(claims: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Both {
            iat: UnixTime,
            exp: UnixTime,
        }
        let Both { iat, exp } = serde_path_to_error::deserialize(claims)
            .map_err(|error| D::Error::custom(form(error.path(), &error.inner().to_string())))?;
        Ok(Self { iat, exp })
    }
}

impl Validity {
    /// From now on, for `lifetime`.
    #[must_use]
    pub fn starting(now: UnixTime, lifetime: Duration) -> Self {
        Self { iat: now, exp: now.plus(lifetime) }
    }

    /// Checks the shape, which does not change with time: `exp` after `iat`, at most `max_lifetime` apart.
    ///
    /// # Errors
    /// [`JoseError::Lifetime`].
    pub fn check_lifetime(&self, max_lifetime: Duration) -> Result<(), JoseError> {
        if self.exp <= self.iat || self.exp > self.iat.plus(max_lifetime) {
            return Err(JoseError::Lifetime { max_seconds: max_lifetime.as_secs() });
        }
        Ok(())
    }

    /// Checks that it is in force at `now`. No leeway on `exp`; `iat` may lie 60 s ahead.
    ///
    /// # Errors
    /// [`JoseError::Expired`], [`JoseError::NotYet`].
    pub fn check_now(&self, now: UnixTime) -> Result<(), JoseError> {
        if now >= self.exp {
            return Err(JoseError::Expired);
        }
        if self.iat > now.plus(MAX_CLOCK_AHEAD) {
            return Err(JoseError::NotYet);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn exp_has_no_leeway_and_iat_has_sixty_seconds() {
        let v = Validity::starting(UnixTime(1000), MINUTE);
        assert_eq!(v.check_now(UnixTime(1059)), Ok(()));
        assert_eq!(v.check_now(UnixTime(1060)), Err(JoseError::Expired));
        assert_eq!(v.check_now(UnixTime(940)), Ok(()));
        assert_eq!(v.check_now(UnixTime(939)), Err(JoseError::NotYet));
    }

    #[test]
    fn a_lifetime_is_positive_and_bounded_at_the_edges_of_time_too() {
        assert!(Validity::starting(UnixTime(0), HOUR).check_lifetime(HOUR).is_ok());
        assert!(Validity::starting(UnixTime(0), HOUR).check_lifetime(MINUTE).is_err());
        assert!(Validity { iat: UnixTime(5), exp: UnixTime(5) }.check_lifetime(HOUR).is_err());
        assert!(Validity { iat: UnixTime(i64::MIN), exp: UnixTime(i64::MAX) }.check_lifetime(HOUR).is_err());
    }
}
