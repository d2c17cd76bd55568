//! What is measured.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A server that carries a request to an agent, or takes it for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A relay node.
    Relay,
    /// The least that any such server has to do: TLS, one HTTP request, one Ed25519 verification, one WebSocket frame each
    /// way.
    Floor,
    /// nats-server, request-reply. It stores nothing and verifies nothing.
    Nats,
    /// nats-server, JetStream publish with acknowledgement. It stores, and verifies nothing; no agent answers.
    JetStream,
}

impl Subject {
    /// In this order they are shown.
    pub const ALL: [Self; 4] = [Self::Relay, Self::Floor, Self::Nats, Self::JetStream];

    /// In one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Floor => "floor",
            Self::Nats => "nats",
            Self::JetStream => "jetstream",
        }
    }

    /// Whether requests reach it over HTTP.
    pub(super) fn is_http(self) -> bool {
        matches!(self, Self::Relay | Self::Floor)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
