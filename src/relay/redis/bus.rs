//! The bus over Redis: presence by leases, a shard channel for each node, answers by correlation, a deadline on each.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use redis::cmd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::envelope::{Body, Envelopes};
use super::keys;
use super::link::{Link, LinkError};
use super::presence::PresenceTable;
use super::subscriber::{Heard, listen};
use crate::clock::{Clock, Random};
use crate::protocol::ids::{AgentId, ObjectId, TenantId};
use crate::relay::StoreError;
use crate::relay::bus::{Bus, Claim, Delivery, Departure, Guard, Inbox, Notice, Place, Presence};
use crate::relay::ids::{NodeId, SessionId};
use crate::relay::ledger::Entry;

/// Another node answers at once, or not at all.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);
/// How often the node says something to itself.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// So many probes missing means that the subscription is dead.
const SILENCE: Duration = Duration::from_secs(3);

/// [`Bus`] for many nodes.
pub struct RedisBus {
    shared: Arc<Shared>,
    _background: tokio_util::sync::DropGuard,
}

struct Shared {
    node: NodeId,
    link: Link,
    presence: PresenceTable,
    envelopes: Envelopes,
    guard: Arc<dyn Guard>,
    inbox: OnceLock<Arc<dyn Inbox>>,
    /// Questions to other nodes that are not answered yet.
    asked: Mutex<HashMap<ObjectId, (NodeId, oneshot::Sender<Delivery>)>>,
    /// This node's sessions, the newest last.
    local: Mutex<HashMap<(TenantId, AgentId), Vec<SessionId>>>,
    /// When a probe last came back.
    heard: watch::Sender<Option<Instant>>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl RedisBus {
    /// Begins to listen and to renew the node's lease; both go on until it is dropped.
    ///
    /// # Errors
    /// If the cluster key can't be read.
    pub fn open(
        link: Link,
        node: NodeId,
        name: String,
        guard: Arc<dyn Guard>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, LinkError> {
        let config = link.config().clone();
        let envelopes = Envelopes::new(&config.cluster_key()?, node, Arc::clone(&clock));
        let shared = Arc::new(Shared {
            node,
            presence: PresenceTable::new(link.clone(), node),
            link,
            envelopes,
            guard,
            inbox: OnceLock::new(),
            asked: Mutex::default(),
            local: Mutex::default(),
            heard: watch::Sender::new(None),
            clock,
            random,
        });
        let stop = CancellationToken::new();
        let (heard, messages) = mpsc::unbounded_channel();
        let listening = listen(config, keys::bus(node), SILENCE, heard);
        tokio::spawn(stop.clone().run_until_cancelled_owned(listening));
        tokio::spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&shared).hear(messages)));
        tokio::spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&shared).live(name)));
        Ok(Self { shared, _background: stop.drop_guard() })
    }

    /// Whether this node's own messages reach it.
    #[must_use]
    pub fn hears_itself(&self) -> bool {
        self.shared.heard.borrow().is_some_and(|at| at.elapsed() < SILENCE)
    }

    /// Whether there are other nodes, as far as Redis tells.
    pub async fn has_others(&self) -> bool {
        self.shared.presence.others().await.is_ok_and(|others| !others.is_empty())
    }

    /// Gives the node's lease back, when its sessions are closed.
    ///
    /// # Errors
    /// If Redis does not answer; then the lease runs out.
    pub async fn retire(&self) -> Result<(), StoreError> {
        self.shared.presence.retire().await
    }
}

impl Shared {
    /// Renews the lease and probes the subscription.
    async fn live(self: Arc<Self>, name: String) {
        let (mut renew, mut probe) = (interval(keys::NODE_RENEWAL), interval(PROBE_EVERY));
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = renew.tick() => {
                    if let Err(error) = self.presence.renew(&name).await {
                        tracing::warn!(%error, "the node's lease could not be renewed");
                    }
                }
                _ = probe.tick() => {
                    let probe = Body::Probe(ObjectId::new(&*self.clock, &*self.random));
                    if let Err(error) = self.publish(self.node, probe).await {
                        tracing::debug!(%error, "a probe could not be sent");
                    }
                }
            }
        }
    }

    async fn hear(self: Arc<Self>, mut messages: mpsc::UnboundedReceiver<Heard>) {
        let mut opened = false;
        while let Some(heard) = messages.recv().await {
            match heard {
                Heard::Opened if opened => {
                    if let Some(inbox) = self.inbox.get() {
                        inbox.reconcile();
                    }
                }
                Heard::Opened => opened = true,
                Heard::Message(message) => self.take(&message),
            }
        }
    }

    fn take(self: &Arc<Self>, sealed: &[u8]) {
        let message = match self.envelopes.open(sealed) {
            Ok(message) => message,
            Err(refused) => {
                tracing::warn!(%refused, "a message was not acted on");
                return;
            }
        };
        match message.body {
            Body::Probe(_) if message.from == self.node => drop(self.heard.send_replace(Some(Instant::now()))),
            Body::Probe(_) => {}
            Body::Notice(notice) => {
                if let Some(inbox) = self.inbox.get() {
                    inbox.notice(notice);
                }
            }
            Body::Delivered { question, delivery } => {
                let mut asked = self.asked.lock();
                // Only the node that was asked may answer.
                if asked.get(&question).is_some_and(|(node, _)| *node == message.from)
                    && let Some((_, reply)) = asked.remove(&question)
                {
                    // Whoever asked may have given up.
                    let _ = reply.send(delivery);
                }
            }
            Body::Deliver { question, session, entry } => {
                let shared = Arc::clone(self);
                tokio::spawn(async move {
                    let genuine = shared.guard.is_genuine(&entry).await;
                    let delivery = match shared.inbox.get() {
                        Some(inbox) if genuine => inbox.deliver(session, *entry),
                        _ => Delivery::Gone,
                    };
                    let answer = Body::Delivered { question, delivery };
                    if let Err(error) = shared.publish(message.from, answer).await {
                        tracing::warn!(%error, "another node could not be answered");
                    }
                });
            }
        }
    }

    /// Sends a message; how many listeners there were, as far as the server knows.
    async fn publish(&self, to: NodeId, body: Body) -> Result<u64, StoreError> {
        let sealed = self.envelopes.seal(to, body).map_err(|e| StoreError(e.to_string()))?;
        self.link.command(cmd("SPUBLISH").arg(keys::bus(to)).arg(sealed)).await
    }

    async fn ask(&self, place: Place, entry: Entry) -> Result<Delivery, StoreError> {
        let question = ObjectId::new(&*self.clock, &*self.random);
        let (reply, answer) = oneshot::channel();
        self.asked.lock().insert(question, (place.node, reply));
        let body = Body::Deliver { question, session: place.session, entry: Box::new(entry) };
        let answered = match self.publish(place.node, body).await {
            // Nobody listens there: it was not heard, and will not be.
            Ok(0) => Ok(Delivery::Gone),
            Ok(_) => Ok(timeout(ANSWER_TIMEOUT, answer).await.ok().and_then(Result::ok).unwrap_or(Delivery::NoAnswer)),
            // It may have been published.
            Err(error) => {
                tracing::warn!(%error, "another node could not be asked");
                Ok(Delivery::NoAnswer)
            }
        };
        self.asked.lock().remove(&question);
        if matches!(answered, Ok(Delivery::Gone | Delivery::NoAnswer)) {
            self.presence.doubt(place.node);
        }
        answered
    }
}

#[async_trait]
impl Bus for RedisBus {
    fn attach(&self, inbox: Arc<dyn Inbox>) {
        // A node has one inbox; a second call changes nothing.
        let _ = self.shared.inbox.set(inbox);
    }

    fn node(&self) -> NodeId {
        self.shared.node
    }

    fn nodes(&self) -> u32 {
        self.shared.presence.alive()
    }

    async fn claim(&self, presence: &Presence) -> Result<Claim, StoreError> {
        let claim = self.shared.presence.claim(presence).await?;
        if let Claim::Held { displaced } = &claim {
            let mut local = self.shared.local.lock();
            let sessions = local.entry((presence.tenant.clone(), presence.agent)).or_default();
            sessions.retain(|session| displaced.iter().all(|place| place.session != *session));
            sessions.push(presence.session);
        }
        Ok(claim)
    }

    async fn release(&self, presence: &Presence, departure: Departure) -> Result<(), StoreError> {
        {
            let mut local = self.shared.local.lock();
            let agent = (presence.tenant.clone(), presence.agent);
            if let Some(sessions) = local.get_mut(&agent) {
                sessions.retain(|session| *session != presence.session);
                if sessions.is_empty() {
                    local.remove(&agent);
                }
            }
        }
        self.shared.presence.release(presence, departure).await
    }

    async fn places(&self, tenant: &TenantId, agent: AgentId) -> Result<Vec<Place>, StoreError> {
        let here: Vec<Place> = {
            let local = self.shared.local.lock();
            let sessions = local.get(&(tenant.clone(), agent)).map(Vec::as_slice).unwrap_or_default();
            sessions.iter().rev().map(|session| Place { node: self.shared.node, session: *session }).collect()
        };
        // The nearest session is as good as any, and needs nobody to be asked.
        if here.is_empty() { self.shared.presence.places(tenant, agent).await } else { Ok(here) }
    }

    async fn may_return(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<Duration>, StoreError> {
        self.shared.presence.may_return(tenant, agent).await
    }

    async fn deliver(&self, place: Place, entry: Entry) -> Result<Delivery, StoreError> {
        if place.node == self.shared.node {
            return Ok(self.shared.inbox.get().map_or(Delivery::Gone, |inbox| inbox.deliver(place.session, entry)));
        }
        self.shared.ask(place, entry).await
    }

    async fn tell(&self, notice: Notice) -> Result<(), StoreError> {
        if let Some(inbox) = self.shared.inbox.get() {
            inbox.notice(notice.clone());
        }
        let to: Vec<_> = match &notice {
            // Elsewhere, whoever waits looks into the ledger now and then.
            Notice::Ended(entry) => entry.origin.into_iter().collect(),
            Notice::Displaced(place) | Notice::Left(place) => vec![place.node],
            Notice::Revoked(..) => self.shared.presence.others().await?,
            // Whoever waits at another node looks twice a second.
            Notice::Arrived(..) => Vec::new(),
        };
        for node in to.into_iter().filter(|node| *node != self.shared.node) {
            self.shared.publish(node, Body::Notice(notice.clone())).await?;
        }
        Ok(())
    }
}
