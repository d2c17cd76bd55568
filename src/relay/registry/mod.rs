//! Who may do what: tenants, portals, invitations, agents. Durable, and free of secrets: public keys and hashes only.

mod bounds;
mod grants;
mod keyring;
mod mark;
mod records;
mod redemption;

use async_trait::async_trait;

pub use self::bounds::{Bounds, Full, INVITATION_KEPT, MAX_ACKNOWLEDGEMENT_BYTES, MAX_PORTAL_KEYS, UNAPPROVED_KEPT};
pub use self::grants::{Grant, PortalAdded};
pub use self::keyring::Rotated;
pub use self::mark::{Counts, HEADS_KEPT, IDS_KEPT, Loss, Mark, Marked, Part};
pub use self::records::{
    Acknowledged, AgentLater, AgentRecord, InvitationRecord, PortalLater, PortalRecord, Retiring, Snapshot,
    TenantRecord, TenantSnapshot, UnusableKey, Vouched,
};
pub use self::redemption::Redeemed;
use super::StoreError;
use crate::clock::UnixTime;
use crate::protocol::api::PreflightReport;
use crate::protocol::ids::{AgentId, ObjectId, PortalId, TenantId};
use crate::protocol::jose::Thumbprint;
use crate::protocol::rotation::{AgentRotation, PortalRotation};

/// Whether something was put where nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is there now.
    New,
    /// The very same was there before.
    Same,
    /// Another one is there; it was left.
    Other,
    /// There are as many as there may be.
    Full,
}

/// What became of a tombstone that is to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// It is gone.
    Gone,
    /// There is no such agent.
    Unknown,
    /// The agent was not revoked: it stays.
    NotRevoked,
}

/// Tenants, portals, invitations, agents.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Adds a tenant. An existing one stays as it is.
    async fn add_tenant(&self, tenant: TenantRecord) -> Result<Added, StoreError>;
    /// One tenant.
    async fn tenant(&self, tenant: &TenantId) -> Result<Option<TenantRecord>, StoreError>;
    /// All tenants, by name.
    async fn tenants(&self) -> Result<Vec<TenantRecord>, StoreError>;

    /// Adds a portal, or to one that is there what it does not have, in one step.
    async fn add_portal(&self, portal: PortalRecord) -> Result<PortalAdded, StoreError>;
    /// Grants a portal a tenant, or takes one away, in a full store too, in one step: the record after that, and whether it
    /// is another one. `None` if there is no such portal.
    async fn settle_grant(&self, portal: &PortalId, grant: Grant) -> Result<Option<(PortalRecord, bool)>, StoreError>;
    /// Stores a portal, in place of what was there; in a full store too: it may take a tenant away.
    async fn put_portal(&self, portal: PortalRecord) -> Result<(), StoreError>;
    /// One portal.
    async fn portal(&self, portal: &PortalId) -> Result<Option<PortalRecord>, StoreError>;
    /// All portals, by name.
    async fn portals(&self) -> Result<Vec<PortalRecord>, StoreError>;
    /// Removes a portal; whether there was one.
    async fn remove_portal(&self, portal: &PortalId) -> Result<bool, StoreError>;

    /// Adds an invitation.
    async fn add_invitation(&self, tenant: &TenantId, invitation: InvitationRecord) -> Result<Added, StoreError>;
    /// Redeems an invitation for `agent`, in one step: two requests never both succeed, and an identical request
    /// succeeds again.
    async fn redeem(
        &self,
        tenant: &TenantId,
        token_sha256: &str,
        agent: AgentRecord,
        now: UnixTime,
    ) -> Result<Redeemed, StoreError>;

    /// One agent.
    async fn agent(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<AgentRecord>, StoreError>;
    /// A tenant's agents in the order of their ids: those behind `after`, `limit` of them at the most.
    async fn agents_after(
        &self,
        tenant: &TenantId,
        after: Option<AgentId>,
        limit: usize,
    ) -> Result<Vec<AgentRecord>, StoreError>;
    /// All of a tenant's agents, in that order.
    async fn agents(&self, tenant: &TenantId) -> Result<Vec<AgentRecord>, StoreError> {
        self.agents_after(tenant, None, usize::MAX).await
    }
    /// `pending` becomes `approved`; a tombstone stays. The record after that.
    async fn approve(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<AgentRecord>, StoreError>;
    /// Whatever it was becomes `revoked`, in a full store too. The record after that.
    async fn revoke(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<AgentRecord>, StoreError>;
    /// Forgets a revoked agent: from then on only its keys' absence keeps it out.
    async fn forget(&self, tenant: &TenantId, agent: AgentId) -> Result<Forgotten, StoreError>;
    /// Notes the version an agent said.
    async fn note_version(&self, tenant: &TenantId, agent: AgentId, version: &str) -> Result<(), StoreError>;
    /// Notes what an agent found; whether all of it was kept.
    async fn note_preflight(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        report: PreflightReport,
    ) -> Result<bool, StoreError>;

    /// Follows an agent's rotation, in one step: of two that lead on from the same keys one is refused.
    async fn rotate_agent(
        &self,
        tenant: &TenantId,
        relay: &str,
        rotation: &AgentRotation,
        jws: &str,
    ) -> Result<Rotated, StoreError>;
    /// The same for a portal.
    async fn rotate_portal(&self, relay: &str, rotation: &PortalRotation, jws: &str) -> Result<Rotated, StoreError>;
    /// Lets a portal's key go; whether it is gone, or going: the last one stays.
    async fn retire_portal_key(&self, portal: &PortalId, kid: &Thumbprint, now: UnixTime) -> Result<bool, StoreError>;
    /// Notes that an agent takes a portal's new key.
    async fn note_acknowledgement(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        portal: &PortalId,
        acknowledged: Acknowledged,
    ) -> Result<(), StoreError>;

    /// Uses up an assertion's `jti`, kept until `exp`: true the first time, false ever after.
    async fn use_assertion(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        jti: ObjectId,
        exp: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreError>;

    /// Forgets invitations that have ended, and agents that nobody has approved, when they were kept long enough; and
    /// assertions that can't be used any more. How many invitations and agents.
    async fn purge(&self, now: UnixTime) -> Result<u64, StoreError>;

    /// The names of all tenants, for whoever watches over them.
    async fn tenant_names(&self) -> Result<Vec<TenantId>, StoreError> {
        Ok(self.tenants().await?.into_iter().map(|record| record.tenant).collect())
    }
    /// What marks a part, and which head it had at this revision.
    async fn marked(&self, part: &Part, revision: u64) -> Result<Marked, StoreError>;
    /// Marks a part that has records and no mark: they are from a relay that knew none.
    async fn mark(&self, part: &Part) -> Result<(), StoreError>;
    /// Notes beside a part that this registry is missed there: nodes that start later know it.
    async fn miss(&self, part: &Part, id: &str) -> Result<(), StoreError>;
    /// Marks a part anew: as it is, it takes the place of what it was, of what is missed there, and of the one of this id.
    async fn accept(&self, part: &Part, known: Option<&str>) -> Result<(), StoreError>;

    /// Everything.
    async fn export(&self) -> Result<Snapshot, StoreError>;
    /// Adds everything that is not there yet, and lets tombstones win over what is there. The agents that are revoked
    /// by that, and were not before.
    async fn import(&self, snapshot: Snapshot) -> Result<Vec<(TenantId, AgentId)>, StoreError>;
}
