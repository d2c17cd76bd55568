//! Whether this node's own channel works: what it says to itself comes back.

use std::time::Duration;

use tokio::time::Instant;

/// So long without a probe means that the subscription is dead.
pub(super) const SILENCE: Duration = Duration::from_secs(3);
/// From here through Redis and back takes no longer, if all is well.
const SLOW: Duration = Duration::from_millis(250);
/// So many slow ones, one after another, are no matter of a moment.
const SLOW_PROBES: u32 = 5;

/// What the node's probes have shown.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// One has come back, some time.
    proved: bool,
    /// Since when Redis has taken probes that have not come back.
    missing_since: Option<Instant>,
    /// When it last spoke.
    spoke: Option<Instant>,
    /// When it last heard itself.
    heard: Option<Instant>,
    /// How long the last one took.
    took: Duration,
    /// So many of the last took long.
    slow: u32,
}

impl Hearing {
    /// It speaks to itself.
    pub(super) fn speaks(&mut self, now: Instant) {
        self.spoke = Some(now);
    }

    /// Redis has taken a probe, or has not answered. Where that is slow, the probe may be back before the answer.
    pub(super) fn said(&mut self, taken: bool, now: Instant) {
        let is_missing = taken && self.spoke.is_some();
        self.missing_since = if is_missing { self.missing_since.or(Some(now)) } else { None };
    }

    /// A probe has come back. How long it took, if it is the last one.
    pub(super) fn heard(&mut self, now: Instant) -> Option<Duration> {
        (self.proved, self.missing_since, self.heard) = (true, None, Some(now));
        let took = now.duration_since(self.spoke.take()?);
        self.took = took;
        self.slow = if took > SLOW { self.slow.saturating_add(1) } else { 0 };
        Some(took)
    }

    /// Since it last heard itself.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.heard.map(|heard| now.duration_since(heard))
    }

    /// How long the last probe took, if it was not the first that took long.
    pub(super) fn slowness(&self) -> Option<Duration> {
        (self.slow >= SLOW_PROBES).then_some(self.took)
    }

    /// Whether the channel works, as far as Redis answers at all.
    pub(super) fn works(&self, now: Instant) -> bool {
        self.proved && self.missing_since.is_none_or(|since| now.duration_since(since) < SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_is_slow_when_it_was_so_for_some_seconds_and_no_longer_after_one_quick_answer() {
        let (mut hearing, mut now) = (Hearing::default(), Instant::now());
        let mut probe = |hearing: &mut Hearing, took: Duration| {
            hearing.speaks(now);
            now += took;
            hearing.heard(now);
            hearing.slowness()
        };
        for _ in 1..SLOW_PROBES {
            assert_eq!(probe(&mut hearing, SLOW * 2), None);
        }
        assert_eq!(probe(&mut hearing, SLOW * 3), Some(SLOW * 3));
        assert_eq!(probe(&mut hearing, SLOW), None);
    }

    #[test]
    fn a_probe_that_is_back_before_redis_says_that_it_took_it_is_not_missing() {
        let (mut hearing, mut now) = (Hearing::default(), Instant::now());
        hearing.speaks(now);
        hearing.heard(now);
        hearing.said(true, now);
        now += SILENCE * 2;
        assert!(hearing.works(now));
    }

    #[test]
    fn a_node_is_deaf_only_while_redis_takes_what_does_not_come_back() {
        let (mut hearing, mut now) = (Hearing::default(), Instant::now());
        hearing.speaks(now);
        hearing.said(true, now);
        assert!(!hearing.works(now), "nothing is proved yet");
        hearing.heard(now);
        for _ in 0..10 {
            assert!(hearing.works(now), "Redis is away, for all nodes perhaps");
            hearing.said(false, now);
            now += SILENCE;
        }
        hearing.speaks(now);
        hearing.said(true, now);
        now += SILENCE / 2;
        hearing.speaks(now);
        hearing.said(true, now);
        assert!(hearing.works(now));
        now += SILENCE / 2;
        assert!(!hearing.works(now));
        hearing.heard(now);
        assert!(hearing.works(now));
        hearing.speaks(now);
        now += SILENCE;
        assert_eq!((hearing.age(now), hearing.heard(now)), (Some(SILENCE), Some(SILENCE)));
        assert_eq!((hearing.age(now), hearing.heard(now)), (Some(Duration::ZERO), None));
    }
}
