//! What this node says to others, and what it does when it hears them. It hears on a channel of its own.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use redis::cmd;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::envelope::{Body, Envelopes, Refused};
use super::keys;
use super::ledger::Letter;
use super::link::Link;
use super::presence::PresenceTable;
use super::questions::{GOOD_ANSWER_AFTER, Question, Questions};
use super::subscriber::Heard;
use crate::clock::{Clock, Random};
use crate::protocol::ids::ObjectId;
use crate::relay::StoreError;
use crate::relay::bus::{Delivery, Guard, Inbox, Notice, Place};
use crate::relay::ids::{NodeId, SessionId};
use crate::relay::ledger::Entry;
use crate::telemetry::metrics::Metrics;

/// How often the node says something to itself.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// So many probes missing means that the subscription is dead.
pub(super) const SILENCE: Duration = Duration::from_secs(3);
/// Commands of other nodes that are judged at a time; more wait in the subscription's queue.
const MAX_JUDGED: usize = 256;
/// What goes wrong with every message is logged once in so long.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// This node among the others.
pub(super) struct Exchange {
    pub(super) node: NodeId,
    pub(super) presence: PresenceTable,
    pub(super) envelopes: Envelopes,
    pub(super) questions: Questions,
    pub(super) inbox: OnceLock<Arc<dyn Inbox>>,
    guard: Arc<dyn Guard>,
    judging: Arc<Semaphore>,
    messages: Link,
    probes: Link,
    /// When a probe last came back.
    heard: watch::Sender<Option<Instant>>,
    /// When a refusal was last logged.
    logged: Mutex<HashMap<Refused, Instant>>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    metrics: Arc<Metrics>,
}

impl Exchange {
    pub(super) fn new(
        link: &Link,
        presence: PresenceTable,
        envelopes: Envelopes,
        guard: Arc<dyn Guard>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            node: envelopes.node(),
            presence,
            envelopes,
            questions: Questions::default(),
            inbox: OnceLock::new(),
            guard,
            judging: Arc::new(Semaphore::new(MAX_JUDGED)),
            messages: link.used_for("message"),
            probes: link.used_for("probe"),
            heard: watch::Sender::new(None),
            logged: Mutex::default(),
            clock,
            random,
            metrics,
        }
    }

    /// Whether this node's own messages reach it.
    pub(super) fn hears_itself(&self) -> bool {
        self.heard.borrow().is_some_and(|at| at.elapsed() < SILENCE)
    }

    /// Whether that node is known to have another cluster key: neither hears the other.
    pub(super) fn is_stranger(&self, node: NodeId) -> bool {
        self.presence.lease(node).is_some_and(|lease| !self.envelopes.is_mark(&lease.mark, node))
    }

    /// Living nodes that have another cluster key: their names, and who they are.
    pub(super) fn strangers(&self) -> Vec<String> {
        let others = self.presence.others_alive().into_iter();
        let strangers = others.filter(|(node, lease)| !self.envelopes.is_mark(&lease.mark, *node));
        strangers.map(|(node, lease)| format!("{} ({})", lease.name, node.0)).collect()
    }

    /// Renews the node's lease and probes its subscription, for ever.
    pub(super) async fn live(self: Arc<Self>) {
        let (mut renew, mut probe) = (interval(keys::NODE_RENEWAL), interval(PROBE_EVERY));
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut complained: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = renew.tick() => {
                    if let Err(error) = self.presence.renew().await {
                        tracing::warn!(%error, "the node's lease could not be renewed");
                    }
                    let strangers = self.strangers();
                    if !strangers.is_empty() && complained.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
                        complained = Some(Instant::now());
                        tracing::error!(?strangers, "nodes at the same redis have another redis.cluster_key_file");
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

    async fn probe(&self) -> Result<u64, StoreError> {
        let probe = Body::Probe(ObjectId::new(&*self.clock, &*self.random));
        send(&self.probes, &self.letter(self.node, probe)?).await
    }

    /// Takes what the subscription brings, for ever.
    pub(super) async fn hear(self: Arc<Self>, mut heard: mpsc::Receiver<Heard>) {
        let mut opened = false;
        while let Some(heard) = heard.recv().await {
            match heard {
                Heard::Message(message) => self.take(&message).await,
                Heard::Opened if !opened => opened = true,
                Heard::Opened | Heard::Missed => {
                    if let Some(inbox) = self.inbox.get() {
                        inbox.reconcile();
                    }
                }
            }
        }
    }

    async fn take(self: &Arc<Self>, sealed: &[u8]) {
        let message = match self.envelopes.open(sealed) {
            Ok(message) => message,
            Err(refused) => return self.refuse(refused),
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
                // It fails only if the semaphore is closed, and nobody closes it.
                let Ok(judging) = Arc::clone(&self.judging).acquire_owned().await else { return };
                let exchange = Arc::clone(self);
                tokio::spawn(async move {
                    let (from, command) = (message.from, entry.key.clone());
                    let hears_the_end = entry.origin == Some(from);
                    let delivery = exchange.deliver_for(from, session, *entry).await;
                    drop(judging);
                    if delivery == Delivery::Queued && hears_the_end {
                        sleep(GOOD_ANSWER_AFTER).await;
                    }
                    if !exchange.questions.settle(&command, from) {
                        return;
                    }
                    let answer = Body::Delivered { question, command, delivery };
                    if let Err(error) = exchange.publish(from, answer).await {
                        tracing::warn!(%error, "another node could not be answered");
                    }
                });
            }
        }
    }

    /// Counts it, and says so once in a while: whoever can write to Redis could fill the log.
    fn refuse(&self, refused: Refused) {
        self.metrics.message_refused(refused.as_str());
        let mut logged = self.logged.lock();
        if logged.get(&refused).is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            logged.insert(refused, Instant::now());
            tracing::warn!(%refused, "a message was not acted on; the metrics count those that follow");
        }
    }

    /// Hands another node's command to a session of this one.
    async fn deliver_for(&self, from: NodeId, session: SessionId, entry: Entry) -> Delivery {
        let genuine = self.guard.is_genuine(&entry).await;
        // Before its end can come.
        self.questions.owe(&entry.key, from);
        match self.inbox.get() {
            Some(inbox) if genuine => inbox.deliver(session, entry),
            _ => Delivery::Gone,
        }
    }

    fn letter(&self, to: NodeId, body: Body) -> Result<Letter, StoreError> {
        let sealed = self.envelopes.seal(to, body).map_err(|e| StoreError(e.to_string()))?;
        Ok(Letter { channel: keys::bus(to), sealed })
    }

    async fn publish(&self, to: NodeId, body: Body) -> Result<u64, StoreError> {
        send(&self.messages, &self.letter(to, body)?).await
    }

    /// Tells another node.
    pub(super) async fn notify(&self, to: NodeId, notice: Notice) -> Result<(), StoreError> {
        if let Notice::Ended(entry) = &notice {
            self.questions.settle(&entry.key, to);
        }
        self.publish(to, Body::Notice(notice)).await.map(drop)
    }

    /// A question to another node, and the letter that asks it.
    pub(super) fn question(&self, place: Place, entry: Entry) -> Result<(Question, Letter), StoreError> {
        let id = ObjectId::new(&*self.clock, &*self.random);
        let question = self.questions.ask(id, place.node, &entry.key);
        let body = Body::Deliver { question: id, session: place.session, entry: Box::new(entry) };
        Ok((question, self.letter(place.node, body)?))
    }

    /// Waits for the answer to a question that was put to so many listeners.
    pub(super) async fn answer(&self, question: Question, listeners: u64) -> Delivery {
        let node = question.node;
        // Where nobody listens it was not heard, and will not be.
        let delivery = if listeners == 0 { Delivery::Gone } else { question.answer().await };
        if listeners == 0 || delivery == Delivery::NoAnswer {
            self.presence.doubt(node);
        }
        delivery
    }

    /// Asks another node to deliver.
    pub(super) async fn ask(&self, place: Place, entry: Entry) -> Result<Delivery, StoreError> {
        let (question, letter) = self.question(place, entry)?;
        match send(&self.messages, &letter).await {
            Ok(listeners) => Ok(self.answer(question, listeners).await),
            // It may have been published.
            Err(error) => {
                tracing::warn!(%error, "another node could not be asked");
                Ok(Delivery::NoAnswer)
            }
        }
    }
}

/// How many listeners there were, as far as the server knows.
async fn send(link: &Link, letter: &Letter) -> Result<u64, StoreError> {
    link.command(cmd("SPUBLISH").arg(&letter.channel).arg(&letter.sealed)).await
}
