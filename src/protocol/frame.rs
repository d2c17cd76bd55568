//! The frames of a session: `proto/writeback/v1/session.proto`.

use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};

use super::limits::MAX_FRAME_BYTES;

/// The messages, generated from the `.proto` file, whose comments say what they mean.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/writeback.v1.rs"));
}

pub use v1::agent_frame::Kind as FromAgent;
pub use v1::relay_frame::Kind as FromRelay;

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "writeback.v1";

/// Why a message is not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Over [`MAX_FRAME_BYTES`].
    #[error("a frame of {0} bytes; the limit is {MAX_FRAME_BYTES}")]
    TooLarge(usize),
    /// Not protobuf, or two frames in one message: Protobuf would take the last (or make one of two of a kind), and somebody
    /// else the first.
    #[error("not a frame of writeback.v1")]
    Malformed,
    /// A kind that is not known here.
    #[error("a frame of an unknown kind")]
    UnknownKind,
}

macro_rules! frame {
    ($kind:ident, $message:ident) => {
        impl $kind {
            /// Reads one binary message.
            ///
            /// # Errors
            /// If it is too large, malformed, of an unknown kind, or more than one. It never panics, whatever the bytes.
            pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
                if bytes.len() > MAX_FRAME_BYTES {
                    return Err(FrameError::TooLarge(bytes.len()));
                }
                let frame = v1::$message::decode(bytes).map_err(|_| FrameError::Malformed)?;
                let kind = frame.kind.ok_or(FrameError::UnknownKind)?;
                let (first, rest) = field(bytes)?;
                // What stands beside it may be of a newer version; not another kind.
                let is_kind = |field| v1::$message::decode(field).is_ok_and(|frame| frame.kind.is_some());
                let (mut kinds, mut rest) = (usize::from(rest.is_empty() || is_kind(first)), rest);
                while !rest.is_empty() {
                    let (next, behind) = field(rest)?;
                    kinds += usize::from(is_kind(next));
                    rest = behind;
                }
                if kinds == 1 { Ok(kind) } else { Err(FrameError::Malformed) }
            }

            /// Writes one binary message.
            #[must_use]
            pub fn encode_frame(self) -> Vec<u8> {
                v1::$message { kind: Some(self) }.encode_to_vec()
            }
        }
    };
}

/// The first field of a message, and what stands behind it.
fn field(message: &[u8]) -> Result<(&[u8], &[u8]), FrameError> {
    let mut behind = message;
    let (number, wire_type) = decode_key(&mut behind).map_err(|_| FrameError::Malformed)?;
    skip_field(wire_type, number, &mut behind, DecodeContext::default()).map_err(|_| FrameError::Malformed)?;
    message.split_at_checked(message.len() - behind.len()).ok_or(FrameError::Malformed)
}

frame!(FromAgent, AgentFrame);
frame!(FromRelay, RelayFrame);

/// Why the relay closes a session. 4000 to 4499 mean "come back", 4500 to 4999 "don't".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The node stops: come back, to another.
    Drain,
    /// Too many sessions open at once, or the store is too slow for them: come back later.
    Overload,
    /// A text message.
    TextMessage,
    /// A frame over the limit.
    FrameTooLarge,
    /// Text, in a message or a close frame, that is not UTF-8 (RFC 6455 §8.1).
    InvalidText,
    /// Bytes that are no frames of the WebSocket protocol (RFC 6455 §5).
    WebSocketError,
    /// An outcome for a command that does not name this agent, or in another agent's name.
    ForeignOutcome,
    /// Nothing heard for two and a half heartbeat intervals.
    Silent,
    /// No `Hello` in time.
    HelloTimeout,
    /// The relay can't go on with this session (its store is away).
    Internal,
    /// The session is old, and the agent did not move when it was asked to: come back.
    Rebalance,
    /// Not a frame, or one of an unknown kind.
    ProtocolError,
    /// The agent was revoked.
    Revoked,
    /// A newer process with the same identity has taken over.
    Displaced,
    /// The journal is not the one that was enrolled.
    ForeignJournal,
}

impl CloseReason {
    /// Every reason.
    pub const ALL: &'static [Self] = &[
        Self::Drain,
        Self::Overload,
        Self::TextMessage,
        Self::FrameTooLarge,
        Self::InvalidText,
        Self::WebSocketError,
        Self::ForeignOutcome,
        Self::Silent,
        Self::HelloTimeout,
        Self::Internal,
        Self::Rebalance,
        Self::ProtocolError,
        Self::Revoked,
        Self::Displaced,
        Self::ForeignJournal,
    ];

    /// The WebSocket close code (RFC 6455 §7.4 and the IANA registry).
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Drain => 1012,
            Self::Overload => 1013,
            Self::TextMessage => 1003,
            Self::FrameTooLarge => 1009,
            Self::InvalidText => 1007,
            Self::WebSocketError => 1002,
            Self::ForeignOutcome => 1008,
            Self::Silent => 4000,
            Self::HelloTimeout => 4001,
            Self::Internal => 4002,
            Self::Rebalance => 4003,
            Self::ProtocolError => 4500,
            Self::Revoked => 4501,
            Self::Displaced => 4502,
            Self::ForeignJournal => 4503,
        }
    }

    /// In one word, for the close frame, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Overload => "overload",
            Self::TextMessage => "text_message",
            Self::FrameTooLarge => "frame_too_large",
            Self::InvalidText => "invalid_text",
            Self::WebSocketError => "websocket_error",
            Self::ForeignOutcome => "foreign_outcome",
            Self::Silent => "silent",
            Self::HelloTimeout => "hello_timeout",
            Self::Internal => "internal",
            Self::Rebalance => "rebalance",
            Self::ProtocolError => "protocol_error",
            Self::Revoked => "revoked",
            Self::Displaced => "displaced",
            Self::ForeignJournal => "foreign_journal",
        }
    }

    /// The reason behind a close code, if it is one of ours.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// Whether an agent that was closed with `code` may connect again.
    #[must_use]
    pub fn may_come_back(code: u16) -> bool {
        !(4500..5000).contains(&code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::api::{PreflightReport, PreflightState};

    fn received(command: &str) -> FromAgent {
        FromAgent::Received(v1::Received { command: command.to_owned() })
    }

    #[test]
    fn a_message_is_one_frame_whatever_stands_beside_it() {
        let (one, two) = (received("a").encode_frame(), FromAgent::Heartbeat(v1::Heartbeat::default()).encode_frame());
        for both in [[&one[..], &two].concat(), [&two[..], &one].concat(), [&one[..], &one].concat()] {
            assert_eq!(FromAgent::decode(&both), Err(FrameError::Malformed));
        }
        // Field 100, of each wire type.
        for newer in [&[0xa0, 0x06, 1][..], &[0xa2, 0x06, 1, 0], &[0xa5, 0x06, 0, 0, 0, 0]] {
            assert_eq!(FromAgent::decode(&[&one[..], newer].concat()), Ok(received("a")));
            assert_eq!(FromAgent::decode(&[newer, &one[..]].concat()), Ok(received("a")));
            assert_eq!(FromAgent::decode(&[newer, &one[..], newer, &one[..]].concat()), Err(FrameError::Malformed));
            assert_eq!(FromAgent::decode(newer), Err(FrameError::UnknownKind));
        }
        assert_eq!(FromAgent::decode(&[&one[..], &[0x12]].concat()), Err(FrameError::Malformed), "it breaks off");
    }

    #[test]
    fn inside_a_frame_the_last_one_of_a_field_counts_and_a_state_that_is_not_known_has_failed() {
        let twice = [0x12, 6, 0x0a, 1, b'a', 0x0a, 1, b'b'];
        assert_eq!(FromAgent::decode(&twice), Ok(received("b")), "as Protobuf has it");
        assert_eq!(FromAgent::decode(&[0x12, 3, 0x0a, 1, 0xff]), Err(FrameError::Malformed), "no UTF-8");
        let row = v1::PreflightRow { state: 99, ..v1::PreflightRow::default() };
        let frame = FromAgent::Preflight(v1::Preflight { checked_at: 1, rows: vec![row], domains: Vec::new() });
        let Ok(FromAgent::Preflight(read)) = FromAgent::decode(&frame.encode_frame()) else { panic!("no report") };
        assert_eq!(PreflightReport::from(read).worst(), PreflightState::Failed);
    }
}
