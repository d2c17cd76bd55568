//! To which session of its agent a command goes.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Dispatcher;
use crate::protocol::ids::{AgentId, TenantId};
use crate::relay::StoreError;
use crate::relay::bus::{Delivery, Notice, Place};
use crate::relay::ledger::{Entry, Undelivered, Written};

/// An agent whose session can't be reached, though it is said to be there, is looked for at most so long: a node that died
/// is believed to be alive until its lease is over, and one that is alive may have lost its subscription for a moment.
const RESETTLING: Duration = Duration::from_secs(10);

/// How often it is asked whether an agent that is on its way back has arrived at another node.
const LOOK_FOR_ARRIVAL: Duration = Duration::from_millis(500);

impl Dispatcher {
    /// An agent that lost its connection a moment ago is on its way back, and worth the caller's wait.
    pub(super) async fn return_of(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        until: Instant,
    ) -> Result<Option<Place>, StoreError> {
        let Some(left) = self.bus.may_return(tenant, agent).await? else { return Ok(None) };
        let until = until.min(Instant::now() + left);
        loop {
            let arrival = self.sessions.arrival();
            if let Some(place) = self.bus.places(tenant, agent).await?.into_iter().next() {
                return Ok(Some(place));
            }
            // It may arrive at another node.
            let look = until.min(Instant::now() + LOOK_FOR_ARRIVAL);
            if timeout_at(look, arrival).await.is_err() && look == until {
                return Ok(None);
            }
        }
    }

    /// Hands a command that its session has not got, or perhaps not, to another session of its agent.
    pub(super) async fn see_delivered(
        &self,
        mut place: Place,
        mut entry: Entry,
        mut delivery: Delivery,
        patience: Instant,
    ) -> Result<(), StoreError> {
        let (key, agent) = (entry.key.clone(), entry.agent);
        let patience = patience.min(Instant::now() + RESETTLING);
        let (mut tried, mut busy) = (Vec::new(), false);
        loop {
            let arrival = self.sessions.arrival();
            let undelivered = match delivery {
                Delivery::Queued => return Ok(()),
                Delivery::Busy => Some(Undelivered::AgentBusy),
                Delivery::Gone => Some(Undelivered::NoAgent),
                Delivery::NoAnswer => None,
            };
            let written = if undelivered.is_some() { Written::No } else { Written::Maybe };
            busy |= delivery == Delivery::Busy;
            tried.push(place.session);
            // What was known of its sessions may be old.
            let places = self.bus.places(&key.tenant, agent).await?;
            if let Some(next) = places.iter().find(|other| !tried.contains(&other.session)).copied() {
                if let Some(handed) = self.ledger.hand_over(entry.clone(), next.session, written).await? {
                    (place, entry) = (next, handed);
                    delivery = self.bus.deliver(place, entry.clone()).await?;
                    continue;
                }
            } else if delivery == Delivery::Gone
                && !busy
                && Instant::now() < patience
                && self.settles(&key.tenant, agent, &places).await?
            {
                let _ = timeout_at(patience.min(Instant::now() + LOOK_FOR_ARRIVAL), arrival).await;
                tried.clear();
                delivery = self.bus.deliver(place, entry.clone()).await?;
                continue;
            }
            // If no session ever had it, this node may speak for it.
            let Some(reason) = undelivered else { return Ok(()) };
            if let Some(ended) = self.ledger.take_back(&key, place.session, reason, self.clock.now_ms()).await? {
                self.metrics.ended(&key.tenant, reason.as_str());
                self.bus.tell(Notice::Ended(Box::new(ended))).await?;
            }
            return Ok(());
        }
    }

    /// Whether an agent that can't be reached is likely to be in a moment: it is said to be there, or on its way back.
    async fn settles(&self, tenant: &TenantId, agent: AgentId, places: &[Place]) -> Result<bool, StoreError> {
        Ok(!places.is_empty() || self.bus.may_return(tenant, agent).await?.is_some())
    }
}
