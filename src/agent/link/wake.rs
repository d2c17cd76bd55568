//! Notices that the host has slept, or that its clock was set: the wall clock then says something else than the time that
//! has passed for this process (on Linux, that stands still while the host sleeps).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::clock::Clock;

/// Clocks drift, and a busy host is late: less than this is no jump. More, and a connection may be dead without a word.
const JUMP: Duration = Duration::from_secs(15);

pub(super) struct Wake {
    clock: Arc<dyn Clock>,
    often: Duration,
    /// What both clocks said a moment ago.
    before: (u64, Instant),
}

impl Wake {
    /// Looks so often.
    pub(super) fn new(clock: Arc<dyn Clock>, often: Duration) -> Self {
        let before = (clock.now_ms(), Instant::now());
        Self { clock, often, before }
    }

    /// Resolves at the next jump, with its length, forwards or backwards. It may be dropped and called again.
    pub(super) async fn jumped(&mut self) -> Duration {
        loop {
            sleep(self.often.saturating_sub(self.before.1.elapsed())).await;
            let now = (self.clock.now_ms(), Instant::now());
            let passed = u64::try_from(now.1.duration_since(self.before.1).as_millis()).unwrap_or(u64::MAX);
            let jump = Duration::from_millis(now.0.abs_diff(self.before.0.saturating_add(passed)));
            self.before = now;
            if jump > JUMP {
                return jump;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::agent::testing::deadline;
    use crate::clock::System;

    const OFTEN: Duration = Duration::from_millis(5);

    /// The system's clock, so many milliseconds ahead.
    struct Ahead(AtomicU64);
    impl Clock for Ahead {
        fn now_ms(&self) -> u64 {
            System.now_ms() + self.0.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn a_jump_is_noticed_once_in_either_direction_and_a_small_step_is_none() {
        let clock = Arc::new(Ahead(AtomicU64::new(0)));
        let mut wake = Wake::new(clock.clone(), OFTEN);
        for ahead in [3_600_000, 60_000] {
            let before = clock.0.swap(ahead, Ordering::SeqCst);
            let jump = deadline(wake.jumped()).await;
            let off = jump.abs_diff(Duration::from_millis(before.abs_diff(ahead)));
            assert!(off < Duration::from_secs(2), "{jump:?}");
        }
        clock.0.fetch_add(10_000, Ordering::SeqCst);
        assert!(tokio::time::timeout(20 * OFTEN, wake.jumped()).await.is_err());
    }
}
