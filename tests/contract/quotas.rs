//! What others can make the ledger keep: so much for each tenant, and of what it does not know so many for each agent.

use std::sync::Arc;

use writeback_relay::clock::UnixTime;
use writeback_relay::protocol::limits::OUTCOME_RETENTION;
use writeback_relay::relay::ledger::{
    Accepted, Concluded, ENTRY_BYTES, Intent, Ledger, NewCommand, Quota, Quotas, TAKEN_OVER_AT_ONCE, Undelivered, Whose,
};
use writeback_relay::relay::redis::keys;

use super::ledger::{T, command, session};
use super::stores::{Ground, on_every_backend};
use super::{agent, tenant};

on_every_backend! {
    a_tenant_without_room_gets_nothing_new_in_its_answers_come_in_and_another_tenant_is_served
    an_outcome_that_makes_its_entry_heavier_is_taken_only_if_there_is_room_and_a_usual_one_always
    of_commands_that_come_at_once_as_many_are_taken_as_there_is_room_for
    room_is_there_again_when_a_command_has_no_sealed_password_any_more
    an_outcome_of_a_command_that_is_not_known_is_not_stored_unless_it_may_be_forgotten
    so_many_outcomes_of_forgotten_commands_are_kept_for_one_agent_and_another_one_has_as_many
    what_is_kept_is_still_counted_by_a_ledger_that_is_opened_anew
    what_is_left_is_taken_over_piece_by_piece_oldest_first
}

/// A tenant may keep so many entries of this many bytes of text.
fn room(entries: u64, text: u64) -> Quotas {
    Quotas { tenant_bytes: entries * (ENTRY_BYTES + text), ..Quotas::UNLIMITED }
}

fn with(jws: usize) -> NewCommand {
    NewCommand { jws: "x".repeat(jws), ..command(&tenant("a"), agent()) }
}

async fn accept(ledger: &dyn Ledger, new: &NewCommand) -> Accepted {
    ledger.accept(new.clone(), Intent::Deliver(session()), T).await.unwrap()
}

async fn a_tenant_without_room_gets_nothing_new_in_its_answers_come_in_and_another_tenant_is_served(ground: Ground) {
    let ledger = ground.ledger_within(room(3, 100)).await;
    let taken = [(); 3].map(|()| with(100));
    for new in &taken {
        assert!(matches!(accept(&*ledger, new).await, Accepted::New(_)));
    }
    let refused = with(100);
    for intent in [Intent::Deliver(session()), Intent::GiveUp(Undelivered::NoAgent)] {
        assert_eq!(ledger.accept(refused.clone(), intent, T).await.unwrap(), Accepted::OverQuota);
    }
    assert_eq!(ledger.get(&refused.key).await.unwrap(), None);
    assert!(matches!(accept(&*ledger, &taken[0]).await, Accepted::Known(_)), "what was taken is answered as before");
    let other = command(&tenant("b"), agent());
    assert!(matches!(accept(&*ledger, &other).await, Accepted::New(_)));

    let forgotten = ledger.conclude_forgotten(&refused.key, refused.agent, "o".into(), T).await.unwrap();
    assert_eq!(forgotten, Concluded::OverQuota(Quota::TenantBytes));
    assert_eq!(ledger.get(&refused.key).await.unwrap(), None);
    let concluded = ledger.conclude(&taken[0].key, taken[0].agent, "o".repeat(100), T).await.unwrap();
    assert!(matches!(concluded, Concluded::Stored(_)));
}

async fn an_outcome_that_makes_its_entry_heavier_is_taken_only_if_there_is_room_and_a_usual_one_always(ground: Ground) {
    let (owner, [answered, given_back, other]) = (session(), [(); 3].map(|()| with(1000)));
    let ledger = ground.ledger_within(room(3, 1000)).await;
    for new in [&answered, &given_back, &other] {
        let accepted = ledger.accept(new.clone(), Intent::Deliver(owner), T).await.unwrap();
        assert!(matches!(accepted, Accepted::New(_)));
    }
    let over = Concluded::OverQuota(Quota::TenantBytes);
    let before = ledger.get(&answered.key).await.unwrap();
    let said = async |of: &NewCommand, bytes| ledger.conclude(&of.key, of.agent, "o".repeat(bytes), T).await.unwrap();
    assert_eq!(said(&answered, 1001).await, over, "a byte too long");
    let known = ledger.conclude_forgotten(&answered.key, answered.agent, "o".repeat(16_000), T).await.unwrap();
    assert_eq!(known, over, "whoever says it");
    assert_eq!(ledger.get(&answered.key).await.unwrap(), before, "nothing was stored");
    assert!(matches!(said(&answered, 1000).await, Concluded::Stored(_)), "as long as its command was");

    // What was taken back has no text left: there are a thousand bytes of room, for whoever comes first.
    assert!(ledger.take_back(&given_back.key, owner, Undelivered::NoAgent, T).await.unwrap().is_some());
    assert_eq!(said(&given_back, 1001).await, over);
    assert!(matches!(said(&given_back, 1000).await, Concluded::Stored(_)));
    assert_eq!(said(&given_back, 16_000).await, Concluded::Already);
    assert_eq!(said(&other, 1001).await, over);
    assert!(matches!(said(&other, 700).await, Concluded::Stored(_)));
}

async fn of_commands_that_come_at_once_as_many_are_taken_as_there_is_room_for(ground: Ground) {
    let ledger = ground.ledger_within(room(5, 100)).await;
    let racing = (0..16).map(|_| {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move { accept(&*ledger, &with(100)).await })
    });
    let mut taken = 0;
    for race in racing.collect::<Vec<_>>() {
        taken += usize::from(matches!(race.await.unwrap(), Accepted::New(_)));
    }
    assert_eq!(taken, 5);
}

async fn room_is_there_again_when_a_command_has_no_sealed_password_any_more(ground: Ground) {
    let ledger = ground.ledger_within(room(2, 4000)).await;
    let (owner, [answered, given_back, next, last, beyond]) = (session(), [(); 5].map(|()| with(4000)));
    for new in [&answered, &given_back] {
        let accepted = ledger.accept(new.clone(), Intent::Deliver(owner), T).await.unwrap();
        assert!(matches!(accepted, Accepted::New(_)));
    }
    assert_eq!(accept(&*ledger, &next).await, Accepted::OverQuota);
    for (_, first) in [(); 5].into_iter().zip([true, false, false, false, false]) {
        // However often it is said, it is counted once.
        let concluded = ledger.conclude(&answered.key, answered.agent, "o".into(), T).await.unwrap();
        assert_eq!(matches!(concluded, Concluded::Stored(_)), first, "{concluded:?}");
    }
    assert_eq!(accept(&*ledger, &next).await, Accepted::OverQuota, "there are {ENTRY_BYTES} bytes missing");
    assert!(ledger.take_back(&given_back.key, owner, Undelivered::NoAgent, T).await.unwrap().is_some());
    assert!(matches!(accept(&*ledger, &next).await, Accepted::New(_)));
    ledger.take_over(&next.key.tenant, next.agent, owner, Whose::Others, None).await.unwrap();
    ledger.conclude(&next.key, next.agent, "o".into(), T).await.unwrap();
    assert!(matches!(accept(&*ledger, &last).await, Accepted::New(_)));
    assert_eq!(accept(&*ledger, &beyond).await, Accepted::OverQuota);
}

async fn an_outcome_of_a_command_that_is_not_known_is_not_stored_unless_it_may_be_forgotten(ground: Ground) {
    let ledger = ground.ledger().await;
    let new = with(100);
    assert_eq!(ledger.conclude(&new.key, new.agent, "o".into(), T).await.unwrap(), Concluded::Unknown);
    assert_eq!(ledger.get(&new.key).await.unwrap(), None);
    let kept = ledger.conclude_forgotten(&new.key, new.agent, "o".into(), T).await.unwrap();
    assert!(matches!(kept, Concluded::Stored(_)));
    assert_eq!(ledger.conclude(&new.key, new.agent, "o".into(), T).await.unwrap(), Concluded::Already);
}

async fn so_many_outcomes_of_forgotten_commands_are_kept_for_one_agent_and_another_one_has_as_many(ground: Ground) {
    let ledger = ground.ledger_within(Quotas { agent_forgotten: 2, ..Quotas::UNLIMITED }).await;
    let said = async |who| {
        let forgotten = command(&tenant("a"), who);
        (forgotten.key.clone(), ledger.conclude_forgotten(&forgotten.key, who, "o".into(), T).await.unwrap())
    };
    for who in [agent(), agent()] {
        let (first, concluded) = said(who).await;
        assert!(matches!(concluded, Concluded::Stored(_)));
        assert!(matches!(said(who).await.1, Concluded::Stored(_)));
        let (beyond, concluded) = said(who).await;
        assert_eq!(concluded, Concluded::OverQuota(Quota::AgentForgotten));
        assert_eq!(ledger.get(&beyond).await.unwrap(), None);
        let again = ledger.conclude_forgotten(&first, who, "o".into(), T).await.unwrap();
        assert_eq!(again, Concluded::Already);
        // What is known has its place.
        let known = command(&tenant("a"), who);
        accept(&*ledger, &known).await;
        let concluded = ledger.conclude_forgotten(&known.key, who, "o".into(), T).await.unwrap();
        assert!(matches!(concluded, Concluded::Stored(_)));
    }
}

async fn what_is_kept_is_still_counted_by_a_ledger_that_is_opened_anew(ground: Ground) {
    let quotas = Quotas { agent_forgotten: 1, ..room(3, 100) };
    let (who, open) = (agent(), with(100));
    let ledger = ground.ledger().await;
    accept(&*ledger, &open).await;
    let ended = with(4000);
    accept(&*ledger, &ended).await;
    ledger.conclude(&ended.key, ended.agent, "o".repeat(100), T).await.unwrap();
    ledger.conclude_forgotten(&command(&tenant("a"), who).key, who, "o".repeat(100), T).await.unwrap();
    drop(ledger);
    let ledger = ground.ledger_within(quotas).await;
    assert_eq!(accept(&*ledger, &with(0)).await, Accepted::OverQuota);
    drop(ledger);
    let ledger = ground.ledger_within(Quotas { tenant_bytes: quotas.tenant_bytes + ENTRY_BYTES, ..quotas }).await;
    let forgotten = ledger.conclude_forgotten(&command(&tenant("a"), who).key, who, "o".into(), T).await.unwrap();
    assert_eq!(forgotten, Concluded::OverQuota(Quota::AgentForgotten));
    assert!(matches!(accept(&*ledger, &with(0)).await, Accepted::New(_)), "there was not more than this");
}

async fn what_is_left_is_taken_over_piece_by_piece_oldest_first(ground: Ground) {
    let ledger = ground.ledger().await;
    let (t, who, gone) = (tenant("a"), agent(), session());
    let count = 2 * TAKEN_OVER_AT_ONCE + 20;
    let mut times = Vec::new();
    for n in 0..count {
        // Not in their order; two at a time.
        let at_ms = T + u64::try_from(n * 37 % count / 2).unwrap();
        let new = command(&t, who);
        ledger.accept(new, Intent::Deliver(gone), at_ms).await.unwrap();
        times.push(at_ms);
    }
    times.sort_unstable();
    let next = session();
    for whose in [Whose::Others, Whose::Own] {
        let (mut after, mut taken) = (None, Vec::new());
        loop {
            let piece = ledger.take_over(&t, who, next, whose, after).await.unwrap();
            assert!(piece.len() <= TAKEN_OVER_AT_ONCE);
            after = piece.last().map(writeback_relay::relay::ledger::Entry::cursor);
            let last = piece.len() < TAKEN_OVER_AT_ONCE;
            taken.extend(piece);
            if last {
                break;
            }
        }
        assert_eq!(taken.iter().map(|entry| entry.accepted_ms).collect::<Vec<_>>(), times, "{whose:?}");
        assert!(taken.iter().all(|entry| entry.owner == Some(next)));
    }
}

#[tokio::test]
async fn what_is_forgotten_after_seven_days_makes_room() {
    let ground = Ground::embedded().await;
    let ledger = ground.ledger_within(Quotas { agent_forgotten: 1, ..room(2, 100) }).await;
    let (new, who) = (with(100), agent());
    accept(&*ledger, &new).await;
    ledger.conclude_forgotten(&command(&tenant("a"), who).key, who, "o".repeat(100), T).await.unwrap();
    assert_eq!(accept(&*ledger, &with(100)).await, Accepted::OverQuota);
    let accepted = UnixTime(i64::try_from(T / 1000).unwrap());
    assert!(!ledger.purge(UnixTime(accepted.plus(OUTCOME_RETENTION).0 + 1)).await.unwrap());
    assert_eq!(ledger.get(&new.key).await.unwrap(), None);
    let kept = ledger.conclude_forgotten(&command(&tenant("a"), who).key, who, "o".repeat(100), T).await.unwrap();
    assert!(matches!(kept, Concluded::Stored(_)));
    assert!(matches!(accept(&*ledger, &with(100)).await, Accepted::New(_)));
    assert_eq!(accept(&*ledger, &with(100)).await, Accepted::OverQuota);
}

#[tokio::test]
async fn in_redis_what_a_past_period_has_forgotten_makes_room_and_a_lost_counter_does_no_harm() {
    let ground = Ground::redis_single().await;
    let (redis, t) = (ground.redis().unwrap(), tenant("a"));
    let ledger = ground.ledger_within(room(2, 100)).await;
    let taken = [(); 2].map(|()| with(100));
    for new in &taken {
        accept(&*ledger, new).await;
    }
    assert_eq!(accept(&*ledger, &with(100)).await, Accepted::OverQuota);
    let counter = keys::bytes(&t);
    let counted = redis.cli(6379, &["HGETALL", &counter]);
    let [period, bytes] = counted.lines().collect::<Vec<_>>()[..] else { panic!("{counted}") };
    assert_eq!(bytes, (2 * (ENTRY_BYTES + 100)).to_string());
    // As it will look when their time is over.
    let past = (period.parse::<u64>().unwrap() - 30).to_string();
    redis.cli(6379, &["HDEL", &counter, period]);
    redis.cli(6379, &["HSET", &counter, &past, bytes]);
    assert!(matches!(accept(&*ledger, &with(100)).await, Accepted::New(_)));
    assert_eq!(redis.cli(6379, &["HEXISTS", &counter, &past]).trim(), "0");

    redis.cli(6379, &["DEL", &counter]);
    ledger.conclude(&taken[0].key, taken[0].agent, "o".repeat(100), T).await.unwrap();
    assert_eq!(
        redis.cli(6379, &["HVALS", &counter]).trim(),
        (ENTRY_BYTES + 100).to_string(),
        "never less than nothing"
    );
}

#[tokio::test]
async fn a_replica_that_takes_over_goes_on_counting() {
    let ground = Ground::Single(crate::support::redis::Redis::sentinel().await);
    let redis = ground.redis().unwrap();
    let ledger = ground.ledger_within(room(1, 100)).await;
    assert!(matches!(accept(&*ledger, &with(100)).await, Accepted::New(_)));
    assert_eq!(redis.cli(6379, &["WAIT", "2", "5000"]).trim(), "2");
    redis.kill(6379).await;
    let asked = || ledger.accept(with(100), Intent::Deliver(session()), T);
    crate::support::eventually("the ledger answers", async || asked().await.is_ok()).await;
    assert_eq!(asked().await.unwrap(), Accepted::OverQuota);
}
