//! What each tenant, and each agent, makes the ledger keep. It is counted anew whenever the file is opened.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Sum;
use std::hash::Hash;

use super::super::super::ledger::{Entry, Quota, Quotas};
use crate::protocol::ids::{AgentId, TenantId};

/// Sums, or what a group adds to them and takes from them.
#[derive(Debug, Default)]
pub(super) struct Usage {
    bytes: HashMap<TenantId, i64>,
    forgotten: HashMap<(TenantId, AgentId), i64>,
}

fn signed(weight: u64) -> i64 {
    i64::try_from(weight).unwrap_or(i64::MAX)
}

fn add<K: Eq + Hash>(sums: &mut HashMap<K, i64>, key: K, more: i64) {
    match sums.entry(key) {
        Sum::Occupied(mut sum) => {
            *sum.get_mut() = sum.get().saturating_add(more);
            // Whoever keeps nothing any more is forgotten.
            if *sum.get() == 0 {
                sum.remove();
            }
        }
        Sum::Vacant(none) => {
            if more != 0 {
                none.insert(more);
            }
        }
    }
}

impl Usage {
    /// One more entry.
    pub(super) fn insert(&mut self, entry: &Entry) {
        self.count(entry, 1);
    }

    /// An entry is gone.
    pub(super) fn remove(&mut self, entry: &Entry) {
        self.count(entry, -1);
    }

    fn count(&mut self, entry: &Entry, sign: i64) {
        add(&mut self.bytes, entry.key.tenant.clone(), sign * signed(entry.weight()));
        if entry.is_forgotten() {
            add(&mut self.forgotten, (entry.key.tenant.clone(), entry.agent), sign);
        }
    }

    /// An entry weighs something else than before.
    pub(super) fn reweigh(&mut self, entry: &Entry, before: u64) {
        add(&mut self.bytes, entry.key.tenant.clone(), signed(entry.weight()) - signed(before));
    }

    /// What a group has changed is on disk.
    pub(super) fn extend(&mut self, group: Self) {
        group.bytes.into_iter().for_each(|(tenant, more)| add(&mut self.bytes, tenant, more));
        group.forgotten.into_iter().for_each(|(agent, more)| add(&mut self.forgotten, agent, more));
    }

    /// The quota that one more `entry` would exceed, on top of these sums and of what its group has added so far.
    pub(super) fn exceeded(&self, group: &Self, entry: &Entry, quotas: Quotas) -> Option<Quota> {
        let agent = (entry.key.tenant.clone(), entry.agent);
        let of = |usage: &Self| usage.forgotten.get(&agent).copied().unwrap_or_default();
        if entry.is_forgotten() && of(self) + of(group) >= i64::from(quotas.agent_forgotten) {
            return Some(Quota::AgentForgotten);
        }
        self.outgrown(group, entry, 0, quotas)
    }

    /// The same if `entry` takes the place of one that weighs so much `before`: one that is no heavier always may.
    pub(super) fn outgrown(&self, group: &Self, entry: &Entry, before: u64, quotas: Quotas) -> Option<Quota> {
        let more = signed(entry.weight()) - signed(before);
        let of = |usage: &Self| usage.bytes.get(&entry.key.tenant).copied().unwrap_or_default();
        let bytes = of(self).saturating_add(of(group)).saturating_add(more);
        (more > 0 && bytes > signed(quotas.tenant_bytes)).then_some(Quota::TenantBytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;
    use crate::protocol::ids::CommandId;
    use crate::relay::ledger::CommandKey;

    #[test]
    fn of_a_tenant_and_an_agent_that_keep_nothing_any_more_nothing_is_left() {
        let entry = |tenant: &str| {
            let command = CommandId::new(&System, &System);
            let key = CommandKey { tenant: tenant.parse().unwrap(), portal: "p".parse().unwrap(), command };
            Entry::forgotten(key, AgentId::new(&System, &System), 0)
        };
        let (gone, stays, mut usage) = (entry("gone"), entry("stays"), Usage::default());
        let mut group = Usage::default();
        [&gone, &stays].iter().for_each(|entry| group.insert(entry));
        group.reweigh(&stays, stays.weight());
        usage.extend(group);
        usage.remove(&gone);
        assert_eq!((usage.bytes.len(), usage.forgotten.len()), (1, 1));
        usage.remove(&stays);
        assert!(usage.bytes.is_empty() && usage.forgotten.is_empty());
    }
}
