//! Who signed this, and may he? Everything a stranger can send is judged here, by the keys in the registry.

use std::sync::Arc;

use async_trait::async_trait;

use super::StoreError;
use super::bus::Guard;
use super::cache::Cache;
use super::ledger::Entry;
use super::recent::{Recent, Standing};
use super::registry::{AgentRecord, PortalRecord, Registry};
use crate::clock::{Clock, UnixTime};
use crate::protocol::api::AgentStatus;
use crate::protocol::assertion::{AgentAssertion, PortalAssertion};
use crate::protocol::command::Command;
use crate::protocol::ids::{AgentId, PortalId, TenantId};
use crate::protocol::jose::{JoseError, Jws, PublicKey};
use crate::protocol::limits::MAX_ASSERTION_LIFETIME;

/// Assertions that are remembered: those of as many portals, if each shows the same one for as long as it holds.
const MAX_PROVEN: usize = 5_000;

/// Why a credential or a command is refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    /// The assertion does not hold.
    #[error("{0}")]
    Assertion(JoseError),
    /// The assertion is by nobody who is registered. Not which part of it is wrong: that would tell a stranger who is.
    #[error(
        "no portal that is registered at this relay has signed this assertion: compare its id (iss) and its key (kid) with \
         what the operator registered"
    )]
    Unproven,
    /// The portal was removed a moment ago.
    #[error("{0} is not registered at this relay any more")]
    UnknownPortal(PortalId),
    /// The assertion opened a session before.
    #[error("an assertion opens one session; make a new one, with a new jti")]
    AssertionUsed,
    /// The agent was revoked.
    #[error("this agent was revoked; it must not come back")]
    AgentRevoked,
    /// The assertion is by another key than the agent's.
    #[error("{1}")]
    AgentKey(TenantId, JoseError),
    /// The relay has no such agent.
    #[error(
        "this relay knows no such agent in this tenant; if it was enrolled here, the registry was restored from an older copy"
    )]
    UnknownAgent(TenantId),
    /// The portal does not serve this tenant.
    #[error("this portal was not granted the tenant {0}")]
    TenantNotGranted(TenantId),
    /// The command does not hold.
    #[error("{0}")]
    Command(JoseError),
    /// The command is by another portal than the one that calls.
    #[error("iss of the command is not the portal that makes the call")]
    ForeignIssuer,
    /// The command is for another tenant than the one in the path.
    #[error("tenant in the command is not the tenant in the path")]
    ForeignTenant,
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A portal's assertion whose signature was found right, with this key. That stays so; whether the key is still the
/// portal's, and the assertion in force, is asked each time.
struct Proven {
    claims: PortalAssertion,
    key: PublicKey,
}

/// Judges by the registry's keys.
#[derive(Clone)]
pub struct Keys {
    registry: Arc<dyn Registry>,
    recent: Arc<Recent>,
    proven: Arc<Cache<String, Arc<Proven>>>,
    clock: Arc<dyn Clock>,
    public_url: Arc<str>,
}

impl Keys {
    /// `public_url` is the `aud` of every assertion.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>, clock: Arc<dyn Clock>, public_url: &str) -> Self {
        let recent = Arc::new(Recent::new(Arc::clone(&registry)));
        let proven = Arc::new(Cache::new(MAX_ASSERTION_LIFETIME, MAX_PROVEN));
        Self { registry, recent, proven, clock, public_url: public_url.into() }
    }

    /// The relay's public URL.
    #[must_use]
    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// What is remembered of the registry.
    #[must_use]
    pub fn recent(&self) -> &Arc<Recent> {
        &self.recent
    }

    /// The portal that makes a call for `tenant`.
    ///
    /// # Errors
    /// If the assertion does not hold, or the portal was not granted the tenant.
    pub async fn portal(&self, token: &str, tenant: &TenantId) -> Result<PortalId, Refused> {
        let (jws, claimed) = PortalAssertion::parse(token).map_err(Refused::Assertion)?;
        let portal = self.registry.portal(&claimed.iss).await?;
        self.proves(&jws, portal.as_ref(), tenant)?;
        Ok(claimed.iss)
    }

    /// The portal that makes a call for itself, and the key it has signed with.
    ///
    /// # Errors
    /// If the assertion does not hold.
    pub async fn portal_alone(&self, token: &str) -> Result<(PortalId, PublicKey), Refused> {
        let (jws, claimed) = PortalAssertion::parse(token).map_err(Refused::Assertion)?;
        let (record, now) = (self.registry.portal(&claimed.iss).await?, self.clock.now());
        let (claims, key) = signed_by(&jws, record.as_ref(), now)?;
        claims.check(&self.public_url, now).map_err(Refused::Assertion)?;
        Ok((claims.iss, key.clone()))
    }

    /// The same for a portal that sends commands, or asks for them: by what it might do a moment ago.
    ///
    /// # Errors
    /// As [`Self::portal`].
    pub async fn sender(&self, token: &str, tenant: &TenantId) -> Result<PortalId, Refused> {
        if let Some(Proven { claims, key }) = self.proven.get(token).as_deref() {
            let judge = |portal: Option<&PortalRecord>| self.serves(claims, key, portal, tenant);
            self.recent.portal(&claims.iss, judge).await?;
            return Ok(claims.iss.clone());
        }
        let (jws, claimed) = PortalAssertion::parse(token).map_err(Refused::Assertion)?;
        let look = self.proven.look();
        let judge = |portal: Option<&PortalRecord>| self.proves(&jws, portal, tenant);
        let proven = self.recent.portal(&claimed.iss, judge).await?;
        self.proven.remember(look, token.to_owned(), Arc::new(proven));
        Ok(claimed.iss)
    }

    /// An assertion that is shown for the first time.
    fn proves(&self, assertion: &Jws<'_>, portal: Option<&PortalRecord>, tenant: &TenantId) -> Result<Proven, Refused> {
        let (claims, key) = signed_by(assertion, portal, self.clock.now())?;
        self.serves(&claims, key, portal, tenant)?;
        Ok(Proven { claims, key: key.clone() })
    }

    /// Whether who has signed this assertion with this key may act for the tenant now.
    fn serves(
        &self,
        claims: &PortalAssertion,
        key: &PublicKey,
        portal: Option<&PortalRecord>,
        tenant: &TenantId,
    ) -> Result<(), Refused> {
        let record = portal.ok_or(Refused::Unproven)?;
        if !record.keys_at(self.clock.now()).any(|taken| taken == key) {
            return Err(Refused::Unproven);
        }
        claims.check(&self.public_url, self.clock.now()).map_err(Refused::Assertion)?;
        granted(portal, &claims.iss, tenant).map(drop)
    }

    /// Where the agent stood a moment ago; `None` if there is none.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn standing(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<Standing>, StoreError> {
        self.recent.standing(tenant, agent).await
    }

    /// The agent that opens a session; uses its assertion up.
    ///
    /// # Errors
    /// If the assertion does not hold or was used, or the agent is revoked or unknown.
    pub async fn agent(&self, token: &str) -> Result<(TenantId, AgentRecord), Refused> {
        let (jws, claimed) = AgentAssertion::parse(token).map_err(Refused::Assertion)?;
        let record = self.registry.agent(&claimed.tenant, claimed.iss).await?;
        let record = record.ok_or_else(|| Refused::UnknownAgent(claimed.tenant.clone()))?;
        let now = self.clock.now();
        let assertion = AgentAssertion::verify(&jws, &record.keys.signing, &self.public_url, now);
        let assertion = assertion.map_err(|error| match error {
            JoseError::UnknownKey | JoseError::Signature => Refused::AgentKey(claimed.tenant, error),
            error => Refused::Assertion(error),
        })?;
        if record.status == AgentStatus::Revoked {
            return Err(Refused::AgentRevoked);
        }
        if !self
            .registry
            .use_assertion(&assertion.tenant, record.agent, assertion.jti, assertion.validity.exp, now)
            .await?
        {
            return Err(Refused::AssertionUsed);
        }
        Ok((assertion.tenant, record))
    }

    /// Verifies a command that `portal` submits for `tenant`, by what it might do a moment ago. Whether it is in force
    /// now, and whether its agent is in service, is asked later: a repeated submit is answered whatever has changed since.
    ///
    /// # Errors
    /// If the command does not hold, or is not this portal's or this tenant's.
    pub async fn command(&self, jws: &str, portal: &PortalId, tenant: &TenantId) -> Result<Command, Refused> {
        let parsed = Command::parse(jws).map_err(Refused::Command)?;
        let verify = |record: Option<&PortalRecord>| {
            let record = granted(record, portal, tenant)?;
            Command::verify(&parsed, record.keys_at(self.clock.now())).map_err(Refused::Command)
        };
        let command = self.recent.portal(portal, verify).await?;
        if command.iss != *portal {
            return Err(Refused::ForeignIssuer);
        }
        if command.tenant != *tenant {
            return Err(Refused::ForeignTenant);
        }
        Ok(command)
    }
}

/// Who has signed an assertion, of a portal's keys. One signature is verified, whatever is wrong: how long it takes tells
/// no more than the answer.
fn signed_by<'k>(
    assertion: &Jws<'_>,
    portal: Option<&'k PortalRecord>,
    now: UnixTime,
) -> Result<(PortalAssertion, &'k PublicKey), Refused> {
    let keys = portal.into_iter().flat_map(|portal| portal.keys_at(now));
    PortalAssertion::signed_by(assertion, keys).map_err(|error| match error {
        JoseError::UnknownKey | JoseError::Algorithm => {
            assertion.verify_in_vain();
            Refused::Unproven
        }
        JoseError::Signature => Refused::Unproven,
        error => Refused::Assertion(error),
    })
}

/// The portal's record, if it may serve the tenant.
fn granted<'a>(
    record: Option<&'a PortalRecord>,
    portal: &PortalId,
    tenant: &TenantId,
) -> Result<&'a PortalRecord, Refused> {
    let record = record.ok_or_else(|| Refused::UnknownPortal(portal.clone()))?;
    if !record.tenants.contains(tenant) {
        return Err(Refused::TenantNotGranted(tenant.clone()));
    }
    Ok(record)
}

#[async_trait]
impl Guard for Keys {
    async fn is_genuine(&self, entry: &Entry) -> Result<bool, StoreError> {
        let Some(jws) = &entry.jws else { return Ok(false) };
        match self.command(jws, &entry.key.portal, &entry.key.tenant).await {
            Ok(command) => Ok(command.jti == entry.key.command && command.aud == entry.agent),
            Err(Refused::Store(error)) => Err(error),
            Err(_) => Ok(false),
        }
    }
}
