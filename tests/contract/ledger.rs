use std::collections::BTreeSet;
use std::sync::Arc;

use writeback_relay::clock::{Clock, System, UnixTime};
use writeback_relay::protocol::api::CommandState;
use writeback_relay::protocol::ids::{AgentId, CommandId, ObjectId, TenantId};
use writeback_relay::protocol::limits::OUTCOME_RETENTION;
use writeback_relay::relay::embedded::EmbeddedLedger;
use writeback_relay::relay::ids::{NodeId, SessionId};
use writeback_relay::relay::ledger::{
    Accepted, CommandKey, Concluded, End, Entry, Intent, Ledger, Milestone, NewCommand, Undelivered, Whose, Written,
};

use super::stores::{Ground, on_every_backend};
use super::{agent, tenant};
use crate::support::eventually;

on_every_backend! {
    of_identical_submits_in_parallel_one_is_new
    a_command_has_one_end_and_a_signed_outcome_is_the_last_word
    only_the_first_owner_can_say_that_nothing_was_written
    nobody_can_say_so_of_a_command_that_its_owner_has_looked_up
    a_command_that_was_handed_over_can_be_taken_back_unless_it_may_have_been_written
    a_signed_outcome_replaces_what_the_relay_said_on_its_own
    an_outcome_whose_command_was_forgotten_is_kept
    an_outcome_that_names_another_portal_than_the_one_that_asked_is_not_stored_while_the_command_is_open
    an_empty_ledger_invents_nothing_about_a_command_that_it_has_forgotten
    nobody_says_of_a_command_that_may_have_come_before_that_it_was_not_written
    milestones_are_noted_once
    milestones_that_were_noted_a_moment_before_the_end_are_kept_with_it
    tenants_and_portals_do_not_see_each_others_commands
}

pub(super) const T: u64 = 1_800_000_000_000;
const EXP: UnixTime = UnixTime(1_800_000_120);

pub(super) fn session() -> SessionId {
    SessionId::new(&System, &System)
}

pub(super) fn command(tenant: &TenantId, agent: AgentId) -> NewCommand {
    NewCommand {
        key: CommandKey {
            tenant: tenant.clone(),
            portal: "portal-1".parse().unwrap(),
            command: CommandId::new(&System, &System),
        },
        agent,
        jws: "sealed.inside.here".into(),
        body_sha256: [1; 32],
        exp: EXP,
        earliest: UnixTime(EXP.0 - 120),
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
        origin: NodeId(ObjectId::new(&System, &System)),
    }
}

async fn get(ledger: &dyn Ledger, key: &CommandKey) -> Entry {
    ledger.get(key).await.unwrap().unwrap()
}

async fn of_identical_submits_in_parallel_one_is_new(ground: Ground) {
    let ledger = ground.ledger().await;
    let new = command(&tenant("a"), agent());
    let racing = (0..16).map(|_| {
        let (ledger, new) = (Arc::clone(&ledger), new.clone());
        tokio::spawn(async move { ledger.accept(new, Intent::Deliver(session()), T).await.unwrap() })
    });
    let mut new_ones = 0;
    for race in racing.collect::<Vec<_>>() {
        new_ones += usize::from(matches!(race.await.unwrap(), Accepted::New(_)));
    }
    assert_eq!(new_ones, 1);
    let other_body = NewCommand { body_sha256: [2; 32], ..new };
    assert_eq!(ledger.accept(other_body, Intent::Deliver(session()), T).await.unwrap(), Accepted::Conflict);
}

async fn a_command_has_one_end_and_a_signed_outcome_is_the_last_word(ground: Ground) {
    let ledger = ground.ledger().await;
    let (who, owner, new) = (agent(), session(), command(&tenant("a"), agent()));
    let new = NewCommand { agent: who, ..new };
    ledger.accept(new.clone(), Intent::Deliver(owner), T).await.unwrap();
    assert_eq!(get(&*ledger, &new.key).await.state(EXP), CommandState::Unknown, "no answer and exp has passed");

    assert_eq!(ledger.conclude(&new.key, agent(), "x".into(), T).await.unwrap(), Concluded::Foreign);
    assert!(matches!(ledger.conclude(&new.key, who, "first".into(), T + 5).await.unwrap(), Concluded::Stored(_)));
    assert_eq!(ledger.conclude(&new.key, who, "second".into(), T + 6).await.unwrap(), Concluded::Already);
    assert_eq!(ledger.take_back(&new.key, owner, Undelivered::NoAgent, T + 7).await.unwrap(), None);
    let entry = get(&*ledger, &new.key).await;
    assert_eq!(entry.end, Some(End::Outcome { jws: "first".into(), at_ms: T + 5 }));
    assert_eq!(entry.jws, None, "the sealed password is erased");
    assert_eq!(entry.state(EXP), CommandState::Concluded);
    assert!(
        matches!(ledger.accept(new, Intent::Deliver(session()), T).await.unwrap(), Accepted::Known(e) if e == entry)
    );
}

async fn only_the_first_owner_can_say_that_nothing_was_written(ground: Ground) {
    let ledger = ground.ledger().await;
    let (t, owner) = (tenant("a"), session());
    let new = command(&t, agent());
    ledger.accept(new.clone(), Intent::Deliver(owner), T).await.unwrap();
    assert_eq!(ledger.take_back(&new.key, session(), Undelivered::NoAgent, T).await.unwrap(), None, "a stranger");

    let second = session();
    let taken = ledger.take_over(&t, new.agent, second, Whose::Others, None).await.unwrap();
    assert_eq!(taken.iter().map(|e| (e.key.clone(), e.attempt)).collect::<Vec<_>>(), vec![(new.key.clone(), 2)]);
    assert_eq!(
        ledger.take_over(&t, new.agent, second, Whose::Others, None).await.unwrap(),
        vec![],
        "it has it already"
    );
    assert_eq!(ledger.take_back(&new.key, owner, Undelivered::NoAgent, T).await.unwrap(), None, "no longer its owner");
    assert_eq!(
        ledger.take_back(&new.key, second, Undelivered::NoAgent, T).await.unwrap(),
        None,
        "the first may have written"
    );

    let other = command(&t, agent());
    ledger.accept(other.clone(), Intent::Deliver(owner), T).await.unwrap();
    assert!(ledger.take_back(&other.key, owner, Undelivered::AgentBusy, T + 1).await.unwrap().is_some());
    let entry = get(&*ledger, &other.key).await;
    assert_eq!((entry.state(EXP), entry.jws), (CommandState::Undeliverable, None));
    assert_eq!(ledger.take_over(&t, other.agent, second, Whose::Others, None).await.unwrap(), vec![], "it has an end");
}

async fn a_command_that_was_handed_over_can_be_taken_back_unless_it_may_have_been_written(ground: Ground) {
    let ledger = ground.ledger().await;
    let (t, [first, second, third]) = (tenant("a"), [(); 3].map(|()| session()));
    let [unwritten, doubtful] = [(); 2].map(|()| command(&t, agent()));
    let mut entries = Vec::new();
    for new in [&unwritten, &doubtful] {
        ledger.accept(new.clone(), Intent::Deliver(first), T).await.unwrap();
        entries.push(get(&*ledger, &new.key).await);
    }
    let handed = ledger.hand_over(entries[0].clone(), second, Written::No).await.unwrap().unwrap();
    assert_eq!((handed.owner, handed.attempt), (Some(second), 1));
    assert_eq!(get(&*ledger, &unwritten.key).await, handed);
    assert_eq!(
        ledger.hand_over(entries[0].clone(), third, Written::No).await.unwrap(),
        None,
        "it is no longer the first's"
    );
    assert_eq!(ledger.take_back(&unwritten.key, first, Undelivered::NoAgent, T).await.unwrap(), None);
    assert!(ledger.take_back(&unwritten.key, second, Undelivered::NoAgent, T).await.unwrap().is_some());
    assert_eq!(ledger.hand_over(handed, third, Written::No).await.unwrap(), None, "it has an end");

    let handed = ledger.hand_over(entries[1].clone(), second, Written::Maybe).await.unwrap().unwrap();
    assert_eq!((handed.owner, handed.attempt), (Some(second), 2));
    assert_eq!(get(&*ledger, &doubtful.key).await, handed);
    let handed = ledger.hand_over(handed, third, Written::No).await.unwrap().unwrap();
    assert_eq!((handed.owner, handed.attempt), (Some(third), 2));
    assert_eq!(ledger.take_back(&doubtful.key, third, Undelivered::NoAgent, T).await.unwrap(), None);
}

async fn nobody_can_say_so_of_a_command_that_its_owner_has_looked_up(ground: Ground) {
    let ledger = ground.ledger().await;
    let (t, who, owner) = (tenant("a"), agent(), session());
    let [early, late, foreign, ended] = [(); 4].map(|()| command(&t, who));
    ledger.accept(late.clone(), Intent::Deliver(owner), T + 1).await.unwrap();
    ledger.accept(early.clone(), Intent::Deliver(owner), T).await.unwrap();
    ledger.accept(foreign.clone(), Intent::Deliver(session()), T).await.unwrap();
    ledger.accept(ended.clone(), Intent::Deliver(owner), T).await.unwrap();
    ledger.conclude(&ended.key, who, "o".into(), T).await.unwrap();

    let own = ledger.take_over(&t, who, owner, Whose::Own, None).await.unwrap();
    let found: Vec<_> = own.into_iter().map(|entry| (entry.key, entry.owner, entry.attempt)).collect();
    assert_eq!(found, [(early.key.clone(), Some(owner), 2), (late.key.clone(), Some(owner), 2)]);
    for key in [&early.key, &late.key] {
        assert_eq!(ledger.take_back(key, owner, Undelivered::AgentBusy, T).await.unwrap(), None, "it may be written");
        let first = Entry { attempt: 1, ..get(&*ledger, key).await };
        assert_eq!(ledger.hand_over(first, session(), Written::No).await.unwrap(), None, "it may be written");
    }
    assert_eq!(get(&*ledger, &foreign.key).await.attempt, 1, "another session's is left to it");
}

async fn a_signed_outcome_replaces_what_the_relay_said_on_its_own(ground: Ground) {
    let ledger = ground.ledger().await;
    let new = command(&tenant("a"), agent());
    ledger.accept(new.clone(), Intent::GiveUp(Undelivered::NoAgent), T).await.unwrap();
    assert_eq!(get(&*ledger, &new.key).await.jws, None);
    assert!(matches!(ledger.conclude(&new.key, new.agent, "o".into(), T).await.unwrap(), Concluded::Stored(_)));
    assert_eq!(get(&*ledger, &new.key).await.state(EXP), CommandState::Concluded);
}

async fn an_outcome_whose_command_was_forgotten_is_kept(ground: Ground) {
    let ledger = ground.ledger().await;
    let new = command(&tenant("a"), agent());
    assert!(matches!(
        ledger.conclude_forgotten(&new.key, new.agent, "o".into(), T).await.unwrap(),
        Concluded::Stored(_)
    ));
    assert!(matches!(
        ledger.accept(new.clone(), Intent::Deliver(session()), T).await.unwrap(),
        Accepted::Known(Entry { end: Some(End::Outcome { .. }), .. })
    ));
}

async fn an_outcome_that_names_another_portal_than_the_one_that_asked_is_not_stored_while_the_command_is_open(
    ground: Ground,
) {
    let ledger = ground.ledger().await;
    let [new, other] = [(); 2].map(|()| command(&tenant("a"), agent()));
    let who = new.agent;
    ledger.accept(new.clone(), Intent::Deliver(session()), T).await.unwrap();
    ledger.accept(NewCommand { agent: who, ..other }, Intent::Deliver(session()), T).await.unwrap();
    let wrong = CommandKey { portal: "another".parse().unwrap(), ..new.key.clone() };
    assert_eq!(ledger.conclude_forgotten(&wrong, who, "o".into(), T).await.unwrap(), Concluded::OtherPortals);
    assert_eq!(ledger.get(&wrong).await.unwrap(), None);
    // Another agent's word by the same id is none of its business.
    assert!(matches!(ledger.conclude_forgotten(&wrong, agent(), "o".into(), T).await.unwrap(), Concluded::Stored(_)));
    assert!(matches!(ledger.conclude(&new.key, who, "o".into(), T).await.unwrap(), Concluded::Stored(_)));
    // The command has its end: what comes now is about one that is not known.
    let wrong = CommandKey { portal: "a-third".parse().unwrap(), ..new.key };
    assert!(matches!(ledger.conclude_forgotten(&wrong, who, "o".into(), T).await.unwrap(), Concluded::Stored(_)));
}

async fn milestones_are_noted_once(ground: Ground) {
    let ledger = ground.ledger().await;
    let (t, owner) = (tenant("a"), session());
    let new = command(&t, agent());
    ledger.accept(new.clone(), Intent::Deliver(owner), T).await.unwrap();
    ledger.note(&new.key, Milestone::Delivering, T + 2).await.unwrap();
    ledger.note(&new.key, Milestone::Received, T + 3).await.unwrap();
    ledger.note(&new.key, Milestone::Received, T + 4).await.unwrap();
    // Notes may be on their way.
    let noted = async || {
        let entry = get(&*ledger, &new.key).await;
        (entry.delivering_ms, entry.received_ms) == (Some(T + 2), Some(T + 3))
    };
    eventually("both are noted, the first time", noted).await;
    let entry = get(&*ledger, &new.key).await;
    assert_eq!(entry.state(UnixTime(0)), CommandState::Received);
}

async fn milestones_that_were_noted_a_moment_before_the_end_are_kept_with_it(ground: Ground) {
    let ledger = ground.ledger().await;
    let new = command(&tenant("a"), agent());
    ledger.accept(new.clone(), Intent::Deliver(session()), T).await.unwrap();
    ledger.note(&new.key, Milestone::Delivering, T + 2).await.unwrap();
    ledger.note(&new.key, Milestone::Received, T + 3).await.unwrap();
    ledger.conclude(&new.key, new.agent, "o".into(), T + 4).await.unwrap();
    let entry = get(&*ledger, &new.key).await;
    assert_eq!((entry.delivering_ms, entry.received_ms), (Some(T + 2), Some(T + 3)));
    ledger.note(&new.key, Milestone::Received, T + 9).await.unwrap();
    assert_eq!(get(&*ledger, &new.key).await, entry, "nothing is noted after the end");
}

async fn an_empty_ledger_invents_nothing_about_a_command_that_it_has_forgotten(ground: Ground) {
    let ledger = ground.ledger().await;
    let (t, owner) = (tenant("a"), session());
    let new = command(&t, agent());
    ledger.accept(new.clone(), Intent::Deliver(owner), T).await.unwrap();
    ledger.note(&new.key, Milestone::Delivering, T + 1).await.unwrap();
    drop(ledger);
    let ground = ground.cleared();
    let ledger = ground.ledger().await;

    assert_eq!(ledger.get(&new.key).await.unwrap(), None);
    assert_eq!(ledger.take_back(&new.key, owner, Undelivered::NoAgent, T + 2).await.unwrap(), None);
    assert_eq!(ledger.take_over(&t, new.agent, session(), Whose::Others, None).await.unwrap(), vec![]);
    ledger.note(&new.key, Milestone::Received, T + 2).await.unwrap();
    let again = session();
    let Accepted::New(entry) = ledger.accept(new.clone(), Intent::Deliver(again), T + 3).await.unwrap() else {
        panic!("it is new to this ledger");
    };
    assert_eq!((entry.attempt, entry.end, entry.delivering_ms), (1, None, None));
    assert_eq!(
        ledger.take_back(&new.key, owner, Undelivered::NoAgent, T + 4).await.unwrap(),
        None,
        "not its owner now"
    );
    let stored = ledger.conclude(&new.key, new.agent, "the first outcome".into(), T + 5).await.unwrap();
    assert!(matches!(stored, Concluded::Stored(entry) if entry.owner == Some(again)));
    assert_eq!(get(&*ledger, &new.key).await.state(EXP), CommandState::Concluded);
}

async fn nobody_says_of_a_command_that_may_have_come_before_that_it_was_not_written(ground: Ground) {
    let ledger = ground.ledger().await;
    let (t, owner) = (tenant("a"), session());
    let now = UnixTime(i64::try_from(T / 1000).unwrap());
    let since = ledger.complete_since(&t, now).await.unwrap();
    assert!(since <= now);
    let earlier = |earliest| NewCommand { earliest, ..command(&t, agent()) };
    let just_in_time = earlier(since);
    let given_up = Intent::GiveUp(Undelivered::NoAgent);
    let Accepted::New(entry) = ledger.accept(just_in_time, given_up, T).await.unwrap() else { panic!("it is new") };
    assert_eq!(entry.state(EXP), CommandState::Undeliverable);

    let before = UnixTime(since.0 - 1);
    let (offered, unheard_of) = (earlier(before), earlier(before));
    for (new, intent) in [(&offered, Intent::Deliver(owner)), (&unheard_of, given_up)] {
        let Accepted::New(entry) = ledger.accept(new.clone(), intent, T).await.unwrap() else { panic!("it is new") };
        assert_eq!(entry, get(&*ledger, &new.key).await);
        assert_eq!((entry.attempt, entry.state(EXP)), (2, CommandState::Unknown));
        assert_eq!(entry.jws.as_ref(), Some(&new.jws), "its agent has to be asked");
        assert_eq!(ledger.take_back(&new.key, owner, Undelivered::NoAgent, T).await.unwrap(), None);
        if let Some(handed) = ledger.hand_over(entry, session(), Written::No).await.unwrap() {
            let owner = handed.owner.unwrap();
            assert_eq!(ledger.take_back(&new.key, owner, Undelivered::NoAgent, T).await.unwrap(), None);
        }
        let taken = ledger.take_over(&t, new.agent, session(), Whose::Others, None).await.unwrap();
        assert_eq!(taken.iter().map(|entry| &entry.key).collect::<Vec<_>>(), [&new.key]);
    }
}

async fn tenants_and_portals_do_not_see_each_others_commands(ground: Ground) {
    let ledger = ground.ledger().await;
    let who = agent();
    let new = command(&tenant("a"), who);
    ledger.accept(new.clone(), Intent::Deliver(session()), T).await.unwrap();
    let elsewhere = CommandKey { tenant: tenant("b"), ..new.key.clone() };
    let other_portal = CommandKey { portal: "portal-2".parse().unwrap(), ..new.key.clone() };
    assert_eq!(ledger.get(&elsewhere).await.unwrap(), None);
    assert_eq!(ledger.get(&other_portal).await.unwrap(), None);
    assert_eq!(ledger.take_over(&tenant("b"), who, session(), Whose::Others, None).await.unwrap(), vec![]);
}

// The embedded ledger is told the time; Redis has a clock of its own (see `redis_ledger`).
#[tokio::test]
async fn commands_are_kept_for_seven_days_and_then_forgotten() {
    let ground = Ground::embedded().await;
    let ledger = ground.ledger().await;
    let new = command(&tenant("a"), agent());
    ledger.accept(new.clone(), Intent::Deliver(session()), T).await.unwrap();
    let accepted = UnixTime(i64::try_from(T / 1000).unwrap());
    assert!(!ledger.purge(accepted.plus(OUTCOME_RETENTION)).await.unwrap());
    let later = UnixTime(accepted.plus(OUTCOME_RETENTION).0 + 1);
    let answered_late = command(&tenant("a"), agent());
    ledger.accept(answered_late.clone(), Intent::Deliver(session()), T).await.unwrap();
    ledger.conclude(&answered_late.key, answered_late.agent, "o".into(), T + 5000).await.unwrap();
    assert!(!ledger.purge(later).await.unwrap());
    assert!(ledger.get(&answered_late.key).await.unwrap().is_some(), "its outcome is not seven days old yet");
    assert!(!ledger.purge(UnixTime(later.0 + 5)).await.unwrap());
    assert_eq!(ledger.get(&answered_late.key).await.unwrap(), None);
    assert_eq!(ledger.get(&new.key).await.unwrap(), None);
    assert_eq!(ledger.take_over(&tenant("a"), new.agent, session(), Whose::Others, None).await.unwrap(), vec![]);
}

#[tokio::test]
async fn whatever_was_answered_is_in_the_file_or_in_its_log_while_one_follows_the_other() {
    /// Some dozens of them are a log.
    const JWS: usize = 40 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.redb");
    let ledger = EmbeddedLedger::open(&file, System.now()).unwrap();
    let who = agent();
    let (mut told, mut heads) = (Vec::<Entry>::new(), BTreeSet::new());
    for n in 0..60 {
        let new = NewCommand { jws: "x".repeat(JWS), ..command(&tenant("a"), who) };
        let Accepted::New(entry) = ledger.accept(new, Intent::Deliver(session()), T).await.unwrap() else {
            panic!("it is new")
        };
        told.push(entry);
        // Some end at once, some when the file knows them already, some never.
        let ending = told.len() - if n % 3 == 0 { 1 } else { told.len() / 2 };
        if let Concluded::Stored(ended) = ledger.conclude(&told[ending].key, who, "o".repeat(n), T).await.unwrap() {
            told[ending] = *ended;
        }
        // What a process that is killed now leaves behind.
        let copy = tempfile::tempdir().unwrap();
        // What is in a log is needed until the file has it: in this order nothing is missed.
        for name in ["ledger.0.wal", "ledger.1.wal", "ledger.redb"] {
            let copy = copy.path().join(name);
            std::fs::copy(folder.path().join(name), &copy).unwrap();
            if name.ends_with("wal") {
                // A log's first sector says what the file was told.
                heads.insert(std::fs::read(&copy).unwrap().into_iter().take(512).collect::<Vec<_>>());
            }
        }
        let left = EmbeddedLedger::open(&copy.path().join("ledger.redb"), System.now()).unwrap();
        for entry in &told {
            assert_eq!(left.get(&entry.key).await.unwrap().as_ref(), Some(entry), "after {n}");
            assert_eq!(ledger.get(&entry.key).await.unwrap().as_ref(), Some(entry), "after {n}");
        }
        let open = left.take_over(&tenant("a"), who, session(), Whose::Others, None).await.unwrap();
        assert_eq!(open.len(), told.iter().filter(|entry| entry.end.is_none()).count(), "after {n}");
    }
    assert!(heads.len() > 2, "one log followed the other, and they were written over");
}
