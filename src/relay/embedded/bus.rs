//! The bus of a single node: a map, and calls instead of messages.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::super::StoreError;
use super::super::bus::{
    Bus, Claim, Delivery, Departure, Inbox, Load, Member, Notice, Place, Presence, RETURN_WINDOW, Sighting,
};
use super::super::ids::{NodeId, SessionId};
use super::super::ledger::Entry;
use crate::clock::Clock;
use crate::protocol::ids::{AgentId, InstanceId, PortalId, TenantId};

/// [`Bus`] for one node.
pub struct EmbeddedBus {
    node: NodeId,
    name: String,
    clock: Arc<dyn Clock>,
    inbox: OnceLock<Arc<dyn Inbox>>,
    agents: Mutex<HashMap<(TenantId, AgentId), Agent>>,
}

/// Kept after the last session is gone: a few words for each agent that was ever here.
#[derive(Default)]
struct Agent {
    /// Oldest first.
    sessions: Vec<Known>,
    /// When the last session was lost, in milliseconds.
    lost_ms: Option<u64>,
}

/// A session that has made itself known.
struct Known {
    session: SessionId,
    instance: InstanceId,
    trusts: Option<Vec<PortalId>>,
}

impl EmbeddedBus {
    /// For this node; its name is for people.
    #[must_use]
    pub fn new(node: NodeId, name: String, clock: Arc<dyn Clock>) -> Self {
        Self { node, name, clock, inbox: OnceLock::new(), agents: Mutex::default() }
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

    fn nodes(&self) -> u32 {
        1
    }

    fn members(&self) -> Vec<Member> {
        vec![Member {
            node: self.node,
            name: self.name.as_str().into(),
            version: env!("CARGO_PKG_VERSION").into(),
            load: self.inbox.get().map_or_else(Load::default, |inbox| inbox.load()),
            is_kin: true,
            faults: Vec::new(),
        }]
    }

    async fn claim(&self, presence: &Presence) -> Result<Claim, StoreError> {
        let mut agents = self.agents.lock();
        let agent = agents.entry((presence.tenant.clone(), presence.agent)).or_default();
        // A session that was known before makes itself known again.
        let others = agent.sessions.iter().filter(|known| known.session != presence.session);
        let present = others.map(|known| (Place { node: self.node, session: known.session }, known.instance));
        let claim = Claim::judge(presence.instance, present);
        if let Claim::Held { displaced, surplus } = &claim {
            let gone = |session| displaced.iter().chain(surplus).any(|place| place.session == session);
            agent.sessions.retain(|known| !gone(known.session));
            let Presence { session, instance, trusts, .. } = presence.clone();
            match agent.sessions.iter_mut().find(|known| known.session == session) {
                Some(known) => known.trusts = trusts,
                None => agent.sessions.push(Known { session, instance, trusts }),
            }
        }
        Ok(claim)
    }

    async fn release(&self, presence: &Presence, departure: Departure) -> Result<(), StoreError> {
        if let Some(agent) = self.agents.lock().get_mut(&(presence.tenant.clone(), presence.agent)) {
            let before = agent.sessions.len();
            agent.sessions.retain(|known| known.session != presence.session);
            if agent.sessions.len() < before {
                agent.lost_ms = (departure == Departure::Lost).then(|| self.clock.now_ms());
            }
        }
        Ok(())
    }

    async fn nearest(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<Place>, StoreError> {
        let agents = self.agents.lock();
        let newest = agents.get(&(tenant.clone(), agent)).and_then(|agent| agent.sessions.last());
        Ok(newest.map(|known| Place { node: self.node, session: known.session }))
    }

    async fn sightings(&self, tenant: &TenantId, agent: AgentId) -> Result<Vec<Sighting>, StoreError> {
        let agents = self.agents.lock();
        let sessions = agents.get(&(tenant.clone(), agent)).map(|agent| &agent.sessions[..]).unwrap_or_default();
        // The newest first: an older one may be about to close.
        let sighting = |Known { session, trusts, .. }: &Known| Sighting {
            place: Place { node: self.node, session: *session },
            trusts: trusts.clone(),
        };
        Ok(sessions.iter().rev().map(sighting).collect())
    }

    async fn may_return(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<Duration>, StoreError> {
        let lost_ms = self.agents.lock().get(&(tenant.clone(), agent)).and_then(|agent| agent.lost_ms);
        let gone = lost_ms.map(|lost_ms| Duration::from_millis(self.clock.now_ms().saturating_sub(lost_ms)));
        Ok(gone.and_then(|gone| RETURN_WINDOW.checked_sub(gone)).filter(|left| !left.is_zero()))
    }

    async fn deliver(&self, place: Place, entry: Entry) -> Result<Delivery, StoreError> {
        Ok(self.inbox.get().map_or(Delivery::Gone, |inbox| inbox.deliver(place.session, entry)))
    }

    async fn tell(&self, notice: Notice) -> Result<(), StoreError> {
        if let Some(inbox) = self.inbox.get()
            && notice.to().is_none_or(|node| node == self.node)
        {
            inbox.notice(notice);
        }
        Ok(())
    }
}
