//! The relay: carries commands to agents and outcomes to portals, and can neither read nor forge either.
//!
//! Floors, each knowing only those above it in this list:
//!
//! | module | what |
//! |---|---|
//! | [`ids`], [`writes`], [`faults`] | nodes and sessions; whether the store takes writes; what keeps a node from its work |
//! | [`registry`], [`ledger`], [`bus`] | what is stored and who is where: three contracts, and how keys may change |
//! | [`intake`] | what is stored is handed over |
//! | [`recent`] | what was found in the registry a moment ago |
//! | [`continuity`] | whether it is still the one that this node had |
//! | [`embedded`] | the three, for one node: two tables of files and a map |
//! | [`keys`] | who signed this, and may he |
//! | [`sessions`], [`mailbox`], [`session`] | this node's agents; what waits for one; its socket |
//! | [`dispatch`] | from a verified command to its end |
//! | [`http`], [`admin`] | the public listener; the operator's |
//! | [`redis`] | the three, for many nodes |
//! | [`limits`], [`memory`] | how much one tenant, one portal and one address may have; whether there is memory for more |
//! | [`config`], [`tls`], [`store`], [`lifecycle`] | how a node comes up and goes down |

pub mod admin;
pub mod bus;
mod cache;
pub mod config;
pub mod continuity;
pub mod dispatch;
pub mod embedded;
pub mod faults;
pub mod http;
pub mod ids;
pub mod intake;
pub mod keys;
pub mod ledger;
pub mod lifecycle;
pub mod limits;
pub mod mailbox;
pub mod memory;
pub mod recent;
pub mod redis;
pub mod registry;
mod service;
pub mod session;
pub mod sessions;
pub mod store;
pub mod tls;
pub mod writes;

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The caller does not know whether a write took effect.
    #[error("the store does not answer: {0}")]
    Unanswered(String),
    /// It has looked at the write, and refused it whole.
    #[error("the store takes no writes: {}", .0.detail())]
    NotWritable(writes::Cause),
}

impl StoreError {
    /// The same of a step that others have gone before: what they did stays.
    #[must_use]
    pub fn after_others(self) -> Self {
        match self {
            Self::NotWritable(_) => Self::Unanswered(self.to_string()),
            unanswered @ Self::Unanswered(_) => unanswered,
        }
    }
}
