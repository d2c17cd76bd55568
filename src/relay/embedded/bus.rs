//! The bus of a single node: a map, and calls instead of messages.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;

use super::super::StoreError;
use super::super::bus::{Bus, Claim, Delivery, Departure, Inbox, Notice, Place, Presence};
use super::super::ids::{NodeId, SessionId};
use super::super::ledger::Entry;
use crate::clock::Clock;
use crate::protocol::ids::{AgentId, InstanceId, TenantId};

/// How long an agent that left counts as "on its way back", in milliseconds.
const RETURN_WINDOW_MS: u64 = 30_000;

/// [`Bus`] for one node.
pub struct EmbeddedBus {
    node: NodeId,
    clock: Arc<dyn Clock>,
    inbox: OnceLock<Arc<dyn Inbox>>,
    agents: Mutex<HashMap<(TenantId, AgentId), Agent>>,
}

/// Kept after the last session is gone: a few words for each agent that was ever here.
#[derive(Default)]
struct Agent {
    /// Oldest first.
    sessions: Vec<(SessionId, InstanceId)>,
    /// When the last session was lost, in milliseconds.
    lost_ms: Option<u64>,
}

impl EmbeddedBus {
    /// For this node.
    #[must_use]
    pub fn new(node: NodeId, clock: Arc<dyn Clock>) -> Self {
        Self { node, clock, inbox: OnceLock::new(), agents: Mutex::default() }
    }

    fn agents(&self) -> std::sync::MutexGuard<'_, HashMap<(TenantId, AgentId), Agent>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    fn attach(&self, inbox: Arc<dyn Inbox>) {
        // A node has one inbox; a second call changes nothing.
        let _ = self.inbox.set(inbox);
    }

    fn node(&self) -> NodeId {
        self.node
    }

    async fn claim(&self, presence: &Presence) -> Result<Claim, StoreError> {
        let mut agents = self.agents();
        let agent = agents.entry((presence.tenant.clone(), presence.agent)).or_default();
        if agent.sessions.iter().any(|(_, instance)| *instance > presence.instance) {
            return Ok(Claim::Newer);
        }
        let (same, older): (Vec<_>, Vec<_>) =
            agent.sessions.drain(..).partition(|(_, instance)| *instance == presence.instance);
        agent.sessions = same;
        agent.sessions.push((presence.session, presence.instance));
        let displaced = older.into_iter().map(|(session, _)| Place { node: self.node, session }).collect();
        Ok(Claim::Held { displaced })
    }

    async fn release(&self, presence: &Presence, departure: Departure) -> Result<(), StoreError> {
        if let Some(agent) = self.agents().get_mut(&(presence.tenant.clone(), presence.agent)) {
            let before = agent.sessions.len();
            agent.sessions.retain(|(session, _)| *session != presence.session);
            if agent.sessions.len() < before {
                agent.lost_ms = (departure == Departure::Lost).then(|| self.clock.now_ms());
            }
        }
        Ok(())
    }

    async fn places(&self, tenant: &TenantId, agent: AgentId) -> Result<Vec<Place>, StoreError> {
        let agents = self.agents();
        let sessions = agents.get(&(tenant.clone(), agent)).map(|agent| &agent.sessions[..]).unwrap_or_default();
        // The newest first: an older one may be about to close.
        Ok(sessions.iter().rev().map(|(session, _)| Place { node: self.node, session: *session }).collect())
    }

    async fn was_here(&self, tenant: &TenantId, agent: AgentId) -> Result<bool, StoreError> {
        let now_ms = self.clock.now_ms();
        Ok(self
            .agents()
            .get(&(tenant.clone(), agent))
            .is_some_and(|agent| agent.lost_ms.is_some_and(|lost_ms| lost_ms + RETURN_WINDOW_MS > now_ms)))
    }

    async fn sessions(&self) -> Result<usize, StoreError> {
        Ok(self.agents().values().map(|agent| agent.sessions.len()).sum())
    }

    async fn deliver(&self, place: Place, entry: Entry) -> Result<Delivery, StoreError> {
        Ok(self.inbox.get().map_or(Delivery::Gone, |inbox| inbox.deliver(place.session, entry)))
    }

    async fn tell(&self, notice: Notice) -> Result<(), StoreError> {
        if let Some(inbox) = self.inbox.get() {
            inbox.notice(notice);
        }
        Ok(())
    }
}
