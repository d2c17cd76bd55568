//! Pauses that double, with full jitter: after an outage, agents don't all come back at the same moment.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Random;

/// The pauses of one thing that is tried again.
pub(super) struct Backoff {
    base: Duration,
    max: Duration,
    tried: u32,
    random: Arc<dyn Random>,
}

impl Backoff {
    pub(super) fn new(base: Duration, max: Duration, random: Arc<dyn Random>) -> Self {
        Self { base, max, tried: 0, random }
    }

    /// Anything from nothing to twice the last upper bound.
    pub(super) fn pause(&mut self) -> Duration {
        let bound = self.base.saturating_mul(1_u32.checked_shl(self.tried).unwrap_or(u32::MAX)).min(self.max);
        self.tried = self.tried.saturating_add(1);
        self.random.within(bound)
    }

    /// It went well: begin with the shortest again.
    pub(super) fn reset(&mut self) {
        self.tried = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Fixed;

    #[test]
    fn the_bound_doubles_up_to_the_limit_and_the_pause_is_anywhere_below() {
        let seconds = Duration::from_secs;
        let mut longest = Backoff::new(seconds(1), seconds(60), Arc::new(Fixed(0xff)));
        let bounds: Vec<_> = (0..40).map(|_| longest.pause()).collect();
        assert_eq!(bounds[..7], [1, 2, 4, 8, 16, 32, 60].map(seconds));
        assert!(bounds[7..].iter().all(|b| *b == seconds(60)));
        longest.reset();
        assert_eq!(longest.pause(), seconds(1));
        assert_eq!(Backoff::new(seconds(1), seconds(60), Arc::new(Fixed(0))).pause(), Duration::ZERO);
    }

    /// Spread evenly, and the same in each run.
    struct Counting(std::sync::atomic::AtomicU32);
    impl Random for Counting {
        fn fill(&self, buffer: &mut [u8]) {
            let n = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let hash = crate::protocol::jose::sha256(&n.to_le_bytes());
            buffer.iter_mut().zip(hash).for_each(|(byte, of)| *byte = of);
        }
    }

    #[test]
    fn agents_that_lose_their_relay_together_come_back_spread_out() {
        let random: Arc<dyn Random> = Arc::new(Counting(0.into()));
        let base = Duration::from_secs(1);
        let mut agents: Vec<_> = (0..200).map(|_| Backoff::new(base, base * 60, Arc::clone(&random))).collect();
        for bound in [1, 2, 4] {
            let mut each_tenth = [0; 10];
            for agent in &mut agents {
                let part = agent.pause().as_secs_f64() / f64::from(bound);
                each_tenth[((part * 10.0) as usize).min(9)] += 1;
            }
            assert!(each_tenth.iter().all(|n| (8..=36).contains(n)), "twenty each, more or less: {each_tenth:?}");
        }
    }
}
