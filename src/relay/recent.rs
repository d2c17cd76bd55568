//! Portals and agents as they were a moment ago, so that a command costs no look into the registry.
//!
//! Only a yes is remembered, and never for longer than [`MAX_AGE`]: a no is looked up each time. Where a right is taken
//! away, every node is told, and forgets it at once; the age is for word that was lost.

use std::sync::Arc;
use std::time::Duration;

use super::StoreError;
use super::bus::{Delivery, Inbox, Load, Notice};
use super::cache::Cache;
use super::ids::SessionId;
use super::ledger::Entry;
use super::registry::{PortalRecord, Registry};
use crate::clock::UnixTime;
use crate::protocol::api::AgentStatus;
use crate::protocol::ids::{AgentId, PortalId, TenantId};

/// A node that has missed every word of it serves a portal, or an agent, for so long after its right is gone.
pub const MAX_AGE: Duration = Duration::from_secs(5);

/// More portals than any relay has.
const MAX_PORTALS: usize = 1_000;

/// As many agents as get a command within [`MAX_AGE`] on a busy node.
const MAX_AGENTS: usize = 20_000;

/// Where an agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it gets commands.
    pub status: AgentStatus,
    /// Since when there can be any for it.
    pub enrolled_at: UnixTime,
}

/// What was found in the registry a moment ago.
pub struct Recent {
    registry: Arc<dyn Registry>,
    portals: Cache<PortalId, Arc<PortalRecord>>,
    /// When they were enrolled.
    approved: Cache<(TenantId, AgentId), UnixTime>,
}

impl Recent {
    /// Nothing yet.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        Self { registry, portals: Cache::new(MAX_AGE, MAX_PORTALS), approved: Cache::new(MAX_AGE, MAX_AGENTS) }
    }

    /// Judges by the portal's record as it was a moment ago, and if that is a no, or there was none, as it is now.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn portal<T, E: From<StoreError>>(
        &self,
        portal: &PortalId,
        judge: impl Fn(Option<&PortalRecord>) -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(record) = self.portals.get(portal)
            && let Ok(yes) = judge(Some(&record))
        {
            return Ok(yes);
        }
        let look = self.portals.look();
        let record = self.registry.portal(portal).await?;
        let judged = judge(record.as_ref());
        if let (Some(record), Ok(_)) = (record, &judged) {
            self.portals.remember(look, portal.clone(), Arc::new(record));
        }
        judged
    }

    /// Where the agent stands; `None` if there is none.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn standing(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<Standing>, StoreError> {
        let key = (tenant.clone(), agent);
        if let Some(enrolled_at) = self.approved.get(&key) {
            return Ok(Some(Standing { status: AgentStatus::Approved, enrolled_at }));
        }
        let look = self.approved.look();
        let Some(record) = self.registry.agent(tenant, agent).await? else { return Ok(None) };
        if record.status == AgentStatus::Approved {
            self.approved.remember(look, key, record.enrolled_at);
        }
        Ok(Some(Standing { status: record.status, enrolled_at: record.enrolled_at }))
    }

    fn forget_all(&self) {
        self.portals.forget_all();
        self.approved.forget_all();
    }
}

/// Forgets what is no longer true as soon as this node hears of it, and passes everything on.
pub struct Attentive {
    /// What forgets.
    pub recent: Arc<Recent>,
    /// Who else is to hear it.
    pub inbox: Arc<dyn Inbox>,
}

impl Inbox for Attentive {
    fn deliver(&self, session: SessionId, entry: Entry) -> Delivery {
        self.inbox.deliver(session, entry)
    }

    fn notice(&self, notice: Notice) {
        match &notice {
            Notice::Revoked(tenant, agent) => self.recent.approved.forget(&(tenant.clone(), *agent)),
            Notice::PortalChanged(portal) => self.recent.portals.forget(portal),
            Notice::Ended(_)
            | Notice::Displaced(_)
            | Notice::Surplus(_)
            | Notice::Arrived(..)
            | Notice::Left(_)
            | Notice::Check(_)
            | Notice::PortalRotated { .. }
            | Notice::Drain(_)
            | Notice::Overdue(_) => {}
        }
        self.inbox.notice(notice);
    }

    fn reconcile(&self) {
        self.recent.forget_all();
        self.inbox.reconcile();
    }

    fn load(&self) -> Load {
        self.inbox.load()
    }
}
