//! The bus over Redis: presence by leases, a shard channel for each node, answers by correlation, a deadline on each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::addresses::Addresses;
use super::checks::CheckError;
use super::envelope::Envelopes;
use super::exchange::Exchange;
use super::hearing::SILENCE;
use super::keys;
use super::ledger::Letter;
use super::link::Link;
use super::presence::{Lease, PresenceTable};
use super::questions::Question;
use super::subscriber::{Subscriber, WAITING};
use crate::clock::{Clock, Random};
use crate::protocol::ids::{AgentId, PortalId, TenantId};
use crate::relay::StoreError;
use crate::relay::bus::{
    Bus, Claim, Delivery, Departure, Guard, Inbox, Load, Member, Notice, Place, Presence, Sighting,
};
use crate::relay::cache::Cache;
use crate::relay::faults::Fault;
use crate::relay::ids::{NodeId, SessionId};
use crate::relay::ledger::Entry;
use crate::relay::writes::Cause;
use crate::telemetry::metrics::Metrics;

/// Where an agent was is believed for so long. That it is there no longer is found by the first command.
const NEAREST_KEPT: Duration = Duration::from_secs(30);
/// As many agents of other nodes as get a command within that time on a busy node.
const MAX_NEAREST: usize = 20_000;

/// [`Bus`] for many nodes.
pub struct RedisBus {
    exchange: Arc<Exchange>,
    /// This node's sessions, the newest last.
    local: Mutex<HashMap<(TenantId, AgentId), Vec<Known>>>,
    /// Where commands for the agents of other nodes go.
    nearest: Cache<(TenantId, AgentId), Place>,
    _background: DropGuard,
}

/// A session of this node, and the portals whose commands its agent takes, if it says so.
type Known = (SessionId, Option<Vec<PortalId>>);

impl RedisBus {
    /// Takes the node's lease, begins to listen and to renew it; both go on until this is dropped.
    ///
    /// # Errors
    /// If the cluster key can't be read, the other nodes have another one, or Redis does not answer.
    pub async fn open(
        link: Link,
        node: NodeId,
        name: String,
        guard: Arc<dyn Guard>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, CheckError> {
        let config = link.config().clone();
        let envelopes = Envelopes::new(&config.cluster_key()?, node, Arc::clone(&clock), Arc::clone(&random));
        let presence = PresenceTable::new(&link, node, Lease::new(name, envelopes.mark()));
        let exchange = Exchange::new(&link, presence, envelopes, guard, clock, random, Arc::clone(&metrics));
        let exchange = Arc::new(exchange);
        enter(&exchange, config.urls.join(" ")).await?;
        let stop = CancellationToken::new();
        let (heard, messages) = mpsc::channel(WAITING);
        let uncounted = Arc::clone(&exchange.uncounted);
        let (channel, addresses, forbidden) = (keys::bus(node), Addresses::default(), Arc::clone(link.forbidden()));
        let subscriber =
            Subscriber { config, channel, silence: SILENCE, uncounted, heard, metrics, addresses, forbidden };
        tokio::spawn(stop.clone().run_until_cancelled_owned(subscriber.listen()));
        tokio::spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&exchange).hear(messages)));
        tokio::spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&exchange).live()));
        tokio::spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&exchange).speak()));
        tokio::spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&exchange).look_at_writes()));
        let nearest = Cache::new(NEAREST_KEPT, MAX_NEAREST);
        Ok(Self { exchange, local: Mutex::default(), nearest, _background: stop.drop_guard() })
    }

    /// A question to another node, and the letter that asks it.
    pub(super) fn question(&self, place: Place, entry: Entry) -> Result<(Question, Letter), StoreError> {
        self.exchange.question(place, entry)
    }

    /// What became of a question that was put to so many listeners.
    pub(super) async fn answer(&self, question: Question, listeners: u64) -> Delivery {
        self.exchange.answer(question, listeners).await
    }

    /// Whether this node's own messages reach it, as far as Redis takes them: one that is away for all nodes is no
    /// reason to take all of them out of service.
    #[must_use]
    pub fn hears_itself(&self) -> bool {
        self.exchange.hears_itself()
    }

    /// What keeps this node from its work.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.exchange.faults()
    }

    /// What Redis refuses to this node's user, in its words.
    #[must_use]
    pub fn forbidden(&self) -> Option<String> {
        self.exchange.forbidden()
    }

    /// Asks Redis now whether it does what a relay needs of it; whether it answers, and this node hears itself through it.
    pub async fn look(&self) -> bool {
        self.exchange.look_at_store().await;
        !self.exchange.faults().contains(&Fault::Store(Cause::Away)) && self.exchange.hears_itself_now().await
    }

    /// How long a message takes to come back, if that is long.
    #[must_use]
    pub fn slowness(&self) -> Option<Duration> {
        self.exchange.slowness()
    }

    /// How far this host's clock is ahead of Redis', in milliseconds, if it is known.
    #[must_use]
    pub fn clock_offset_ms(&self) -> Option<i64> {
        self.exchange.clock_offset_ms()
    }

    /// Since this node last heard itself.
    #[must_use]
    pub fn probe_age(&self) -> Option<Duration> {
        self.exchange.probe_age()
    }

    /// Living nodes that have another cluster key: nothing goes to or comes from them.
    #[must_use]
    pub fn strangers(&self) -> Vec<String> {
        self.exchange.strangers()
    }

    /// Whether there are other nodes, those that came up a moment ago too. Without Redis nobody can go there.
    pub async fn has_others(&self) -> bool {
        self.exchange.presence.others().await.is_ok_and(|others| !others.is_empty())
    }

    /// Gives the node's lease back, when its sessions are closed.
    ///
    /// # Errors
    /// If Redis does not answer; then the lease runs out.
    pub async fn retire(&self) -> Result<(), StoreError> {
        self.exchange.presence.retire().await
    }

    /// The sessions of an agent that are on this node, the newest first.
    fn here(&self, tenant: &TenantId, agent: AgentId) -> Vec<Sighting> {
        let (node, local) = (self.exchange.node, self.local.lock());
        let sessions = local.get(&(tenant.clone(), agent)).map(Vec::as_slice).unwrap_or_default().iter().rev();
        let sighting =
            |(session, trusts): &Known| Sighting { place: Place { node, session: *session }, trusts: trusts.clone() };
        sessions.map(sighting).collect()
    }

    /// The newest of them.
    fn nearest_here(&self, tenant: &TenantId, agent: AgentId) -> Option<Place> {
        let session = self.local.lock().get(&(tenant.clone(), agent))?.last()?.0;
        Some(Place { node: self.exchange.node, session })
    }
}

/// Takes the lease, and looks who else is there. A node yields to older ones that have another cluster key, unless one
/// of the others has its own. Of two that come at the same moment, each has shown its key before it looks.
async fn enter(exchange: &Exchange, servers: String) -> Result<(), CheckError> {
    let away = |error: StoreError| CheckError::Away { server: servers, detail: error.to_string() };
    exchange.presence.renew(Load::default(), Vec::new()).await.map_err(away)?;
    let others = exchange.presence.others_alive();
    let (strangers, kin): (Vec<_>, Vec<_>) = others.into_iter().partition(|(node, _)| exchange.is_stranger(*node));
    let older = strangers.into_iter().find(|(node, _)| node.0 < exchange.node.0);
    let Some((node, lease)) = older.filter(|_| kin.is_empty()) else { return Ok(()) };
    // It runs out by itself, too.
    let _ = exchange.presence.retire().await;
    Err(CheckError::ClusterKey { name: lease.name, node: node.0.to_string() })
}

#[async_trait]
impl Bus for RedisBus {
    fn attach(&self, inbox: Arc<dyn Inbox>) {
        // A node has one inbox; a second call changes nothing.
        let _ = self.exchange.inbox.set(inbox);
    }

    fn node(&self) -> NodeId {
        self.exchange.node
    }

    fn nodes(&self) -> u32 {
        self.exchange.presence.alive()
    }

    fn members(&self) -> Vec<Member> {
        self.exchange.members()
    }

    fn knows_members(&self) -> bool {
        self.exchange.presence.is_current()
    }

    async fn claim(&self, presence: &Presence) -> Result<Claim, StoreError> {
        let claim = self.exchange.presence.claim(presence).await?;
        if let Claim::Held { displaced, surplus } = &claim {
            let mut local = self.local.lock();
            let sessions = local.entry((presence.tenant.clone(), presence.agent)).or_default();
            sessions.retain(|(session, _)| displaced.iter().chain(surplus).all(|place| place.session != *session));
            match sessions.iter_mut().find(|(session, _)| *session == presence.session) {
                Some((_, trusts)) => trusts.clone_from(&presence.trusts),
                None => sessions.push((presence.session, presence.trusts.clone())),
            }
        }
        Ok(claim)
    }

    async fn release(&self, presence: &Presence, departure: Departure) -> Result<(), StoreError> {
        {
            let mut local = self.local.lock();
            let agent = (presence.tenant.clone(), presence.agent);
            if let Some(sessions) = local.get_mut(&agent) {
                sessions.retain(|(session, _)| *session != presence.session);
                if sessions.is_empty() {
                    local.remove(&agent);
                }
            }
        }
        self.exchange.presence.release(presence, departure).await
    }

    async fn nearest(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<Place>, StoreError> {
        // A session of this node is as good as any, and needs nobody to be asked.
        if let Some(here) = self.nearest_here(tenant, agent) {
            return Ok(Some(here));
        }
        match self.nearest.get(&(tenant.clone(), agent)) {
            Some(place) if self.exchange.presence.is_known_alive(place.node) => Ok(Some(place)),
            _ => Ok(self.places(tenant, agent).await?.into_iter().next()),
        }
    }

    async fn sightings(&self, tenant: &TenantId, agent: AgentId) -> Result<Vec<Sighting>, StoreError> {
        let (exchange, look) = (&self.exchange, self.nearest.look());
        let mut elsewhere = exchange.presence.sightings(tenant, agent).await?;
        elsewhere.retain(|Sighting { place, .. }| place.node != exchange.node && !exchange.is_stranger(place.node));
        elsewhere.sort_by_key(|Sighting { place, .. }| exchange.presence.order(place.node));
        if let Some(first) = elsewhere.first() {
            self.nearest.remember(look, (tenant.clone(), agent), first.place);
        }
        let mut sightings = self.here(tenant, agent);
        sightings.extend(elsewhere);
        Ok(sightings)
    }

    async fn may_return(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<Duration>, StoreError> {
        self.exchange.presence.may_return(tenant, agent).await
    }

    async fn deliver(&self, place: Place, entry: Entry) -> Result<Delivery, StoreError> {
        if place.node == self.exchange.node {
            return Ok(self.exchange.inbox.get().map_or(Delivery::Gone, |inbox| inbox.deliver(place.session, entry)));
        }
        self.exchange.ask(place, entry).await
    }

    async fn tell(&self, notice: Notice) -> Result<(), StoreError> {
        let exchange = &self.exchange;
        let only = notice.to();
        if let Some(inbox) = exchange.inbox.get()
            && only.is_none_or(|node| node == exchange.node)
        {
            inbox.notice(notice.clone());
        }
        let to: Vec<_> = match (&notice, only) {
            (_, Some(node)) => vec![node],
            // Elsewhere, whoever waits looks into the ledger now and then.
            (Notice::Ended(entry), None) => entry.origin.into_iter().collect(),
            // Whoever waits at another node looks twice a second.
            (Notice::Arrived(..), None) => Vec::new(),
            (_, None) => exchange.presence.others().await?,
        };
        // One that can't be told keeps nobody else from hearing it.
        let to = to.into_iter().filter(|node| *node != exchange.node);
        let told = join_all(to.map(|node| exchange.notify(node, notice.clone()))).await;
        told.into_iter().collect()
    }
}
