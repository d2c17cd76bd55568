//! Who may do what: tenants, portals, invitations, agents. Durable, and free of secrets: public keys and hashes only.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::StoreError;
use super::keyring::{Acknowledged, AgentLater, PortalLater, Rotated, Vouched};
use crate::clock::UnixTime;
use crate::protocol::api::{AgentStatus, PreflightReport};
use crate::protocol::enrollment::AgentKeys;
use crate::protocol::ids::{AgentId, InvitationId, JournalId, ObjectId, PortalId, TenantId};
use crate::protocol::jose::{PublicKey, RawJwk, Thumbprint};
use crate::protocol::rotation::{AgentRotation, PortalRotation};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantRecord {
    /// Its name.
    pub tenant: TenantId,
    /// Since when.
    pub created_at: UnixTime,
}

/// A portal, its keys, and the tenants it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PortalRecord {
    /// The `iss` of its commands.
    pub portal: PortalId,
    /// Its public signing keys.
    #[schema(value_type = Vec<RawJwk>)]
    pub keys: Vec<PublicKey>,
    /// The tenants it was granted.
    pub tenants: Vec<TenantId>,
    /// What came after.
    #[serde(default, skip_serializing_if = "PortalLater::is_empty")]
    #[schema(ignore)]
    pub later: PortalLater,
}

/// An open invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvitationRecord {
    /// Its id.
    pub invitation: InvitationId,
    /// The portal that made it.
    pub portal: PortalId,
    /// SHA-256 of the one-time token, base64url.
    pub token_sha256: String,
    /// Not to be redeemed at or after this time.
    pub expires_at: UnixTime,
    /// The agent that redeemed it.
    pub redeemed_by: Option<AgentId>,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRecord {
    /// Its id.
    pub agent: AgentId,
    /// The host's name, for people.
    pub name: String,
    /// Where it stands. `revoked` is a tombstone and stays for ever.
    pub status: AgentStatus,
    /// Its public keys.
    #[serde(flatten)]
    pub keys: AgentKeys,
    /// Its journal.
    pub journal: JournalId,
    /// The invitation it redeemed.
    pub invitation: InvitationId,
    /// What the portal verifies its keys with.
    pub attestation: String,
    /// When it enrolled.
    pub enrolled_at: UnixTime,
    /// The version it said last.
    pub version: Option<String>,
    /// What it found last.
    pub preflight: Option<PreflightReport>,
    /// What came after its enrolment.
    #[serde(default, skip_serializing_if = "AgentLater::is_empty")]
    pub later: AgentLater,
}

impl AgentRecord {
    /// Lets it serve; one that was revoked stays so.
    pub fn approve(&mut self) {
        if self.status == AgentStatus::Pending {
            self.status = AgentStatus::Approved;
        }
    }

    /// Whether `again` is this very agent, that has proved once more that it holds its keys.
    fn may_redeem_further(&self, again: &Self) -> bool {
        self.status != AgentStatus::Revoked && self.keys == again.keys && self.journal == again.journal
    }
}

/// All of a tenant's invitations and agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantSnapshot {
    /// The tenant.
    pub tenant: TenantRecord,
    /// Its invitations.
    pub invitations: Vec<InvitationRecord>,
    /// Its agents.
    pub agents: Vec<AgentRecord>,
}

/// Everything in a registry, to restore an empty one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The form of this object: 1.
    pub version: u32,
    /// The portals.
    pub portals: Vec<PortalRecord>,
    /// The tenants, and what is theirs.
    pub tenants: Vec<TenantSnapshot>,
}

/// Whether something was put where nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is there now.
    New,
    /// The very same was there before.
    Same,
    /// Another one is there; it was left.
    Other,
}

/// How the redemption of an invitation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redeemed {
    /// The agent is enrolled, now or by an identical request before.
    Enrolled {
        /// The agent as it is stored.
        agent: Box<AgentRecord>,
        /// Who made the invitation.
        portal: PortalId,
    },
    /// No such invitation, or the token is not its.
    Unknown,
    /// Its time is over.
    Expired,
    /// Another agent has redeemed it.
    Used,
    /// The invitation is good, but there is an agent by this id already.
    Taken,
}

impl InvitationRecord {
    /// Judges a redemption by `agent`, who is stored as `present` already or not: one that is, with the same keys, redeems
    /// the code of a further portal. What is to be stored in place of this record, and of the agent's; or how it ended, if
    /// nothing is to be stored.
    ///
    /// # Errors
    /// The end of a redemption that changes nothing.
    pub fn redeem(
        &self,
        token_sha256: &str,
        agent: &AgentRecord,
        present: Option<AgentRecord>,
        now: UnixTime,
    ) -> Result<(Self, AgentRecord), Redeemed> {
        if self.token_sha256 != token_sha256 {
            return Err(Redeemed::Unknown);
        }
        match (self.redeemed_by, present) {
            (Some(by), Some(present)) if by == agent.agent && present.keys == agent.keys => {
                Err(Redeemed::Enrolled { agent: Box::new(present), portal: self.portal.clone() })
            }
            (Some(_), _) => Err(Redeemed::Used),
            (None, Some(present)) if !present.may_redeem_further(agent) => Err(Redeemed::Taken),
            (None, _) if now >= self.expires_at => Err(Redeemed::Expired),
            (None, present) => {
                let redeemed = Self { redeemed_by: Some(agent.agent), ..self.clone() };
                let Some(mut present) = present else { return Ok((redeemed, agent.clone())) };
                let (portal, attestation) = (self.portal.clone(), agent.attestation.clone());
                present.later.further.retain(|vouched| vouched.portal != portal);
                present.later.further.push(Vouched { portal, invitation: self.invitation, attestation });
                Ok((redeemed, present))
            }
        }
    }
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

    /// Stores a portal, in place of what was there.
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
    /// A tenant's agents, oldest first.
    async fn agents(&self, tenant: &TenantId) -> Result<Vec<AgentRecord>, StoreError>;
    /// `pending` becomes `approved`; a tombstone stays. The record after that.
    async fn approve(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<AgentRecord>, StoreError>;
    /// Whatever it was becomes `revoked`. The record after that.
    async fn revoke(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<AgentRecord>, StoreError>;
    /// Notes the version an agent said.
    async fn note_version(&self, tenant: &TenantId, agent: AgentId, version: &str) -> Result<(), StoreError>;
    /// Notes what an agent found.
    async fn note_preflight(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        report: PreflightReport,
    ) -> Result<(), StoreError>;

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

    /// Everything.
    async fn export(&self) -> Result<Snapshot, StoreError>;
    /// Adds everything that is not there yet, and lets tombstones win over what is there. The agents that are revoked
    /// by that, and were not before.
    async fn import(&self, snapshot: Snapshot) -> Result<Vec<(TenantId, AgentId)>, StoreError>;
}
