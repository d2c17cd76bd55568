//! The commands that have no end, as an index in memory: which are an agent's, and how far each has come.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use parking_lot::Mutex;

use super::super::super::ledger::{CommandKey, Cursor, Entry, Milestone};
use crate::protocol::ids::{AgentId, CommandId, TenantId};

/// Milestones of a command, in milliseconds. They are stored with its next change, and lost with the process.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    accepted_ms: u64,
    delivering_ms: Option<u64>,
    received_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Index {
    of_agents: HashMap<(TenantId, AgentId), BTreeSet<Cursor>>,
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
        index.of_agents.entry(agent).or_default().insert(entry.cursor());
        let accepted_ms = entry.accepted_ms;
        index.reached.entry(entry.key.clone()).or_insert(Reached { accepted_ms, ..Reached::default() });
    }

    /// A command is stored with an end, or forgotten.
    pub(super) fn remove(&self, key: &CommandKey, agent: AgentId) {
        let mut index = self.0.lock();
        let Some(Reached { accepted_ms, .. }) = index.reached.remove(key) else { return };
        let agent = (key.tenant.clone(), agent);
        if let Some(its) = index.of_agents.get_mut(&agent) {
            its.remove(&Cursor { accepted_ms, key: key.clone() });
            if its.is_empty() {
                index.of_agents.remove(&agent);
            }
        }
    }

    /// An agent's commands, oldest first, from behind `after` on.
    pub(super) fn of(&self, tenant: &TenantId, agent: AgentId, after: Option<Cursor>) -> Vec<CommandKey> {
        let index = self.0.lock();
        let Some(its) = index.of_agents.get(&(tenant.clone(), agent)) else { return Vec::new() };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        its.range((from, Bound::Unbounded)).map(|cursor| cursor.key.clone()).collect()
    }

    /// Those of them by this id, one for each portal.
    pub(super) fn by_id(&self, tenant: &TenantId, agent: AgentId, command: CommandId) -> Vec<CommandKey> {
        let index = self.0.lock();
        let its = index.of_agents.get(&(tenant.clone(), agent)).into_iter().flatten();
        its.filter(|cursor| cursor.key.command == command).map(|cursor| cursor.key.clone()).collect()
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
