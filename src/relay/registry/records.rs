//! What a registry keeps, and exports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::UnixTime;
use crate::protocol::api::{AgentStatus, PreflightReport};
use crate::protocol::enrollment::AgentKeys;
use crate::protocol::ids::{AgentId, InvitationId, JournalId, PortalId, TenantId};
use crate::protocol::jose::{JoseError, PublicKey, RawJwk, stored};
use crate::protocol::untrusted::Untrusted;

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
    #[serde(deserialize_with = "stored::keys")]
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
    pub name: Untrusted,
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
    pub version: Option<Untrusted>,
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
}

/// What came to an agent after its enrolment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentLater {
    /// The `seq` of its last rotation.
    #[serde(skip_serializing_if = "is_zero")]
    pub seq: u64,
    /// Its last rotations, oldest first, for portals that have pinned an older key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<String>,
    /// Further portals whose codes it has redeemed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<Vouched>,
    /// Its word that it has followed a portal's last rotation.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub acknowledged: BTreeMap<PortalId, Acknowledged>,
}

/// An attestation for a further portal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vouched {
    /// The portal that made the invitation.
    pub portal: PortalId,
    /// The invitation.
    pub invitation: InvitationId,
    /// What that portal verifies the agent's keys with.
    pub attestation: String,
}

/// An agent's acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledged {
    /// Of the rotation with this `seq`.
    pub seq: u64,
    /// JWS by the agent.
    pub jws: String,
}

/// What came to a portal after it was registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PortalLater {
    /// The `seq` of its last rotation.
    #[serde(skip_serializing_if = "is_zero")]
    pub seq: u64,
    /// Its last rotations, oldest first, for agents that have pinned an older key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<String>,
    /// Keys that are on their way out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retiring: Vec<Retiring>,
}

/// A portal's key that is still taken for a while: what it has signed may be on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retiring {
    /// The key.
    #[serde(deserialize_with = "stored::key")]
    pub key: PublicKey,
    /// Not taken at or after this time.
    pub until: UnixTime,
}

impl AgentLater {
    /// Whether nothing has come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl PortalLater {
    /// Whether nothing has come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(seq: &u64) -> bool {
    *seq == 0
}

impl PortalRecord {
    /// Whether each of its keys is one.
    ///
    /// # Errors
    /// Which one is not.
    pub fn check(&self) -> Result<(), UnusableKey> {
        for key in self.keys.iter().chain(self.later.retiring.iter().map(|retiring| &retiring.key)) {
            key.check().map_err(|error| UnusableKey { whose: format!("portal {}", self.portal), error })?;
        }
        Ok(())
    }
}

/// A key that verifies nothing, or everything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{whose}: {error}")]
pub struct UnusableKey {
    /// The portal's or the agent's.
    pub whose: String,
    /// What is wrong with it.
    pub error: JoseError,
}

impl Snapshot {
    /// Whether each key in it is one: an older relay may have kept others.
    ///
    /// # Errors
    /// Whose is not.
    pub fn check(&self) -> Result<(), UnusableKey> {
        self.portals.iter().try_for_each(PortalRecord::check)?;
        for agent in self.tenants.iter().flat_map(|tenant| &tenant.agents) {
            agent.keys.check().map_err(|error| UnusableKey { whose: format!("agent {}", agent.agent), error })?;
        }
        Ok(())
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
