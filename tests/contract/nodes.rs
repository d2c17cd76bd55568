//! A node's bus without the rest of the node.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::watch;
use writeback_relay::clock::System;
use writeback_relay::protocol::ids::ObjectId;
use writeback_relay::relay::StoreError;
use writeback_relay::relay::bus::{Bus, Delivery, Guard, Inbox, Load, Notice};
use writeback_relay::relay::embedded::EmbeddedBus;
use writeback_relay::relay::ids::{NodeId, SessionId};
use writeback_relay::relay::ledger::Entry;
use writeback_relay::relay::redis::bus::RedisBus;
use writeback_relay::relay::redis::checks::CheckError;
use writeback_relay::relay::redis::config::Config;
use writeback_relay::relay::redis::link::Link;
use writeback_relay::telemetry::metrics::Metrics;

use super::stores::Ground;
use crate::support::eventually;

/// What a node was told, and what its sessions answer.
pub(super) struct Told {
    pub(super) notices: Mutex<Vec<Notice>>,
    pub(super) delivered: Mutex<Vec<(SessionId, Entry)>>,
    pub(super) answer: Mutex<Delivery>,
    pub(super) reconciled: AtomicUsize,
    /// How busy the node is.
    pub(super) sessions: AtomicU32,
}

impl Told {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            notices: Mutex::default(),
            delivered: Mutex::default(),
            answer: Mutex::new(Delivery::Queued),
            reconciled: AtomicUsize::default(),
            sessions: AtomicU32::default(),
        })
    }
}

impl Inbox for Told {
    fn deliver(&self, session: SessionId, entry: Entry) -> Delivery {
        self.delivered.lock().unwrap().push((session, entry));
        *self.answer.lock().unwrap()
    }

    fn notice(&self, notice: Notice) {
        self.notices.lock().unwrap().push(notice);
    }

    fn reconcile(&self) {
        self.reconciled.fetch_add(1, Ordering::SeqCst);
    }

    fn load(&self) -> Load {
        Load { sessions: self.sessions.load(Ordering::SeqCst), draining: false }
    }
}

/// How a node judges the commands of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Genuine,
    Forged,
    /// It does not come to one.
    Pending,
}

struct Judge(watch::Receiver<Judgement>);

#[async_trait]
impl Guard for Judge {
    async fn is_genuine(&self, _: &Entry) -> Result<bool, StoreError> {
        let mut judgement = self.0.clone();
        let judged = judgement.wait_for(|judgement| *judgement != Judgement::Pending).await;
        Ok(judged.is_ok_and(|judgement| *judgement == Judgement::Genuine))
    }
}

/// One node.
pub(super) struct Node {
    pub(super) bus: Arc<dyn Bus>,
    pub(super) told: Arc<Told>,
    pub(super) judgement: watch::Sender<Judgement>,
    pub(super) redis: Option<Arc<RedisBus>>,
    metrics: Arc<Metrics>,
}

impl Node {
    /// One more node on this ground.
    pub(super) async fn on(ground: &Ground) -> Self {
        match ground.redis() {
            Some(redis) => Self::open(redis.config(), new_node()).await.unwrap(),
            None => Self::with(Arc::new(EmbeddedBus::new(new_node(), "node-0".to_owned(), System::clock())), None),
        }
    }

    fn with(bus: Arc<dyn Bus>, redis: Option<Arc<RedisBus>>) -> Self {
        let (told, judgement) = (Told::new(), watch::Sender::new(Judgement::Genuine));
        bus.attach(Arc::clone(&told) as Arc<dyn Inbox>);
        Self { bus, told, judgement, redis, metrics: Arc::new(Metrics::new().unwrap()) }
    }

    /// A node of this id, which hears itself already.
    pub(super) async fn open(config: Config, id: NodeId) -> Result<Self, CheckError> {
        let metrics = Arc::new(Metrics::new().unwrap());
        let judgement = watch::Sender::new(Judgement::Genuine);
        let guard = Arc::new(Judge(judgement.subscribe()));
        let link = Link::open(config).await.unwrap().counted(Arc::clone(&metrics));
        let (clock, random) = (System::clock(), System::random());
        let name = "node".to_owned();
        let bus = Arc::new(RedisBus::open(link, id, name, guard, clock, random, Arc::clone(&metrics)).await?);
        eventually("the node hears itself", async || bus.hears_itself()).await;
        let node = Self::with(Arc::clone(&bus) as Arc<dyn Bus>, Some(bus));
        Ok(Self { judgement, metrics, ..node })
    }

    /// A counter of this node.
    pub(super) fn counted(&self, line: &str) -> u64 {
        let text = self.metrics.render().unwrap();
        let counted = text.lines().find_map(|found| found.strip_prefix(line));
        counted.map_or(0, |count| count.trim().parse().unwrap())
    }

    pub(super) fn notices(&self) -> Vec<Notice> {
        self.told.notices.lock().unwrap().clone()
    }

    /// Waits until this node was told.
    pub(super) async fn hears(&self, notice: &Notice) {
        eventually(&format!("a node hears {notice:?}"), async || self.notices().contains(notice)).await;
    }
}

pub(super) fn new_node() -> NodeId {
    NodeId(ObjectId::new(&System, &System))
}
