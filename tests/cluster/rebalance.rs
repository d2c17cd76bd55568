//! Sessions even out over nodes that come later, and no command fails meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::rolling_restart::{Load, resets};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::in_process::InProcessAgent;
use crate::support::redis::Redis;
use crate::support::relay::Relay;

const AGENTS: usize = 12;
const MAX_AGE_SECONDS: u64 = 8;

async fn sessions(node: &Relay) -> BTreeSet<String> {
    node.admin().sessions().await.unwrap().into_iter().map(|view| view.session.to_string()).collect()
}

/// Agents with so many sessions on as many nodes, and one more node.
async fn sessions_even_out(each: usize) {
    let settings = format!("[session]\nmax_age_seconds = {MAX_AGE_SECONDS}");
    let mut cluster = Cluster::start_with(each, Redis::single().await, &settings).await;
    cluster.spread();
    let portal = cluster.nodes[0].portal("portal-1").await;
    let accounts: Vec<String> = (0..24).map(|n| format!("user-{n}@corp.example")).collect();
    let mut agents = Vec::new();
    for _ in 0..AGENTS {
        agents.push(InProcessAgent::running(&cluster.nodes[0], &portal, &accounts, each).await);
    }
    let mut before = Vec::new();
    for node in &cluster.nodes {
        before.push(sessions(node).await);
    }
    cluster.add().await;
    cluster.spread();
    let (load, begun) = (Load::default(), Instant::now());
    let moving = async {
        for (node, before) in cluster.nodes.iter().zip(&before) {
            eventually("every session has moved", || async { sessions(node).await.is_disjoint(before) }).await;
        }
        let (even, mean) = (cluster.sessions().await, AGENTS * each / cluster.nodes.len());
        eprintln!("{even:?} sessions after {:?}", begun.elapsed());
        // Portals' connections go round with the agents', and an agent that moves may have one more.
        assert!(even.iter().all(|n| (mean / 2..=mean * 3 / 2).contains(n)), "{even:?}");
        // What comes on top is the way to the other node.
        assert!(begun.elapsed() < Duration::from_secs(MAX_AGE_SECONDS + 10), "{:?}", begun.elapsed());
        load.stop.store(true, Ordering::Relaxed);
    };
    let (sent, ()) = tokio::join!(resets(portal.another(), &accounts, &load), moving);
    assert!(!sent.is_empty());
    // Nothing of that is a network that breaks.
    for node in &cluster.nodes {
        let metrics = node.metrics().await;
        let ends: Vec<_> = metrics.lines().filter(|line| line.starts_with("writeback_session_ends_total{")).collect();
        assert!(!ends.iter().any(|line| line.contains("lost") || line.contains("silent")), "{ends:?}");
    }
    let executed: usize = agents.iter().map(|agent| agent.executed().len()).sum();
    assert_eq!(executed, sent.len());
}

#[tokio::test]
async fn after_a_node_is_added_sessions_even_out_and_no_command_fails() {
    sessions_even_out(1).await;
}

#[tokio::test]
async fn after_a_node_is_added_agents_with_two_sessions_even_out_and_no_command_fails() {
    sessions_even_out(2).await;
}
