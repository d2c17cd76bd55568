//! The relay is killed with SIGKILL while a command is under way, and started again. Nothing that was answered is lost,
//! and the command ends with its agent's word.

use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::frame::{FromAgent, FromRelay, v1};
use writeback_relay::protocol::outcome::{Code, Status};

use super::{JANE, NEW, outcome};
use crate::support::raw_agent::RawAgent;
use crate::support::relay::Relay;

/// How far the agent is when the relay dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// It has read nothing.
    Accepted,
    /// It has read the command.
    Delivered,
    /// It has said so.
    Received,
    /// It has sent the outcome, which the relay has not read.
    OutcomeSent,
    /// The relay has the outcome, and has answered.
    Answered,
}

async fn killed_when(step: Step) {
    let mut relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let mut session = agent.open().await;
    let (command, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    let received = || FromAgent::Received(v1::Received { command: command.jti.to_string() });
    let the_outcome = agent.outcome_frame(&command, Code::PasswordReset);
    let FromAgent::Outcome(v1::Outcome { jws: signed, .. }) = &the_outcome else { unreachable!() };
    let again = || FromAgent::decode(&the_outcome.clone().encode_frame()).unwrap();

    if step >= Step::Delivered {
        assert_eq!(session.delivery().await.command_jws, jws);
    }
    if step >= Step::Received {
        session.send(received()).await;
    }
    match step {
        Step::OutcomeSent => {
            relay.freeze();
            session.send(again()).await;
        }
        Step::Answered => {
            session.send(again()).await;
            portal.raw.concluded(command.jti).await;
        }
        _ => {}
    }
    relay.kill();
    relay.start_again().await;

    if step < Step::Answered {
        let view: CommandView = portal.raw.follow(command.jti, 0).await.json();
        let open = [CommandState::Accepted, CommandState::Delivering, CommandState::Received];
        assert!(open.contains(&view.state), "{step:?}: {view:?}");
        let mut session = agent.open().await;
        let delivery = session.delivery().await;
        assert_eq!((delivery.command_jws.as_str(), delivery.attempt), (jws.as_str(), 2), "{step:?}");
        session.send(received()).await;
        session.send(again()).await;
        let FromRelay::OutcomeStored(stored) = session.next().await else { panic!("{step:?}: it is not stored") };
        assert_eq!(stored.command, command.jti.to_string());
        relay.kill();
        relay.start_again().await;
    }
    let view = portal.raw.concluded(command.jti).await;
    assert_eq!(view.outcome.as_ref(), Some(signed), "{step:?}");
    assert_eq!(outcome(&view, &command, agent.signing.public()).status, Status::Succeeded);
    let repeated = portal.raw.submit(&jws, 0).await;
    assert_eq!((repeated.status, repeated.json::<CommandView>()), (200, view), "{step:?}");
    // The agent is not asked again.
    let mut session = agent.open().await;
    let (next, next_jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    assert_eq!(portal.raw.submit(&next_jws, 0).await.status, 202);
    assert_eq!(session.delivery().await.command_jws, next_jws, "{step:?}: {}", next.jti);
}

#[tokio::test]
async fn killed_before_the_agent_has_read_anything() {
    killed_when(Step::Accepted).await;
}

#[tokio::test]
async fn killed_when_the_agent_has_read_the_command() {
    killed_when(Step::Delivered).await;
}

#[tokio::test]
async fn killed_when_the_agent_has_said_received() {
    killed_when(Step::Received).await;
}

#[tokio::test]
async fn killed_when_the_outcome_was_sent_and_not_stored() {
    killed_when(Step::OutcomeSent).await;
}

#[tokio::test]
async fn killed_when_the_portal_has_its_answer() {
    killed_when(Step::Answered).await;
}
