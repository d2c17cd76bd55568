//! Changes, unlocks, options, and how often.

use super::*;

#[tokio::test]
async fn a_change_and_an_unlock_are_written_and_answered_in_their_own_words() {
    let agent = Enrolled::new().await;
    let directory = Arc::new(Scripted::default().resets(resets(2)));
    let (executor, _failed) = agent.executor(directory.clone());
    let change = outcome(&agent, &executor, &agent.change(JANE, "Old-Passw0rd")).await;
    assert_eq!((change.code.as_data(), change.event_id, change.retry_safe), ("password_changed", 31007, false));
    let unlock = outcome(&agent, &executor, &agent.unlock(JANE)).await;
    assert_eq!((unlock.code.as_data(), unlock.event_id, unlock.retry_safe), ("account_unlocked", 31002, false));
    let writes: Vec<_> =
        directory.calls().into_iter().filter(|call| !call.starts_with("find") && !call.starts_with("done")).collect();
    assert_eq!(writes, [format!("change CN={JANE} Old-Passw0rd {NEW_PASSWORD}"), format!("unlock CN={JANE}")]);
    assert_eq!(agent.event_ids(), [31006, 31007, 31001, 31002]);
}

#[tokio::test]
async fn an_option_that_the_operation_does_not_take_is_named_and_nothing_is_ignored() {
    let agent = Enrolled::new().await;
    let directory = Arc::new(Scripted::default().resets(resets(1)));
    let (executor, _failed) = agent.executor(directory.clone());
    let (unlock, force) = (
        CommandOptions { unlock: true, ..CommandOptions::default() },
        CommandOptions { force_change_at_next_logon: true, ..CommandOptions::default() },
    );
    let history = CommandOptions { enforce_history: true, ..CommandOptions::default() };
    for (mut command, options, named) in [
        (agent.change(JANE, "Old-Passw0rd"), unlock, "unlock"),
        (agent.change(JANE, "Old-Passw0rd"), force, "force_change_at_next_logon"),
        (agent.unlock(JANE), unlock, "no options"),
        (agent.unlock(JANE), force, "no options"),
        (agent.unlock(JANE), history, "no options"),
    ] {
        command.options = options;
        let answer = outcome(&agent, &executor, &command).await;
        assert_eq!((answer.status, answer.code.as_data()), (Status::Rejected, "unsupported"));
        assert!(answer.detail.contains(named), "{:?}", answer.detail);
    }
    assert_eq!(directory.calls(), [""; 0]);
    // What a change does anyway may be asked for.
    let mut change = agent.change(JANE, "Old-Passw0rd");
    change.options = history;
    assert_eq!(outcome(&agent, &executor, &change).await.status, Status::Succeeded);
}

#[tokio::test]
async fn what_cannot_be_opened_or_lacks_the_current_password_is_said() {
    let agent = Enrolled::new().await;
    let directory = Arc::new(Scripted::default());
    let (executor, _failed) = agent.executor(directory.clone());
    let mut moved = agent.command(JANE);
    moved.sealed = agent.command(JANE).sealed;
    let answer = outcome(&agent, &executor, &moved).await;
    assert_eq!((answer.status, answer.event_id), (Status::Failed, 32004));
    let mut without = Command { operation: Operation::ChangePassword, ..agent.command(JANE) };
    agent.seal(&mut without, NEW_PASSWORD);
    let answer = outcome(&agent, &executor, &without).await;
    assert_eq!((answer.code.as_data(), answer.event_id), ("decryption_failed", 32004));
    assert!(answer.detail.contains("current_password"), "{:?}", answer.detail);
    assert_eq!(directory.calls(), [""; 0]);
}

#[tokio::test]
async fn an_account_is_reset_so_often_within_an_hour_whatever_it_is_called_and_after_a_restart() {
    let agent = Enrolled::new().await;
    let directory = Arc::new(Scripted::default().resets(resets(4)));
    let options = Options { resets_per_hour: 2, ..quick() };
    let guid = "00000000-0000-0000-0000-000000000001";
    let reset = |name: &str, seconds: i64| {
        agent.clock.set(NOW + seconds);
        let mut command = agent.command(name);
        (command.validity.iat, command.validity.exp) = (UnixTime(NOW + seconds), UnixTime(NOW + seconds + 120));
        agent.seal(&mut command, NEW_PASSWORD);
        command
    };
    {
        let (executor, _failed) = agent.executor_with(directory.clone(), agent.journal(), options.clone());
        for (name, seconds) in [(JANE, 0), (guid, 60)] {
            assert_eq!(outcome(&agent, &executor, &reset(name, seconds)).await.status, Status::Succeeded);
        }
        executor.stop();
        deadline(executor.idle()).await;
    }
    let (executor, _failed) = agent.executor_with(directory.clone(), agent.journal(), options);
    let full = outcome(&agent, &executor, &reset(JANE, 110)).await;
    assert_eq!((full.status, full.code.as_data(), full.event_id), (Status::Rejected, "rate_limited", 31003));
    assert_eq!((full.retry_safe, full.retry_at), (true, Some(UnixTime(NOW + 3600))));
    assert!(full.detail.contains("59 minutes") && full.detail.contains("resets_per_hour"), "{:?}", full.detail);
    // An unlock is counted by itself, and another account is another.
    assert_eq!(outcome(&agent, &executor, &agent.unlock(JANE)).await.status, Status::Succeeded);
    assert_eq!(outcome(&agent, &executor, &reset("joe@corp.example", 110)).await.status, Status::Succeeded);
    let still = outcome(&agent, &executor, &reset(guid, 3599)).await;
    assert_eq!((still.code.as_data(), still.retry_at), ("rate_limited", Some(UnixTime(NOW + 3600))));
    assert_eq!(directory.calls().iter().filter(|call| call.starts_with("done")).count(), 4);
}

#[tokio::test]
async fn what_the_directory_refused_does_not_count_and_changes_are_not_limited() {
    let agent = Enrolled::new().await;
    let weak = || Err(DirectoryError::Refused { code: Code::PasswordPolicy, detail: "too short".into() });
    let script = [weak(), weak(), Ok(()), Ok(()), Ok(())];
    let options = Options { resets_per_hour: 1, ..quick() };
    let (executor, _failed) =
        agent.executor_with(Arc::new(Scripted::default().resets(script)), agent.journal(), options);
    let mut codes = Vec::new();
    for command in [
        agent.command(JANE),
        agent.command(JANE),
        agent.command(JANE),
        agent.command(JANE),
        agent.change(JANE, "Old-Passw0rd"),
        agent.change(JANE, "Old-Passw0rd"),
    ] {
        codes.push(outcome(&agent, &executor, &command).await.code);
    }
    let expected = [
        "password_policy",
        "password_policy",
        "password_reset",
        "rate_limited",
        "password_changed",
        "password_changed",
    ];
    assert_eq!(codes, expected);
}

#[tokio::test]
async fn an_outcome_names_the_event_that_is_in_the_log() {
    let agent = Enrolled::new().await;
    let (executor, _failed) = agent.executor(Arc::new(Scripted::default()));
    let command = agent.change(JANE, "Old-Passw0rd");
    agent.clock.set(NOW + 120);
    assert_eq!(outcome(&agent, &executor, &command).await.event_id, 31008);
    assert_eq!(agent.event_ids(), [31008]);
}
