//! The registry in Redis.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use redis::Cmd;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::keys;
use super::link::Link;
use super::scripts::REPLACE;
use crate::clock::UnixTime;
use crate::protocol::api::{AgentStatus, PreflightReport};
use crate::protocol::ids::{AgentId, ObjectId, PortalId, TenantId};
use crate::protocol::jose::Thumbprint;
use crate::protocol::rotation::{AgentRotation, PortalRotation};
use crate::relay::StoreError;
use crate::relay::registry::{
    Acknowledged, Added, AgentRecord, InvitationRecord, PortalRecord, Redeemed, Registry, Rotated, Snapshot,
    TenantRecord, TenantSnapshot,
};

/// How often a change is tried again that another one has overtaken.
const ATTEMPTS: u32 = 16;

/// How long a replica may take to confirm. Commands that come after it on the same connection wait, too.
const CONFIRMATION_MS: u64 = 500;

/// [`Registry`] for many nodes.
#[derive(Clone, Debug)]
pub struct RedisRegistry {
    link: Link,
}

fn write<T: Serialize>(record: &T) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(|e| StoreError(format!("a record can't be written: {e}")))
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError(format!("a record in redis can't be read: {e}")))
}

/// A field of a hash: what it was, and what it is to become.
struct Change {
    hash: String,
    field: String,
    was: Option<String>,
    becomes: String,
}

impl RedisRegistry {
    /// Over this link.
    #[must_use]
    pub fn new(link: Link) -> Self {
        Self { link: link.used_for("registry") }
    }

    async fn text(&self, hash: &str, field: &str) -> Result<Option<String>, StoreError> {
        self.link.command(&Cmd::hget(hash, field)).await
    }

    async fn record<T: DeserializeOwned>(&self, hash: &str, field: &str) -> Result<Option<T>, StoreError> {
        self.text(hash, field).await?.as_deref().map(read).transpose()
    }

    async fn records<T: DeserializeOwned>(&self, hash: &str) -> Result<Vec<T>, StoreError> {
        let all: HashMap<String, String> = self.link.command(&Cmd::hgetall(hash)).await?;
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort();
        all.iter().map(|(_, text)| read(text)).collect()
    }

    /// Makes all changes, if nothing has changed in between.
    async fn replace(&self, changes: &[Change]) -> Result<bool, StoreError> {
        let mut script = REPLACE.prepare_invoke();
        for change in changes {
            let was = change.was.as_deref().unwrap_or_default();
            script.key(&change.hash).arg(&change.field).arg(was).arg(&change.becomes);
        }
        self.link.script(&script).await
    }

    async fn add<T: Serialize>(&self, hash: String, field: String, record: &T) -> Result<Added, StoreError> {
        let becomes = write(record)?;
        if self
            .replace(&[Change { hash: hash.clone(), field: field.clone(), was: None, becomes: becomes.clone() }])
            .await?
        {
            return Ok(Added::New);
        }
        Ok(if self.text(&hash, &field).await?.as_deref() == Some(&becomes) { Added::Same } else { Added::Other })
    }

    async fn change_agent(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        change: impl Fn(&mut AgentRecord) + Send + Sync,
    ) -> Result<Option<AgentRecord>, StoreError> {
        let change = |mut record: AgentRecord| {
            change(&mut record);
            // A tombstone is always written: its confirmation hangs on a write.
            let always = record.status == AgentStatus::Revoked;
            (record.clone(), (record, always))
        };
        let changed = self.change(&keys::agents(tenant), &agent.to_string(), change, |(_, always)| *always).await?;
        Ok(changed.map(|(record, _)| record))
    }

    /// Changes a record, if there is one, and gives what the change gives. One that changes nothing is written only if it
    /// is to be `always`.
    async fn change<R: DeserializeOwned + Serialize, T>(
        &self,
        hash: &str,
        field: &str,
        change: impl Fn(R) -> (R, T) + Send + Sync,
        always: impl Fn(&T) -> bool + Send + Sync,
    ) -> Result<Option<T>, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(was) = self.text(hash, field).await? else { return Ok(None) };
            let (becomes, given) = change(read(&was)?);
            let becomes = write(&becomes)?;
            let same = becomes == was && !always(&given);
            let (hash, field) = (hash.to_owned(), field.to_owned());
            if same || self.replace(&[Change { hash, field, was: Some(was), becomes }]).await? {
                return Ok(Some(given));
            }
        }
        Err(StoreError("a record changes all the time".to_owned()))
    }

    /// Returns when a replica has what was written beside `key` by this link, where there is a replica: a change that
    /// must not be lost when a master fails.
    async fn confirmed(&self, key: &str) -> Result<(), StoreError> {
        let info: String = self.link.beside(key, redis::cmd("INFO").arg("replication")).await?;
        let replicas = info.lines().find_map(|line| line.strip_prefix("connected_slaves:")).unwrap_or("0");
        if replicas.trim() == "0" {
            return Ok(());
        }
        let replicas: u64 = self.link.beside(key, redis::cmd("WAIT").arg(1).arg(CONFIRMATION_MS)).await?;
        if replicas == 0 {
            return Err(StoreError("no replica has confirmed the change; it may be lost in a failover".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Registry for RedisRegistry {
    async fn add_tenant(&self, tenant: TenantRecord) -> Result<Added, StoreError> {
        let field = tenant.tenant.to_string();
        Ok(match self.add(keys::TENANTS.to_owned(), field, &tenant).await? {
            Added::New => Added::New,
            Added::Same | Added::Other => Added::Same,
        })
    }

    async fn tenant(&self, tenant: &TenantId) -> Result<Option<TenantRecord>, StoreError> {
        self.record(keys::TENANTS, tenant.as_str()).await
    }

    async fn tenants(&self) -> Result<Vec<TenantRecord>, StoreError> {
        self.records(keys::TENANTS).await
    }

    async fn put_portal(&self, portal: PortalRecord) -> Result<(), StoreError> {
        self.link.command(&Cmd::hset(keys::PORTALS, portal.portal.as_str(), write(&portal)?)).await
    }

    async fn portal(&self, portal: &PortalId) -> Result<Option<PortalRecord>, StoreError> {
        self.record(keys::PORTALS, portal.as_str()).await
    }

    async fn portals(&self) -> Result<Vec<PortalRecord>, StoreError> {
        self.records(keys::PORTALS).await
    }

    async fn remove_portal(&self, portal: &PortalId) -> Result<bool, StoreError> {
        self.link.command(&Cmd::hdel(keys::PORTALS, portal.as_str())).await
    }

    async fn add_invitation(&self, tenant: &TenantId, invitation: InvitationRecord) -> Result<Added, StoreError> {
        self.add(keys::invitations(tenant), invitation.invitation.to_string(), &invitation).await
    }

    async fn redeem(
        &self,
        tenant: &TenantId,
        token_sha256: &str,
        agent: AgentRecord,
        now: UnixTime,
    ) -> Result<Redeemed, StoreError> {
        let (invitations, agents) = (keys::invitations(tenant), keys::agents(tenant));
        let (invitation_field, agent_field) = (agent.invitation.to_string(), agent.agent.to_string());
        for _ in 0..ATTEMPTS {
            let Some(was) = self.text(&invitations, &invitation_field).await? else { return Ok(Redeemed::Unknown) };
            let agent_was = self.text(&agents, &agent_field).await?;
            let present = agent_was.as_deref().map(read::<AgentRecord>).transpose()?;
            let redeemed = read::<InvitationRecord>(&was)?.redeem(token_sha256, &agent, present, now);
            let (invitation, agent) = match redeemed {
                Ok(redeemed) => redeemed,
                Err(end) => return Ok(end),
            };
            let portal = invitation.portal.clone();
            let redeemed = [
                Change {
                    hash: invitations.clone(),
                    field: invitation_field.clone(),
                    was: Some(was),
                    becomes: write(&invitation)?,
                },
                Change { hash: agents.clone(), field: agent_field.clone(), was: agent_was, becomes: write(&agent)? },
            ];
            if self.replace(&redeemed).await? {
                return Ok(Redeemed::Enrolled { agent: Box::new(agent), portal });
            }
        }
        Err(StoreError("an invitation's record changes all the time".to_owned()))
    }

    async fn agent(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<AgentRecord>, StoreError> {
        self.record(&keys::agents(tenant), &agent.to_string()).await
    }

    async fn agents(&self, tenant: &TenantId) -> Result<Vec<AgentRecord>, StoreError> {
        self.records(&keys::agents(tenant)).await
    }

    async fn approve(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<AgentRecord>, StoreError> {
        self.change_agent(tenant, agent, AgentRecord::approve).await
    }

    async fn revoke(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<AgentRecord>, StoreError> {
        let revoked = self.change_agent(tenant, agent, |record| record.status = AgentStatus::Revoked).await?;
        self.confirmed(&keys::agents(tenant)).await?;
        Ok(revoked)
    }

    async fn note_version(&self, tenant: &TenantId, agent: AgentId, version: &str) -> Result<(), StoreError> {
        self.change_agent(tenant, agent, |record| record.version = Some(version.into())).await.map(drop)
    }

    async fn note_preflight(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        report: PreflightReport,
    ) -> Result<(), StoreError> {
        self.change_agent(tenant, agent, |record| record.preflight = Some(report.clone())).await.map(drop)
    }

    async fn rotate_agent(
        &self,
        tenant: &TenantId,
        relay: &str,
        rotation: &AgentRotation,
        jws: &str,
    ) -> Result<Rotated, StoreError> {
        let (hash, field) = (keys::agents(tenant), rotation.iss.to_string());
        let rotate = |mut record: AgentRecord| {
            let rotated = record.rotate(tenant, relay, rotation, jws);
            (record, rotated)
        };
        let rotated = self.change(&hash, &field, rotate, |rotated| *rotated == Rotated::Done).await?;
        self.confirmed(&hash).await?;
        Ok(rotated.unwrap_or(Rotated::Unknown))
    }

    async fn rotate_portal(&self, relay: &str, rotation: &PortalRotation, jws: &str) -> Result<Rotated, StoreError> {
        let rotate = |mut record: PortalRecord| {
            let rotated = record.rotate(relay, rotation, jws);
            (record, rotated)
        };
        let field = rotation.iss.to_string();
        let rotated = self.change(keys::PORTALS, &field, rotate, |rotated| *rotated == Rotated::Done).await?;
        self.confirmed(keys::PORTALS).await?;
        Ok(rotated.unwrap_or(Rotated::Unknown))
    }

    async fn retire_portal_key(&self, portal: &PortalId, kid: &Thumbprint, now: UnixTime) -> Result<bool, StoreError> {
        let retire = |mut record: PortalRecord| {
            let retired = record.retire(kid, now);
            (record, retired)
        };
        Ok(self.change(keys::PORTALS, portal.as_str(), retire, |_| false).await?.unwrap_or(true))
    }

    async fn note_acknowledgement(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        portal: &PortalId,
        acknowledged: Acknowledged,
    ) -> Result<(), StoreError> {
        let acknowledge = |record: &mut AgentRecord| record.acknowledge(portal, acknowledged.clone());
        self.change_agent(tenant, agent, acknowledge).await.map(drop)
    }

    async fn use_assertion(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        jti: ObjectId,
        exp: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        // A second longer than it can be used at all.
        let kept = now.until(exp) + Duration::from_secs(1);
        let mut set = Cmd::set(keys::used(tenant, agent, jti), 1);
        set.arg("NX").arg("EX").arg(kept.as_secs());
        Ok(self.link.command::<Option<String>>(&set).await?.is_some())
    }

    async fn export(&self) -> Result<Snapshot, StoreError> {
        let mut tenants = Vec::new();
        for tenant in self.tenants().await? {
            let invitations = self.records(&keys::invitations(&tenant.tenant)).await?;
            let agents = self.records(&keys::agents(&tenant.tenant)).await?;
            tenants.push(TenantSnapshot { tenant, invitations, agents });
        }
        Ok(Snapshot { version: 1, portals: self.portals().await?, tenants })
    }

    async fn import(&self, snapshot: Snapshot) -> Result<Vec<(TenantId, AgentId)>, StoreError> {
        let mut newly_revoked = Vec::new();
        for portal in snapshot.portals {
            self.add(keys::PORTALS.to_owned(), portal.portal.to_string(), &portal).await?;
        }
        for TenantSnapshot { tenant, invitations, agents } in snapshot.tenants {
            self.add_tenant(tenant.clone()).await?;
            let tenant = &tenant.tenant;
            for invitation in invitations {
                self.add_invitation(tenant, invitation).await?;
            }
            for agent in agents {
                let (id, revoked) = (agent.agent, agent.status == AgentStatus::Revoked);
                let added = self.add(keys::agents(tenant), id.to_string(), &agent).await?;
                if !revoked || added != Added::Other {
                    continue;
                }
                let was = self.agent(tenant, id).await?.map(|record| record.status);
                self.change_agent(tenant, id, |record| record.status = AgentStatus::Revoked).await?;
                if was != Some(AgentStatus::Revoked) {
                    newly_revoked.push((tenant.clone(), id));
                }
            }
            self.confirmed(&keys::agents(tenant)).await?;
        }
        Ok(newly_revoked)
    }
}
