//! What is measured of an attack.

use std::collections::BTreeMap;
use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Whether a reset is possible, over a new connection.
    Availability,
    /// A reset, by a portal and an agent that were there before.
    Reset,
    /// A new session of an agent, over a new connection.
    Session,
}

impl Wish {
    pub(crate) const ALL: [Self; 3] = [Self::Availability, Self::Reset, Self::Session];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Availability => "availability",
            Self::Reset => "resets",
            Self::Session => "new sessions",
        }
    }
}

/// How it went.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) wish: Wish,
    pub(crate) took: Duration,
    /// Why not, if not.
    pub(crate) refused: Option<String>,
}

/// What a client has spent.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Spent {
    /// TCP connections that were opened.
    pub(crate) connections: u64,
    /// How many of them were ended before TLS was there, or not opened at all.
    pub(crate) turned_away: u64,
    /// Bytes on TCP.
    pub(crate) sent: u64,
    /// Bytes on TCP.
    pub(crate) received: u64,
}

impl Add for Spent {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            turned_away: self.turned_away + other.turned_away,
            sent: self.sent + other.sent,
            received: self.received + other.received,
        }
    }
}

/// What one variant has cost the attacker, and what the node has said to it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) variant: String,
    pub(crate) spent: Spent,
    /// How often.
    pub(crate) told: BTreeMap<String, usize>,
}
