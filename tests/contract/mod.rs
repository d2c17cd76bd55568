//! What every implementation of the relay's stores has to keep, whatever it stands on.

mod bus;
mod intake;
mod ledger;
mod nodes;
mod quotas;
mod recent;
mod redis_bus;
mod redis_ledger;
mod redis_link;
mod redis_registry;
mod registry;
mod registry_bounds;
mod stores;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::ids::{AgentId, TenantId};

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub(crate) struct StandingClock(AtomicU64);

impl StandingClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(1_800_000_000_000)))
    }

    pub(crate) fn advance_ms(&self, by: u64) {
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for StandingClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn agent() -> AgentId {
    AgentId::new(&System, &System)
}
