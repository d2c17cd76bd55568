//! Keys change on a cluster of several nodes, while commands go over all of them.

use super::{Flow, followed};
use crate::support::agent::Agent;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::redis::Redis;

const NODES: usize = 3;
const USERS: &[&str] = &["a@corp.example", "b@corp.example", "c@corp.example", "d@corp.example"];

#[tokio::test]
async fn keys_rotate_on_a_cluster_while_resets_flow_and_each_is_executed_once() {
    let mut cluster = Cluster::start_with(NODES, Redis::single().await, "").await;
    cluster.spread();
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = Agent::running(&cluster.nodes[0], &portal, USERS, 20).await;
    let first = agent.keys(&portal).await;
    // Two portals' worth of calls, which the load balancer takes to any node; each has its own picture of the keys.
    let flows = [Flow::start(portal.another(), USERS), Flow::start(portal.another(), &USERS[2..])];
    for seq in 1..=2 {
        let said = agent.rotate_keys().await;
        assert_eq!(said.status, 0, "{said:?}");
        eventually("the portal has followed", || async { followed(&portal, agent.id()).await == seq }).await;
        if seq == 1 {
            // The node that heard of it goes; the others know.
            assert!(cluster.nodes[0].terminate().await.success());
            cluster.nodes[0].start_again().await;
        }
    }
    let mut sent = 0;
    for flow in flows {
        sent += flow.stop().await;
    }
    assert!(sent > 0);
    let now = agent.keys(&portal).await;
    assert!(now.signing != first.signing && now.sealing != first.sealing);
    let executed = agent.event_ids().iter().filter(|id| **id == 31002).count();
    assert_eq!(executed, sent, "each reset once, and no other");
}
