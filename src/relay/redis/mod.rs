//! The three contracts for many nodes: Redis 7 or Valkey, as a single server, behind Sentinel, or as a Cluster.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | where it is, and who we are to it |
//! | [`keys`] | every key, its type and how long it lives |
//! | [`link`] | commands, with deadlines; what may have run is never sent twice |
//! | `server` | the connection below it; reconnects by itself |
//! | [`checks`], `absence` | what is refused at the start, and what is waited for |
//! | [`registry`], [`ledger`], [`bus`], [`intake`] | the contracts |
//! | `presence` | who is where |
//! | `exchange` | what this node says to others, and what it does when it hears them |
//! | `envelope`, `questions`, `subscriber` | how that is signed, what is still unanswered, how it is heard |
//! | `hearing` | whether it is |
//! | `clock_offset` | whether this host and Redis have the same time |
//! | `forbidden` | what the server refuses to the relay's user |

mod absence;
mod addresses;
pub mod bus;
pub mod checks;
mod clock_offset;
pub mod config;
mod envelope;
mod exchange;
mod forbidden;
mod hearing;
pub mod intake;
pub mod keys;
pub mod ledger;
pub mod link;
mod presence;
mod questions;
pub mod registry;
mod scripts;
mod server;
mod subscriber;

/// As commands take it.
fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
