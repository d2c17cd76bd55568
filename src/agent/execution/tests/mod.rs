//! What the executor promises: order, once, never too late, and an answer that says what is known.

mod crash;
mod distrusted;
mod failover;
mod late;
mod operations;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::agent::directory::{DirectoryError, PasswordCheck};
use crate::agent::testing::{Enrolled, JANE, NEW_PASSWORD, NOW, Scripted, deadline, quick};
use crate::clock::{System, UnixTime};
use crate::protocol::command::{Operation, Options as CommandOptions};
use crate::protocol::ids::AgentId;
use crate::protocol::jose::{SigningKey, Validity};
use crate::protocol::outcome::{Outcome, Status};

type Listener = mpsc::Receiver<Concluded>;

/// Asks, and does not wait for the outcome.
fn nobody() -> Asker {
    mpsc::channel(1).0
}

fn uncertain() -> DirectoryError {
    DirectoryError::Uncertain("the connection broke".into())
}

fn resets(count: usize) -> Vec<Result<(), DirectoryError>> {
    vec![Ok(()); count]
}

/// The outcome of a command that is delivered now.
async fn outcome(agent: &Enrolled, executor: &Executor, command: &Command) -> Outcome {
    let (asker, mut concluded) = mpsc::channel(8);
    executor.deliver(agent.delivery(command), &asker).await.unwrap();
    next_outcome(agent, &mut concluded, command).await
}

/// The outcome of a command that no session has asked for.
async fn unclaimed_outcome(agent: &Enrolled, executor: &Executor, command: &Command) -> Outcome {
    deadline(executor.unclaimed()).await;
    agent.outcome(&agent_outcome(executor, command), command)
}

async fn next_outcome(agent: &Enrolled, concluded: &mut Listener, command: &Command) -> Outcome {
    deadline(async {
        loop {
            let (id, jws) = concluded.recv().await.unwrap();
            if id == command.jti {
                return agent.outcome(&jws, command);
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_reset_is_found_started_written_and_answered() {
    let agent = Enrolled::new().await;
    let directory = Arc::new(Scripted::default().resets(resets(1)));
    let (executor, _failed) = agent.executor(directory.clone());
    let command = agent.command(JANE);
    let (asker, mut concluded) = mpsc::channel(8);
    let answer = executor.deliver(agent.delivery(&command), &asker).await.unwrap();
    assert_eq!(answer, Some(received_frame(command.jti)));
    let outcome = next_outcome(&agent, &mut concluded, &command).await;
    assert_eq!((outcome.status, outcome.code.as_data()), (Status::Succeeded, "password_reset"));
    assert_eq!((outcome.event_id, outcome.retry_safe), (31002, false));
    let expected = [format!("find {JANE}"), format!("reset CN={JANE} {NEW_PASSWORD}"), format!("done CN={JANE}")];
    assert_eq!(directory.calls(), expected);
    assert_eq!(agent.event_ids(), [31001, 31002]);
    let log = std::fs::read_to_string(agent.home().events()).unwrap();
    assert!(log.contains("0af7651916cd43dd8448eb211c80319c") && !log.contains(NEW_PASSWORD));
}

#[tokio::test]
async fn the_same_command_delivered_many_times_at_once_is_executed_once() {
    let agent = Enrolled::new().await;
    let directory = Arc::new(Scripted::default().resets(resets(1)));
    let (executor, _failed) = agent.executor(directory.clone());
    let command = agent.command(JANE);
    let delivery = agent.delivery(&command);
    let (asker, mut concluded) = mpsc::channel(8);
    let deliveries = (0..20).map(|_| {
        let (executor, delivery, asker) = (executor.clone(), delivery.clone(), asker.clone());
        tokio::spawn(async move { executor.deliver(delivery, &asker).await.unwrap() })
    });
    for delivered in deliveries.collect::<Vec<_>>() {
        assert!(delivered.await.unwrap().is_some());
    }
    next_outcome(&agent, &mut concluded, &command).await;
    // And again, when it is over: the first outcome, byte for byte.
    let stored = agent_outcome(&executor, &command);
    assert_eq!(executor.deliver(delivery, &asker).await.unwrap(), Some(outcome_frame((command.jti, stored))));
    assert_eq!(directory.calls().iter().filter(|call| call.starts_with("reset")).count(), 1);
}

fn agent_outcome(executor: &Executor, command: &Command) -> String {
    let unstored = executor.core.journal.unstored().unwrap();
    unstored.into_iter().find(|(id, _)| *id == command.jti).unwrap().1
}

#[tokio::test]
async fn commands_for_one_account_run_one_after_another_in_order_of_arrival() {
    let agent = Enrolled::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let directory = Arc::new(Scripted::default().resets(resets(6)).gated(gate.clone()));
    let (executor, _failed) = agent.executor(directory.clone());
    let mut expected = Vec::new();
    for n in 0..5 {
        // The case of a name makes no other account of it.
        let name = if n % 2 == 0 { JANE } else { "Jane@Corp.example" };
        let password = format!("Passw0rd-{n}");
        let mut command = agent.command(name);
        agent.seal(&mut command, &password);
        executor.deliver(agent.delivery(&command), &nobody()).await.unwrap();
        expected.extend([format!("find {name}"), format!("reset CN={name} {password}"), format!("done CN={name}")]);
    }
    // When another account that came later is being written, all of them have had their chance to begin.
    executor.deliver(agent.delivery(&agent.command("joe@x")), &nobody()).await.unwrap();
    directory.called("reset CN=joe", 1).await;
    gate.add_permits(6);
    directory.called("done", 6).await;
    let calls: Vec<_> = directory.calls().into_iter().filter(|call| !call.contains("joe")).collect();
    assert_eq!(calls, expected);
}

#[tokio::test]
async fn a_name_and_an_object_guid_of_one_account_are_never_written_at_the_same_time() {
    let agent = Enrolled::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let directory = Arc::new(Scripted::default().resets(resets(3)).gated(gate.clone()));
    // Two at a time: whoever waits for an account keeps no third from its own.
    let options = Options { parallel: 2, ..quick() };
    let (executor, _failed) = agent.executor_with(directory.clone(), agent.journal(), options);
    let by_name = agent.command(JANE);
    let by_guid = agent.command("00000000-0000-0000-0000-000000000001");
    let other = agent.command("joe@corp.example");
    executor.deliver(agent.delivery(&by_name), &nobody()).await.unwrap();
    directory.called("reset", 1).await;
    executor.deliver(agent.delivery(&by_guid), &nobody()).await.unwrap();
    directory.called("find 0000", 1).await;
    executor.deliver(agent.delivery(&other), &nobody()).await.unwrap();
    directory.called("reset", 2).await;
    let calls = directory.calls();
    assert!(calls.iter().any(|call| call.starts_with("reset CN=joe")), "{calls:?}");
    assert!(!calls.iter().any(|call| call.starts_with("reset CN=0000")), "{calls:?}");
    gate.add_permits(3);
    directory.called("done CN=0000", 1).await;
}

#[tokio::test]
async fn no_more_accounts_are_written_at_once_than_allowed() {
    let agent = Enrolled::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let directory = Arc::new(Scripted::default().resets(resets(4)).gated(gate.clone()));
    let options = Options { parallel: 2, ..quick() };
    let (executor, _failed) = agent.executor_with(directory.clone(), agent.journal(), options);
    for name in ["a@x", "bb@x", "ccc@x", "dddd@x"] {
        executor.deliver(agent.delivery(&agent.command(name)), &nobody()).await.unwrap();
    }
    directory.called("reset", 2).await;
    gate.add_permits(1);
    directory.called("reset", 3).await;
    let calls = directory.calls();
    let count = |prefix: &str| calls.iter().filter(|call| call.starts_with(prefix)).count();
    assert!(count("reset") - count("done") <= 2, "{calls:?}");
    gate.add_permits(3);
    directory.called("done", 4).await;
}

#[tokio::test]
async fn exp_has_no_leeway_on_arrival_and_none_after_waiting() {
    let agent = Enrolled::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let directory = Arc::new(Scripted::default().resets(resets(2)).gated(gate.clone()));
    let (executor, _failed) = agent.executor(directory.clone());
    let (asker, mut concluded) = mpsc::channel(8);
    // One second before exp it starts; what waits behind it does not.
    agent.clock.set(NOW + 119);
    let (first, behind, late) = (agent.command(JANE), agent.command(JANE), agent.command(JANE));
    executor.deliver(agent.delivery(&first), &asker).await.unwrap();
    executor.deliver(agent.delivery(&behind), &asker).await.unwrap();
    directory.called("reset", 1).await;
    agent.clock.set(NOW + 120);
    // What comes too late need not wait to hear that.
    let answer = outcome(&agent, &executor, &late).await;
    assert_eq!((answer.status, answer.retry_safe), (Status::Expired, true));
    gate.add_permits(2);
    assert_eq!(next_outcome(&agent, &mut concluded, &first).await.status, Status::Succeeded);
    assert_eq!(next_outcome(&agent, &mut concluded, &behind).await.status, Status::Expired);
    assert_eq!(directory.calls().iter().filter(|call| call.starts_with("reset")).count(), 1);
}

#[tokio::test]
async fn what_may_have_been_purged_is_not_answered() {
    let agent = Enrolled::new().await;
    let (executor, _failed) = agent.executor(Arc::new(Scripted::default()));
    agent.clock.set(NOW + 120 + 7 * 24 * 3600);
    assert_eq!(executor.deliver(agent.delivery(&agent.command(JANE)), &nobody()).await.unwrap(), None);
    assert_eq!(executor.core.journal.open_entries().unwrap().len(), 0);
    assert_eq!(agent.event_ids(), [32003]);
}

#[tokio::test]
async fn a_foreign_command_is_not_answered_not_journaled_and_not_executed() {
    let agent = Enrolled::new().await;
    let directory = Arc::new(Scripted::default());
    let (executor, _failed) = agent.executor(directory.clone());
    let stranger = SigningKey::generate(&System).unwrap();
    let good = agent.command(JANE);
    let mut jws: Vec<String> = vec!["nonsense".into(), String::new(), good.sign(&stranger).unwrap()];
    let changes: [fn(&mut Command); 4] = [
        |c| c.aud = AgentId::new(&System, &System),
        |c| c.tenant = "fabrikam".parse().unwrap(),
        |c| c.iss = "portal-2".parse().unwrap(),
        |c| c.validity.exp = UnixTime(NOW + 301),
    ];
    for change in changes {
        let mut command = good.clone();
        change(&mut command);
        jws.push(command.sign(&agent.portal).unwrap());
    }
    for (n, command_jws) in jws.iter().enumerate() {
        let delivery = v1::Deliver { command_jws: command_jws.clone(), ..Default::default() };
        assert_eq!(executor.deliver(delivery, &nobody()).await.unwrap(), None, "{n}");
    }
    assert_eq!(agent.event_ids(), vec![32003; jws.len()]);
    assert_eq!(executor.core.journal.open_entries().unwrap().len(), 0);
    assert_eq!(directory.calls(), [""; 0]);
}

#[tokio::test]
async fn another_command_with_the_same_id_is_refused_and_the_first_goes_on() {
    let agent = Enrolled::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let directory = Arc::new(Scripted::default().resets(resets(1)).gated(gate.clone()));
    let (executor, _failed) = agent.executor(directory.clone());
    let first = agent.command(JANE);
    executor.deliver(agent.delivery(&first), &nobody()).await.unwrap();
    let mut second = first.clone();
    agent.seal(&mut second, "Other-Passw0rd");
    assert_eq!(executor.deliver(agent.delivery(&second), &nobody()).await.unwrap(), None);
    gate.add_permits(1);
    assert_eq!(unclaimed_outcome(&agent, &executor, &first).await.status, Status::Succeeded);
    assert!(agent.event_ids().contains(&32003));
    assert!(!directory.calls().iter().any(|call| call.contains("Other")));
    assert_eq!(directory.calls().iter().filter(|call| call.starts_with("reset")).count(), 1);
}

#[tokio::test]
async fn a_refusal_is_passed_on_with_its_code_and_both_events() {
    let agent = Enrolled::new().await;
    let weak = DirectoryError::Refused { code: Code::PasswordPolicy, detail: "too short".into() };
    let down = DirectoryError::Unavailable("no answer".into());
    let (executor, _failed) = agent.executor(Arc::new(Scripted::default().resets([Err(weak), Err(down)])));
    let answer = outcome(&agent, &executor, &agent.command(JANE)).await;
    assert_eq!((answer.code.as_data(), answer.detail.as_data()), ("password_policy", "too short"));
    assert_eq!(agent.event_ids(), [31001, 33008, 31003]);
    let answer = outcome(&agent, &executor, &agent.command(JANE)).await;
    assert_eq!((answer.code.as_data(), answer.retry_safe), ("directory_unavailable", true));
}

#[tokio::test]
async fn a_stop_finishes_what_was_started_and_leaves_the_rest_to_the_next_process() {
    let agent = Enrolled::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let directory = Arc::new(Scripted::default().resets(resets(1)).gated(gate.clone()));
    let (executor, _failed) = agent.executor(directory.clone());
    let (running, waiting) = (agent.command(JANE), agent.command(JANE));
    executor.deliver(agent.delivery(&running), &nobody()).await.unwrap();
    executor.deliver(agent.delivery(&waiting), &nobody()).await.unwrap();
    directory.called("reset", 1).await;
    executor.stop();
    assert_eq!(executor.deliver(agent.delivery(&agent.command(JANE)), &nobody()).await.unwrap(), None);
    gate.add_permits(1);
    deadline(executor.idle()).await;
    assert_eq!(agent.outcome(&agent_outcome(&executor, &running), &running).status, Status::Succeeded);
    let left: Vec<_> = executor.core.journal.unfinished().unwrap().iter().map(|entry| entry.command).collect();
    assert_eq!(left, [waiting.jti]);
}

#[tokio::test]
async fn a_clock_that_is_too_far_ahead_is_named_and_nothing_is_executed() {
    let agent = Enrolled::new().await;
    let directory = Arc::new(Scripted::default().resets(resets(1)));
    let (executor, _failed) = agent.executor(directory.clone());
    agent.clock.set(NOW - 61);
    let answer = outcome(&agent, &executor, &agent.command(JANE)).await;
    assert_eq!((answer.code.as_data(), answer.retry_safe), ("internal", true));
    assert!(answer.detail.contains("clock") && directory.calls().is_empty());
    agent.clock.set(NOW - 60);
    assert_eq!(outcome(&agent, &executor, &agent.command(JANE)).await.status, Status::Succeeded);
}

#[tokio::test]
async fn time_that_runs_out_while_the_account_is_found_is_noticed() {
    let agent = Enrolled::new().await;
    let clock = agent.clock.clone();
    let directory = Arc::new(Scripted::default().on_find(move || clock.set(NOW + 120)));
    let (executor, _failed) = agent.executor(directory.clone());
    assert_eq!(outcome(&agent, &executor, &agent.command(JANE)).await.status, Status::Expired);
    assert_eq!(directory.calls(), [format!("find {JANE}")]);
}

#[tokio::test]
async fn time_that_runs_out_on_the_way_to_the_write_is_expired_and_certainly_not_done() {
    let agent = Enrolled::new().await;
    let clock = agent.clock.clone();
    let directory = Arc::new(Scripted::default().on_reset(move || clock.set(NOW + 120)));
    let (executor, _failed) = agent.executor(directory.clone());
    let answer = outcome(&agent, &executor, &agent.command(JANE)).await;
    assert_eq!((answer.status, answer.retry_safe, answer.event_id), (Status::Expired, true, 31003));
    assert_eq!(directory.calls(), [format!("find {JANE}")], "nothing was written, so nothing is looked into");
    assert_eq!(agent.event_ids(), [31001, 31003]);
}

#[tokio::test]
async fn a_fault_in_the_middle_ends_the_agent_and_leaves_the_answer_to_the_next_process() {
    let agent = Enrolled::new().await;
    // Its script is empty: it panics.
    let (executor, mut failed) = agent.executor(Arc::new(Scripted::default()));
    let command = agent.command(JANE);
    executor.deliver(agent.delivery(&command), &nobody()).await.unwrap();
    assert!(matches!(deadline(failed.recv()).await, Some(AgentError::Panicked { command: id }) if id == command.jti));
    deadline(executor.idle()).await;
    assert!(matches!(executor.core.journal.unfinished().unwrap()[0].stage, Stage::Started { .. }));
}
