//! What the agent and the relay tell each other of trust: whose commands the agent takes, and that a portal has approved it.

use std::time::Duration;

use tokio::time::Instant;

use super::super::StoreError;
use super::pace::Rate;
use super::rotation::MAX_PORTALS;
use super::{Ended, Fault, Session, Socket};
use crate::protocol::api::AgentStatus;
use crate::protocol::frame::{FromRelay, v1};
use crate::protocol::ids::PortalId;

/// People on the agent's host add and remove portals. Each time is written to the store that all nodes share.
pub(super) const ANNOUNCEMENTS: Rate = Rate::new(Duration::from_secs(10), 16);

/// Whose commands the agent takes, if it says whenever that changes. More portals than any agent has are not kept: nothing is
/// known then, and all are served.
pub(super) fn named(announces: bool, portals: &[v1::PinnedPortal]) -> Option<Vec<PortalId>> {
    let all = || portals.iter().map(|pinned| pinned.portal.parse().ok()).collect::<Option<Vec<PortalId>>>();
    (announces && portals.len() <= MAX_PORTALS).then(all).flatten()
}

impl<S: Socket> Session<'_, S> {
    /// The agent takes the commands of other portals than before.
    pub(super) async fn announced(&mut self, v1::Portals { portals }: v1::Portals) -> Result<(), Ended> {
        if !self.announces {
            return Err(Fault::protocol("Portals comes from an agent whose Hello says announces_portals").into());
        }
        let now = Instant::now();
        let trusts = named(true, &portals);
        let is_news = self.presence.trusts != trusts;
        self.presence.trusts = trusts;
        if let Some(at) = self.announcements.wait(now) {
            // What it has said last is written later.
            self.reconcile_at = Some(self.reconcile_at.map_or(at, |known| known.min(at)));
            return Ok(());
        }
        self.announcements.take(now);
        if is_news {
            self.make_known().await?;
        }
        if let Err(error) = self.carry_to(&portals).await {
            // It is told when its next session opens.
            tracing::warn!(%error, "an agent that trusts another portal was not told of that portal's rotations");
        }
        Ok(())
    }

    /// What a portal that was added has rotated to since its code was made.
    async fn carry_to(&mut self, portals: &[v1::PinnedPortal]) -> Result<(), StoreError> {
        let (tenant, agent) = (&self.presence.tenant, self.presence.agent);
        match self.services.registry.agent(tenant, agent).await? {
            Some(record) => self.carry_missed(&record, portals).await,
            None => Ok(()),
        }
    }

    /// Says that it is alive, and to an agent that waits for it, that a portal has approved it.
    pub(super) async fn beat(&mut self) {
        self.say_alive();
        if self.approved {
            return;
        }
        let (tenant, agent) = (&self.presence.tenant, self.presence.agent);
        match self.services.registry.agent(tenant, agent).await {
            Ok(Some(record)) if record.status == AgentStatus::Approved => {
                self.approved = true;
                self.say_alive();
            }
            Ok(_) => {}
            // It is asked again with the next one.
            Err(error) => tracing::debug!(%error, "whether an agent is approved could not be asked"),
        }
    }

    fn say_alive(&mut self) {
        let (nodes, approved) = (self.services.bus.nodes(), self.approved);
        self.wire.send(FromRelay::Heartbeat(v1::Heartbeat { nodes, approved }));
    }
}
