//! The bus over Redis: presence by leases, a shard channel for each node, answers by correlation, a deadline on each.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::cmd;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::envelope::{Body, Envelopes};
use super::keys;
use super::ledger::Letter;
use super::link::{Link, LinkError};
use super::presence::PresenceTable;
use super::questions::{GOOD_ANSWER_AFTER, Question, Questions};
use super::subscriber::{Heard, listen};
use crate::clock::{Clock, Random};
use crate::protocol::ids::{AgentId, ObjectId, TenantId};
use crate::relay::StoreError;
use crate::relay::bus::{Bus, Claim, Delivery, Departure, Guard, Inbox, Notice, Place, Presence};
use crate::relay::cache::Cache;
use crate::relay::ids::{NodeId, SessionId};
use crate::relay::ledger::Entry;

/// Where an agent was is believed for so long. That it is there no longer is found by the first command.
const NEAREST_KEPT: Duration = Duration::from_secs(30);
/// As many agents of other nodes as get a command within that time on a busy node.
const MAX_NEAREST: usize = 20_000;
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
    messages: Link,
    probes: Link,
    presence: PresenceTable,
    envelopes: Envelopes,
    guard: Arc<dyn Guard>,
    inbox: OnceLock<Arc<dyn Inbox>>,
    questions: Questions,
    /// Where commands for the agents of other nodes went last.
    nearest: Cache<(TenantId, AgentId), Place>,
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
            presence: PresenceTable::new(&link, node),
            messages: link.used_for("message"),
            probes: link.used_for("probe"),
            envelopes,
            guard,
            inbox: OnceLock::new(),
            questions: Questions::default(),
            nearest: Cache::new(NEAREST_KEPT, MAX_NEAREST),
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

    /// A question to another node, and the letter that asks it.
    pub(super) fn question(&self, place: Place, entry: Entry) -> Result<(Question, Letter), StoreError> {
        self.shared.question(place, entry)
    }

    /// What became of a question that was put to so many listeners.
    pub(super) async fn answer(&self, question: Question, listeners: u64) -> Delivery {
        self.shared.answer(question, listeners).await
    }

    /// Whether this node's own messages reach it.
    #[must_use]
    pub fn hears_itself(&self) -> bool {
        self.shared.heard.borrow().is_some_and(|at| at.elapsed() < SILENCE)
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
                    if let Err(error) = self.probe().await {
                        tracing::debug!(%error, "a probe could not be sent");
                    }
                }
            }
        }
    }

    /// Says something to itself.
    async fn probe(&self) -> Result<u64, StoreError> {
        let probe = Body::Probe(ObjectId::new(&*self.clock, &*self.random));
        self.send(&self.probes, &self.letter(self.node, probe)?).await
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
                if let Notice::Ended(entry) = &notice {
                    self.questions.ended(&entry.key);
                }
                if let Some(inbox) = self.inbox.get() {
                    inbox.notice(notice);
                }
            }
            Body::Delivered { question, command, delivery } => {
                self.questions.answered(message.from, question, &command, delivery);
            }
            Body::Deliver { question, session, entry } => {
                tokio::spawn(Arc::clone(self).deliver_for(message.from, question, session, entry));
            }
        }
    }

    fn letter(&self, to: NodeId, body: Body) -> Result<Letter, StoreError> {
        let sealed = self.envelopes.seal(to, body).map_err(|e| StoreError(e.to_string()))?;
        Ok(Letter { channel: keys::bus(to), sealed })
    }

    /// How many listeners there were, as far as the server knows.
    async fn send(&self, link: &Link, letter: &Letter) -> Result<u64, StoreError> {
        link.command(cmd("SPUBLISH").arg(&letter.channel).arg(&letter.sealed)).await
    }

    async fn publish(&self, to: NodeId, body: Body) -> Result<u64, StoreError> {
        self.send(&self.messages, &self.letter(to, body)?).await
    }

    /// Hands another node's command to a session, and answers.
    async fn deliver_for(self: Arc<Self>, from: NodeId, question: ObjectId, session: SessionId, entry: Box<Entry>) {
        let genuine = self.guard.is_genuine(&entry).await;
        let command = entry.key.clone();
        self.questions.owe(&command, from);
        let delivery = match self.inbox.get() {
            Some(inbox) if genuine => inbox.deliver(session, *entry),
            _ => Delivery::Gone,
        };
        if delivery == Delivery::Queued {
            sleep(GOOD_ANSWER_AFTER).await;
        }
        if !self.questions.settle(&command, from) {
            return;
        }
        if let Err(error) = self.publish(from, Body::Delivered { question, command, delivery }).await {
            tracing::warn!(%error, "another node could not be answered");
        }
    }

    /// The sessions of an agent that are on this node, the newest first.
    fn here(&self, tenant: &TenantId, agent: AgentId) -> Vec<Place> {
        let local = self.local.lock();
        let sessions = local.get(&(tenant.clone(), agent)).map(Vec::as_slice).unwrap_or_default();
        sessions.iter().rev().map(|session| Place { node: self.node, session: *session }).collect()
    }

    /// A question to another node, and the letter that asks it.
    fn question(&self, place: Place, entry: Entry) -> Result<(Question, Letter), StoreError> {
        let id = ObjectId::new(&*self.clock, &*self.random);
        let question = self.questions.ask(id, place.node, &entry.key);
        let body = Body::Deliver { question: id, session: place.session, entry: Box::new(entry) };
        Ok((question, self.letter(place.node, body)?))
    }

    /// Waits for the answer to a question that was put to so many listeners.
    async fn answer(&self, question: Question, listeners: u64) -> Delivery {
        let node = question.node;
        // Where nobody listens it was not heard, and will not be.
        let delivery = if listeners == 0 { Delivery::Gone } else { question.answer().await };
        if listeners == 0 || delivery == Delivery::NoAnswer {
            self.presence.doubt(node);
        }
        delivery
    }

    async fn ask(&self, place: Place, entry: Entry) -> Result<Delivery, StoreError> {
        let (question, letter) = self.question(place, entry)?;
        match self.send(&self.messages, &letter).await {
            Ok(listeners) => Ok(self.answer(question, listeners).await),
            // It may have been published.
            Err(error) => {
                tracing::warn!(%error, "another node could not be asked");
                Ok(Delivery::NoAnswer)
            }
        }
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

    async fn nearest(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<Place>, StoreError> {
        // A session of this node is as good as any, and needs nobody to be asked.
        if let Some(here) = self.shared.here(tenant, agent).into_iter().next() {
            return Ok(Some(here));
        }
        match self.shared.nearest.get(&(tenant.clone(), agent)) {
            Some(place) if self.shared.presence.is_known_alive(place.node) => Ok(Some(place)),
            _ => Ok(self.places(tenant, agent).await?.into_iter().next()),
        }
    }

    async fn places(&self, tenant: &TenantId, agent: AgentId) -> Result<Vec<Place>, StoreError> {
        let Shared { node, nearest, presence, .. } = &*self.shared;
        let look = nearest.look();
        let mut elsewhere = presence.places(tenant, agent).await?;
        elsewhere.retain(|place| place.node != *node);
        elsewhere.sort_by_key(|place| presence.is_doubted(place.node));
        if let Some(first) = elsewhere.first() {
            nearest.remember(look, (tenant.clone(), agent), *first);
        }
        let mut places = self.shared.here(tenant, agent);
        places.extend(elsewhere);
        Ok(places)
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
        let to = match &notice {
            // Elsewhere, whoever waits looks into the ledger now and then.
            Notice::Ended(entry) => {
                let waiting = entry.origin.filter(|node| *node != self.shared.node);
                if let Some(node) = waiting {
                    self.shared.questions.settle(&entry.key, node);
                }
                waiting.into_iter().collect()
            }
            Notice::Displaced(place) => vec![place.node],
            Notice::Revoked(..) | Notice::PortalChanged(_) => self.shared.presence.others().await?,
            // Whoever waits at another node looks twice a second.
            Notice::Arrived(..) => Vec::new(),
        };
        // One that can't be told keeps nobody else from hearing it.
        let telling = to.into_iter().map(|node| self.shared.publish(node, Body::Notice(notice.clone())));
        join_all(telling).await.into_iter().try_for_each(|told| told.map(drop))
    }
}
