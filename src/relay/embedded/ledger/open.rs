//! The commands that have no end, as an index in memory: which are an agent's, and how far each has come.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use super::super::super::ledger::{CommandKey, Entry, Milestone};
use crate::protocol::ids::{AgentId, TenantId};

/// Milestones of a command, in milliseconds. They are stored with its next change, and lost with the process.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    delivering_ms: Option<u64>,
    received_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Index {
    of_agents: HashMap<(TenantId, AgentId), HashSet<CommandKey>>,
    reached: HashMap<CommandKey, Reached>,
}

/// The index. It may name a command that has ended meanwhile, and misses none.
#[derive(Debug, Default)]
pub(super) struct Open(Mutex<Index>);

impl Open {
    /// A command is about to be stored.
    pub(super) fn add(&self, entry: &Entry) {
        if entry.end.is_some() {
            return;
        }
        let mut index = self.0.lock();
        let agent = (entry.key.tenant.clone(), entry.agent);
        index.of_agents.entry(agent).or_default().insert(entry.key.clone());
        index.reached.entry(entry.key.clone()).or_default();
    }

    /// A command is stored with an end, or forgotten.
    pub(super) fn remove(&self, key: &CommandKey, agent: AgentId) {
        let mut index = self.0.lock();
        let agent = (key.tenant.clone(), agent);
        if let Some(its) = index.of_agents.get_mut(&agent) {
            its.remove(key);
            if its.is_empty() {
                index.of_agents.remove(&agent);
            }
        }
        index.reached.remove(key);
    }

    /// An agent's commands.
    pub(super) fn of(&self, tenant: &TenantId, agent: AgentId) -> Vec<CommandKey> {
        let index = self.0.lock();
        index.of_agents.get(&(tenant.clone(), agent)).map(|its| its.iter().cloned().collect()).unwrap_or_default()
    }

    /// The first time counts.
    pub(super) fn note(&self, key: &CommandKey, milestone: Milestone, now_ms: u64) {
        if let Some(reached) = self.0.lock().reached.get_mut(key) {
            let reached = match milestone {
                Milestone::Delivering => &mut reached.delivering_ms,
                Milestone::Received => &mut reached.received_ms,
            };
            reached.get_or_insert(now_ms);
        }
    }

    /// The entry with what was noted since it was stored.
    pub(super) fn with_milestones(&self, mut entry: Entry) -> Entry {
        if let Some(reached) = self.0.lock().reached.get(&entry.key) {
            entry.delivering_ms = entry.delivering_ms.or(reached.delivering_ms);
            entry.received_ms = entry.received_ms.or(reached.received_ms);
        }
        entry
    }
}
