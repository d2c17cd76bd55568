//! The network between a node and Redis fails one way. Commands end truthfully, and all heals by itself.

use writeback_relay::clock::System;
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::command::Command;
use writeback_relay::protocol::frame::{CloseReason, FromRelay};
use writeback_relay::protocol::ids::{CommandId, InstanceId};
use writeback_relay::protocol::outcome::Code;

use super::{JANE, NEW, command, store_unavailable, submit_until_taken};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::redis::Redis;
use crate::support::wire::Fault;

/// Concludes the next command, and gives its id. Word of outcomes that were stored may come in between.
async fn serve(agent: &RawAgent, session: &mut RawSession) -> CommandId {
    loop {
        if let FromRelay::Deliver(deliver) = session.next().await {
            let asked: Command = Command::parse(&deliver.command_jws).unwrap().unverified().unwrap();
            session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
            return asked.jti;
        }
    }
}

/// A command runs at an agent whose node is cut off. The agent brings the outcome to the other node, new commands go
/// there, and the cut-off node says so of itself.
async fn the_agents_node_is(fault: Fault) {
    let (cluster, [_intact, wire]) = Cluster::start_apart(Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    let instance = InstanceId::new(&System, &System);
    cluster.choose(1);
    let mut first = agent.open_as(instance).await;
    cluster.choose(0);
    let (running, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let asking = submit_until_taken(&portal.raw, &jws);
    assert_eq!(command(&mut first).await.1.jti, running.jti);

    wire.set(fault);
    cluster.choose(1);
    let (elsewhere, elsewhere_jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    store_unavailable(&portal.raw.submit(&elsewhere_jws, 30).await);
    // The node can't confirm it, whether it is stored or not: the agent is sent away, and sends it again.
    first.send(agent.outcome_frame(&running, Code::PasswordReset)).await;
    let (code, _) = first.closed().await;
    assert_eq!(code, CloseReason::Internal.code());
    cluster.choose(0);
    let mut second = agent.open_as(instance).await;
    second.send(agent.outcome_frame(&running, Code::PasswordReset)).await;
    let answered = asking.await.unwrap();
    assert_eq!(answered.json::<CommandView>().state, CommandState::Concluded);

    // What was submitted at the cut-off node was stored there or not; here it is done. The one that was running is asked
    // about once more.
    let asking = submit_until_taken(&portal.raw, &elsewhere_jws);
    while serve(&agent, &mut second).await != elsewhere.jti {}
    assert_eq!(asking.await.unwrap().json::<CommandView>().state, CommandState::Concluded);

    wire.set(Fault::None);
    cluster.choose(1);
    let (last, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let asking = submit_until_taken(&portal.raw, &jws);
    assert_eq!(serve(&agent, &mut second).await, last.jti);
    assert_eq!(asking.await.unwrap().status, 200);
}

#[tokio::test]
async fn an_agents_node_that_hears_nothing_from_redis_costs_no_outcome() {
    the_agents_node_is(Fault::Deaf).await;
}

#[tokio::test]
async fn an_agents_node_that_is_not_heard_by_redis_costs_no_outcome() {
    the_agents_node_is(Fault::Mute).await;
}

/// A command is submitted for an agent whose node is cut off, and stays where it is.
async fn while_it_is_submitted_the_agents_node_is(fault: Fault) {
    let (cluster, [_intact, wire]) = Cluster::start_apart(Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    cluster.choose(1);
    let mut session = agent.open().await;
    cluster.choose(0);
    wire.set(fault);
    let (asked, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let raw = portal.raw.clone();
    let asking = tokio::spawn(async move { raw.submit(&jws, 30).await });
    let gone = || async { !portal.portal.availability(&asked.tenant).await.unwrap().available };
    eventually("its node is not believed in any more", gone).await;
    let view: CommandView = portal.raw.follow(asked.jti, 0).await.json();
    assert_eq!((view.state, view.reason), (CommandState::Accepted, None), "nobody knows whether it was written");
    wire.set(Fault::None);
    assert_eq!(serve(&agent, &mut session).await, asked.jti);
    assert_eq!(asking.await.unwrap().json::<CommandView>().state, CommandState::Concluded);
    eventually("its node is ready", || async { cluster.nodes[1].probe("readyz").await == 200 }).await;
}

#[tokio::test]
async fn a_command_for_an_agent_whose_node_hears_nothing_is_delivered_when_that_has_healed() {
    while_it_is_submitted_the_agents_node_is(Fault::Deaf).await;
}

#[tokio::test]
async fn a_command_for_an_agent_whose_node_is_not_heard_is_delivered_when_that_has_healed() {
    while_it_is_submitted_the_agents_node_is(Fault::Mute).await;
}
