//! What a command costs Redis, counted by the nodes and by Redis itself; and how much longer another node takes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

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

/// Round trips, by what they are for.
type Trips = BTreeMap<String, u64>;

/// Two nodes; the portal is at the first, its agent at one of them.
struct Stage {
    cluster: Cluster,
    portal: TestPortal,
    agent: RawAgent,
    session: RawSession,
}

impl Stage {
    async fn new(redis: Redis, agents_node: usize) -> Self {
        let cluster = Cluster::start(2, redis).await;
        let portal = cluster.nodes[0].portal("portal-1").await;
        let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
        cluster.choose(agents_node);
        let session = agent.open().await;
        cluster.choose(0);
        Self { cluster, portal, agent, session }
    }

    /// A whole reset: submitted, executed, answered. How long it took.
    async fn reset(&mut self) -> Duration {
        let (_, jws) = self.portal.raw.reset(self.agent.agent, self.agent.sealing.public(), JANE, NEW);
        let (agent, session) = (&self.agent, &mut self.session);
        let answering = async {
            let (_, asked) = command(session).await;
            session.send(FromAgent::Received(v1::Received { command: asked.jti.to_string() })).await;
            session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
            stored(session).await;
        };
        let begun = Instant::now();
        let (answered, ()) = tokio::join!(self.portal.raw.submit(&jws, 30), answering);
        let took = begun.elapsed();
        assert_eq!(answered.json::<CommandView>().state, CommandState::Concluded);
        took
    }

    /// What all nodes have counted so far.
    async fn counted(&self) -> Trips {
        let mut found = Trips::new();
        for node in &self.cluster.nodes {
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

    /// What [`COMMANDS`] have cost, by the nodes' own count.
    async fn cost(&mut self) -> Trips {
        self.reset().await;
        let before = self.counted().await;
        for _ in 0..COMMANDS {
            self.reset().await;
        }
        let mut cost = self.counted().await;
        for (purpose, count) in before {
            *cost.get_mut(&purpose).unwrap() -= count;
        }
        cost.retain(|_, count| *count > 0);
        cost
    }
}

#[tokio::test]
async fn what_it_costs() {
    let mut stage = Stage::new(Redis::single().await, 0).await;
    println!("local {:?}", stage.cost().await);
    let mut stage = Stage::new(Redis::single().await, 1).await;
    println!("remote {:?}", stage.cost().await);
    println!("{}", stage.cluster.redis.cli(6379, &["INFO", "commandstats"]));
    let mut stage = Stage::new(Redis::cluster().await, 1).await;
    println!("cluster {:?}", stage.cost().await);
    for n in &stage.cluster.nodes {
        println!("NODE");
        for l in n.log().lines().filter(|l| l.contains("DBG") && !l.contains("probe") && !l.contains("lease")) {
            println!("{l}");
        }
    }
}
