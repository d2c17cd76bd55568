//! A node that is told to stop: it goes down in its time, and takes nobody's answer with it.

use std::time::{Duration, Instant};

use writeback_relay::protocol::frame::FromRelay;
use writeback_relay::protocol::outcome::Code;

use crate::support::raw_agent::RawAgent;
use crate::support::relay::Relay;
use crate::support::{deadline, eventually};

#[tokio::test]
async fn a_node_that_stops_waits_for_a_command_whose_caller_hung_up() {
    let mut relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let mut session = agent.open().await;
    let (command, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    let caller = tokio::spawn({
        let raw = portal.raw.clone();
        async move { raw.submit(&jws, 30).await }
    });
    session.delivery().await;
    caller.abort();

    relay.signal_to_stop();
    let FromRelay::GoAway(go_away) = session.next().await else { panic!("GoAway was expected") };
    assert_eq!(go_away.reason, "drain");
    session.send(agent.outcome_frame(&command, Code::PasswordReset)).await;
    assert!(matches!(session.next().await, FromRelay::OutcomeStored(_)), "it is still there to store it");
    assert_eq!(session.closed().await, (1012, "drain".to_owned()));
    assert!(relay.ended().await.success());
    relay.start_again().await;
    assert_eq!(portal.raw.concluded(command.jti).await.command, command.jti);
}

#[tokio::test]
async fn a_node_that_stops_tells_new_callers_so_and_does_not_wait_for_those_who_only_look() {
    let mut relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let mut session = agent.open().await;
    let (first, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    session.delivery().await;
    let looking = tokio::spawn({
        let raw = portal.raw.clone();
        async move { raw.follow(first.jti, 300).await }
    });
    relay.signal_to_stop();
    assert!(matches!(session.next().await, FromRelay::GoAway(_)));
    let looked = deadline("those who look are answered", looking).await.unwrap();
    assert_eq!(looked.status, 200);
    let (_, second) = portal.raw.reset(agent.agent, agent.sealing.public(), "joe@corp.example", "Pass-Word-2026");
    assert_eq!(portal.raw.submit(&second, 0).await.problem(), "draining");
    session.send(agent.outcome_frame(&first, Code::PasswordReset)).await;
    assert!(relay.ended().await.success());
}

#[tokio::test]
async fn a_node_whose_agents_do_not_answer_stops_in_its_time() {
    let mut relay = Relay::start_with("[drain]\ntimeout_seconds = 2").await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let mut session = agent.open().await;
    let (command, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    session.delivery().await;
    let begun = Instant::now();
    assert!(relay.terminate().await.success());
    assert!(begun.elapsed() < Duration::from_secs(2 + 2 + 2), "{:?}", begun.elapsed());
    relay.start_again().await;
    let mut again = agent.open().await;
    assert_eq!(again.delivery().await.attempt, 2, "it is asked about again");
    again.send(agent.outcome_frame(&command, Code::PasswordReset)).await;
    eventually("it is concluded", || async { portal.raw.follow(command.jti, 0).await.text().contains("concluded") })
        .await;
}
