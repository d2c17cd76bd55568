//! An agent with sessions on two nodes: either may go.

use std::time::Duration;

use writeback_relay::clock::System;
use writeback_relay::portal::Answer;
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::command::{Options, Subject};
use writeback_relay::protocol::ids::InstanceId;
use writeback_relay::protocol::outcome::{Code, Status};
use writeback_relay::protocol::password::Password;

use super::{JANE, NEW, command, stored};
use crate::support::agent::Agent;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::redis::Redis;
use crate::support::relay::{TestPortal, tenant};

/// An agent with sessions at nodes 1 and 2.
async fn held_twice(cluster: &Cluster, portal: &TestPortal) -> (RawAgent, Vec<RawSession>) {
    let agent = RawAgent::enrolled(&cluster.nodes[0], portal).await;
    let instance = InstanceId::new(&System, &System);
    let mut sessions = Vec::new();
    for node in [1, 2] {
        cluster.choose(node);
        sessions.push(agent.open_as(instance).await);
    }
    cluster.choose(0);
    (agent, sessions)
}

/// The session that gets the next command, the command, and the other session's node and session.
async fn asked(sessions: Vec<RawSession>) -> (usize, RawSession, RawSession) {
    let [mut first, mut second] = <[RawSession; 2]>::try_from(sessions).ok().unwrap();
    tokio::select! {
        _ = command(&mut first) => (1, first, second),
        _ = command(&mut second) => (2, second, first),
    }
}

#[tokio::test]
async fn what_a_lost_session_leaves_goes_on_with_the_other_one() {
    let cluster = Cluster::start(3, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let (agent, sessions) = held_twice(&cluster, &portal).await;
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let asking = portal.raw.submit(&jws, 30);
    let going_on = async {
        let (_, lost, mut other) = asked(sessions).await;
        drop(lost);
        let (delivery, asked) = command(&mut other).await;
        assert_eq!(delivery.attempt, 2);
        other.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
        stored(&mut other).await;
    };
    let (answered, ()) = tokio::join!(asking, going_on);
    assert_eq!(answered.json::<CommandView>().state, CommandState::Concluded);
}

#[tokio::test]
async fn what_a_killed_node_leaves_goes_on_with_the_other_session() {
    let mut cluster = Cluster::start(3, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let (agent, sessions) = held_twice(&cluster, &portal).await;
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let raw = portal.raw.clone();
    let asking = tokio::spawn(async move { raw.submit(&jws, 60).await });
    let (node, _lost, mut other) = asked(sessions).await;
    cluster.nodes[node].kill();
    // Nobody tells: whoever waits finds out when the node's lease is over. The agent opens no other session.
    let (delivery, asked) = command(&mut other).await;
    assert_eq!(delivery.attempt, 2);
    other.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
    stored(&mut other).await;
    assert_eq!(asking.await.unwrap().json::<CommandView>().state, CommandState::Concluded);
}

#[tokio::test]
async fn a_real_agent_holds_two_and_a_killed_node_fails_no_command() {
    let mut cluster = Cluster::start_with(3, Redis::single().await, "").await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = Agent::running(&cluster.nodes[0], &portal, &[JANE], 400).await;
    holds(&cluster, 0).await;
    cluster.choose(1);
    holds(&cluster, 1).await;
    cluster.choose(2);
    let (subject, password) = (Subject::upn(JANE).unwrap(), Password::new(NEW.to_owned()).unwrap());
    let (tenant, wait) = (tenant(), Duration::from_secs(60));
    let resetting = portal.portal.reset(&tenant, &subject, password, Options::default(), wait);
    let killing = async {
        agent.event(31001, JANE).await;
        // The newest session is asked first.
        cluster.nodes[1].kill();
    };
    let (answer, ()) = tokio::join!(resetting, killing);
    let Answer::Concluded { outcome, .. } = answer.unwrap() else { panic!("there is an outcome") };
    assert_eq!(outcome.status, Status::Succeeded);
    assert_eq!(agent.event_ids_about(JANE), [31001, 31002], "done once");
    holds(&cluster, 2).await;
    holds(&cluster, 0).await;
}

/// Waits until the node has a session.
async fn holds(cluster: &Cluster, node: usize) {
    let admin = cluster.nodes[node].admin();
    eventually("there is a session", || async { admin.sessions().await.unwrap().len() == 1 }).await;
}
