//! What a node remembers of the registry gives nobody a right that is gone.

use std::time::{Duration, Instant};

use writeback_relay::clock::System;
use writeback_relay::portal::Told;
use writeback_relay::protocol::command::Command;
use writeback_relay::protocol::jose::SigningKey;
use writeback_relay::protocol::outcome::Code;
use writeback_relay::relay::recent::MAX_AGE;
use writeback_relay::relay::redis::keys;

use super::{JANE, NEW, command, stored};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::redis::Redis;
use crate::support::relay::{TENANT, TestPortal, tenant};

/// How a portal is refused that is not registered.
const UNKNOWN: Option<&str> = Some("invalid_assertion");

/// Two nodes that have both served the portal and the agent a moment ago.
struct Stage {
    cluster: Cluster,
    portal: TestPortal,
    agent: RawAgent,
    session: RawSession,
}

impl Stage {
    async fn new() -> Self {
        let cluster = Cluster::start(2, Redis::single().await).await;
        let portal = cluster.nodes[0].portal("portal-1").await;
        let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
        let session = agent.open().await;
        let mut stage = Self { cluster, portal, agent, session };
        stage.served_by(0).await;
        stage.served_by(1).await;
        stage
    }

    async fn served_by(&mut self, node: usize) {
        self.cluster.choose(node);
        let (_, jws) = self.reset();
        let session = &mut self.session;
        let agent = &self.agent;
        let answering = async {
            let (_, asked) = command(session).await;
            session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
            stored(session).await;
        };
        let (answered, ()) = tokio::join!(self.portal.raw.submit(&jws, 30), answering);
        assert_eq!(answered.status, 200, "{}", answered.text());
    }

    fn reset(&self) -> (Command, String) {
        self.portal.raw.reset(self.agent.agent, self.agent.sealing.public(), JANE, NEW)
    }

    /// The code of the refusal of a new command at this node; nothing if it is taken.
    async fn refused_by(&self, node: usize) -> Option<String> {
        self.cluster.choose(node);
        let answered = self.portal.raw.submit(&self.reset().1, 0).await;
        (answered.status >= 400).then(|| answered.problem())
    }
}

#[tokio::test]
async fn a_revoked_agent_gets_no_command_from_any_node_from_that_moment_on() {
    let stage = Stage::new().await;
    stage.cluster.choose(0);
    let told = stage.portal.portal.revoke(&tenant(), stage.agent.agent).await.unwrap();
    assert!(matches!(told, Told::Yes));
    assert_eq!(stage.refused_by(0).await.unwrap(), "agent_revoked");
    // The other node hears of it while the answer is on its way: long before what it remembers is too old.
    let begun = Instant::now();
    eventually("the other node hears of it", async || stage.refused_by(1).await.as_deref() == Some("agent_revoked"))
        .await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_removed_portal_is_refused_by_every_node_at_once_and_one_that_was_granted_again_is_served() {
    let mut stage = Stage::new().await;
    let admin = stage.cluster.nodes[0].admin();
    admin.remove_portal(&stage.portal.raw.id).await.unwrap();
    assert_eq!(stage.refused_by(0).await.as_deref(), UNKNOWN);
    let begun = Instant::now();
    eventually("the other node hears of it", async || stage.refused_by(1).await.as_deref() == UNKNOWN).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let key = stage.portal.raw.key.public().clone();
    stage.cluster.nodes[0].grant(&stage.portal.raw.id, &key, &[TENANT]).await;
    stage.served_by(1).await;
}

#[tokio::test]
async fn a_portals_new_key_is_accepted_by_every_node_at_once() {
    let mut stage = Stage::new().await;
    let new = SigningKey::generate(&System).unwrap();
    stage.cluster.nodes[0].grant(&stage.portal.raw.id, new.public(), &[TENANT]).await;
    stage.portal.raw.key = new;
    stage.served_by(0).await;
    stage.served_by(1).await;
}

#[tokio::test]
async fn when_word_of_a_removal_is_lost_a_portal_is_served_for_some_seconds_and_no_longer() {
    let stage = Stage::new().await;
    let begun = Instant::now();
    // As if another node had done it, and nobody had heard.
    stage.cluster.redis.cli(6379, &["HDEL", keys::PORTALS, "portal-1"]);
    eventually("both nodes look again", async || {
        stage.refused_by(0).await.as_deref() == UNKNOWN && stage.refused_by(1).await.as_deref() == UNKNOWN
    })
    .await;
    assert!(begun.elapsed() < MAX_AGE + Duration::from_secs(2), "{:?}", begun.elapsed());
}
