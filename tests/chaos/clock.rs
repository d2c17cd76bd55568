//! A clock that goes wrong by as much as the program says.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use writeback_relay::clock::{Clock, System};

/// No two clocks differ by more than 60 s, which is what the protocol promises to bear: each by less than half of that.
pub(crate) const MAX_SKEW_MS: u64 = 29_500;

/// The operating system's clock, and so much more or less. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Skewed(Arc<AtomicI64>);

impl Skewed {
    pub(crate) fn by(ms: i64) -> Self {
        Self(Arc::new(AtomicI64::new(ms)))
    }

    pub(crate) fn set(&self, ms: i64) {
        self.0.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn shared(&self) -> Arc<dyn Clock> {
        Arc::new(self.clone())
    }
}

impl Clock for Skewed {
    fn now_ms(&self) -> u64 {
        System.now_ms().saturating_add_signed(self.0.load(Ordering::Relaxed))
    }
}
