//! How long a session lasts: it is asked to move when it is old, so that agents spread over nodes that came later.

use std::time::Duration;

use tokio::time::Instant;

use super::{Ended, Session, Socket};
use crate::clock::Random;
use crate::protocol::frame::{CloseReason, FromRelay, v1};

/// A session that was asked to move is open for so long, should its agent find no other: its pauses are 60 s at most.
const MOVING_TIME: Duration = Duration::from_secs(300);
/// Within this time an agent whose session has become old opens another. Ages differ, so it need not be long.
const MOVING_SPREAD: Duration = Duration::from_secs(1);

/// What comes next in a session's life, and when.
#[derive(Clone, Copy, Debug)]
pub(super) enum Term {
    /// It is old, and is asked to move.
    Moves(Instant),
    /// It was asked to go, and closes.
    Closes(Instant, CloseReason),
}

impl Term {
    /// Between three quarters and the whole of `max_age` after `opened`.
    pub(super) fn starting(opened: Instant, max_age: Duration, random: &dyn Random) -> Self {
        Self::Moves(opened + max_age - random.within(max_age / 4))
    }

    /// Whether the agent was told to go.
    pub(super) fn was_told_to_go(self) -> bool {
        matches!(self, Self::Closes(..))
    }

    pub(super) fn at(self) -> Instant {
        match self {
            Self::Moves(at) | Self::Closes(at, _) => at,
        }
    }
}

impl<S: Socket> Session<'_, S> {
    /// What is due when its term has come.
    pub(super) fn term_has_come(&mut self) -> Result<(), Ended> {
        match self.term {
            Term::Closes(_, reason) => Err(Ended::Closed(reason)),
            Term::Moves(_) => {
                let reconnect_after = self.services.random.within(MOVING_SPREAD);
                self.go_away(CloseReason::Rebalance, millis(reconnect_after), millis(MOVING_TIME));
                Ok(())
            }
        }
    }

    /// Asks the agent to open another session in place of this one.
    pub(super) fn go_away(&mut self, reason: CloseReason, reconnect_after_ms: u32, close_after_ms: u32) {
        let closes_at = Instant::now() + Duration::from_millis(close_after_ms.into());
        self.term = Term::Closes(closes_at, reason);
        let reason = reason.as_str().to_owned();
        self.wire.send(FromRelay::GoAway(v1::GoAway { reason, reconnect_after_ms, close_after_ms }));
    }
}

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Fixed;

    #[test]
    fn sessions_that_opened_together_move_within_the_last_quarter() {
        let (age, opened) = (Duration::from_secs(3600), Instant::now());
        let at = |byte| (Term::starting(opened, age, &Fixed(byte)).at() - opened).as_secs();
        assert_eq!((at(0), at(0xff)), (3600, 2700));
        assert!((3100..3200).contains(&at(0x80)));
    }
}
