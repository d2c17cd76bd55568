//! The commands that have no end, as an index in memory: which are an agent's, and how far each has come.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;

use super::super::ledger::{Entry, Milestone};
use crate::protocol::ids::{AgentId, TenantId};

/// Milestones of a command, in milliseconds. They are written with its next change, and lost with the process.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    delivering_ms: Option<u64>,
    received_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Index {
    of_agents: HashMap<(TenantId, AgentId), BTreeSet<String>>,
    reached: HashMap<String, Reached>,
}

/// The index, by the commands' keys in the file. It may name one that has ended meanwhile, and misses none.
#[derive(Debug, Default)]
pub(super) struct Open(Mutex<Index>);

impl Open {
    /// A command is about to be stored without an end.
    pub(super) fn add(&self, key: &str, entry: &Entry) {
        let mut index = self.0.lock();
        let agent = (entry.key.tenant.clone(), entry.agent);
        index.of_agents.entry(agent).or_default().insert(key.to_owned());
        index.reached.entry(key.to_owned()).or_default();
    }

    /// A command is stored with an end, or forgotten.
    pub(super) fn remove(&self, key: &str, tenant: &TenantId, agent: AgentId) {
        let mut index = self.0.lock();
        let agent = (tenant.clone(), agent);
        if let Some(its) = index.of_agents.get_mut(&agent) {
            its.remove(key);
            if its.is_empty() {
                index.of_agents.remove(&agent);
            }
        }
        index.reached.remove(key);
    }

    /// The keys of an agent's commands.
    pub(super) fn of(&self, tenant: &TenantId, agent: AgentId) -> Vec<String> {
        let index = self.0.lock();
        index.of_agents.get(&(tenant.clone(), agent)).map(|its| its.iter().cloned().collect()).unwrap_or_default()
    }

    /// The first time counts.
    pub(super) fn note(&self, key: &str, milestone: Milestone, now_ms: u64) {
        if let Some(reached) = self.0.lock().reached.get_mut(key) {
            let reached = match milestone {
                Milestone::Delivering => &mut reached.delivering_ms,
                Milestone::Received => &mut reached.received_ms,
            };
            reached.get_or_insert(now_ms);
        }
    }

    /// The entry with what was noted since it was stored.
    pub(super) fn with_milestones(&self, key: &str, mut entry: Entry) -> Entry {
        if let Some(reached) = self.0.lock().reached.get(key) {
            entry.delivering_ms = entry.delivering_ms.or(reached.delivering_ms);
            entry.received_ms = entry.received_ms.or(reached.received_ms);
        }
        entry
    }
}
