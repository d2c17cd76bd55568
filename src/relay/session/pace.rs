//! How often something may come on a session: the generic cell rate algorithm, which remembers one moment.

use std::time::Duration;

use tokio::time::Instant;

/// One in each interval, and some at once.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    interval: Duration,
    /// How far ahead of its interval one may come.
    tolerance: Duration,
}

impl Rate {
    /// One in each `interval`, and `burst` at once after a pause.
    #[must_use]
    pub const fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, tolerance: interval.saturating_mul(burst.saturating_sub(1)) }
    }

    /// So many in a second; in a moment, twice as many.
    #[must_use]
    pub fn per_second(number: u32) -> Self {
        Self::new(Duration::from_secs(1) / number.max(1), number.max(1).saturating_mul(2))
    }
}

/// What has come so far.
pub(super) struct Pace {
    rate: Rate,
    /// When the next one would come, if each came in its interval.
    next: Instant,
}

impl Pace {
    pub(super) fn starting(rate: Rate, now: Instant) -> Self {
        Self { rate, next: now }
    }

    /// When the next one may come, if it may not at `now`.
    pub(super) fn wait(&self, now: Instant) -> Option<Instant> {
        let early = self.next.saturating_duration_since(now);
        (early > self.rate.tolerance).then(|| now + (early - self.rate.tolerance))
    }

    /// One has come.
    pub(super) fn take(&mut self, now: Instant) {
        self.next = self.next.max(now) + self.rate.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_as_many_as_in_a_second_come_at_once_and_then_one_in_each_interval() {
        let begun = Instant::now();
        let mut pace = Pace::starting(Rate::per_second(10), begun);
        let mut now = begun;
        for n in 0..20 {
            assert_eq!(pace.wait(now), None, "{n}");
            pace.take(now);
        }
        for _ in 0..5 {
            let next = pace.wait(now).expect("it has to wait");
            assert_eq!(next - now, Duration::from_millis(100));
            now = next;
            assert_eq!(pace.wait(now), None);
            pace.take(now);
        }
        // What was not used is not saved for more than a moment.
        now += Duration::from_secs(3600);
        (0..20).for_each(|_| pace.take(now));
        assert!(pace.wait(now).is_some());
    }
}
