//! The registry in a redb file.

mod import;
mod marks;
mod rows;

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use self::marks::MARKS;
use self::rows::{
    AGENTS, ASSERTIONS, INVITATIONS, PORTALS, Rows, TENANTS, UNAPPROVED, all, change_in, get, is_full, put,
    put_counted, row_key, some,
};
use super::super::StoreError;
use super::super::registry::{
    Acknowledged, Added, AgentRecord, Bounds, Counts, Forgotten, Full, Grant, InvitationRecord, Marked, Part,
    PortalAdded, PortalRecord, Redeemed, Registry, Rotated, Snapshot, TenantRecord, TenantSnapshot, UNAPPROVED_KEPT,
};
use super::room::Room;
use crate::clock::UnixTime;
use crate::protocol::api::{AgentStatus, PreflightReport};
use crate::protocol::ids::{AgentId, ObjectId, PortalId, TenantId};
use crate::protocol::jose::Thumbprint;
use crate::protocol::rotation::{AgentRotation, PortalRotation};
use crate::storage::redb::{self, ReadTransaction, ReadableTable, WriteTransaction};
use crate::storage::{Database, DatabaseError};
use crate::telemetry::metrics::Metrics;

/// [`Registry`] for one node.
#[derive(Debug)]
pub struct EmbeddedRegistry {
    database: Database,
    bounds: Bounds,
    room: Room,
    /// Told how long writes take.
    metrics: Option<Arc<Metrics>>,
}

impl EmbeddedRegistry {
    /// The same, whose writes are timed.
    #[must_use]
    pub fn timed(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// The same, with other bounds.
    #[must_use]
    pub fn bounded(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// The same, on a disk that may be full.
    #[must_use]
    pub fn within(self, room: Room) -> Self {
        Self { room, ..self }
    }

    /// The file it stands on.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// If it is damaged, in use, or can't be made.
    pub async fn open(path: &Path) -> Result<Self, DatabaseError> {
        let database = Database::open_or_create(path)?;
        database
            .write(|t| {
                for table in [TENANTS, PORTALS, INVITATIONS, AGENTS, MARKS] {
                    t.open_table(table)?;
                }
                t.open_table(UNAPPROVED)?;
                t.open_table(ASSERTIONS)?;
                Ok(())
            })
            .await?;
        Ok(Self { database, bounds: Bounds::default(), room: Room::default(), metrics: None })
    }

    fn read<T>(&self, f: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        Ok(self.database.read(f)?)
    }

    async fn write<T: Send + 'static>(
        &self,
        f: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.room.check()?;
        self.write_anyway(f).await
    }

    /// What takes a right away, or makes room, is written on a full disk, too.
    async fn write_anyway<T: Send + 'static>(
        &self,
        f: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.room.make_way();
        let begun = Instant::now();
        let written = self.database.write(f).await;
        if let Some(metrics) = &self.metrics {
            metrics.stored("embedded", "registry", begun.elapsed(), written.is_ok());
        }
        Ok(written?)
    }

    /// What an agent says about itself.
    async fn change_agent(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        change: impl FnOnce(&mut AgentRecord) + Send + 'static,
    ) -> Result<Option<AgentRecord>, StoreError> {
        let change = |mut record: AgentRecord| {
            change(&mut record);
            (record.clone(), record)
        };
        self.change(AGENTS, row_key(tenant, agent), Counts::No, change).await
    }

    /// Changes a record, if there is one, and gives what the change gives.
    async fn change<R, T>(
        &self,
        table: Rows,
        key: String,
        counts: Counts,
        change: impl FnOnce(R) -> (R, T) + Send + 'static,
    ) -> Result<Option<T>, StoreError>
    where
        R: serde::Serialize + serde::de::DeserializeOwned,
        T: Send + 'static,
    {
        self.write(change_in(table, key, counts, change)).await
    }

    /// Changes a record's keys. Anybody can send what changes nothing: that costs a look, and no write.
    async fn rotate<R>(
        &self,
        table: Rows,
        key: String,
        rotate: impl Fn(&mut R) -> Rotated + Send + 'static,
    ) -> Result<Rotated, StoreError>
    where
        R: Clone + PartialEq + serde::Serialize + serde::de::DeserializeOwned,
    {
        let known: Option<R> = self.read(|t| get(&t.open_table(table)?, &key))?;
        let Some(known) = known else { return Ok(Rotated::Unknown) };
        let mut becomes = known.clone();
        let rotated = rotate(&mut becomes);
        if becomes == known {
            return Ok(rotated);
        }
        let rotate = move |mut record: R| {
            let rotated = rotate(&mut record);
            (record, rotated)
        };
        Ok(self.change(table, key, Counts::Yes, rotate).await?.unwrap_or(Rotated::Unknown))
    }
}

#[async_trait]
impl Registry for EmbeddedRegistry {
    async fn add_tenant(&self, tenant: TenantRecord) -> Result<Added, StoreError> {
        self.write(move |t| {
            let key = tenant.tenant.as_str();
            if get::<TenantRecord>(&t.open_table(TENANTS)?, key)?.is_some() {
                return Ok(Added::Same);
            }
            put_counted(t, TENANTS, key, &tenant)?;
            Ok(Added::New)
        })
        .await
    }

    async fn tenant(&self, tenant: &TenantId) -> Result<Option<TenantRecord>, StoreError> {
        self.read(|t| get(&t.open_table(TENANTS)?, tenant.as_str()))
    }

    async fn tenants(&self) -> Result<Vec<TenantRecord>, StoreError> {
        self.read(|t| all(&t.open_table(TENANTS)?, ""))
    }

    async fn add_portal(&self, portal: PortalRecord) -> Result<PortalAdded, StoreError> {
        self.write(move |t| {
            let present = get::<PortalRecord>(&t.open_table(PORTALS)?, portal.portal.as_str())?;
            let added = portal.add_to(present);
            if let Some(record) = added.to_store() {
                put_counted(t, PORTALS, portal.portal.as_str(), record)?;
            }
            Ok(added)
        })
        .await
    }

    async fn settle_grant(&self, portal: &PortalId, grant: Grant) -> Result<Option<(PortalRecord, bool)>, StoreError> {
        let takes_away = matches!(grant, Grant::Withdraw(_));
        let settle = change_in(PORTALS, portal.to_string(), Counts::Yes, move |mut record: PortalRecord| {
            let changed = record.settle(&grant);
            (record.clone(), (record, changed))
        });
        if takes_away { self.write_anyway(settle).await } else { self.write(settle).await }
    }

    async fn put_portal(&self, portal: PortalRecord) -> Result<(), StoreError> {
        self.write_anyway(move |t| put_counted(t, PORTALS, portal.portal.as_str(), &portal)).await
    }

    async fn portal(&self, portal: &PortalId) -> Result<Option<PortalRecord>, StoreError> {
        self.read(|t| get(&t.open_table(PORTALS)?, portal.as_str()))
    }

    async fn portals(&self) -> Result<Vec<PortalRecord>, StoreError> {
        self.read(|t| all(&t.open_table(PORTALS)?, ""))
    }

    async fn remove_portal(&self, portal: &PortalId) -> Result<bool, StoreError> {
        let portal = portal.clone();
        self.write_anyway(move |t| {
            let was_there = t.open_table(PORTALS)?.remove(portal.as_str())?.is_some();
            if was_there {
                marks::changed(t, PORTALS, portal.as_str(), b"")?;
            }
            Ok(was_there)
        })
        .await
    }

    async fn add_invitation(&self, tenant: &TenantId, invitation: InvitationRecord) -> Result<Added, StoreError> {
        let (key, tenant, most) = (row_key(tenant, invitation.invitation), tenant.clone(), self.bounds.invitations);
        self.write(move |t| {
            if let Some(present) = get::<InvitationRecord>(&t.open_table(INVITATIONS)?, &key)? {
                let as_it_was = InvitationRecord { redeemed_by: None, ..present };
                return Ok(if as_it_was == invitation { Added::Same } else { Added::Other });
            }
            if is_full(&t.open_table(INVITATIONS)?, &tenant, most)? {
                return Ok(Added::Full);
            }
            put(t, INVITATIONS, &key, &invitation)?;
            Ok(Added::New)
        })
        .await
    }

    async fn redeem(
        &self,
        tenant: &TenantId,
        token_sha256: &str,
        agent: AgentRecord,
        now: UnixTime,
    ) -> Result<Redeemed, StoreError> {
        let (invitation_key, agent_key) = (row_key(tenant, agent.invitation), row_key(tenant, agent.agent));
        let (tenant, token_sha256, most) = (tenant.clone(), token_sha256.to_owned(), self.bounds);
        self.write(move |t| {
            let invitation = get::<InvitationRecord>(&t.open_table(INVITATIONS)?, &invitation_key)?;
            let Some(invitation) = invitation else { return Ok(Redeemed::Unknown) };
            let present = get::<AgentRecord>(&t.open_table(AGENTS)?, &agent_key)?;
            let is_new = present.is_none();
            let (invitation, agent) = match invitation.redeem(&token_sha256, &agent, present, now) {
                Ok(redeemed) => redeemed,
                Err(end) => return Ok(end),
            };
            if is_new {
                if is_full(&t.open_table(AGENTS)?, &tenant, most.agents)? {
                    return Ok(Redeemed::Full(Full::Agents));
                }
                let mut unapproved = t.open_table(UNAPPROVED)?;
                if is_full(&unapproved, &tenant, most.unapproved)? {
                    return Ok(Redeemed::Full(Full::Unapproved));
                }
                unapproved.insert(agent_key.as_str(), now.plus(UNAPPROVED_KEPT).0)?;
            }
            let portal = invitation.portal.clone();
            put(t, INVITATIONS, &invitation_key, &invitation)?;
            put_counted(t, AGENTS, &agent_key, &agent)?;
            Ok(Redeemed::Enrolled { agent: Box::new(agent), portal })
        })
        .await
    }

    async fn agent(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<AgentRecord>, StoreError> {
        self.read(|t| get(&t.open_table(AGENTS)?, &row_key(tenant, agent)))
    }

    async fn agents_after(
        &self,
        tenant: &TenantId,
        after: Option<AgentId>,
        limit: usize,
    ) -> Result<Vec<AgentRecord>, StoreError> {
        let (prefix, after) = (row_key(tenant, ""), after.map(|after| row_key(tenant, after)));
        let from = after.as_deref().map_or(Bound::Included(&*prefix), Bound::Excluded);
        self.read(|t| some(&t.open_table(AGENTS)?, &prefix, from, limit))
    }

    async fn approve(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<AgentRecord>, StoreError> {
        let key = row_key(tenant, agent);
        self.write(move |t| {
            let Some(mut record) = get::<AgentRecord>(&t.open_table(AGENTS)?, &key)? else { return Ok(None) };
            if record.status == AgentStatus::Pending {
                record.approve();
                put_counted(t, AGENTS, &key, &record)?;
                t.open_table(UNAPPROVED)?.remove(key.as_str())?;
            }
            Ok(Some(record))
        })
        .await
    }

    async fn revoke(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<AgentRecord>, StoreError> {
        let revoke = |mut record: AgentRecord| {
            record.revoke();
            (record.clone(), record)
        };
        self.write_anyway(change_in(AGENTS, row_key(tenant, agent), Counts::Yes, revoke)).await
    }

    async fn forget(&self, tenant: &TenantId, agent: AgentId) -> Result<Forgotten, StoreError> {
        let key = row_key(tenant, agent);
        self.write_anyway(move |t| {
            let mut agents = t.open_table(AGENTS)?;
            match get::<AgentRecord>(&agents, &key)? {
                None => return Ok(Forgotten::Unknown),
                Some(record) if record.status != AgentStatus::Revoked => return Ok(Forgotten::NotRevoked),
                Some(_) => {}
            }
            agents.remove(key.as_str())?;
            marks::changed(t, AGENTS, &key, b"")?;
            t.open_table(UNAPPROVED)?.remove(key.as_str())?;
            Ok(Forgotten::Gone)
        })
        .await
    }

    async fn note_version(&self, tenant: &TenantId, agent: AgentId, version: &str) -> Result<(), StoreError> {
        let version = version.into();
        self.change_agent(tenant, agent, |record| record.version = Some(version)).await.map(|_| ())
    }

    async fn note_preflight(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        report: PreflightReport,
    ) -> Result<bool, StoreError> {
        let note = |mut record: AgentRecord| {
            let whole = record.note_preflight(report);
            (record, whole)
        };
        Ok(self.change(AGENTS, row_key(tenant, agent), Counts::No, note).await?.unwrap_or(true))
    }

    async fn rotate_agent(
        &self,
        tenant: &TenantId,
        relay: &str,
        rotation: &AgentRotation,
        jws: &str,
    ) -> Result<Rotated, StoreError> {
        let key = row_key(tenant, rotation.iss);
        let (tenant, relay, rotation, jws) = (tenant.clone(), relay.to_owned(), rotation.clone(), jws.to_owned());
        self.rotate(AGENTS, key, move |record: &mut AgentRecord| record.rotate(&tenant, &relay, &rotation, &jws)).await
    }

    async fn rotate_portal(&self, relay: &str, rotation: &PortalRotation, jws: &str) -> Result<Rotated, StoreError> {
        let key = rotation.iss.to_string();
        let (relay, rotation, jws) = (relay.to_owned(), rotation.clone(), jws.to_owned());
        self.rotate(PORTALS, key, move |record: &mut PortalRecord| record.rotate(&relay, &rotation, &jws)).await
    }

    async fn retire_portal_key(&self, portal: &PortalId, kid: &Thumbprint, now: UnixTime) -> Result<bool, StoreError> {
        let kid = kid.clone();
        let retire = move |mut record: PortalRecord| {
            let retired = record.retire(&kid, now);
            (record, retired)
        };
        Ok(self.write_anyway(change_in(PORTALS, portal.to_string(), Counts::Yes, retire)).await?.unwrap_or(true))
    }

    async fn note_acknowledgement(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        portal: &PortalId,
        acknowledged: Acknowledged,
    ) -> Result<(), StoreError> {
        let portal = portal.clone();
        self.change_agent(tenant, agent, move |record| record.acknowledge(&portal, acknowledged)).await.map(|_| ())
    }

    async fn use_assertion(
        &self,
        _tenant: &TenantId,
        agent: AgentId,
        jti: ObjectId,
        exp: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        self.write(move |t| {
            let mut used = t.open_table(ASSERTIONS)?;
            // What has expired can't be used again anyway.
            used.retain_in((agent.as_bytes(), &[0; 16])..=(agent.as_bytes(), &[0xff; 16]), |_, exp| exp > now.0)?;
            let key = (agent.as_bytes(), jti.as_bytes());
            let first = used.get(key)?.is_none();
            used.insert(key, exp.0)?;
            Ok(first)
        })
        .await
    }

    async fn purge(&self, now: UnixTime) -> Result<u64, StoreError> {
        self.write_anyway(move |t| rows::purge(t, now)).await
    }

    async fn marked(&self, part: &Part, revision: u64) -> Result<Marked, StoreError> {
        self.read(|t| marks::read(t, part, revision))
    }

    async fn mark(&self, part: &Part) -> Result<(), StoreError> {
        let part = part.clone();
        self.write_anyway(move |t| marks::begin(t, &part)).await
    }

    async fn miss(&self, part: &Part, id: &str) -> Result<(), StoreError> {
        let (part, id) = (part.clone(), id.to_owned());
        self.write_anyway(move |t| marks::miss(t, &part, id)).await
    }

    async fn accept(&self, part: &Part, known: Option<&str>) -> Result<(), StoreError> {
        let (part, known) = (part.clone(), known.map(str::to_owned));
        self.write_anyway(move |t| marks::accept(t, &part, known)).await
    }

    async fn export(&self) -> Result<Snapshot, StoreError> {
        self.read(|t| {
            let (invitations, agents) = (t.open_table(INVITATIONS)?, t.open_table(AGENTS)?);
            let tenants = all::<TenantRecord>(&t.open_table(TENANTS)?, "")?.into_iter().map(|tenant| {
                let prefix = row_key(&tenant.tenant, "");
                let (invitations, agents) = (all(&invitations, &prefix)?, all(&agents, &prefix)?);
                Ok(TenantSnapshot { tenant, invitations, agents })
            });
            let tenants = tenants.collect::<Result<_, redb::Error>>()?;
            Ok(Snapshot { version: 1, portals: all(&t.open_table(PORTALS)?, "")?, tenants })
        })
    }

    async fn import(&self, snapshot: Snapshot) -> Result<Vec<(TenantId, AgentId)>, StoreError> {
        self.write(move |t| import::import(t, snapshot)).await
    }
}
