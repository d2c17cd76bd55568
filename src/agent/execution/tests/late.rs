//! A domain controller that takes its time over a write, and keeps the connection: it may still do it.

use super::*;

const GUID: &str = "00000000-0000-0000-0000-000000000001";

/// However often it is asked, nothing has changed.
fn unchanged() -> Vec<Result<i64, DirectoryError>> {
    vec![Ok(7); 10_000]
}

/// The outcome, or that there is none.
fn concluded(agent: &Enrolled, executor: &Executor, command: &Command) -> Option<Outcome> {
    let unstored = executor.core.journal.unstored().unwrap();
    unstored.into_iter().find(|(id, _)| *id == command.jti).map(|(_, jws)| agent.outcome(&jws, command))
}

#[tokio::test]
async fn nothing_is_said_of_a_write_that_is_not_answered_and_no_newer_command_overtakes_it() {
    let agent = Enrolled::new().await;
    let answers = Arc::new(Semaphore::new(0));
    let directory = Arc::new(Scripted::default().late(answers.clone()).resets(resets(4)).pwd_last_set(unchanged()));
    // One at a time: who waits for an answer keeps nobody else from the directory.
    let options = Options { parallel: 1, ..quick() };
    let (executor, _failed) = agent.executor_with(directory.clone(), agent.journal(), options);
    let (asker, mut listener) = mpsc::channel(8);
    let first = agent.command(JANE);
    executor.deliver(agent.delivery(&first), &asker).await.unwrap();
    directory.called("pwd_last_set", 3).await;
    let (same, by_guid) = (agent.command(JANE), agent.command(GUID));
    executor.deliver(agent.delivery(&same), &asker).await.unwrap();
    directory.called("find", 2).await;
    executor.deliver(agent.delivery(&by_guid), &asker).await.unwrap();
    directory.called("find 0000", 1).await;
    executor.deliver(agent.delivery(&agent.command("joe@corp.example")), &nobody()).await.unwrap();
    directory.called("reset CN=joe", 1).await;
    let asked = directory.calls().iter().filter(|call| *call == "pwd_last_set").count();
    directory.called("pwd_last_set", asked + 5).await;
    assert!(concluded(&agent, &executor, &first).is_none());
    let writes = |calls: Vec<String>| -> Vec<String> {
        calls.into_iter().filter(|call| call.starts_with("reset") && !call.contains("joe")).collect()
    };
    assert_eq!(writes(directory.calls()).len(), 1, "{:?}", directory.calls());

    answers.add_permits(4);
    for command in [&first, &same, &by_guid] {
        let outcome = next_outcome(&agent, &mut listener, command).await;
        assert_eq!((outcome.status, outcome.detail.as_data()), (Status::Succeeded, "the new password is set"));
    }
    let order: Vec<_> = writes(directory.calls()).iter().map(|call| call.contains("0000")).collect();
    assert_eq!(order, [false, false, true]);
    assert!(agent.event_ids().contains(&33001), "somebody is told that the controller is slow");
}

#[tokio::test]
async fn a_late_refusal_is_passed_on_and_a_late_break_is_looked_into() {
    let weak = DirectoryError::Refused { code: Code::PasswordPolicy, detail: "too short".into() };
    for (answer, code) in [(weak, "password_policy"), (uncertain(), "directory_unavailable")] {
        let agent = Enrolled::new().await;
        let answers = Arc::new(Semaphore::new(0));
        let directory = Scripted::default().late(answers.clone()).resets([Err(answer)]).pwd_last_set(unchanged());
        let directory = Arc::new(directory);
        let (executor, _failed) = agent.executor(directory.clone());
        let command = agent.command(JANE);
        let (asker, mut listener) = mpsc::channel(8);
        executor.deliver(agent.delivery(&command), &asker).await.unwrap();
        directory.called("pwd_last_set", 3).await;
        answers.add_permits(1);
        let outcome = next_outcome(&agent, &mut listener, &command).await;
        assert_eq!((outcome.code.as_data(), outcome.retry_safe), (code, true));
    }
}

#[tokio::test]
async fn a_write_whose_answer_never_comes_is_seen_to_be_done_and_a_wrong_password_is_tried_once() {
    let agent = Enrolled::new().await;
    let never = Arc::new(Semaphore::new(0));
    let directory = Scripted::default()
        .late(never.clone())
        .resets(resets(1))
        .pwd_last_set([Ok(7), Err(DirectoryError::Unavailable("busy".into())), Ok(8)])
        .checks([Ok(PasswordCheck::Right)]);
    let (executor, _failed) = agent.executor(Arc::new(directory));
    let answer = outcome(&agent, &executor, &agent.command(JANE)).await;
    assert_eq!((answer.status, answer.detail.contains("afterwards")), (Status::Succeeded, true), "{:?}", answer.detail);

    let other = Enrolled::new().await;
    let directory = Scripted::default()
        .late(never)
        .resets(resets(1))
        .pwd_last_set(vec![Ok(8); 100])
        .checks([Ok(PasswordCheck::Wrong), Ok(PasswordCheck::Wrong)]);
    let directory = Arc::new(directory);
    // The last second of the command, and no longer: then the controller is asked as after a crash.
    let options = Options { late_answer: Duration::ZERO, ..quick() };
    let (executor, _failed) = other.executor_with(directory.clone(), other.journal(), options);
    other.clock.set(NOW + 119);
    let answer = outcome(&other, &executor, &other.command(JANE)).await;
    assert_eq!((answer.status, answer.retry_safe), (Status::Unknown, false));
    assert_eq!(directory.calls().iter().filter(|call| *call == "try_password").count(), 2, "once while it waited");
}

#[tokio::test]
async fn what_waits_behind_a_write_that_is_not_answered_expires_in_time_and_says_so() {
    let agent = Enrolled::new().await;
    let answers = Arc::new(Semaphore::new(0));
    let directory = Arc::new(Scripted::default().late(answers.clone()).resets(resets(1)).pwd_last_set(unchanged()));
    let (executor, _failed) = agent.executor(directory.clone());
    executor.deliver(agent.delivery(&agent.command(JANE)), &nobody()).await.unwrap();
    directory.called("reset", 1).await;
    for name in [JANE, GUID] {
        let mut behind = agent.command(name);
        behind.validity.exp = UnixTime(NOW + 1);
        let answer = outcome(&agent, &executor, &behind).await;
        assert_eq!((answer.status, answer.retry_safe), (Status::Expired, true));
    }
    assert_eq!(directory.calls().iter().filter(|call| call.starts_with("reset")).count(), 1);
}

#[tokio::test]
async fn a_stop_waits_for_the_answer_as_for_every_write() {
    let agent = Enrolled::new().await;
    let answers = Arc::new(Semaphore::new(0));
    let directory = Arc::new(Scripted::default().late(answers.clone()).resets(resets(1)).pwd_last_set(unchanged()));
    let (executor, _failed) = agent.executor(directory.clone());
    let command = agent.command(JANE);
    executor.deliver(agent.delivery(&command), &nobody()).await.unwrap();
    directory.called("pwd_last_set", 1).await;
    executor.stop();
    answers.add_permits(1);
    deadline(executor.idle()).await;
    assert_eq!(concluded(&agent, &executor, &command).unwrap().status, Status::Succeeded);
}
