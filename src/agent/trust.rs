//! Further portals: an administrator on the agent's host says whose commands it takes. No relay and no portal can.

use std::sync::Arc;

use serde::Serialize;

use super::distrusted::{self, Distrusted};
use super::enroll::{Begun, EnrollError, redeem, request};
use super::events::{About, EventLog};
use super::format::Format;
use super::home::Home;
use super::pin::Pin;
use super::portals::change;
use crate::clock::{Clock, Random};
use crate::net::outbound::{Access, Outbound};
use crate::protocol::enrolment_code::EnrolmentCode;
use crate::protocol::event::Event;
use crate::protocol::ids::{AgentId, PortalId, TenantId};
use crate::protocol::jose::Thumbprint;

/// Why the agent's trust is as it was.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// There is no identity in the folder.
    #[error("{folder}: the agent is not enrolled; run: writeback-agent setup")]
    NotEnrolled {
        /// The folder.
        folder: String,
    },
    /// The code is another tenant's, or another relay's.
    #[error(
        "this code is for tenant {tenant} at {relay}; this agent serves another, so enrol a second one in a folder of its own"
    )]
    Elsewhere {
        /// The code's tenant.
        tenant: TenantId,
        /// The code's relay.
        relay: String,
    },
    /// It is trusted already.
    #[error("portal {0} is trusted already; to pin another key of it, first run: writeback-agent trust --remove {0}")]
    Already(PortalId),
    /// It is not trusted anyway.
    #[error("portal {0} is not trusted; see: writeback-agent trust --list")]
    Unknown(PortalId),
    /// A rotation has begun and not ended: the relay may know either keys.
    #[error("the agent's keys are being changed; end that first: writeback-agent rotate-keys")]
    Rotating,
    /// As at an enrolment.
    #[error(transparent)]
    Enroll(#[from] EnrollError),
}

impl From<crate::storage::FileError> for TrustError {
    fn from(error: crate::storage::FileError) -> Self {
        Self::Enroll(error.into())
    }
}

/// A portal that is trusted from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trusted {
    /// The portal.
    pub portal: PortalId,
    /// The agent.
    pub agent: AgentId,
    /// What people compare at that portal before they approve the agent there.
    pub fingerprint: String,
}

/// Redeems the code of a further portal of the same tenant. The agent may be running; it takes that portal's commands from
/// the next one on.
///
/// # Errors
/// If the code is for somebody else, a file can't be written, or the relay refuses or can't be trusted.
pub async fn trust(
    home: &Home,
    code: &EnrolmentCode,
    access: impl Into<Access>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<Trusted, TrustError> {
    let identity = home.identity()?.ok_or_else(|| not_enrolled(home))?;
    if code.tenant != identity.tenant || code.relay != identity.relay {
        return Err(TrustError::Elsewhere { tenant: code.tenant.clone(), relay: code.relay.clone() });
    }
    if identity.portals.contains_key(&code.portal) {
        return Err(TrustError::Already(code.portal.clone()));
    }
    let ring = home.keyring()?;
    if ring.next.is_some() {
        return Err(TrustError::Rotating);
    }
    let outbound = Outbound::new(&access.into()).map_err(EnrollError::from)?;
    let begun = Begun { format: Format, invitation: code.invitation, agent: identity.agent, journal: identity.journal };
    let enrolled = redeem(&outbound, code, &request(code, &begun, &ring.keys, &*clock, &*random)?).await?;
    let pin =
        Pin::found(&code.portal_key, (&code.portal, &code.relay), &enrolled.portal_keys, &enrolled.portal_rotations);
    let (Some(pin), true, true) = (pin, enrolled.agent == identity.agent, enrolled.portal == code.portal) else {
        let what = "the portal's key, the portal, or the agent is another one";
        return Err(EnrollError::Untrusted(what).into());
    };
    change(home, |identity| identity.portals.insert(code.portal.clone(), pin))?;
    distrusted::forget(home, &code.portal)?;
    record(home, clock, Event::OnboardingEventSuccess, &code.portal, "is trusted from now on")?;
    let fingerprint = ring.keys.public().fingerprint(identity.agent);
    Ok(Trusted { portal: code.portal.clone(), agent: identity.agent, fingerprint })
}

/// Takes no more commands from a portal. The agent may be running: it tells the relay within a second, and refuses that
/// portal's next command.
///
/// # Errors
/// If it is not trusted anyway, or a file can't be written.
pub fn distrust(home: &Home, portal: &PortalId, clock: Arc<dyn Clock>) -> Result<(), TrustError> {
    let unknown = || TrustError::Unknown(portal.clone());
    let identity = home.identity()?.ok_or_else(|| not_enrolled(home))?;
    let pin = identity.portals.get(portal).ok_or_else(unknown)?.clone();
    // First: as long as it is trusted, this says nothing.
    distrusted::remember(home, portal, Distrusted { pin, since: clock.now() })?;
    change(home, |identity| identity.portals.remove(portal))?.ok_or_else(unknown)?;
    record(home, clock, Event::OffboardingEventSuccess, portal, "is not trusted any more")
}

/// A portal whose commands the agent takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrustedPortal {
    /// The portal.
    pub portal: PortalId,
    /// Its pinned key.
    pub key: Thumbprint,
    /// The last rotation of that key which the agent has followed; 0 if none.
    pub seq: u64,
}

/// The portals whose commands the agent takes.
///
/// # Errors
/// If it is not enrolled, or the file can't be read.
pub fn trusted(home: &Home) -> Result<Vec<TrustedPortal>, TrustError> {
    let identity = home.identity()?.ok_or_else(|| not_enrolled(home))?;
    let view = |(portal, pin): (&PortalId, &Pin)| TrustedPortal {
        portal: portal.clone(),
        key: pin.key.thumbprint(),
        seq: pin.seq,
    };
    Ok(identity.portals.iter().map(view).collect())
}

/// The same for people.
#[must_use]
pub fn trusted_list(portals: &[TrustedPortal]) -> String {
    if portals.is_empty() {
        return "none: this agent takes no commands; run: writeback-agent trust CODE\n".to_owned();
    }
    let line = |TrustedPortal { portal, key, seq }: &TrustedPortal| {
        let since = if *seq == 0 { String::new() } else { format!(", rotation {seq}") };
        format!("{portal}  key {key}{since}\n")
    };
    portals.iter().map(line).collect()
}

fn record(home: &Home, clock: Arc<dyn Clock>, event: Event, portal: &PortalId, what: &str) -> Result<(), TrustError> {
    let about = About { portal: Some(portal.clone()), ..About::default() };
    EventLog::open(&home.events(), clock)?.record(event, &format!("portal {portal} {what}"), &about);
    Ok(())
}

fn not_enrolled(home: &Home) -> TrustError {
    TrustError::NotEnrolled { folder: home.folder().display().to_string() }
}
