//! How a registry that was exported is added to what is there.

use super::RedisRegistry;
use super::change::{Settled, When};
use crate::protocol::api::AgentStatus;
use crate::protocol::ids::{AgentId, TenantId};
use crate::relay::StoreError;
use crate::relay::redis::keys;
use crate::relay::registry::{Added, AgentRecord, Counts, Registry, Snapshot, TenantSnapshot};

impl RedisRegistry {
    pub(super) async fn import_all(&self, snapshot: Snapshot) -> Result<Vec<(TenantId, AgentId)>, StoreError> {
        let mut newly_revoked = Vec::new();
        for portal in snapshot.portals {
            self.add(keys::PORTALS.to_owned(), portal.portal.to_string(), &portal, None).await?;
        }
        for TenantSnapshot { tenant, invitations, agents } in snapshot.tenants {
            self.add_tenant(tenant.clone()).await?;
            let tenant = &tenant.tenant;
            for invitation in invitations {
                let (hash, field) = (keys::invitations(tenant), invitation.invitation.to_string());
                self.add(hash, field, &invitation, None).await?;
            }
            for agent in agents {
                let (id, revoked) = (agent.agent, agent.status == AgentStatus::Revoked);
                let added = self.add_agent(tenant, &agent).await?;
                if !revoked || added != Added::Other {
                    continue;
                }
                let revoke = |mut record: AgentRecord| {
                    if record.status == AgentStatus::Revoked {
                        return Settled::Nothing(false);
                    }
                    record.revoke();
                    // Where it was revoked it may have served: its tombstone stays, and the note goes.
                    Settled::As(Box::new(record), true)
                };
                if self.settle(tenant, id, When::Always, revoke).await? == Some(true) {
                    newly_revoked.push((tenant.clone(), id));
                } else {
                    // A tombstone is always written: its confirmation hangs on a write.
                    self.change_agent(tenant, id, Counts::Yes, AgentRecord::revoke).await?;
                }
            }
            self.confirmed(&keys::agents(tenant)).await?;
        }
        Ok(newly_revoked)
    }
}
