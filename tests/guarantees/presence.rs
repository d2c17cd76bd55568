//! An agent that is away for a moment is waited for; one that left is not.

use std::time::{Duration, Instant};

use writeback_relay::protocol::api::CommandView;
use writeback_relay::protocol::frame::{FromAgent, v1};
use writeback_relay::protocol::outcome::{Code, Status};

use super::{JANE, NEW, nobody_is_here, outcome, submitted, with_real_agent};
use crate::support::eventually;
use crate::support::raw_agent::RawAgent;
use crate::support::relay::Relay;

/// The caller's wait, in seconds, and far less than it.
const WAIT: u64 = 60;
const AT_ONCE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_submit_while_the_agents_socket_is_cut_is_held_until_it_is_back() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    drop(agent.open().await);
    nobody_is_here(&relay).await;
    let (command, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let back = async {
        submitted(&relay, &command).await;
        let mut session = agent.open().await;
        let delivery = session.delivery().await;
        assert_eq!((delivery.command_jws.as_str(), delivery.attempt), (jws.as_str(), 1));
        session.send(agent.outcome_frame(&command, Code::PasswordReset)).await;
        session
    };
    let (answered, _session) = tokio::join!(portal.raw.submit(&jws, WAIT), back);
    assert_eq!(answered.status, 200, "{}", answered.text());
    let view: CommandView = answered.json();
    assert_eq!(outcome(&view, &command, agent.signing.public()).status, Status::Succeeded);
}

#[tokio::test]
async fn a_submit_while_the_agents_process_is_dead_is_held_until_it_is_back() {
    let (relay, portal, mut agent) = with_real_agent(0).await;
    let keys = agent.keys(&portal).await;
    agent.kill();
    nobody_is_here(&relay).await;
    let (command, jws) = portal.raw.reset(agent.id(), &keys.sealing, JANE, NEW);
    let back = async {
        submitted(&relay, &command).await;
        agent.start();
    };
    let (answered, ()) = tokio::join!(portal.raw.submit(&jws, WAIT), back);
    assert_eq!(answered.status, 200, "{}", answered.text());
    assert_eq!(outcome(&answered.json(), &command, &keys.signing).status, Status::Succeeded);
}

#[tokio::test]
async fn when_the_callers_wait_is_over_before_the_agent_is_back_nothing_is_delivered_any_more() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    drop(agent.open().await);
    nobody_is_here(&relay).await;
    let (_, late) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let answered = portal.raw.submit(&late, 1).await;
    assert_eq!((answered.status, answered.problem().as_str()), (503, "no_agent"));
    let mut session = agent.open().await;
    let (_, next) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    assert_eq!(portal.raw.submit(&next, 0).await.status, 202);
    assert_eq!(session.delivery().await.command_jws, next);
}

#[tokio::test]
async fn an_agent_that_said_leaving_or_was_never_here_is_not_waited_for() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let never_here = RawAgent::enrolled(&relay, &portal).await;
    let leaving = RawAgent::enrolled(&relay, &portal).await;
    let mut session = leaving.open().await;
    session.send(FromAgent::Leaving(v1::Leaving { reason: "the test says so".into() })).await;
    let online = || async {
        let agents = portal.portal.agents(&crate::support::relay::tenant()).await.unwrap();
        agents.iter().any(|agent| agent.relay.as_ref().is_some_and(|view| view.online))
    };
    eventually("it has left", || async { !online().await }).await;
    for agent in [&never_here, &leaving] {
        let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
        let began = Instant::now();
        let answered = portal.raw.submit(&jws, WAIT).await;
        assert_eq!((answered.status, answered.problem().as_str()), (503, "no_agent"));
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    }
    // What it had begun, it may still conclude, on the session it is leaving.
    let command = portal.raw.command(leaving.agent, JANE);
    session.send(leaving.outcome_frame(&command, Code::PasswordReset)).await;
    assert_eq!(portal.raw.concluded(command.jti).await.agent, leaving.agent);
}
