//! Time and randomness as parameters, so that a test can hold both in its hand.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// Whole seconds since the Unix epoch: the `NumericDate` of RFC 7519 §2, which every object on the wire uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(transparent)]
pub struct UnixTime(pub i64);

impl<'de> Deserialize<'de> for UnixTime {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seconds;
        impl Visitor<'_> for Seconds {
            type Value = UnixTime;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of whole seconds since the Unix epoch")
            }
            fn visit_i64<E: Error>(self, seconds: i64) -> Result<UnixTime, E> {
                Ok(UnixTime(seconds))
            }
            fn visit_u64<E: Error>(self, seconds: u64) -> Result<UnixTime, E> {
                i64::try_from(seconds).map(UnixTime).map_err(|_| E::invalid_value(Unexpected::Unsigned(seconds), &self))
            }
        }
        from.deserialize_i64(Seconds)
    }
}

impl UnixTime {
    /// This time, later by `span` (whole seconds; the rest is cut off).
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(span.as_secs()))
    }

    /// This time, earlier by `span` (whole seconds; the rest is cut off).
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub_unsigned(span.as_secs()))
    }

    /// How long until `later`; zero if it has passed.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_secs(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The wall clock.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;

    /// Seconds since the Unix epoch.
    fn now(&self) -> UnixTime {
        UnixTime(i64::try_from(self.now_ms() / 1000).unwrap_or(i64::MAX))
    }
}

/// Bytes nobody can guess.
pub trait Random: Send + Sync + 'static {
    /// Fills `buffer`.
    fn fill(&self, buffer: &mut [u8]);

    /// Evenly between nothing and `bound`.
    fn within(&self, bound: Duration) -> Duration {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        bound.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
    }
}

/// The operating system's clock and random generator.
#[derive(Debug)]
pub struct System;

impl System {
    /// As the clock parameter.
    #[must_use]
    pub fn clock() -> Arc<dyn Clock> {
        Arc::new(Self)
    }

    /// As the randomness parameter.
    #[must_use]
    pub fn random() -> Arc<dyn Random> {
        Arc::new(Self)
    }
}

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the operating system's clock")]
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Random for System {
    #[expect(clippy::expect_used, reason = "without randomness nothing may go on: no key, no id, no nonce is safe")]
    fn fill(&self, buffer: &mut [u8]) {
        aws_lc_rs::rand::fill(buffer).expect("the operating system gives no random bytes");
    }
}

/// All its bytes are the same.
#[cfg(test)]
pub(crate) struct Fixed(pub(crate) u8);

#[cfg(test)]
impl Random for Fixed {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(self.0);
    }
}
