//! How a session is lost.

use crate::agent::error::AgentError;
use crate::protocol::frame::{CloseReason, FrameError};
use crate::protocol::untrusted::Untrusted;

/// Why there is no session any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    /// The relay closed it and said why.
    #[error("the relay closed the session ({code} {})", reason.quoted())]
    Closed { code: u16, reason: Untrusted },
    /// The connection is gone.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Nothing came for two and a half heartbeat intervals.
    #[error("the relay has gone silent")]
    Silent,
    /// A frame was not taken off our hands in time.
    #[error("the relay takes no more frames")]
    Stuck,
    /// No `Welcome` in time.
    #[error("the relay did not answer the hello")]
    NoWelcome,
    /// What came is not what was expected.
    #[error("the relay sent {0}")]
    Frame(#[from] FrameError),
}

impl Lost {
    /// The error behind it, if the agent must not come back.
    pub(super) fn for_good(&self) -> Option<AgentError> {
        match self {
            Self::Closed { code, reason } if !CloseReason::may_come_back(*code) => {
                Some(match CloseReason::from_code(*code) {
                    Some(CloseReason::Revoked) => AgentError::Revoked,
                    Some(CloseReason::Displaced) => AgentError::Displaced,
                    Some(CloseReason::ForeignJournal) => AgentError::ForeignJournal,
                    _ => AgentError::Refused { code: *code, reason: reason.clone() },
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_code_says_whether_to_come_back() {
        let closed = |code| Lost::Closed { code, reason: Untrusted::default() }.for_good();
        assert!(matches!(closed(CloseReason::Revoked.code()), Some(AgentError::Revoked)));
        assert!(matches!(closed(CloseReason::Displaced.code()), Some(AgentError::Displaced)));
        assert!(matches!(closed(CloseReason::ForeignJournal.code()), Some(AgentError::ForeignJournal)));
        assert!(matches!(closed(CloseReason::ProtocolError.code()), Some(AgentError::Refused { code: 4500, .. })));
        assert!(matches!(closed(4999), Some(AgentError::Refused { .. })));
        for reason in [CloseReason::Drain, CloseReason::Overload, CloseReason::Silent, CloseReason::Internal] {
            assert!(closed(reason.code()).is_none(), "{reason:?}");
        }
        assert!(closed(1006).is_none() && Lost::Silent.for_good().is_none());
    }
}
