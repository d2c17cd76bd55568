//! What only a bus over Redis can get wrong: strangers, forgeries, floods.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, Value, cmd};
use tokio::sync::mpsc;
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::ids::{InstanceId, ObjectId};
use writeback_relay::relay::bus::{Delivery, Notice, Place, Presence};
use writeback_relay::relay::ids::NodeId;
use writeback_relay::relay::ledger::{Entry, Intent};
use writeback_relay::relay::redis::config::Config;
use writeback_relay::relay::redis::keys;
use writeback_relay::relay::redis::link::Link;
use writeback_relay::storage::PrivateFile;

use super::ledger::{T, command, session};
use super::nodes::{Judgement, Node, new_node};
use super::stores::link;
use super::{agent, tenant};
use crate::support::logged::Logged;
use crate::support::redis::Redis;
use crate::support::{deadline, eventually};

async fn node(redis: &Redis) -> Node {
    Node::open(redis.config(), new_node()).await.unwrap()
}

async fn publish(link: &Link, to: &Node, message: &[u8]) {
    link.command::<()>(cmd("SPUBLISH").arg(keys::bus(to.bus.node())).arg(message)).await.unwrap();
}

/// Hears everything that is said to a node.
async fn tapped(redis: &Redis, node: &Node) -> (redis::aio::MultiplexedConnection, mpsc::UnboundedReceiver<PushInfo>) {
    let (pushes, heard) = mpsc::unbounded_channel();
    let url = format!("{}?protocol=resp3", redis.config().urls[0]);
    let settings = AsyncConnectionConfig::new().set_push_sender(pushes);
    let client = Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection_with_config(&settings).await.unwrap();
    cmd("SSUBSCRIBE").arg(keys::bus(node.bus.node())).exec_async(&mut connection).await.unwrap();
    (connection, heard)
}

/// The next message that is no probe.
async fn overheard(heard: &mut mpsc::UnboundedReceiver<PushInfo>) -> Vec<u8> {
    loop {
        let push = deadline("a message", heard.recv()).await.unwrap();
        let Some(Value::BulkString(message)) = push.data.into_iter().nth(1) else { continue };
        if push.kind == PushKind::SMessage && !String::from_utf8_lossy(&message).contains("Probe") {
            return message;
        }
    }
}

#[tokio::test]
async fn a_message_that_is_altered_or_sent_again_is_refused_and_counted() {
    let redis = Redis::single().await;
    let (one, two) = (node(&redis).await, node(&redis).await);
    let (_tap, mut heard) = tapped(&redis, &two).await;
    let link = link(&redis).await;
    let refused = |reason: &str| two.counted(&format!("writeback_bus_messages_refused_total{{reason=\"{reason}\"}}"));
    let notice = Notice::Revoked(tenant("a"), agent());
    one.bus.tell(notice.clone()).await.unwrap();
    let genuine = overheard(&mut heard).await;
    two.hears(&notice).await;
    publish(&link, &two, &genuine).await;
    eventually("it is refused", async || refused("replayed") == 1).await;
    let mut altered = genuine.clone();
    *altered.last_mut().unwrap() ^= 1;
    publish(&link, &two, &altered).await;
    eventually("it is refused", async || refused("signature") == 1).await;
    publish(&link, &two, b"{}").await;
    eventually("it is refused", async || refused("malformed") == 1).await;
    // What was said to one node is nothing to another.
    publish(&link, &one, &genuine).await;
    eventually("it is refused", async || one.counted("writeback_bus_messages_refused_total{reason=\"stale\"}") == 1)
        .await;
    assert_eq!(two.notices(), vec![notice]);
}

#[tokio::test]
async fn a_flood_of_forgeries_fills_no_log_and_stops_no_node() {
    let redis = Redis::single().await;
    let node = node(&redis).await;
    let link = link(&redis).await;
    let (logged, _here) = Logged::here();
    for _ in 0..200 {
        publish(&link, &node, &[7; 100]).await;
    }
    let count = "writeback_bus_messages_refused_total{reason=\"signature\"}";
    eventually("all are refused", async || node.counted(count) == 200).await;
    let said = logged.text();
    assert_eq!(said.matches("was not acted on").count(), 1, "{said}");
    assert!(said.contains("redis.cluster_key_file"), "{said}");
    assert!(node.redis.as_ref().unwrap().hears_itself());
}

/// Of two that come at the same moment, both have shown their keys before they look.
#[tokio::test]
async fn of_nodes_with_different_keys_the_newer_one_yields_and_neither_believes_the_other() {
    let redis = Redis::single().await;
    let folder = tempfile::tempdir().unwrap();
    let other = PrivateFile::new(folder.path().join("key"));
    other.replace("another key than the first node has got").unwrap();
    let theirs = Config { cluster_key_file: other.path().to_owned(), ..redis.config() };
    let (older, middle, newer) = (aged(1), aged(2), aged(3));
    let mine = Node::open(redis.config(), middle).await.unwrap();
    let Err(refused) = Node::open(theirs.clone(), newer).await else { panic!("it started") };
    let said = refused.to_string();
    assert!(said.contains(&middle.0.to_string()) && said.contains("cluster_key_file"), "{said}");
    // The older one stays; from then on each leaves the other alone.
    let stranger = Node::open(theirs, older).await.unwrap();
    let presence = Presence {
        tenant: tenant("a"),
        agent: agent(),
        session: session(),
        instance: InstanceId::new(&System, &System),
        trusts: None,
    };
    stranger.bus.claim(&presence).await.unwrap();
    assert_eq!(mine.bus.places(&presence.tenant, presence.agent).await.unwrap(), vec![]);
    let strangers = |node: &Node| node.redis.as_ref().unwrap().strangers();
    eventually("each names the other", async || {
        strangers(&mine) == [format!("node ({})", older.0)] && strangers(&stranger) == [format!("node ({})", middle.0)]
    })
    .await;
}

/// A node that has started so many seconds after the first one.
fn aged(seconds: u64) -> NodeId {
    #[derive(Debug)]
    struct At(u64);
    impl Clock for At {
        fn now_ms(&self) -> u64 {
            1_700_000_000_000 + self.0 * 1000
        }
    }
    NodeId(ObjectId::new(&At(seconds), &System))
}

#[tokio::test]
async fn a_node_that_is_behind_drops_what_it_can_not_take_and_looks_it_up_afterwards() {
    let redis = Redis::single().await;
    let (busy, other) = (Arc::new(node(&redis).await), Arc::new(node(&redis).await));
    let link = link(&redis).await;
    busy.judgement.send_replace(Judgement::Pending);
    let place = Place { node: busy.bus.node(), session: session() };
    let entry = || Entry::new(command(&tenant("a"), agent()), Intent::Deliver(place.session), false, T);
    // More than are judged at a time.
    let waiting: Vec<_> = (0..300)
        .map(|_| {
            let (other, entry) = (Arc::clone(&other), entry());
            tokio::spawn(async move { other.bus.deliver(place, entry).await.unwrap() })
        })
        .collect();
    for delivery in waiting {
        assert_eq!(deadline("a delivery", delivery).await.unwrap(), Delivery::NoAnswer);
    }
    // More than may wait. Whoever sends it does not.
    let dropped = || busy.counted("writeback_bus_messages_dropped_total");
    let begun = Instant::now();
    let mut flood = redis::Pipeline::new();
    for _ in 0..500 {
        flood.cmd("SPUBLISH").arg(keys::bus(place.node)).arg("x").ignore();
    }
    while dropped() == 0 {
        link.pipeline::<()>(&flood).await.unwrap();
        assert!(begun.elapsed().as_secs() < 30, "nothing is dropped");
    }
    assert_eq!(busy.told.reconciled.load(Ordering::SeqCst), 0, "not while it goes on");
    busy.judgement.send_replace(Judgement::Genuine);
    eventually("it looks up what it has missed", async || busy.told.reconciled.load(Ordering::SeqCst) > 0).await;
    eventually("it hears itself", async || busy.redis.as_ref().unwrap().hears_itself()).await;
    assert_eq!(other.bus.deliver(place, entry()).await.unwrap(), Delivery::Queued);
}

#[tokio::test]
async fn of_two_nodes_that_hold_an_agent_the_less_busy_one_is_asked_first() {
    let redis = Redis::single().await;
    let (one, other, asking) = (node(&redis).await, node(&redis).await, node(&redis).await);
    let (tenant, agent, instance) = (tenant("a"), agent(), InstanceId::new(&System, &System));
    for held in [&one, &other] {
        let presence = Presence { tenant: tenant.clone(), agent, session: session(), instance, trusts: None };
        held.bus.claim(&presence).await.unwrap();
    }
    for (busy, idle) in [(&one, &other), (&other, &one)] {
        busy.told.sessions.store(9, Ordering::SeqCst);
        idle.told.sessions.store(2, Ordering::SeqCst);
        eventually("the less busy one is the first", async || {
            let places = asking.bus.places(&tenant, agent).await.unwrap();
            assert_eq!(places.len(), 2);
            places[0].node == idle.bus.node()
        })
        .await;
    }
}
