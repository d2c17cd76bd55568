//! What a command costs Redis, counted by the nodes and by Redis itself; and how much longer another node takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::https_client;
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::frame::{FromAgent, v1};
use writeback_relay::protocol::outcome::Code;

use super::{JANE, NEW, command, stored};
use crate::support::cluster::Cluster;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::redis::Redis;
use crate::support::relay::{Relay, TENANT, TestPortal};
use crate::support::{PATIENCE, eventually};

/// Commands that are counted; one more is not: it fills what the nodes remember.
const COMMANDS: u64 = 10;

/// What a node does for itself, whatever else happens.
const BACKGROUND: [&str; 4] = ["lease", "probe", "writes", "mark"];

/// Round trips, by what they are for.
type Trips = BTreeMap<String, u64>;

/// Two nodes; the portal is at the first, its agent at one of them.
struct Stage {
    cluster: Cluster,
    portal: TestPortal,
    agent: RawAgent,
    session: RawSession,
    http: reqwest::Client,
}

impl Stage {
    async fn new(redis: Redis, agents_node: usize) -> Self {
        let cluster = Cluster::start(2, redis).await;
        let portal = cluster.nodes[0].portal("portal-1").await;
        let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
        cluster.choose(agents_node);
        let session = agent.open().await;
        cluster.choose(0);
        let http = https_client(Some(&cluster.nodes[0].ca_file())).unwrap();
        Self { cluster, portal, agent, session, http }
    }

    /// A whole reset: submitted, executed, answered. How long that took, over a connection that was open before.
    async fn reset(&mut self) -> Duration {
        let bearer = self.portal.raw.assertion().sign(&self.portal.raw.key).unwrap();
        let (_, jws) = self.portal.raw.reset(self.agent.agent, self.agent.sealing.public(), JANE, NEW);
        let (agent, session) = (&self.agent, &mut self.session);
        let answering = async {
            let (_, asked) = command(session).await;
            session.send(FromAgent::Received(v1::Received { command: asked.jti.to_string() })).await;
            session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
            stored(session).await;
        };
        let asking = self
            .http
            .post(format!("{}/v1/tenants/{TENANT}/commands", self.portal.raw.relay))
            .bearer_auth(bearer)
            .header("content-type", "application/jose")
            .body(jws)
            .timeout(PATIENCE)
            .send();
        let begun = Instant::now();
        let (answered, ()) = tokio::join!(asking, answering);
        let took = begun.elapsed();
        let view: CommandView = answered.unwrap().json().await.unwrap();
        assert_eq!(view.state, CommandState::Concluded);
        took
    }

    /// What [`COMMANDS`] have cost, by the nodes' own count.
    async fn cost(&mut self) -> Trips {
        self.reset().await;
        let before = counted(&self.cluster.nodes).await;
        for _ in 0..COMMANDS {
            self.reset().await;
        }
        settled(&self.cluster.nodes).await;
        let mut cost = counted(&self.cluster.nodes).await;
        for (purpose, count) in before {
            *cost.get_mut(&purpose).unwrap() -= count;
        }
        cost.retain(|_, count| *count > 0);
        cost
    }

    /// How long the slowest of a hundred resets takes.
    async fn p99(&mut self) -> Duration {
        let mut took = Vec::new();
        for _ in 0..100 {
            took.push(self.reset().await);
        }
        took.sort_unstable();
        took[98]
    }
}

/// What this node has counted so far.
async fn counted_by(node: &Relay) -> Trips {
    let metrics = node.metrics().await;
    let counts = metrics.lines().filter_map(|line| {
        let (purpose, count) =
            line.strip_prefix("writeback_redis_round_trips_total{purpose=\"")?.split_once("\"} ").unwrap();
        Some((purpose.to_owned(), count.parse().unwrap()))
    });
    counts.collect()
}

/// What these nodes have counted so far, without what each does for itself.
pub(super) async fn counted(nodes: &[Relay]) -> Trips {
    let mut found = Trips::new();
    for node in nodes {
        for (purpose, count) in counted_by(node).await {
            *found.entry(purpose).or_default() += count;
        }
    }
    found.retain(|purpose, _| !BACKGROUND.contains(&purpose.as_str()));
    found
}

/// Whatever a node puts off for a moment has been done: it probes itself once a second.
async fn settled(nodes: &[Relay]) {
    for node in nodes {
        let before = counted_by(node).await["probe"];
        eventually("a second has passed", async || counted_by(node).await["probe"] >= before + 2).await;
    }
}

fn trips(expected: &[(&str, u64)]) -> Trips {
    expected.iter().map(|(purpose, each)| ((*purpose).to_owned(), each * COMMANDS)).collect()
}

#[tokio::test]
async fn a_command_for_an_agent_of_the_same_node_costs_two_round_trips() {
    let mut stage = Stage::new(Redis::single().await, 0).await;
    assert_eq!(stage.cost().await, trips(&[("ledger", 2)]));
}

#[tokio::test]
async fn a_command_for_an_agent_of_another_node_costs_three_round_trips() {
    let mut stage = Stage::new(Redis::single().await, 1).await;
    assert_eq!(stage.cost().await, trips(&[("ledger", 2), ("message", 1)]));
}

#[tokio::test]
async fn behind_sentinel_it_costs_three_too() {
    let mut stage = Stage::new(Redis::sentinel().await, 1).await;
    assert_eq!(stage.cost().await, trips(&[("ledger", 2), ("message", 1)]));
}

#[tokio::test]
async fn in_a_cluster_it_costs_four() {
    let mut stage = Stage::new(Redis::cluster().await, 1).await;
    assert_eq!(stage.cost().await, trips(&[("ledger", 2), ("message", 2)]));
}

#[tokio::test]
async fn the_server_counts_as_the_nodes_do() {
    let mut stage = Stage::new(Redis::single().await, 1).await;
    stage.reset().await;
    let redis = Arc::clone(&stage.cluster.redis);
    let monitor = redis.monitor(6379).await;
    for _ in 0..COMMANDS {
        stage.reset().await;
    }
    settled(&stage.cluster.nodes).await;
    let mut requests = monitor.requests().await;
    // Not what scripts do inside, and not what each node does for itself.
    let background =
        [" lua] ", "wb:nodes", "wb:node:", "Probe", "#!lua", ":mark", "wb:tenants", "{probe}", "HLEN", "\"WAIT\""];
    requests.retain(|request| !background.iter().any(|own| request.contains(own)));
    assert_eq!(requests.len() as u64, 3 * COMMANDS, "{requests:#?}");
}

#[tokio::test]
async fn what_another_node_adds_is_measured() {
    let mut here = Stage::new(Redis::single().await, 0).await;
    let mut there = Stage::new(Redis::single().await, 1).await;
    for stage in [&mut here, &mut there] {
        stage.reset().await;
    }
    let (here, there) = (here.p99().await, there.p99().await);
    println!("p99 of 100, one after another: the same node {here:?}, another node {there:?}");
}

/// For the runbook's sizing: what Redis keeps for a week of each command, as Redis itself counts it.
#[tokio::test]
async fn a_stored_command_costs_redis_as_much_as_the_runbook_says() {
    let mut stage = Stage::new(Redis::single().await, 0).await;
    stage.reset().await;
    let keys =
        |redis: &Redis| -> Vec<String> { redis.cli(6379, &["KEYS", "*command*"]).lines().map(str::to_owned).collect() };
    let before = keys(&stage.cluster.redis);
    for _ in 0..COMMANDS {
        stage.reset().await;
    }
    let new: Vec<String> = keys(&stage.cluster.redis).into_iter().filter(|key| !before.contains(key)).collect();
    assert!(new.len() as u64 >= COMMANDS, "{new:?}");
    let bytes: u64 = new
        .iter()
        .map(|key| {
            stage.cluster.redis.cli(6379, &["MEMORY", "USAGE", key, "SAMPLES", "0"]).trim().parse::<u64>().unwrap()
        })
        .sum();
    let each = bytes / COMMANDS;
    let runbook = include_str!("../../docs/operations.md");
    let (_, said) = runbook.split_once("| Redis, memory | ").unwrap();
    let said: u64 = said.split_once(" KiB for each command").unwrap().0.parse().unwrap();
    assert!(
        each <= said * 1024 && each * 3 > said * 1024,
        "{each} bytes for each command, and the runbook says {said} KiB"
    );
}
