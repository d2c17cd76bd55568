//! The bodies of calls over HTTPS.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::enrollment::AgentKeys;
use super::enrolment_code::Secret;
use super::frame::v1;
use super::ids::{AgentId, CommandId, InvitationId, JournalId, PortalId, TenantId};
use super::jose::{PublicKey, RawJwk, stored};
use super::readiness::{self, Need, Readiness};
use super::remedy::Advice;
use super::scope::{Scope, ServedDomain};
use super::untrusted::Untrusted;
use crate::clock::UnixTime;

/// `POST /v1/tenants/{tenant}/invitations`: one agent may enrol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewInvitation {
    /// Made by the portal, so that the call can be repeated.
    pub id: InvitationId,
    /// base64url of the SHA-256 of the one-time token's 32 bytes.
    pub token_sha256: String,
    /// At most 24 hours ahead, and a minute for clocks that differ. A repeated call has the same.
    pub expires_at: UnixTime,
}

/// `POST /v1/enrollments`: an agent redeems an invitation.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Enrollment {
    /// The organisation.
    pub tenant: TenantId,
    /// The invitation.
    pub invitation: InvitationId,
    /// The one-time token: 32 bytes as base64url.
    #[schema(value_type = String)]
    pub token: Secret,
    /// The agent's id, made by itself.
    pub agent: AgentId,
    /// The agent's journal.
    pub journal: JournalId,
    /// The host's name, for people.
    pub name: Untrusted,
    /// Verifies the agent's outcomes and assertions.
    #[schema(value_type = RawJwk)]
    pub signing_key: PublicKey,
    /// Passwords are sealed to it: P-256.
    #[schema(value_type = RawJwk)]
    pub sealing_key: PublicKey,
    /// JWS, `typ: writeback-enrollment+jwt`, by the signing key.
    pub proof: String,
    /// JWS, `typ: writeback-attestation+jwt`, HS256 under the enrolment code's secret.
    pub attestation: String,
}

/// The answer to an enrolment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Enrolled {
    /// The agent.
    pub agent: AgentId,
    /// `pending` until the portal has verified and approved it.
    pub status: AgentStatus,
    /// The portal that made the invitation.
    pub portal: PortalId,
    /// Its public keys. The agent pins the one whose thumbprint stands in its enrolment code, and only that.
    #[schema(value_type = Vec<RawJwk>)]
    pub portal_keys: Vec<PublicKey>,
    /// Its last rotations, oldest first, whether they come before or after the key in the code: JWS,
    /// `typ: writeback-portal-rotation+jwt`. The agent follows those that lead on from that key, and skips the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub portal_rotations: Vec<String>,
}

/// Where an agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// Enrolled, and gets no commands.
    Pending,
    /// In service.
    Approved,
    /// Stopped for good.
    Revoked,
}

/// An agent, as the relay shows it to a portal. The portal believes its own trust store first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    /// The agent.
    pub agent: AgentId,
    /// The host's name, for people.
    pub name: Untrusted,
    /// Where it stands at the relay: one mark for all portals of the tenant, whoever made it.
    pub status: AgentStatus,
    /// Whether it has a session now.
    pub online: bool,
    /// The version it said in its last `Hello`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Untrusted>,
    /// When it enrolled.
    pub enrolled_at: UnixTime,
    /// The invitation of the calling portal that it redeemed, or, if there is none, the one that it enrolled with.
    pub invitation: InvitationId,
    /// Its signing key.
    #[schema(value_type = RawJwk)]
    #[serde(deserialize_with = "stored::key")]
    pub signing_key: PublicKey,
    /// Its sealing key.
    #[schema(value_type = RawJwk)]
    #[serde(deserialize_with = "stored::key")]
    pub sealing_key: PublicKey,
    /// JWS by the secret of that invitation: the portal verifies it before it trusts the keys. It is about the keys that are
    /// shown, or about those that the rotations lead on from.
    pub attestation: String,
    /// What the agent found when it last checked its directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preflight: Option<PreflightReport>,
    /// Its last rotations, oldest first: JWS, `typ: writeback-agent-rotation+jwt`. The portal follows them from the keys
    /// that it has pinned, or that the attestation is about, to the ones shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<String>,
    /// JWS, `typ: writeback-acknowledgement+jwt`: the agent's word that it has pinned the calling portal's new key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledgement: Option<String>,
    /// Whether it takes the calling portal's commands, as it says; absent if it is not connected, or of an older version,
    /// which does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusts_portal: Option<bool>,
}

impl AgentView {
    /// Both keys.
    #[must_use]
    pub fn keys(&self) -> AgentKeys {
        AgentKeys { signing: self.signing_key.clone(), sealing: self.sealing_key.clone() }
    }

    /// Whether somebody on its host has taken the calling portal's trust away, or never gave it.
    #[must_use]
    pub fn refuses_portal(&self) -> bool {
        self.trusts_portal == Some(false)
    }

    /// What it can do of what is asked, by its last preflight. Without one it is not known to lack anything.
    #[must_use]
    pub fn readiness(&self, asked: Need<'_>) -> Readiness {
        self.preflight.as_ref().map_or(Readiness::Ready, |report| readiness::judge(report, asked))
    }
}

/// `GET /v1/tenants/{tenant}/agents`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentList {
    /// Agents of the tenant, revoked ones too, oldest first.
    pub agents: Vec<AgentView>,
    /// If there are more: the `after` that asks for them. A portal hands it back as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What an agent found when it checked its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreflightReport {
    /// When.
    pub checked_at: UnixTime,
    /// Each check.
    pub rows: Vec<PreflightRow>,
    /// The domains that the agent serves; absent from older agents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<ServedDomain>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreflightRow {
    /// What was checked.
    pub check: Untrusted,
    /// Where.
    pub target: Untrusted,
    /// How it went.
    pub state: PreflightState,
    /// What was found, for people.
    pub detail: Untrusted,
    /// How to mend it, in the agent's words: a command, if there is one.
    #[serde(default, skip_serializing_if = "Untrusted::is_empty")]
    pub remedy: Untrusted,
    /// The same as a code, for which the reader has words of its own; absent from older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy_code: Option<Untrusted>,
    /// What a failed row keeps the agent from doing; absent from older agents and from what is about the agent itself, which
    /// keep it from everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

impl PreflightRow {
    /// How to mend it, as far as anybody knows.
    #[must_use]
    pub fn advice(&self) -> Option<Advice<'_>> {
        Advice::of_agent(self.remedy_code.as_ref(), &self.remedy)
    }
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PreflightState {
    /// As it should be.
    Ok,
    /// Works, with something to look at.
    Warning,
    /// Resets will fail.
    Failed,
}

impl PreflightState {
    /// In one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

impl PreflightReport {
    /// The worst row; green if there is none.
    #[must_use]
    pub fn worst(&self) -> PreflightState {
        self.rows.iter().map(|row| row.state).max().unwrap_or(PreflightState::Ok)
    }
}

impl From<v1::Preflight> for PreflightReport {
    fn from(frame: v1::Preflight) -> Self {
        let rows = frame.rows.into_iter().map(|row| PreflightRow {
            state: match row.state() {
                v1::PreflightState::Ok => PreflightState::Ok,
                v1::PreflightState::Warning => PreflightState::Warning,
                v1::PreflightState::Failed | v1::PreflightState::Unspecified => PreflightState::Failed,
            },
            check: row.check.into(),
            target: row.target.into(),
            detail: row.detail.into(),
            remedy: row.remedy.into(),
            remedy_code: (!row.remedy_code.is_empty()).then(|| row.remedy_code.into()),
            scope: row.scope.map(Into::into),
        });
        let domains = frame.domains.into_iter().map(Into::into).collect();
        Self { checked_at: UnixTime(frame.checked_at), rows: rows.collect(), domains }
    }
}

impl From<PreflightReport> for v1::Preflight {
    fn from(report: PreflightReport) -> Self {
        let rows = report.rows.into_iter().map(|row| v1::PreflightRow {
            check: row.check.into_data(),
            target: row.target.into_data(),
            state: match row.state {
                PreflightState::Ok => v1::PreflightState::Ok,
                PreflightState::Warning => v1::PreflightState::Warning,
                PreflightState::Failed => v1::PreflightState::Failed,
            }
            .into(),
            detail: row.detail.into_data(),
            remedy: row.remedy.into_data(),
            remedy_code: row.remedy_code.map(Untrusted::into_data).unwrap_or_default(),
            scope: row.scope.map(Into::into),
        });
        let domains = report.domains.into_iter().map(Into::into).collect();
        Self { checked_at: report.checked_at.0, rows: rows.collect(), domains }
    }
}

/// `GET /v1/tenants/{tenant}/availability`: is it possible now, for any account or for the one that is asked about?
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Availability {
    /// Whether at least one agent is approved, online, does not refuse the calling portal's commands, and is by its last
    /// preflight able to do something of what is asked.
    pub available: bool,
    /// Why not: `preflight_failed`; `not_served` (no agent serves accounts with this UPN suffix); `agent_pending` (one waits
    /// for approval), `portal_not_trusted` (those that are there take no commands of this portal), `no_agent` (none is
    /// connected), or what a newer relay says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Untrusted>,
    /// The agents that could take a command.
    pub agents: Vec<AgentId>,
    /// Whether none of them can do all of it: an operation, a domain or a unit is out, and a command there is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub degraded: bool,
    /// What of it at least one agent can do, as commands name it; absent from older relays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<Untrusted>,
}

/// Where a command stands. Only a signed outcome is the truth; `undeliverable`, `expired` and `unknown` are what the
/// relay says on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommandState {
    /// Stored; nothing was written to a socket.
    Accepted,
    /// Written, or about to be written, to the agent's socket.
    Delivering,
    /// In the agent's journal.
    Received,
    /// There is a signed outcome; it says how it went.
    Concluded,
    /// Nothing was written to any socket, and nothing will be.
    Undeliverable,
    /// `exp` has passed, and nothing was written to any socket.
    Expired,
    /// `exp` has passed, it may have been delivered, and there is no answer yet. A signed outcome may still replace this.
    Unknown,
}

/// When a command reached which state: seconds since the epoch, with milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Milestones {
    /// Stored by the relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<f64>,
    /// Handed to the agent's session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivering_at: Option<f64>,
    /// In the agent's journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_at: Option<f64>,
    /// Concluded, or given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concluded_at: Option<f64>,
}

/// A command, as the relay knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CommandView {
    /// The command's `jti`.
    pub command: CommandId,
    /// The agent it is for.
    pub agent: AgentId,
    /// Where it stands.
    pub state: CommandState,
    /// Why it is undeliverable (`no_agent`, `agent_busy`, or `draining`) or expired (`expired`). What was refused because the
    /// agent is unknown, pending or revoked is `no_agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Untrusted>,
    /// When it reached which state.
    pub milestones: Milestones,
    /// The signed outcome: verify it before you believe it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The W3C trace id of the request that brought the command.
    pub trace_id: Untrusted,
}
