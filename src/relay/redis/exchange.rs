//! What this node says to others, and what it does when it hears them. It hears on a channel of its own.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use redis::cmd;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::checks::rights;
use super::clock_offset::ClockOffset;
use super::envelope::{Body, Envelopes, Refused};
use super::forbidden::Where;
use super::hearing::Hearing;
use super::keys;
use super::ledger::Letter;
use super::link::Link;
use super::presence::{PresenceTable, Renewal};
use super::questions::{ANSWER_TIMEOUT, GOOD_ANSWER_AFTER, Question, Questions, UNCOUNTED_TIMEOUT};
use super::subscriber::Heard;
use crate::clock::{Clock, Random};
use crate::protocol::ids::ObjectId;
use crate::relay::StoreError;
use crate::relay::bus::{Delivery, Guard, Inbox, Load, Member, Notice, Place};
use crate::relay::faults::Fault;
use crate::relay::ids::{NodeId, SessionId};
use crate::relay::ledger::Entry;
use crate::relay::writes::Cause;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::{Kind, Span};

/// How often the node says something to itself.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// A message through an idle Redis takes a millisecond, and a node that hears nothing for so long is deaf.
const HEARD_WITHIN: Duration = Duration::from_secs(3);
/// So many looks at the store's writes come to one at everything that a relay needs of it.
const RIGHTS_EVERY: u32 = 10;
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
    /// The same, for whether writes are taken.
    writes: Link,
    hearing: Mutex<Hearing>,
    /// Whether this host has Redis' time.
    clock_offset: ClockOffset,
    /// When it last heard itself.
    heard: watch::Sender<Option<Instant>>,
    /// The subscription was lost, and is there again.
    reopened: Notify,
    /// What the node says to itself has no listener.
    pub(super) uncounted: Arc<Notify>,
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
            writes: link.used_for("writes"),
            hearing: Mutex::default(),
            clock_offset: ClockOffset::default(),
            heard: watch::Sender::new(None),
            reopened: Notify::new(),
            uncounted: Arc::default(),
            logged: Mutex::default(),
            clock,
            random,
            metrics,
        }
    }

    /// Whether this node's own messages reach it.
    pub(super) fn hears_itself(&self) -> bool {
        self.hearing.lock().works(Instant::now())
    }

    /// Since they last did.
    pub(super) fn probe_age(&self) -> Option<Duration> {
        self.hearing.lock().age(Instant::now())
    }

    /// How long its last messages took to come back, if each of them took long.
    pub(super) fn slowness(&self) -> Option<Duration> {
        self.hearing.lock().slowness()
    }

    /// How far this host's clock is ahead of Redis', in milliseconds, if it is known.
    pub(super) fn clock_offset_ms(&self) -> Option<i64> {
        self.clock_offset.ms()
    }

    /// Whether that node is known to have another cluster key: neither hears the other.
    pub(super) fn is_stranger(&self, node: NodeId) -> bool {
        self.presence.lease(node).is_some_and(|lease| !self.envelopes.is_mark(&lease.mark, node))
    }

    /// Looks whether the store takes writes, for ever: on its own, so that neither lease nor probe waits for it.
    pub(super) async fn look_at_writes(self: Arc<Self>) {
        let mut look = interval(PROBE_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for n in 1_u32.. {
            look.tick().await;
            if n.is_multiple_of(RIGHTS_EVERY) || self.forbidden().is_some() {
                self.look_at_store().await;
            } else {
                self.look_once().await;
            }
        }
    }

    /// Whether the store takes writes, and what time it is there.
    async fn look_once(&self) {
        let before = self.clock.now_ms();
        let servers = self.writes.look_at_writes().await;
        self.clock_offset.note(before, self.clock.now_ms(), &servers);
    }

    /// Says something to itself now; whether it hears that.
    pub(super) async fn hears_itself_now(&self) -> bool {
        let (asked, mut heard) = (Instant::now(), self.heard.subscribe());
        self.probe().await;
        let hears = heard.wait_for(|heard| heard.is_some_and(|heard| heard >= asked));
        timeout(HEARD_WITHIN, hears).await.is_ok_and(|heard| heard.is_ok())
    }

    /// What this node has to do.
    fn load(&self) -> Load {
        self.inbox.get().map_or_else(Load::default, |inbox| inbox.load())
    }

    /// All living nodes, as they have said when their leases were renewed; this one as it is now.
    pub(super) fn members(&self) -> Vec<Member> {
        let others = self.presence.others_alive().into_iter().map(|(node, lease)| {
            let is_kin = self.envelopes.is_mark(&lease.mark, node);
            let load = lease.load();
            Member { node, name: lease.name, version: lease.version, load, is_kin, faults: lease.faults }
        });
        let own = self.presence.own();
        let (name, version) = (own.name.clone(), own.version.clone());
        let faults = self.faults().into_iter().map(|fault| fault.as_str().into()).collect();
        others.chain([Member { node: self.node, name, version, load: self.load(), is_kin: true, faults }]).collect()
    }

    /// What keeps this node from its work.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let of_store = self.writes.writes().cause();
        let forbidden =
            self.writes.forbidden().words().map(|_| Cause::Rights).filter(|_| of_store != Some(Cause::Rights));
        let deaf = (!self.hears_itself()).then_some(Fault::Deaf);
        let clock = self.clock_offset.is_off().then_some(Fault::ClockOff);
        of_store.into_iter().chain(forbidden).map(Fault::Store).chain(deaf).chain(clock).collect()
    }

    /// What the server refuses to this node's user, in its words.
    pub(super) fn forbidden(&self) -> Option<String> {
        self.writes.forbidden().words()
    }

    /// Asks the store whether it does what a relay needs of it.
    pub(super) async fn look_at_store(&self) {
        self.look_once().await;
        if self.writes.writes().cause() == Some(Cause::Away) {
            return;
        }
        // The first refusal ends it; what is refused is noted by the way. The server's name is for the start alone.
        if rights(&self.writes, "").await.is_ok() {
            self.writes.forbidden().allowed(Where::Commands);
        }
    }

    /// Living nodes that have another cluster key: their names, and who they are.
    pub(super) fn strangers(&self) -> Vec<String> {
        let others = self.presence.others_alive().into_iter();
        let strangers = others.filter(|(node, lease)| !self.envelopes.is_mark(&lease.mark, *node));
        strangers.map(|(node, lease)| format!("{} ({})", lease.name.cell(), node.0)).collect()
    }

    /// Renews the node's lease, for ever. The lease was taken once before.
    pub(super) async fn live(self: Arc<Self>) {
        let mut renew = interval(keys::NODE_RENEWAL);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut complained: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = renew.tick() => {
                    match self.presence.renew(self.load(), self.faults()).await {
                        Ok(Renewal::Kept) => {}
                        // It has run out, or Redis has lost it, and perhaps more: who was here may be forgotten.
                        Ok(Renewal::New) => self.reconcile(),
                        Err(error) => {
                            tracing::warn!(%error, "the node's lease could not be renewed");
                            renew.reset_after(keys::NODE_RETRY);
                            continue;
                        }
                    }
                    self.presence.release_again().await;
                    let strangers = self.strangers();
                    if !strangers.is_empty() && complained.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
                        complained = Some(Instant::now());
                        tracing::error!(?strangers, "nodes at the same redis have another redis.cluster_key_file");
                    }
                }
                () = self.reopened.notified() => {
                    // Before its sessions: they are worth nothing without it.
                    renew.reset_immediately();
                    self.reconcile();
                }
            }
        }
    }

    /// Says something to itself, for ever: on its own, because a lease is renewed in several steps, and over a slow Redis the
    /// subscription would be silent for so long that it seems dead.
    pub(super) async fn speak(self: Arc<Self>) {
        let mut probe = interval(PROBE_EVERY);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            probe.tick().await;
            self.probe().await;
        }
    }

    async fn probe(&self) {
        let probe = Body::Probe(ObjectId::new(&*self.clock, &*self.random));
        self.hearing.lock().speaks(Instant::now());
        let taken = match self.letter(self.node, probe) {
            Ok(letter) => send(&self.probes, &letter).await,
            Err(error) => Err(error),
        };
        self.hearing.lock().said(taken.is_ok(), Instant::now());
        match taken {
            // Nobody cares who is making it anew already.
            Ok(0) => self.uncounted.notify_waiters(),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a probe could not be sent"),
        }
    }

    /// Messages may have been lost, or what is stored of this node's sessions.
    fn reconcile(&self) {
        tracing::info!("messages may have been lost: every session looks into the store");
        if let Some(inbox) = self.inbox.get() {
            inbox.reconcile();
        }
    }

    /// Takes what the subscription brings, for ever.
    pub(super) async fn hear(self: Arc<Self>, mut heard: mpsc::Receiver<Heard>) {
        let mut opened = false;
        while let Some(heard) = heard.recv().await {
            match heard {
                Heard::Message(message) => self.take(&message).await,
                Heard::Opened if !opened => opened = true,
                Heard::Opened => self.reopened.notify_one(),
                Heard::Missed => self.reconcile(),
            }
        }
    }

    async fn take(self: &Arc<Self>, sealed: &[u8]) {
        let message = match self.envelopes.open(sealed) {
            Ok(message) => message,
            Err(refused) => return self.refuse(refused),
        };
        match message.body {
            Body::Probe(_) if message.from == self.node => {
                let now = Instant::now();
                if let Some(took) = self.hearing.lock().heard(now) {
                    self.metrics.bus_round_trip(took);
                }
                self.heard.send_replace(Some(now));
            }
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
                    // Whoever asks has given up by now: the session finds it in the ledger when that answers.
                    let Some(delivery) = delivery else { return };
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

    /// Hands another node's command to a session of this one. Nothing is said of one that could not be judged.
    async fn deliver_for(&self, from: NodeId, session: SessionId, mut entry: Entry) -> Option<Delivery> {
        let inbox = self.inbox.get()?;
        let mut span = Span::start("process node", Kind::Consumer, &*entry.traceparent);
        span.set("messaging.system", "redis");
        span.set("messaging.operation.type", "process");
        span.set("messaging.operation.name", "deliver");
        span.set("messaging.destination.name", self.node.0);
        entry.traceparent = span.traceparent(entry.traceparent);
        let genuine = match self.guard.is_genuine(&entry).await {
            Ok(genuine) => genuine,
            Err(error) => {
                tracing::warn!(%error, "a command from another node could not be judged");
                inbox.notice(Notice::Overdue(Place { node: self.node, session }));
                return None;
            }
        };
        // Before its end can come.
        self.questions.owe(&entry.key, from);
        Some(if genuine { inbox.deliver(session, entry) } else { Delivery::Gone })
    }

    fn letter(&self, to: NodeId, body: Body) -> Result<Letter, StoreError> {
        let sealed = self.envelopes.seal(to, body).map_err(|e| StoreError::Unanswered(e.to_string()))?;
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
    pub(super) fn question(&self, place: Place, mut entry: Entry) -> Result<(Question, Letter), StoreError> {
        let id = ObjectId::new(&*self.clock, &*self.random);
        let mut span = Span::start("send node", Kind::Producer, &*entry.traceparent);
        span.set("messaging.system", "redis");
        span.set("messaging.operation.type", "send");
        span.set("messaging.operation.name", "SPUBLISH");
        span.set("messaging.destination.name", place.node.0);
        entry.traceparent = span.traceparent(entry.traceparent);
        let question = self.questions.ask(id, place.node, &entry.key, span);
        let body = Body::Deliver { question: id, session: place.session, entry: Box::new(entry) };
        Ok((question, self.letter(place.node, body)?))
    }

    /// Waits for the answer to a question that was put to so many listeners.
    pub(super) async fn answer(&self, question: Question, listeners: u64) -> Delivery {
        let node = question.node;
        // Where nobody is counted it was not heard, unless somebody says that it was.
        let delivery = if listeners == 0 {
            question.answer(UNCOUNTED_TIMEOUT, Delivery::Gone).await
        } else {
            question.answer(ANSWER_TIMEOUT, Delivery::NoAnswer).await
        };
        if delivery == Delivery::NoAnswer || (listeners == 0 && delivery == Delivery::Gone) {
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
