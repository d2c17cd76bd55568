//! What became of a write that nobody answered.

use super::*;
use crate::agent::directory::Logon;

#[tokio::test]
async fn a_write_without_an_answer_is_looked_into() {
    let agent = Enrolled::new().await;
    let directory = Scripted::default()
        .resets([Err(uncertain()), Err(uncertain())])
        .pwd_last_set([Ok(8), Ok(7), Ok(7)])
        .checks([Ok(PasswordCheck::Right)]);
    let (executor, _failed) = agent.executor(Arc::new(directory));
    assert_eq!(outcome(&agent, &executor, &agent.command(JANE)).await.status, Status::Succeeded);
    let answer = outcome(&agent, &executor, &agent.command(JANE)).await;
    assert_eq!((answer.code.as_data(), answer.retry_safe), ("directory_unavailable", true));
}

/// Leaves a journal as a crash leaves it.
async fn crashed(agent: &Enrolled, command: &Command, started: bool) {
    let journal = agent.journal();
    journal.receive(command, &agent.delivery(command).command_jws, None).await.unwrap();
    if started {
        let before = Account { lockout_time: 5, ..Scripted::account(7) };
        journal.start(command.jti, before, None).await.unwrap();
    }
}

async fn after_crash(agent: &Enrolled, directory: Scripted, command: &Command) -> Outcome {
    let (executor, _failed) = agent.executor(Arc::new(directory));
    executor.resume().unwrap();
    unclaimed_outcome(agent, &executor, command).await
}

#[tokio::test]
async fn after_a_crash_what_was_started_is_looked_into_and_never_written_again() {
    let cases = [
        (vec![7, 7], None, "interrupted", true),
        (vec![8], Some(PasswordCheck::Right), "password_reset", false),
        (vec![8], Some(PasswordCheck::Wrong), "unknown", false),
        (vec![8], Some(PasswordCheck::Unclear), "unknown", false),
    ];
    for (pwd_last_set, check, code, retry_safe) in cases {
        let agent = Enrolled::new().await;
        let command = agent.command(JANE);
        crashed(&agent, &command, true).await;
        let directory = Scripted::default().pwd_last_set(pwd_last_set.into_iter().map(Ok)).checks(check.map(Ok));
        // Long after exp, too.
        agent.clock.set(NOW + 1000);
        let answer = after_crash(&agent, directory, &command).await;
        assert_eq!((answer.code.as_data(), answer.retry_safe), (code, retry_safe));
    }
}

#[tokio::test]
async fn what_hinders_a_user_is_told_after_a_crash_too_and_only_of_a_success() {
    let logon = Logon { locked: true, workstations_limited: true, ..Logon::default() };
    let hindered = Some(vec!["locked".into(), "workstations_limited".into()]);
    for (logon, now, check, hindrances) in [
        (Some(logon.clone()), vec![8], Some(PasswordCheck::Right), hindered),
        (Some(logon), vec![7, 7], None, None),
        (Some(Logon::default()), vec![8], Some(PasswordCheck::Right), Some(Vec::new())),
        // As an older version of this program has left it.
        (None, vec![8], Some(PasswordCheck::Right), None),
    ] {
        let agent = Enrolled::new().await;
        let command = agent.command(JANE);
        let journal = agent.journal();
        journal.receive(&command, &agent.delivery(&command).command_jws, None).await.unwrap();
        journal.start(command.jti, Account { logon, ..Scripted::account(7) }, None).await.unwrap();
        drop(journal);
        let directory = Scripted::default().pwd_last_set(now.into_iter().map(Ok)).checks(check.map(Ok));
        let answer = after_crash(&agent, directory, &command).await;
        assert_eq!(answer.hindrances, hindrances);
        assert_eq!(answer.detail.contains("locked by wrong passwords"), hindrances.is_some_and(|all| !all.is_empty()));
    }
}

#[tokio::test]
async fn after_a_crash_a_change_is_looked_into_by_the_password_and_an_unlock_by_the_lock() {
    for (now, checks, code) in [
        (vec![7, 7], vec![], "interrupted"),
        (vec![8], vec![PasswordCheck::Right], "password_changed"),
        (vec![0], vec![PasswordCheck::Wrong, PasswordCheck::Right], "interrupted"),
        (vec![8], vec![PasswordCheck::Wrong, PasswordCheck::Wrong], "unknown"),
    ] {
        let agent = Enrolled::new().await;
        let command = agent.change(JANE, "Old-Passw0rd");
        crashed(&agent, &command, true).await;
        let directory = Scripted::default().pwd_last_set(now.into_iter().map(Ok)).checks(checks.into_iter().map(Ok));
        let answer = after_crash(&agent, directory, &command).await;
        assert_eq!(answer.code, code);
        assert_eq!(agent.event_ids().last(), Some(if code == "password_changed" { &31007 } else { &31008 }));
    }
    for (now, code) in [(vec![0], "account_unlocked"), (vec![5, 5], "interrupted"), (vec![6, 6], "unknown")] {
        let agent = Enrolled::new().await;
        let command = agent.unlock(JANE);
        crashed(&agent, &command, true).await;
        let directory = Scripted::default().lockout_times(now.into_iter().map(Ok));
        assert_eq!(after_crash(&agent, directory, &command).await.code, code);
    }
}

#[tokio::test]
async fn a_controller_that_stays_silent_holds_its_account_for_a_while_and_is_asked_on() {
    let agent = Enrolled::new().await;
    let command = agent.command(JANE);
    crashed(&agent, &command, true).await;
    let silent = (0..1000).map(|_| Err(DirectoryError::Unavailable("no answer".into())));
    let directory = Arc::new(Scripted::default().pwd_last_set(silent).resets(resets(2)));
    let options = Options { recovery_hold: Duration::from_millis(50), ..quick() };
    let (executor, _failed) = agent.executor_with(directory.clone(), agent.journal(), options);
    // Until exp the write may still be on its way.
    agent.clock.set(NOW + 120);
    executor.resume().unwrap();
    directory.called("pwd_last_set", 1).await;
    // By its other name, so that it waits for the account alone, and by the same one.
    for name in ["00000000-0000-0000-0000-000000000001", JANE] {
        let mut later = agent.command(name);
        later.validity = Validity { iat: UnixTime(NOW + 120), exp: UnixTime(NOW + 240) };
        assert_eq!(outcome(&agent, &executor, &later).await.status, Status::Succeeded);
    }
    assert!(agent.event_ids().contains(&33001));
    let asked = directory.calls().iter().filter(|call| *call == "pwd_last_set").count();
    directory.called("pwd_last_set", asked + 3).await;
    // A week after exp no relay takes the answer to anybody.
    agent.clock.set(NOW + 120 + 7 * 24 * 3600);
    let answer = deadline(async {
        loop {
            executor.unclaimed().await;
            if let Some((_, jws)) =
                executor.core.journal.unstored().unwrap().into_iter().find(|(id, _)| *id == command.jti)
            {
                return agent.outcome(&jws, &command);
            }
        }
    });
    let answer = answer.await;
    assert_eq!((answer.code.as_data(), answer.retry_safe), ("unknown", false));
    assert!(answer.detail.contains("has not answered"), "{:?}", answer.detail);
}

#[tokio::test]
async fn after_a_crash_what_was_only_received_is_executed_if_there_is_time() {
    let agent = Enrolled::new().await;
    let command = agent.command(JANE);
    crashed(&agent, &command, false).await;
    assert_eq!(after_crash(&agent, Scripted::default().resets(resets(1)), &command).await.status, Status::Succeeded);
    let late = Enrolled::new().await;
    let command = late.command(JANE);
    crashed(&late, &command, false).await;
    late.clock.set(NOW + 120);
    assert_eq!(after_crash(&late, Scripted::default(), &command).await.status, Status::Expired);
}

#[tokio::test]
async fn while_a_controller_is_silent_others_go_on_and_the_same_account_waits() {
    let agent = Enrolled::new().await;
    let command = agent.command(JANE);
    crashed(&agent, &command, true).await;
    let silent = (0..1000).map(|_| Err(DirectoryError::Unavailable("no answer".into())));
    let directory = Arc::new(Scripted::default().pwd_last_set(silent).resets(resets(2)));
    let options = Options { parallel: 1, backoff_base: Duration::from_millis(50), ..quick() };
    let (executor, _failed) = agent.executor_with(directory.clone(), agent.journal(), options);
    executor.resume().unwrap();
    directory.called("pwd_last_set", 1).await;
    // The same account by its other name, and then another account.
    executor.deliver(agent.delivery(&agent.command("00000000-0000-0000-0000-000000000001")), &nobody()).await.unwrap();
    executor.deliver(agent.delivery(&agent.command(JANE)), &nobody()).await.unwrap();
    directory.called("find 0000", 1).await;
    let answer = outcome(&agent, &executor, &agent.command("joe@corp.example")).await;
    assert_eq!(answer.status, Status::Succeeded);
    directory.called("pwd_last_set", 3).await;
    assert!(
        !directory
            .calls()
            .iter()
            .any(|call| call.starts_with("reset CN=0000") || call.contains(NEW_PASSWORD) && call.contains(JANE))
    );
    executor.stop();
    deadline(executor.idle()).await;
    assert_eq!(executor.core.journal.unfinished().unwrap().len(), 3);
}

#[tokio::test]
async fn a_silent_controller_after_a_write_keeps_nobody_else_from_the_directory() {
    let agent = Enrolled::new().await;
    let silent = (0..1000).map(|_| Err(DirectoryError::Unavailable("no answer".into())));
    let directory = Arc::new(Scripted::default().resets([Err(uncertain()), Ok(())]).pwd_last_set(silent));
    let options = Options { parallel: 1, backoff_base: Duration::from_millis(50), ..quick() };
    let (executor, _failed) = agent.executor_with(directory.clone(), agent.journal(), options);
    executor.deliver(agent.delivery(&agent.command(JANE)), &nobody()).await.unwrap();
    directory.called("pwd_last_set", 1).await;
    assert_eq!(outcome(&agent, &executor, &agent.command("joe@x")).await.status, Status::Succeeded);
}
