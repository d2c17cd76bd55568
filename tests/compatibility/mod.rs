//! Agents, portals and relays need not be upgraded together: each works with the others of the last version before it, and goes
//! on in the folder that it left behind.

mod previous;
mod world;

use previous::Programs;
use world::{Portal, a_whole_life, enrolled};

use crate::support::cluster::Cluster;
use crate::support::redis::Redis;
use crate::support::relay::Relay;

/// One of the two.
#[derive(Clone, Copy)]
enum Version {
    Old,
    New,
}
use Version::{New, Old};

impl Version {
    async fn programs(self) -> Programs {
        match self {
            Old => Programs::previous().await,
            New => Programs::new(),
        }
    }
}

async fn live(relay: Version, agent: Version, portal: Version) {
    a_whole_life(relay.programs().await, agent.programs().await, portal.programs().await).await;
}

#[tokio::test]
async fn an_old_agent_works_with_a_new_relay_and_a_new_portal() {
    live(New, Old, New).await;
}

#[tokio::test]
async fn an_old_portal_works_with_a_new_relay_and_a_new_agent() {
    live(New, New, Old).await;
}

#[tokio::test]
async fn an_old_agent_and_an_old_portal_work_with_a_new_relay() {
    live(New, Old, Old).await;
}

#[tokio::test]
async fn a_new_agent_and_a_new_portal_work_with_an_old_relay() {
    live(Old, New, New).await;
}

#[tokio::test]
async fn a_new_agent_works_with_an_old_relay_and_an_old_portal() {
    live(Old, New, Old).await;
}

#[tokio::test]
async fn a_new_portal_works_with_an_old_relay_and_an_old_agent() {
    live(Old, Old, New).await;
}

#[tokio::test]
async fn each_goes_on_in_the_folder_that_its_last_version_has_left_behind() {
    let (old, new) = (Programs::previous().await, Programs::new());
    let mut relay = Relay::start_of(old.relay).await;
    let mut portal = Portal::init(old.portal, &relay).await;
    let mut agent = enrolled(old.agent, &relay, &portal).await;
    assert_eq!(agent.rotate_keys().await.status, 0);
    let before = portal.reset("Before-The-Upgrade-1!").await;
    // In the order in which they would be: the relay first.
    assert!(relay.terminate().await.success());
    relay.becomes(new.relay);
    relay.start_again().await;
    portal.available().await;
    portal.knows(&before).await;
    portal = portal.becomes(new.portal);
    portal.knows(&before).await;
    assert!(agent.terminate().await.success());
    agent.becomes(new.agent);
    agent.start();
    portal.available().await;
    portal.everything_is_answered().await;
    portal.rotates().await;
    portal.reset("After-The-Upgrade-1!").await;
}

#[tokio::test]
async fn an_old_and_a_new_node_serve_one_cluster_during_a_rollout() {
    let (old, new) = (Programs::previous().await, Programs::new());
    for programs in [old, new] {
        let cluster = Cluster::start_of(&[old.relay, new.relay], Redis::single().await).await;
        let portal = Portal::init(programs.portal, &cluster.nodes[0]).await;
        cluster.spread();
        let agent = enrolled(programs.agent, &cluster.nodes[0], &portal).await;
        for node in [0, 1] {
            cluster.choose(node);
            portal.available().await;
            let command = portal.reset(&format!("By-Way-Of-Node-{node}!")).await;
            cluster.choose(1 - node);
            portal.knows(&command).await;
        }
        cluster.spread();
        portal.rotates().await;
        portal.everything_is_answered().await;
        drop(agent);
    }
}
