//! Names of things that only relays know.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Random};
use crate::protocol::ids::ObjectId;

/// One socket of an agent. It exists before the agent has said who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub ObjectId);

/// One start of a node's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeId(pub ObjectId);

impl SessionId {
    /// A new one.
    #[must_use]
    pub fn new(clock: &dyn Clock, random: &dyn Random) -> Self {
        Self(ObjectId::new(clock, random))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
