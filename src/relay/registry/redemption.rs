//! How an enrolment code is redeemed: once, by one agent.

use super::bounds::Full;
use super::records::{AgentRecord, InvitationRecord, Vouched};
use crate::clock::UnixTime;
use crate::protocol::api::AgentStatus;
use crate::protocol::ids::PortalId;

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
    /// The invitation is good, but the tenant has as many agents as it may.
    Full(Full),
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

impl AgentRecord {
    /// Whether `again` is this very agent, that has proved once more that it holds its keys.
    fn may_redeem_further(&self, again: &Self) -> bool {
        self.status != AgentStatus::Revoked && self.keys == again.keys && self.journal == again.journal
    }
}
