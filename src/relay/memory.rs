//! A node knows how much memory it may have, and turns newcomers away before the kernel ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::host;
use crate::telemetry::limit::Limit;
use crate::telemetry::metrics::Metrics;

/// Above this part of what it may have, a node takes no new connection, no body and no question for agents; sessions and what is under way go on.
const HIGH: f64 = 0.70;
/// Below this part it takes them again.
const LOW: f64 = 0.65;
/// A process that is flooded grows by some 100 MiB in a second.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How much memory there is, and whether that is enough.
pub struct Memory {
    process: host::memory::Memory,
    short: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Memory {
    /// Of this process.
    #[must_use]
    pub fn of_process(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { process: host::memory::Memory::of_process(), short: AtomicBool::new(false), metrics })
    }

    /// As it is when there is none left.
    #[cfg(test)]
    pub(super) fn used_up(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { process: host::memory::Memory::of_process(), short: AtomicBool::new(true), metrics })
    }

    /// The most that it may have, in bytes, if that is known.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.process.limit()
    }

    /// Whether newcomers are turned away.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// Looks at it for ever.
    pub async fn watch(self: Arc<Self>) {
        let Some(limit) = self.limit() else { return };
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if let Some(used) = self.process.used() {
                self.note(used, limit);
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "no memory is so large")]
    fn note(&self, used: u64, limit: u64) {
        let part = used as f64 / limit as f64;
        let was = self.is_short();
        let is = part > if was { LOW } else { HIGH };
        self.short.store(is, Ordering::Relaxed);
        if is && !was {
            self.metrics.limit_hit(Limit::Memory);
            tracing::warn!(used, limit, "memory is short: no new connections and bodies are taken");
        } else if was && !is {
            tracing::info!(used, limit, "memory suffices again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_are_turned_away_above_the_mark_and_until_it_is_well_below() {
        let memory = Memory::of_process(Arc::new(Metrics::new().unwrap()));
        let short = |used| {
            memory.note(used, 100);
            memory.is_short()
        };
        assert_eq!([69, 71, 66, 64, 69, 71].map(short), [false, true, true, false, false, true]);
    }
}
