//! How a session ends, and what its agent is told about it.

use std::fmt::Display;

use super::SocketError;
use crate::protocol::frame::{CloseReason, FrameError};

/// A close frame has room for so many bytes of text (RFC 6455 §5.5, less the code).
const MAX_TEXT_BYTES: usize = 123;

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The relay closes it, for this reason.
    Closed(CloseReason),
    /// The relay closes it because of what the agent has sent.
    Faulty(Fault),
    /// The agent said that it leaves, and is gone.
    Left,
    /// The agent closed it after it was told to go.
    Moved,
    /// The agent closed it of its own accord, without leaving: it has another session on this node, for one.
    Dropped,
    /// The connection is gone.
    Lost,
}

/// What an agent has sent that it must not. It is for whoever writes that agent: never a value that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    reason: CloseReason,
    cause: String,
}

impl Fault {
    /// A frame that is none, or not now.
    pub(super) fn protocol(cause: impl Display) -> Self {
        Self { reason: CloseReason::ProtocolError, cause: cause.to_string() }
    }

    /// Bytes that are no WebSocket's.
    pub(super) fn websocket(cause: impl Display) -> Self {
        Self { reason: CloseReason::WebSocketError, cause: cause.to_string() }
    }

    /// An outcome that is not this agent's to give.
    pub(super) fn outcome(cause: impl Display) -> Self {
        Self { reason: CloseReason::ForeignOutcome, cause: cause.to_string() }
    }
}

impl Ended {
    /// In one word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Closed(reason) | Self::Faulty(Fault { reason, .. }) => reason.as_str(),
            Self::Left => "left",
            Self::Moved => "moved",
            Self::Dropped => "dropped",
            Self::Lost => "lost",
        }
    }

    /// What the agent did wrong.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::Faulty(fault) => Some(&fault.cause),
            _ => None,
        }
    }

    /// The code and the text of the relay's close frame, if it closes: the word, and behind it the cause.
    #[must_use]
    pub fn close_frame(&self) -> Option<(u16, String)> {
        match self {
            Self::Closed(reason) => Some((reason.code(), reason.as_str().to_owned())),
            Self::Faulty(Fault { reason, cause }) => {
                let mut text = format!("{}: {cause}", reason.as_str());
                let end = (0..=MAX_TEXT_BYTES).rev().find(|at| text.is_char_boundary(*at));
                text.truncate(end.unwrap_or_default());
                Some((reason.code(), text))
            }
            Self::Left | Self::Moved | Self::Dropped | Self::Lost => None,
        }
    }
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::Faulty(fault)
    }
}

impl From<SocketError> for Ended {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::Utf8 => Self::Closed(CloseReason::InvalidText),
            SocketError::WebSocket(cause) => Fault::websocket(cause).into(),
            SocketError::Text => Self::Closed(CloseReason::TextMessage),
            SocketError::Frame(FrameError::TooLarge(_)) => Self::Closed(CloseReason::FrameTooLarge),
            SocketError::Frame(error @ (FrameError::Malformed | FrameError::UnknownKind)) => {
                Fault::protocol(error).into()
            }
            SocketError::Lost(_) => Self::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_is_too_long_for_a_close_frame_is_cut_between_characters() {
        let (code, text) = Ended::from(Fault::outcome("é".repeat(200))).close_frame().unwrap();
        assert!(code == 1008 && text.starts_with("foreign_outcome: éé") && (122..=123).contains(&text.len()), "{text}");
    }
}
