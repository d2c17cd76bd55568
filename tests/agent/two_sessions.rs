//! How an agent keeps two sessions, on two nodes of its relay.

use writeback_relay::protocol::frame::{FromAgent, FromRelay, v1};

use super::sessions::{JANE, Running};
use crate::support::deadline;
use crate::support::scripted_relay::{ScriptedRelay, Socket};

/// Has a command executed on this session.
async fn works(relay: &ScriptedRelay, session: &mut Socket, password: &str) {
    let command = relay.command(JANE, password);
    session.say(relay.deliver(&command)).await;
    while session.outcome().await.command != command.jti.to_string() {}
    session.stored(&command).await;
}

async fn is_closed(session: &mut Socket) {
    deadline("the session's end", async { while session.next().await.is_some() {} }).await;
}

#[tokio::test]
async fn with_two_nodes_there_are_two_sessions_and_none_more_on_the_same_node() {
    let relay = ScriptedRelay::start().await;
    let agent = Running::start(&relay).await;
    let mut first = relay.welcome_at("node-1", 2).await;
    // The load balancer leads to the same node twice.
    for _ in 0..2 {
        let mut same = relay.welcome_at("node-1", 2).await;
        is_closed(&mut same).await;
    }
    let mut second = relay.welcome_at("node-2", 2).await;
    works(&relay, &mut first, "Pass-Word-1").await;
    works(&relay, &mut second, "Pass-Word-2").await;
    assert_eq!(relay.upgrades(), 4);
    agent.stop.cancel();
    for session in [&mut first, &mut second] {
        while !matches!(session.hear().await, FromAgent::Leaving(_)) {}
        is_closed(session).await;
    }
    agent.ended().await.1.unwrap();
}

#[tokio::test]
async fn a_second_session_is_opened_when_there_is_a_second_node() {
    let relay = ScriptedRelay::start().await;
    let _agent = Running::start(&relay).await;
    let mut first = relay.welcome_at("node-1", 1).await;
    works(&relay, &mut first, "Pass-Word-1").await;
    assert_eq!(relay.upgrades(), 1, "one node, one session");
    first.say(FromRelay::Heartbeat(v1::Heartbeat { nodes: 2, ..Default::default() })).await;
    let mut second = relay.welcome_at("node-2", 2).await;
    works(&relay, &mut second, "Pass-Word-2").await;
    works(&relay, &mut first, "Pass-Word-3").await;
}

#[tokio::test]
async fn when_one_breaks_the_other_goes_on_and_another_is_opened() {
    let relay = ScriptedRelay::start().await;
    let _agent = Running::start(&relay).await;
    let first = relay.welcome_at("node-1", 3).await;
    let mut second = relay.welcome_at("node-2", 3).await;
    drop(first);
    works(&relay, &mut second, "Pass-Word-1").await;
    let mut third = relay.welcome_at("node-3", 3).await;
    works(&relay, &mut third, "Pass-Word-2").await;
    works(&relay, &mut second, "Pass-Word-3").await;
    assert_eq!(relay.upgrades(), 3);
}

#[tokio::test]
async fn of_two_the_one_that_is_told_to_go_is_closed_at_once_and_another_is_opened() {
    let relay = ScriptedRelay::start().await;
    let _agent = Running::start(&relay).await;
    let mut first = relay.welcome_at("node-1", 3).await;
    let mut second = relay.welcome_at("node-2", 3).await;
    let advice = v1::GoAway { reason: "drain".into(), reconnect_after_ms: 1, close_after_ms: 60_000 };
    first.say(FromRelay::GoAway(advice)).await;
    is_closed(&mut first).await;
    works(&relay, &mut second, "Pass-Word-1").await;
    let mut third = relay.welcome_at("node-3", 3).await;
    works(&relay, &mut third, "Pass-Word-2").await;
    assert_eq!(relay.upgrades(), 3);
}
