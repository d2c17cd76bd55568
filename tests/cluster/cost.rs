//! What a command costs Redis, counted by the nodes themselves and by Redis.

use std::collections::BTreeMap;

use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::frame::{FromAgent, v1};
use writeback_relay::protocol::outcome::Code;

use super::{JANE, NEW, command, stored};
use crate::support::cluster::Cluster;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::redis::Redis;
use crate::support::relay::TestPortal;

/// Commands that are counted; one more is not: it fills what the nodes remember.
const COMMANDS: u64 = 10;

/// What a node does for itself, whatever else happens.
const BACKGROUND: [&str; 2] = ["lease", "probe"];

/// A whole reset: submitted, executed, answered.
async fn reset(portal: &TestPortal, agent: &RawAgent, session: &mut RawSession) {
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let answering = async {
        let (_, asked) = command(session).await;
        session.send(FromAgent::Received(v1::Received { command: asked.jti.to_string() })).await;
        session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
        stored(session).await;
    };
    let (answered, ()) = tokio::join!(portal.raw.submit(&jws, 30), answering);
    assert_eq!(answered.json::<CommandView>().state, CommandState::Concluded);
}

/// Round trips of all nodes so far, by what they are for.
async fn round_trips(cluster: &Cluster) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for node in &cluster.nodes {
        for line in node.metrics().await.lines() {
            let Some(counted) = line.strip_prefix("writeback_redis_round_trips_total{purpose=\"") else { continue };
            let (purpose, count) = counted.split_once("\"} ").unwrap();
            if !BACKGROUND.contains(&purpose) {
                *found.entry(purpose.to_owned()).or_default() += count.parse::<u64>().unwrap();
            }
        }
    }
    found
}

/// Round trips of each command, its agent at this node.
async fn cost(cluster: &Cluster, agents_node: usize) -> BTreeMap<String, f64> {
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    cluster.choose(agents_node);
    let mut session = agent.open().await;
    cluster.choose(0);
    reset(&portal, &agent, &mut session).await;
    let before = round_trips(cluster).await;
    for _ in 0..COMMANDS {
        reset(&portal, &agent, &mut session).await;
    }
    let mut after = round_trips(cluster).await;
    for (purpose, count) in before {
        *after.get_mut(&purpose).unwrap() -= count;
    }
    let each = |(purpose, count): (String, u64)| (purpose, count as f64 / COMMANDS as f64);
    after.into_iter().map(each).collect()
}

#[tokio::test]
async fn what_it_costs() {
    let cluster = Cluster::start(2, Redis::single().await).await;
    println!("local {:?}", cost(&cluster, 0).await);
    println!("remote {:?}", cost(&cluster, 1).await);
    let cluster = Cluster::start(2, Redis::cluster().await).await;
    println!("cluster {:?}", cost(&cluster, 1).await);
}
