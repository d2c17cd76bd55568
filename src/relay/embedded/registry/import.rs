//! How a registry that was exported is added to what is there.

use super::super::super::registry::{
    AgentRecord, InvitationRecord, PortalRecord, Snapshot, TenantRecord, TenantSnapshot, UNAPPROVED_KEPT,
};
use super::rows::{AGENTS, INVITATIONS, PORTALS, TENANTS, UNAPPROVED, get, put, put_counted, row_key};
use crate::protocol::api::AgentStatus;
use crate::protocol::ids::{AgentId, TenantId};
use crate::storage::redb::{self, WriteTransaction};

/// Adds what is not there, and lets tombstones win; the agents that are revoked by that.
pub(super) fn import(t: &WriteTransaction, snapshot: Snapshot) -> Result<Vec<(TenantId, AgentId)>, redb::Error> {
    let mut revoked = Vec::new();
    for portal in snapshot.portals {
        if get::<PortalRecord>(&t.open_table(PORTALS)?, portal.portal.as_str())?.is_none() {
            put_counted(t, PORTALS, portal.portal.as_str(), &portal)?;
        }
    }
    for TenantSnapshot { tenant, invitations, agents } in snapshot.tenants {
        if get::<TenantRecord>(&t.open_table(TENANTS)?, tenant.tenant.as_str())?.is_none() {
            put_counted(t, TENANTS, tenant.tenant.as_str(), &tenant)?;
        }
        for invitation in invitations {
            let key = row_key(&tenant.tenant, invitation.invitation);
            if get::<InvitationRecord>(&t.open_table(INVITATIONS)?, &key)?.is_none() {
                put(t, INVITATIONS, &key, &invitation)?;
            }
        }
        for agent in agents {
            let key = row_key(&tenant.tenant, agent.agent);
            let present = get::<AgentRecord>(&t.open_table(AGENTS)?, &key)?;
            let tombstone = agent.status == AgentStatus::Revoked;
            if tombstone && present.as_ref().is_some_and(|present| present.status != AgentStatus::Revoked) {
                revoked.push((tenant.tenant.clone(), agent.agent));
                // Where it was revoked it may have served: its tombstone stays.
                t.open_table(UNAPPROVED)?.remove(key.as_str())?;
            }
            if present.is_none() && agent.status == AgentStatus::Pending {
                let until = agent.enrolled_at.plus(UNAPPROVED_KEPT);
                t.open_table(UNAPPROVED)?.insert(key.as_str(), until.0)?;
            }
            if present.is_none() || tombstone {
                put_counted(t, AGENTS, &key, &agent)?;
            }
        }
    }
    Ok(revoked)
}
