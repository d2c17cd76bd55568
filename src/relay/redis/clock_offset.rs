//! Whether this host's clock and Redis' say the same. A node believes nothing of another that is a minute old, and takes no
//! assertion that is not valid yet: whose clock is off is seen by Redis', which all nodes ask, before anybody asks for anything.

use parking_lot::Mutex;

/// Half of what two nodes may be apart.
const MOST_MS: i64 = 30_000;

/// How far this host's clock is ahead of Redis', as far as it was said; below zero, behind it.
#[derive(Debug, Default)]
pub(super) struct ClockOffset(Mutex<Option<i64>>);

impl ClockOffset {
    /// Servers have said their time between these two moments of this host's, all in milliseconds since the epoch.
    pub(super) fn note(&self, before: u64, after: u64, servers: &[u64]) {
        // The answer may have taken all of the time on either way, so this is what it is at least; and of several servers the
        // one that is nearest is right, if any is.
        let at_least = |server: &u64| {
            let (since, until) = (signed(before) - signed(*server), signed(after) - signed(*server));
            if since > 0 { since } else { until.min(0) }
        };
        if let Some(offset) = servers.iter().map(at_least).min_by_key(|offset| offset.abs()) {
            *self.0.lock() = Some(offset);
        }
    }

    /// In milliseconds, if it is known.
    pub(super) fn ms(&self) -> Option<i64> {
        *self.0.lock()
    }

    /// Whether it is so far off that this node can't do its part.
    pub(super) fn is_off(&self) -> bool {
        self.ms().is_some_and(|offset| offset.abs() > MOST_MS)
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_by_what_the_way_to_redis_does_not_explain() {
        let offset = ClockOffset::default();
        assert_eq!((offset.ms(), offset.is_off()), (None, false));
        for (before, after, servers, wanted) in [
            (1_000, 3_000, &[2_000][..], 0),
            (1_000, 3_000, &[900], 100),
            (1_000, 3_000, &[3_500], -500),
            (90_000, 90_010, &[90_005, 10_000], 0),
            (90_000, 90_010, &[10_000, 20_000], 70_000),
        ] {
            offset.note(before, after, servers);
            assert_eq!(offset.ms(), Some(wanted), "{servers:?}");
        }
        assert!(offset.is_off());
        offset.note(1_000, 1_001, &[]);
        assert!(offset.is_off(), "nobody has said anything else");
        offset.note(1_000, 1_001, &[31_500]);
        assert_eq!((offset.ms(), offset.is_off()), (Some(-30_499), true));
    }
}
