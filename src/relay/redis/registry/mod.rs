//! The registry in Redis.

mod change;
mod import;
mod marks;
mod portals;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use redis::Cmd;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::change::{ATTEMPTS, Change, Replaced, Settled, When};
use super::keys;
use super::link::Link;
use crate::clock::UnixTime;
use crate::protocol::api::{AgentStatus, PreflightReport};
use crate::protocol::ids::{AgentId, ObjectId, PortalId, TenantId};
use crate::protocol::jose::Thumbprint;
use crate::protocol::rotation::{AgentRotation, PortalRotation};
use crate::relay::StoreError;
use crate::relay::registry::{
    Acknowledged, Added, AgentRecord, Bounds, Counts, Forgotten, Full, Grant, INVITATION_KEPT, InvitationRecord,
    Marked, Part, PortalAdded, PortalRecord, Redeemed, Registry, Rotated, Snapshot, TenantRecord, TenantSnapshot,
    UNAPPROVED_KEPT,
};

/// How long a replica may take to confirm. Commands that come after it on the same connection wait, too.
const CONFIRMATION_MS: u64 = 500;

/// [`Registry`] for many nodes.
#[derive(Clone, Debug)]
pub struct RedisRegistry {
    link: Link,
    /// The same, for marks.
    marks: Link,
    bounds: Bounds,
}

fn write<T: Serialize>(record: &T) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(|e| StoreError::Unanswered(format!("a record can't be written: {e}")))
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Unanswered(format!("a record in redis can't be read: {e}")))
}

impl RedisRegistry {
    /// Over this link.
    #[must_use]
    pub fn new(link: Link) -> Self {
        Self { link: link.used_for("registry"), marks: link.used_for("mark"), bounds: Bounds::default() }
    }

    /// The same, with other bounds.
    #[must_use]
    pub fn bounded(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
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

    async fn add<T: Serialize>(
        &self,
        hash: String,
        field: String,
        record: &T,
        most: Option<u32>,
    ) -> Result<Added, StoreError> {
        let becomes = write(record)?;
        let change =
            Change { hash: hash.clone(), field: field.clone(), was: None, becomes: Some(becomes.clone()), most };
        Ok(match self.replace(&[change], When::ThereIsRoom, Counts::Yes).await? {
            Replaced::Done => Added::New,
            Replaced::Full(_) => Added::Full,
            Replaced::Overtaken if self.text(&hash, &field).await?.as_deref() == Some(&becomes) => Added::Same,
            Replaced::Overtaken => Added::Other,
        })
    }

    /// Adds an agent that another registry knew, with the note that nobody has approved it, if that is so.
    async fn add_agent(&self, tenant: &TenantId, agent: &AgentRecord) -> Result<Added, StoreError> {
        if agent.status != AgentStatus::Pending {
            return self.add(keys::agents(tenant), agent.agent.to_string(), agent, None).await;
        }
        let (agents, unapproved, field) = (keys::agents(tenant), keys::unapproved(tenant), agent.agent.to_string());
        let (record, until) = (write(agent)?, agent.enrolled_at.plus(UNAPPROVED_KEPT).0.to_string());
        for _ in 0..ATTEMPTS {
            let present = self.text(&agents, &field).await?;
            if let Some(present) = present {
                return Ok(if present == record { Added::Same } else { Added::Other });
            }
            let noted = self.text(&unapproved, &field).await?;
            let change = |hash: &str, was, becomes: &str| Change {
                hash: hash.to_owned(),
                field: field.clone(),
                was,
                becomes: Some(becomes.to_owned()),
                most: None,
            };
            let changes = [change(&agents, None, &record), change(&unapproved, noted, &until)];
            if self.replace(&changes, When::ThereIsRoom, Counts::Yes).await? == Replaced::Done {
                return Ok(Added::New);
            }
        }
        Err(StoreError::Unanswered("an agent's record changes all the time".to_owned()))
    }

    async fn change_agent(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        counts: Counts,
        change: impl Fn(&mut AgentRecord) + Send + Sync,
    ) -> Result<Option<AgentRecord>, StoreError> {
        let change = |mut record: AgentRecord| {
            change(&mut record);
            // A tombstone is always written: its confirmation hangs on a write.
            let always = record.status == AgentStatus::Revoked;
            (record.clone(), (record, always))
        };
        let (hash, field) = (keys::agents(tenant), agent.to_string());
        let changed = self.change(&hash, &field, counts, change, |(_, always)| *always).await?;
        Ok(changed.map(|(record, _)| record))
    }

    /// Forgets a tenant's invitations that ended at or before this time. How many.
    async fn forget_invitations(&self, tenant: &TenantId, ended: UnixTime) -> Result<u64, StoreError> {
        let invitations = keys::invitations(tenant);
        let known: Vec<InvitationRecord> = self.records(&invitations).await?;
        let over = known.into_iter().filter(|known| known.expires_at <= ended);
        let over: Vec<String> = over.map(|known| known.invitation.to_string()).collect();
        if over.is_empty() { Ok(0) } else { self.link.command(&Cmd::hdel(invitations, over)).await }
    }

    /// Returns when a replica has what was written beside `key` by this link, where there is a replica: a change that
    /// must not be lost when a master fails.
    async fn confirmed(&self, key: &str) -> Result<(), StoreError> {
        // It is written, whatever is refused from here on.
        let info = self.link.beside(key, redis::cmd("INFO").arg("replication")).await;
        let info: String = info.map_err(StoreError::after_others)?;
        let replicas = info.lines().find_map(|line| line.strip_prefix("connected_slaves:")).unwrap_or("0");
        if replicas.trim() == "0" {
            return Ok(());
        }
        let replicas = self.link.beside(key, redis::cmd("WAIT").arg(1).arg(CONFIRMATION_MS)).await;
        let replicas: u64 = replicas.map_err(StoreError::after_others)?;
        if replicas == 0 {
            return Err(StoreError::Unanswered(
                "no replica has confirmed the change; it may be lost in a failover".to_owned(),
            ));
        }
        Ok(())
    }
}

impl RedisRegistry {
    /// How a rotation ended. Anybody can send what is not followed: nothing was written, and no replica is asked.
    async fn rotated(&self, hash: &str, rotated: Option<Rotated>) -> Result<Rotated, StoreError> {
        let rotated = rotated.unwrap_or(Rotated::Unknown);
        if rotated == Rotated::Done {
            self.confirmed(hash).await?;
        }
        Ok(rotated)
    }
}

#[async_trait]
impl Registry for RedisRegistry {
    async fn add_tenant(&self, tenant: TenantRecord) -> Result<Added, StoreError> {
        let field = tenant.tenant.to_string();
        Ok(match self.add(keys::TENANTS.to_owned(), field, &tenant, None).await? {
            Added::New => Added::New,
            Added::Same | Added::Other | Added::Full => Added::Same,
        })
    }

    async fn tenant(&self, tenant: &TenantId) -> Result<Option<TenantRecord>, StoreError> {
        self.record(keys::TENANTS, tenant.as_str()).await
    }

    async fn tenants(&self) -> Result<Vec<TenantRecord>, StoreError> {
        self.records(keys::TENANTS).await
    }

    async fn add_portal(&self, portal: PortalRecord) -> Result<PortalAdded, StoreError> {
        self.add_to_portal(portal).await
    }

    async fn settle_grant(&self, portal: &PortalId, grant: Grant) -> Result<Option<(PortalRecord, bool)>, StoreError> {
        self.change_grant(portal, &grant).await
    }

    async fn put_portal(&self, portal: PortalRecord) -> Result<(), StoreError> {
        self.replace_portal(portal).await
    }

    async fn portal(&self, portal: &PortalId) -> Result<Option<PortalRecord>, StoreError> {
        self.record(keys::PORTALS, portal.as_str()).await
    }

    async fn portals(&self) -> Result<Vec<PortalRecord>, StoreError> {
        self.records(keys::PORTALS).await
    }

    async fn remove_portal(&self, portal: &PortalId) -> Result<bool, StoreError> {
        self.take_portal_away(portal).await
    }

    async fn add_invitation(&self, tenant: &TenantId, invitation: InvitationRecord) -> Result<Added, StoreError> {
        let (hash, field) = (keys::invitations(tenant), invitation.invitation.to_string());
        let added = self.add(hash.clone(), field.clone(), &invitation, Some(self.bounds.invitations)).await?;
        if added != Added::Other {
            return Ok(added);
        }
        // The same that was redeemed since is no other one.
        let present: Option<InvitationRecord> = self.record(&hash, &field).await?;
        let as_it_was = present.map(|present| InvitationRecord { redeemed_by: None, ..present });
        Ok(if as_it_was == Some(invitation) { Added::Same } else { Added::Other })
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
            let change = |hash: &str, field: &str, was, becomes, most| Change {
                hash: hash.to_owned(),
                field: field.to_owned(),
                was,
                becomes: Some(becomes),
                most,
            };
            let (most, unapproved) = (self.bounds, keys::unapproved(tenant));
            let mut redeemed = vec![
                change(&invitations, &invitation_field, Some(was), write(&invitation)?, None),
                change(&agents, &agent_field, agent_was.clone(), write(&agent)?, Some(most.agents)),
            ];
            if agent_was.is_none() {
                let until = now.plus(UNAPPROVED_KEPT).0.to_string();
                redeemed.push(change(&unapproved, &agent_field, None, until, Some(most.unapproved)));
            }
            match self.replace(&redeemed, When::ThereIsRoom, Counts::Yes).await? {
                Replaced::Done => return Ok(Redeemed::Enrolled { agent: Box::new(agent), portal }),
                Replaced::Full(2) => return Ok(Redeemed::Full(Full::Unapproved)),
                Replaced::Full(_) => return Ok(Redeemed::Full(Full::Agents)),
                Replaced::Overtaken => {}
            }
        }
        Err(StoreError::Unanswered("an invitation's record changes all the time".to_owned()))
    }

    async fn agent(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<AgentRecord>, StoreError> {
        self.record(&keys::agents(tenant), &agent.to_string()).await
    }

    async fn agents_after(
        &self,
        tenant: &TenantId,
        after: Option<AgentId>,
        limit: usize,
    ) -> Result<Vec<AgentRecord>, StoreError> {
        let agents = keys::agents(tenant);
        if after.is_none() && limit == usize::MAX {
            return self.records(&agents).await;
        }
        let mut ids: Vec<String> = self.link.command(&Cmd::hkeys(&agents)).await?;
        let after = after.map(|after| after.to_string());
        ids.retain(|id| after.as_ref().is_none_or(|after| id > after));
        ids.sort_unstable();
        ids.truncate(limit);
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let found: Vec<Option<String>> = self.link.command(redis::cmd("HMGET").arg(&agents).arg(&ids)).await?;
        found.iter().flatten().map(|text| read(text)).collect()
    }

    async fn approve(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<AgentRecord>, StoreError> {
        let approve = |mut record: AgentRecord| {
            if record.status != AgentStatus::Pending {
                return Settled::Nothing(record);
            }
            record.approve();
            Settled::As(Box::new(record.clone()), record)
        };
        self.settle(tenant, agent, When::ThereIsRoom, approve).await
    }

    async fn revoke(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<AgentRecord>, StoreError> {
        let revoked = self.change_agent(tenant, agent, Counts::Yes, AgentRecord::revoke).await?;
        self.confirmed(&keys::agents(tenant)).await?;
        Ok(revoked)
    }

    async fn forget(&self, tenant: &TenantId, agent: AgentId) -> Result<Forgotten, StoreError> {
        let forget = |record: AgentRecord| match record.status {
            AgentStatus::Revoked => Settled::Gone(Forgotten::Gone),
            AgentStatus::Pending | AgentStatus::Approved => Settled::Nothing(Forgotten::NotRevoked),
        };
        Ok(self.settle(tenant, agent, When::Always, forget).await?.unwrap_or(Forgotten::Unknown))
    }

    async fn note_version(&self, tenant: &TenantId, agent: AgentId, version: &str) -> Result<(), StoreError> {
        let note = |record: &mut AgentRecord| record.version = Some(version.into());
        self.change_agent(tenant, agent, Counts::No, note).await.map(drop)
    }

    async fn note_preflight(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        report: PreflightReport,
    ) -> Result<bool, StoreError> {
        let note = |mut record: AgentRecord| {
            let whole = record.note_preflight(report.clone());
            (record, whole)
        };
        let (hash, field) = (keys::agents(tenant), agent.to_string());
        Ok(self.change(&hash, &field, Counts::No, note, |_| false).await?.unwrap_or(true))
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
        let rotated = self.change(&hash, &field, Counts::Yes, rotate, |rotated| *rotated == Rotated::Done).await?;
        self.rotated(&hash, rotated).await
    }

    async fn rotate_portal(&self, relay: &str, rotation: &PortalRotation, jws: &str) -> Result<Rotated, StoreError> {
        let rotate = |mut record: PortalRecord| {
            let rotated = record.rotate(relay, rotation, jws);
            (record, rotated)
        };
        let field = rotation.iss.to_string();
        let done = |rotated: &Rotated| *rotated == Rotated::Done;
        let rotated = self.change(keys::PORTALS, &field, Counts::Yes, rotate, done).await?;
        self.rotated(keys::PORTALS, rotated).await
    }

    async fn retire_portal_key(&self, portal: &PortalId, kid: &Thumbprint, now: UnixTime) -> Result<bool, StoreError> {
        let retire = |mut record: PortalRecord| {
            let retired = record.retire(kid, now);
            (record, retired)
        };
        Ok(self.change(keys::PORTALS, portal.as_str(), Counts::Yes, retire, |_| true).await?.unwrap_or(true))
    }

    async fn note_acknowledgement(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        portal: &PortalId,
        acknowledged: Acknowledged,
    ) -> Result<(), StoreError> {
        let acknowledge = |record: &mut AgentRecord| record.acknowledge(portal, acknowledged.clone());
        self.change_agent(tenant, agent, Counts::No, acknowledge).await.map(drop)
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

    async fn purge(&self, now: UnixTime) -> Result<u64, StoreError> {
        let (ended, mut forgotten) = (now.minus(INVITATION_KEPT), 0);
        for TenantRecord { tenant, .. } in self.tenants().await? {
            forgotten += self.forget_invitations(&tenant, ended).await?;
            let unapproved = keys::unapproved(&tenant);
            let noted: HashMap<String, i64> = self.link.command(&Cmd::hgetall(&unapproved)).await?;
            for (field, _) in noted.into_iter().filter(|(_, until)| *until <= now.0) {
                let forget = |record: AgentRecord| match record.status {
                    // A node that knows no such notes has approved it.
                    AgentStatus::Approved => Settled::As(Box::new(record), 0),
                    AgentStatus::Pending | AgentStatus::Revoked => Settled::Gone(1),
                };
                let settled = match field.parse() {
                    Ok(agent) => self.settle(&tenant, agent, When::Always, forget).await?,
                    Err(_) => None,
                };
                match settled {
                    Some(gone) => forgotten += gone,
                    // Nobody by this name is there any more.
                    None => self.link.command(&Cmd::hdel(&unapproved, &field)).await?,
                }
            }
        }
        Ok(forgotten)
    }

    async fn tenant_names(&self) -> Result<Vec<TenantId>, StoreError> {
        self.marked_tenants().await
    }

    async fn marked(&self, part: &Part, revision: u64) -> Result<Marked, StoreError> {
        self.read_mark(part, revision).await
    }

    async fn mark(&self, part: &Part) -> Result<(), StoreError> {
        self.begin_mark(part).await
    }

    async fn miss(&self, part: &Part, id: &str) -> Result<(), StoreError> {
        self.note_missing(part, id).await
    }

    async fn accept(&self, part: &Part, known: Option<&str>) -> Result<(), StoreError> {
        self.take_place(part, known).await
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
        // It has many steps: if a later one is refused, something was stored.
        self.import_all(snapshot).await.map_err(StoreError::after_others)
    }
}
