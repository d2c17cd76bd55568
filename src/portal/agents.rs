//! What the relay says of a tenant's agents, judged by the trust store: which keys are really the ones that somebody
//! here trusts.

use serde::Serialize;

use super::client::ClientError;
use super::judge::Judge;
use super::trust_store::Standing;
use super::{Portal, PortalError};
use crate::protocol::api::{AgentStatus, AgentView};
use crate::protocol::ids::{AgentId, TenantId};
use crate::protocol::readiness::{Need, Readiness};

/// An agent, as this portal sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Agent {
    /// The agent.
    pub agent: AgentId,
    /// The fingerprint of the keys that are pinned here, else of those the relay shows.
    pub fingerprint: String,
    /// Where it stands here; none if nobody here vouches for it.
    pub standing: Option<Standing>,
    /// What the relay says; none if it does not list the agent.
    pub relay: Option<AgentView>,
    /// What does not fit.
    pub warnings: Vec<Warning>,
}

/// Something that does not fit between the relay's word and this portal's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "warning", rename_all = "snake_case")]
pub enum Warning {
    /// Somebody replaced the keys.
    #[error("the relay shows OTHER KEYS than those pinned here (fingerprint {shown}): no password is sealed to them")]
    KeysDiffer {
        /// The fingerprint of what the relay shows.
        shown: String,
    },
    /// In service without this portal's word. The relay has one mark for all portals of a tenant.
    #[error(
        "the relay calls it approved, and NOBODY HERE APPROVED IT: no password is sealed to it. Expected if another portal of \
         this tenant approved it; if there is none, ask the relay's operator who did"
    )]
    NotApprovedHere,
    /// Somebody without the enrolment code made it.
    #[error("its attestation DOES NOT HOLD ({reason}): its keys are not those of whoever had the code; revoke it")]
    AttestationFails {
        /// Why.
        reason: String,
    },
    /// No secret to verify the attestation with.
    #[error(
        "there is no open invitation {invitation} here, so nothing vouches for its keys, and no password is sealed to it. \
         Expected if another portal of this tenant invited it: leave it alone then, for to revoke it ends it for every portal. \
         Revoke it if nobody knows it"
    )]
    NoInvitation {
        /// The one it names.
        invitation: String,
    },
    /// Pinned by an older version of this portal, or shown by a relay that does not look.
    #[error("it has A KEY THAT IS OF NO USE ({reason}): no password is sealed to it; revoke it, and enrol it again")]
    KeyUnusable {
        /// Which key, and what is expected.
        reason: String,
    },
    /// The relay shows new keys that this portal does not follow.
    #[error("a rotation of its keys WAS NOT FOLLOWED ({reason}): no password is sealed to the new ones")]
    RotationNotFollowed {
        /// Why.
        reason: String,
    },
    /// Trusted here, revoked there.
    #[error("it is trusted here, but the relay says it was revoked; if that is right, revoke it here too")]
    RevokedAtRelay,
    /// Somebody on its host has taken this portal's trust away.
    #[error(
        "it takes no commands of this portal, as it says: on its host somebody has run `writeback-agent trust --remove`. If \
         that was a mistake, run `writeback-portal invite`, and on its host `writeback-agent trust CODE`"
    )]
    PortalNotTrusted,
    /// Trusted here, absent there.
    #[error("the relay does not list it: its registry may be an older copy, or somebody removed it")]
    NotListed,
    /// A decision made here did not arrive.
    #[error("what was decided here could not be told to the relay: {reason}")]
    NotTold {
        /// Why.
        reason: String,
    },
}

/// Whether the relay has heard of a decision that holds here in any case.
#[derive(Debug)]
#[must_use = "a relay that was not told still acts on the old state"]
pub enum Told {
    /// It has.
    Yes,
    /// It has not; `agents` tells it again.
    No(ClientError),
}

impl From<Result<(), ClientError>> for Told {
    fn from(result: Result<(), ClientError>) -> Self {
        result.map_or_else(Self::No, |()| Self::Yes)
    }
}

impl Agent {
    /// Whether a password may be sealed to it, and is likely to arrive: trusted here with these keys; at the relay
    /// approved, online, and by its last preflight able to do something; and it takes this portal's commands, or does not say
    /// that it does not.
    #[must_use]
    pub fn usable(&self) -> bool {
        self.readiness(Need::default()).is_some_and(Readiness::serves)
    }

    /// What it can do of what is asked, by its last preflight; nothing if no password may be sealed to it, or it would not
    /// arrive.
    #[must_use]
    pub fn readiness(&self, asked: Need<'_>) -> Option<Readiness> {
        let (Some(Standing::Trusted { keys, .. }), Some(relay)) = (&self.standing, &self.relay) else { return None };
        let keys_hold = relay.keys() == *keys && keys.check().is_ok();
        let serves = relay.status == AgentStatus::Approved && relay.online && !relay.refuses_portal();
        (keys_hold && serves).then(|| relay.readiness(asked))
    }

    /// Whether it is trusted and connected, and what stands in the way are its keys.
    pub(super) fn keys_stand_in_the_way(&self) -> bool {
        let (Some(Standing::Trusted { keys, .. }), Some(relay)) = (&self.standing, &self.relay) else { return false };
        relay.online && (relay.keys() != *keys || keys.check().is_err())
    }

    /// Whether it is trusted here and connected, and does not trust this portal (any more), as the relay says.
    pub(super) fn refuses_this_portal(&self) -> bool {
        let trusted = matches!(self.standing, Some(Standing::Trusted { .. }));
        trusted && self.relay.as_ref().is_some_and(|view| view.online && view.refuses_portal())
    }

    /// Whether the relay shows other keys than those pinned here.
    pub(super) fn keys_differ(&self) -> bool {
        self.warnings.iter().any(|warning| matches!(warning, Warning::KeysDiffer { .. }))
    }
}

impl Portal {
    /// All agents of the tenant. On the way: attestations of new ones are verified (and the invitation's secret is
    /// destroyed), those whose invitation said so are trusted, and the relay is told what it does not know yet.
    ///
    /// # Errors
    /// If the relay can't be asked or the trust store can't be used.
    pub async fn agents(&self, tenant: &TenantId) -> Result<Vec<Agent>, PortalError> {
        self.key()?;
        let listed = self.relay.agents(tenant).await?;
        let rotation = self.home.rotation()?.map(|under_way| (under_way.seq, under_way.kid));
        let (portal, relay, now) = (&self.config.id, &self.config.relay, self.clock.now());
        let judge = Judge { tenant, portal, relay, rotation, now };
        let mut agents = self.trust.update(|store| judge.all(store, listed))?;
        for agent in &mut agents {
            if let Told::No(error) = self.tell(tenant, agent).await {
                agent.warnings.push(Warning::NotTold { reason: error.to_string() });
            }
        }
        Ok(agents)
    }

    /// Carries what was decided here to the relay, if the relay's list shows that it does not know.
    async fn tell(&self, tenant: &TenantId, agent: &mut Agent) -> Told {
        let Some(view) = &mut agent.relay else { return Told::Yes };
        match (&agent.standing, view.status) {
            (Some(Standing::Trusted { keys, .. }), AgentStatus::Pending) if *keys == view.keys() => {
                let told = self.relay.approve(tenant, agent.agent).await;
                if told.is_ok() {
                    view.status = AgentStatus::Approved;
                }
                told.into()
            }
            (Some(Standing::Revoked { .. }), AgentStatus::Pending | AgentStatus::Approved) => {
                let told = self.relay.revoke(tenant, agent.agent).await;
                if told.is_ok() {
                    view.status = AgentStatus::Revoked;
                }
                told.into()
            }
            _ => Told::Yes,
        }
    }

    /// Trusts an agent whose attestation held, after somebody compared `fingerprint` with what the agent printed. The
    /// case of its letters and its hyphens don't matter.
    ///
    /// # Errors
    /// If nothing vouches for the agent, the fingerprint is another one, or it was revoked.
    pub async fn approve(&self, tenant: &TenantId, agent: AgentId, fingerprint: &str) -> Result<Told, PortalError> {
        let found = self.agents(tenant).await?.into_iter().find(|a| a.agent == agent);
        let found = found.ok_or_else(|| PortalError::UnknownAgent { tenant: tenant.clone(), agent })?;
        let keys = match &found.standing {
            Some(Standing::Revoked { .. }) => return Err(PortalError::Revoked { tenant: tenant.clone(), agent }),
            Some(Standing::Attested { keys, .. } | Standing::Trusted { keys, .. }) if !found.keys_differ() => {
                keys.clone()
            }
            _ => {
                let reasons: Vec<String> = found.warnings.iter().map(ToString::to_string).collect();
                return Err(PortalError::NotAttested { tenant: tenant.clone(), agent, reason: reasons.join("; ") });
            }
        };
        if !same_fingerprint(fingerprint, &keys.fingerprint(agent)) {
            return Err(PortalError::WrongFingerprint { tenant: tenant.clone(), agent });
        }
        let now = self.clock.now();
        let trusted = self.trust.update(|store| {
            let standing = store.tenant(tenant).agents.get_mut(&agent);
            match standing {
                // Compared again: another process may have revoked it meanwhile.
                Some(Standing::Attested { keys: pinned, history, .. }) if *pinned == keys => {
                    let history = history.clone();
                    store.tenant(tenant).agents.insert(agent, Standing::Trusted { keys, since: now, history });
                    true
                }
                Some(Standing::Trusted { .. }) => true,
                _ => false,
            }
        })?;
        if trusted {
            Ok(self.relay.approve(tenant, agent).await.into())
        } else {
            Err(PortalError::Revoked { tenant: tenant.clone(), agent })
        }
    }

    /// Never trusts an agent again: first here, for ever, then at the relay.
    ///
    /// # Errors
    /// If the trust store can't be written. That the relay was not told is no error.
    pub async fn revoke(&self, tenant: &TenantId, agent: AgentId) -> Result<Told, PortalError> {
        let since = self.clock.now();
        self.trust.update(|store| {
            let standing = store.tenant(tenant).agents.entry(agent).or_insert(Standing::Revoked { since });
            if !matches!(standing, Standing::Revoked { .. }) {
                *standing = Standing::Revoked { since };
            }
        })?;
        Ok(self.relay.revoke(tenant, agent).await.into())
    }
}

fn same_fingerprint(given: &str, ours: &str) -> bool {
    let plain = |text: &str| -> String {
        text.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_uppercase()).collect()
    };
    plain(given) == plain(ours)
}
