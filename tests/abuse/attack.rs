//! What an attack is: who attacks, what the node has, and what is done.

use std::pin::Pin;
use std::sync::Arc;

use crate::attacker::Attacker;

/// What one attacker does, until his time is over.
pub(crate) type Act = fn(Arc<Attacker>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Attacks of one kind, by the same attacker.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) by: By,
    pub(crate) node: Node,
    pub(crate) variants: &'static [Variant],
}

/// One way to do it.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) act: Act,
}

/// Who attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Somebody without a credential.
    Stranger,
    /// A tenant of the relay: its portal, and its agents.
    Tenant {
        /// Agents that nobody has approved.
        pending: usize,
        /// Agents in service.
        approved: usize,
    },
}

/// What the node has that is attacked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    /// How many files its process may have open: an attack on its places is short if they are few.
    pub(crate) files: Option<u32>,
    /// How much a Redis may hold, in MiB, if that is its store.
    pub(crate) redis_mib: Option<u32>,
}

impl Node {
    pub(crate) const EMBEDDED: Self = Self { files: None, redis_mib: None };
    /// 256 places.
    pub(crate) const FEW_PLACES: Self = Self { files: Some(512), ..Self::EMBEDDED };
    pub(crate) const SMALL_REDIS: Self = Self { redis_mib: Some(32), ..Self::EMBEDDED };
}
