//! What the journal promises, over reopening.

use super::*;
use crate::agent::testing::{Enrolled, JANE, NOW, Scripted};
use crate::clock::System;
use crate::protocol::command::Operation;

const DAY: i64 = 24 * 3600;

async fn receive(journal: &Journal, agent: &Enrolled, command: &Command) -> Receipt {
    journal.receive(command, &agent.delivery(command).command_jws, None).await.unwrap()
}

fn stages(journal: &Journal) -> Vec<&'static str> {
    let name = |entry: Entry| match entry.stage {
        Stage::Received { .. } => "received",
        Stage::Started { .. } => "started",
        Stage::Concluded { .. } => "concluded",
    };
    journal.open_entries().unwrap().into_iter().map(name).collect()
}

#[tokio::test]
async fn only_what_was_started_is_started_elsewhere_and_then_that_controller_is_the_one_to_ask() {
    let agent = Enrolled::new().await;
    let command = agent.command(JANE);
    let other = Account { controller: "dc2".into(), ..Scripted::account(8) };
    receive(&agent.journal(), &agent, &command).await;
    assert!(agent.journal().start_elsewhere(command.jti, other.clone()).await.is_err());
    agent.journal().start(command.jti, Scripted::account(7), None).await.unwrap();
    agent.journal().start_elsewhere(command.jti, other.clone()).await.unwrap();
    let entry = agent.journal().open_entries().unwrap().remove(0);
    assert!(matches!(entry.stage, Stage::Started { account, .. } if account == other));
    agent.journal().conclude(command.jti, "one".into(), true).await.unwrap();
    assert!(agent.journal().start_elsewhere(command.jti, other).await.is_err());
}

#[tokio::test]
async fn every_stage_is_there_after_reopening_and_the_sealed_password_only_until_the_outcome() {
    let agent = Enrolled::new().await;
    let command = agent.command(JANE);
    let sealed = agent.delivery(&command).command_jws;
    let holds_sealed = |journal: &Journal| {
        let entry = journal.open_entries().unwrap().remove(0);
        serde_json::to_string(&entry).unwrap().contains(&sealed)
    };
    assert!(matches!(receive(&agent.journal(), &agent, &command).await, Receipt::New));
    assert_eq!(stages(&agent.journal()), ["received"]);
    agent.journal().start(command.jti, Scripted::account(7), None).await.unwrap();
    assert_eq!(stages(&agent.journal()), ["started"]);
    assert!(holds_sealed(&agent.journal()));
    assert_eq!(agent.journal().conclude(command.jti, "one".into(), false).await.unwrap(), "one");
    assert_eq!(agent.journal().unstored().unwrap(), [(command.jti, "one".to_owned())]);
    assert!(!holds_sealed(&agent.journal()));
    agent.journal().stored(command.jti).await.unwrap();
    assert_eq!(stages(&agent.journal()), [""; 0]);
    let Receipt::Known(entry) = receive(&agent.journal(), &agent, &command).await else { panic!("it was new") };
    assert!(matches!(entry.stage, Stage::Concluded { outcome, stored: true } if outcome == "one"));
}

#[tokio::test]
async fn the_first_outcome_stays_and_nothing_starts_twice() {
    let agent = Enrolled::new().await;
    let journal = agent.journal();
    let command = agent.command(JANE);
    assert!(journal.start(command.jti, Scripted::account(7), None).await.is_err());
    receive(&journal, &agent, &command).await;
    journal.start(command.jti, Scripted::account(7), None).await.unwrap();
    assert!(journal.start(command.jti, Scripted::account(7), None).await.is_err());
    journal.conclude(command.jti, "one".into(), false).await.unwrap();
    assert_eq!(journal.conclude(command.jti, "two".into(), false).await.unwrap(), "one");
    assert!(journal.start(command.jti, Scripted::account(7), None).await.is_err());
}

#[tokio::test]
async fn the_same_id_with_another_body_is_a_conflict_and_changes_nothing() {
    let agent = Enrolled::new().await;
    let journal = agent.journal();
    let command = agent.command(JANE);
    receive(&journal, &agent, &command).await;
    let mut other = command.clone();
    agent.seal(&mut other, "Other-Passw0rd");
    assert!(matches!(receive(&journal, &agent, &other).await, Receipt::Conflict));
    assert!(matches!(receive(&journal, &agent, &command).await, Receipt::Known(_)));
}

#[tokio::test]
async fn what_is_open_comes_in_order_of_arrival() {
    let agent = Enrolled::new().await;
    let journal = agent.journal();
    let mut commands: Vec<_> = (0..20).map(|_| agent.command(JANE)).collect();
    commands.reverse();
    for command in &commands {
        receive(&journal, &agent, command).await;
    }
    let order: Vec<_> = journal.unfinished().unwrap().into_iter().map(|entry| entry.command).collect();
    assert_eq!(order, commands.iter().map(|command| command.jti).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_entry_is_purged_a_week_after_exp_and_only_if_the_relay_has_its_outcome() {
    let agent = Enrolled::new().await;
    let journal = agent.journal();
    let (stored, unstored, running) = (agent.command(JANE), agent.command(JANE), agent.command(JANE));
    for command in [&stored, &unstored, &running] {
        receive(&journal, &agent, command).await;
    }
    for command in [&stored, &unstored] {
        journal.conclude(command.jti, "one".into(), false).await.unwrap();
    }
    journal.stored(stored.jti).await.unwrap();
    let week_after_exp = NOW + 120 + 7 * DAY;
    assert_eq!(journal.purge(UnixTime(week_after_exp)).await.unwrap(), 0);
    assert_eq!(journal.purge(UnixTime(week_after_exp + 1)).await.unwrap(), 1);
    assert_eq!(journal.purge(UnixTime(week_after_exp + 100 * DAY)).await.unwrap(), 0);
    let known: Vec<_> = [&stored, &unstored, &running].map(|c| journal.knows(c.jti).unwrap()).into();
    assert_eq!(known, [false, true, true]);
}

#[tokio::test]
async fn a_portal_can_not_fill_it_and_what_is_known_is_known_in_a_full_one() {
    let agent = Enrolled::new().await;
    let journal = agent.journal();
    let commands: Vec<_> = (0..MAX_OPEN + 20).map(|_| agent.command(JANE)).collect();
    // The jws is of no interest to it, and signing takes long.
    let receipts = futures_util::future::join_all(commands.iter().map(|command| journal.receive(command, "jws", None)));
    let receipts: Vec<_> = receipts.await.into_iter().map(Result::unwrap).collect();
    let taken = receipts.iter().filter(|receipt| matches!(receipt, Receipt::New)).count();
    let full = receipts.iter().position(|receipt| matches!(receipt, Receipt::Full)).unwrap();
    assert_eq!((taken as u64, journal.unfinished().unwrap().len() as u64), (MAX_OPEN, MAX_OPEN));
    assert!(!journal.knows(commands[full].jti).unwrap());
    let first = receipts.iter().position(|receipt| matches!(receipt, Receipt::New)).unwrap();
    assert!(matches!(journal.receive(&commands[first], "jws", None).await.unwrap(), Receipt::Known(_)));
    // As soon as a relay has an outcome, there is room.
    journal.conclude(commands[first].jti, "one".into(), true).await.unwrap();
    assert!(matches!(journal.receive(&commands[full], "jws", None).await.unwrap(), Receipt::Full));
    journal.stored(commands[first].jti).await.unwrap();
    assert!(matches!(journal.receive(&commands[full], "jws", None).await.unwrap(), Receipt::New));
}

#[tokio::test]
async fn a_missing_damaged_or_foreign_journal_is_refused_by_name_and_never_made_anew() {
    let agent = Enrolled::new().await;
    let (path, id) = (agent.home().journal(), agent.identity.journal);
    let refused = |id| Journal::open(&path, id).unwrap_err().to_string();
    assert!(refused(JournalId::new(&System, &System)).contains("not the one"));
    std::fs::write(&path, "not a journal").unwrap();
    assert!(refused(id).contains("journal.redb"));
    std::fs::remove_file(&path).unwrap();
    assert!(refused(id).contains("journal.redb"));
    assert!(!path.exists());
}

fn resets(now: i64) -> Option<Quota> {
    Some(Quota { operation: Operation::ResetPassword, most: 2, now: UnixTime(now) })
}

/// Whether one more write of Jane's account may begin.
async fn begin(agent: &Enrolled, quota: Option<Quota>) -> (CommandId, Start) {
    let (journal, command) = (agent.journal(), agent.command(JANE));
    receive(&journal, agent, &command).await;
    (command.jti, journal.start(command.jti, Scripted::account(7), quota).await.unwrap())
}

#[tokio::test]
async fn writes_of_an_account_are_counted_for_an_hour_each_operation_by_itself_and_over_reopening() {
    let agent = Enrolled::new().await;
    assert_eq!(begin(&agent, resets(NOW)).await.1, Start::Now);
    assert_eq!(begin(&agent, resets(NOW + 600)).await.1, Start::Now);
    let full = Start::NotBefore(UnixTime(NOW + 3600));
    assert_eq!(begin(&agent, resets(NOW + 600)).await.1, full);
    assert_eq!(begin(&agent, resets(NOW + 3599)).await.1, full);
    let unlock = Quota { operation: Operation::UnlockAccount, most: 1, now: UnixTime(NOW + 600) };
    assert_eq!(begin(&agent, Some(unlock)).await.1, Start::Now);
    assert_eq!(begin(&agent, None).await.1, Start::Now);
    // The first is over an hour old then, and the second is the oldest.
    assert_eq!(begin(&agent, resets(NOW + 3600)).await.1, Start::Now);
    assert_eq!(begin(&agent, resets(NOW + 3600)).await.1, Start::NotBefore(UnixTime(NOW + 4200)));
    agent.journal().purge(UnixTime(NOW + 4199)).await.unwrap();
    assert_eq!(begin(&agent, resets(NOW + 4199)).await.1, Start::NotBefore(UnixTime(NOW + 4200)));
    assert_eq!(begin(&agent, resets(NOW + 4200)).await.1, Start::Now);
}

#[tokio::test]
async fn what_was_not_done_or_written_by_a_clock_far_ahead_does_not_count() {
    let agent = Enrolled::new().await;
    for _ in 0..3 {
        let (command, start) = begin(&agent, resets(NOW)).await;
        assert_eq!(start, Start::Now);
        agent.journal().conclude(command, "not done".into(), true).await.unwrap();
    }
    let (command, _) = begin(&agent, resets(NOW)).await;
    agent.journal().conclude(command, "done".into(), false).await.unwrap();
    begin(&agent, resets(NOW)).await;
    assert!(matches!(begin(&agent, resets(NOW)).await.1, Start::NotBefore(_)));
    assert_eq!(begin(&agent, resets(NOW - 4000)).await.1, Start::Now);
}

#[tokio::test]
async fn a_command_that_may_not_begin_stays_received() {
    let agent = Enrolled::new().await;
    let quota = Quota { operation: Operation::ResetPassword, most: 0, now: UnixTime(NOW) };
    assert!(matches!(begin(&agent, Some(quota)).await.1, Start::NotBefore(_)));
    assert_eq!(stages(&agent.journal()), ["received"]);
}

#[tokio::test]
async fn a_journal_of_a_newer_program_is_refused_and_one_without_a_number_is_read() {
    let agent = Enrolled::new().await;
    let path = agent.home().journal();
    let set = |format: Option<&str>| {
        let file = crate::storage::DatabaseFile::open(&path).unwrap();
        let change = |t: &WriteTransaction| {
            let mut meta = t.open_table(META)?;
            match format {
                Some(format) => meta.insert("format", format)?.map(|_| ()),
                None => meta.remove("format")?.map(|_| ()),
            };
            Ok(())
        };
        file.write(change).unwrap();
    };
    for newer in ["2", "10", "something else"] {
        set(Some(newer));
        let error = Journal::open(&path, agent.identity.journal).unwrap_err().to_string();
        assert!(error.contains("written by a newer version") && error.contains("journal.redb"), "{error}");
    }
    set(None);
    drop(agent.journal());
    set(Some("1"));
    drop(agent.journal());
}
