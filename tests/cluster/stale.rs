//! Where an agent is, is remembered; a node that remembers wrongly finds out by the first command.

use std::time::{Duration, Instant};

use writeback_relay::clock::System;
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::ids::InstanceId;
use writeback_relay::protocol::outcome::Code;

use super::cost::counted;
use super::{JANE, NEW, command, stored};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::redis::Redis;
use crate::support::relay::TestPortal;

/// A reset by way of the first node; at which attempt the agent got it.
async fn reset(portal: &TestPortal, agent: &RawAgent, session: &mut RawSession) -> u32 {
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let answering = async {
        let (delivery, asked) = command(session).await;
        session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
        stored(session).await;
        delivery.attempt
    };
    let (answered, attempt) = tokio::join!(portal.raw.submit(&jws, 30), answering);
    assert_eq!(answered.json::<CommandView>().state, CommandState::Concluded);
    attempt
}

#[tokio::test]
async fn stale_presence_is_repaired_by_one_re_read() {
    let cluster = Cluster::start(3, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    let other = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    let instance = InstanceId::new(&System, &System);
    cluster.choose(1);
    let mut first = agent.open_as(instance).await;
    cluster.choose(2);
    let mut others = other.open().await;
    cluster.choose(0);
    // The first node knows the two others, and believes the agent to be at the second.
    reset(&portal, &agent, &mut first).await;
    reset(&portal, &other, &mut others).await;
    cluster.choose(2);
    let mut second = agent.open_as(instance).await;
    drop(first);
    eventually("the second node has let it go", async || cluster.nodes[1].admin().sessions().await.unwrap().is_empty())
        .await;
    cluster.choose(0);
    let presence = async || counted(&cluster.nodes[..1]).await["presence"];
    let before = presence().await;
    assert_eq!(reset(&portal, &agent, &mut second).await, 1, "nobody had written it before");
    assert_eq!(presence().await - before, 1, "one look");
    reset(&portal, &agent, &mut second).await;
    assert_eq!(presence().await - before, 1, "and what was found is remembered");
}

#[tokio::test]
async fn a_command_whose_node_does_not_answer_goes_to_another_session_of_its_agent() {
    let cluster = Cluster::start(3, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    let instance = InstanceId::new(&System, &System);
    cluster.choose(1);
    let mut first = agent.open_as(instance).await;
    cluster.choose(0);
    reset(&portal, &agent, &mut first).await;
    cluster.choose(2);
    let mut second = agent.open_as(instance).await;
    cluster.choose(0);
    cluster.nodes[1].freeze();
    let begun = Instant::now();
    assert_eq!(reset(&portal, &agent, &mut second).await, 2, "the first may have written it");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    // The frozen node is no longer asked first, though its lease has not run out.
    let begun = Instant::now();
    assert_eq!(reset(&portal, &agent, &mut second).await, 1);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}
