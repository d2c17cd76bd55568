//! Executed once, in order, never late; and the outcome arrives, however often it has to be sent.

use std::time::Duration;

use futures_util::future::join_all;
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::command::Command;
use writeback_relay::protocol::enrollment::AgentKeys;
use writeback_relay::protocol::jose::Validity;
use writeback_relay::protocol::outcome::Status;

use super::{JANE, JOE, NEW, outcome, with_real_agent};
use crate::support::agent::Agent;
use crate::support::eventually;
use crate::support::relay::{Answered, RawPortal, now};

#[tokio::test]
async fn a_command_submitted_sixteen_times_at_once_is_executed_once_and_answered_alike() {
    let (relay, portal, agent) = with_real_agent(300).await;
    let keys = agent.keys(&portal).await;
    let (command, jws) = portal.raw.reset(agent.id(), &keys.sealing, JANE, NEW);
    let answers = join_all((0..16).map(|_| portal.raw.submit(&jws, 30))).await;
    let views: Vec<CommandView> = answers.iter().map(Answered::json).collect();
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert!(views.iter().all(|view| *view == views[0]), "{views:#?}");
    assert_eq!(outcome(&views[0], &command, &keys.signing).status, Status::Succeeded);
    assert_eq!(agent.event_ids_about(JANE), [31001, 31002]);
    let metrics = relay.metrics().await;
    for (result, count) in [("new", 1), ("known", 15)] {
        let counted = format!("writeback_commands_total{{result=\"{result}\"}} {count}");
        assert!(metrics.contains(&counted), "{counted}: {metrics}");
    }
}

#[tokio::test]
async fn commands_for_one_account_are_executed_one_after_another_in_the_order_they_came() {
    // One takes longer than submitting them all, so they do queue up.
    let (_relay, portal, agent) = with_real_agent(800).await;
    let keys = agent.keys(&portal).await;
    let mut submitted = Vec::new();
    for n in 0..5 {
        // One account, as Active Directory sees it; another one between.
        let user = [JANE, "JANE@corp.example"][n % 2];
        for user in [user, JOE] {
            let (command, jws) = portal.raw.reset(agent.id(), &keys.sealing, user, &format!("{NEW}-{n}"));
            assert!(portal.raw.submit(&jws, 0).await.status < 300);
            submitted.push(command);
        }
    }
    for command in &submitted {
        let view = portal.raw.concluded(command.jti).await;
        assert_eq!(outcome(&view, command, &keys.signing).status, Status::Succeeded);
    }
    for account in [JANE, JOE] {
        let of_account = |name: &str| name.to_lowercase() == account;
        let expected = submitted.iter().filter(|command| of_account(&command.sub_id.to_string()));
        let expected: Vec<_> =
            expected.flat_map(|c| [(31001, c.jti.to_string()), (31002, c.jti.to_string())]).collect();
        let events = agent.events();
        let found = events.iter().filter(|event| event["account"].as_str().is_some_and(of_account));
        let found = found.map(|e| (e["event_id"].as_u64().unwrap(), e["command"].as_str().unwrap().to_owned()));
        assert_eq!(found.collect::<Vec<_>>(), expected, "begun and ended one by one");
    }
}

/// A reset that lives for two seconds, written to the socket of an agent that is stopped; it returns after `exp`.
async fn too_late(portal: &RawPortal, agent: &mut Agent, keys: &AgentKeys) -> Command {
    agent.freeze();
    let mut command = portal.command(agent.id(), JANE);
    command.validity = Validity::starting(now(), Duration::from_secs(2));
    let (command, jws) = portal.sealed(command, &keys.sealing, NEW);
    let answered = portal.submit(&jws, 30).await;
    assert_eq!((answered.status, answered.problem().as_str()), (504, "outcome_unknown"));
    assert!(System.now() >= command.validity.exp);
    command
}

#[tokio::test]
async fn nothing_is_executed_after_exp_when_the_agent_was_slow_or_away() {
    for killed in [false, true] {
        let (_relay, portal, mut agent) = with_real_agent(0).await;
        let (keys, before) = (agent.keys(&portal).await, agent.accounts());
        let command = too_late(&portal.raw, &mut agent, &keys).await;
        if killed {
            agent.kill();
            agent.start();
        } else {
            agent.thaw();
        }
        agent.event(31003, JANE).await;
        let view = portal.raw.concluded(command.jti).await;
        let outcome = outcome(&view, &command, &keys.signing);
        assert_eq!((outcome.status, outcome.code.as_data()), (Status::Expired, "expired"));
        assert!(outcome.retry_safe);
        assert_eq!(agent.accounts(), before, "nothing was changed");
        assert_eq!(agent.event_ids_about(JANE), [31003]);
    }
}

#[tokio::test]
async fn nothing_is_written_after_exp_when_the_directory_was_slow() {
    let (_relay, portal, agent) = with_real_agent(6000).await;
    let (keys, before) = (agent.keys(&portal).await, agent.accounts());
    let mut command = portal.raw.command(agent.id(), JANE);
    command.validity = Validity::starting(now(), Duration::from_secs(4));
    let (command, jws) = portal.raw.sealed(command, &keys.sealing, NEW);
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    agent.event(31001, JANE).await;
    assert!(System.now() < command.validity.exp, "it began in time");
    let view = portal.raw.concluded(command.jti).await;
    let outcome = outcome(&view, &command, &keys.signing);
    assert_eq!((outcome.status, outcome.retry_safe), (Status::Expired, true));
    assert_eq!(agent.accounts(), before, "nothing was changed");
    assert_eq!(agent.event_ids_about(JANE), [31001, 31003]);
}

#[tokio::test]
async fn an_outcome_that_nobody_stored_is_sent_again_when_both_have_started_again() {
    let (mut relay, portal, mut agent) = with_real_agent(8000).await;
    let keys = agent.keys(&portal).await;
    let (command, jws) = portal.raw.reset(agent.id(), &keys.sealing, JANE, NEW);
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    agent.event(31001, JANE).await;
    relay.freeze();
    // Sent, and the relay does not read it.
    agent.event(31002, JANE).await;
    relay.kill();
    agent.kill();
    assert!(agent.status().await.out.contains("1 outcome that the relay has not stored"));
    relay.start_again().await;
    let view: CommandView = portal.raw.follow(command.jti, 0).await.json();
    let open = [CommandState::Accepted, CommandState::Delivering, CommandState::Received];
    assert!(open.contains(&view.state), "not stored: {view:?}");

    agent.start();
    let view = portal.raw.concluded(command.jti).await;
    assert_eq!(outcome(&view, &command, &keys.signing).status, Status::Succeeded);
    assert_eq!(agent.event_ids_about(JANE), [31001, 31002], "executed once");
    assert_eq!(agent.terminate().await.code(), Some(0));
    assert!(agent.status().await.out.contains("0 outcomes that the relay has not stored"));
}

#[tokio::test]
async fn an_outcome_that_nobody_stored_is_sent_again_on_the_next_session() {
    let (mut relay, portal, agent) = with_real_agent(4000).await;
    let keys = agent.keys(&portal).await;
    let (command, jws) = portal.raw.reset(agent.id(), &keys.sealing, JANE, NEW);
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    agent.event(31001, JANE).await;
    relay.freeze();
    agent.event(31002, JANE).await;
    relay.kill();
    relay.start_again().await;
    let view = portal.raw.concluded(command.jti).await;
    assert_eq!(outcome(&view, &command, &keys.signing).status, Status::Succeeded);
    assert_eq!(agent.event_ids_about(JANE), [31001, 31002]);
    let sessions = || agent.event_ids().iter().filter(|id| **id == 31017).count();
    eventually("two sessions were opened", || std::future::ready(sessions() == 2)).await;
}

#[tokio::test]
async fn a_relay_that_dies_while_a_command_is_executed_learns_its_outcome_afterwards() {
    let (mut relay, portal, agent) = with_real_agent(4000).await;
    let keys = agent.keys(&portal).await;
    let (command, jws) = portal.raw.reset(agent.id(), &keys.sealing, JANE, NEW);
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    agent.event(31001, JANE).await;
    relay.kill();
    assert_eq!(agent.event_ids_about(JANE), [31001], "it has not ended yet");
    relay.start_again().await;
    let view = portal.raw.concluded(command.jti).await;
    assert_eq!(outcome(&view, &command, &keys.signing).status, Status::Succeeded);
    assert_eq!(agent.event_ids_about(JANE), [31001, 31002]);
}

#[tokio::test]
async fn an_outcome_is_stored_even_by_a_relay_that_has_forgotten_the_command() {
    let (mut relay, portal, mut agent) = with_real_agent(4000).await;
    let keys = agent.keys(&portal).await;
    let (command, jws) = portal.raw.reset(agent.id(), &keys.sealing, JANE, NEW);
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    agent.event(31001, JANE).await;
    relay.freeze();
    agent.event(31002, JANE).await;
    relay.kill();
    agent.kill();
    for name in ["ledger.redb", "ledger.0.wal", "ledger.1.wal"] {
        std::fs::remove_file(relay.data_dir().join(name)).unwrap();
    }
    relay.start_again().await;
    assert_eq!(portal.raw.follow(command.jti, 0).await.status, 404, "it has forgotten");
    // Nobody asks the agent: it says so by itself.
    agent.start();
    eventually("the outcome is there", || async { portal.raw.follow(command.jti, 0).await.status == 200 }).await;
    let view = portal.raw.concluded(command.jti).await;
    assert_eq!(outcome(&view, &command, &keys.signing).status, Status::Succeeded);
    assert_eq!(agent.event_ids_about(JANE), [31001, 31002]);
}
