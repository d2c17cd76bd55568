//! What only a ledger in Redis can get wrong.

use std::sync::Arc;
use std::time::Duration;

use writeback_relay::clock::UnixTime;
use writeback_relay::protocol::limits::{MAX_CLOCK_AHEAD, MAX_COMMAND_LIFETIME, OUTCOME_RETENTION};
use writeback_relay::relay::ledger::{Accepted, Concluded, Intent, Ledger, NewCommand, Undelivered, Whose};
use writeback_relay::relay::redis::keys;
use writeback_relay::relay::redis::ledger::RedisLedger;
use writeback_relay::relay::redis::link::Link;
use writeback_relay::relay::redis::registry::RedisRegistry;
use writeback_relay::relay::registry::{Registry, TenantRecord};

use super::ledger::{T, command, session};
use super::{agent, tenant};
use crate::support::eventually;
use crate::support::redis::Redis;

async fn ledger(redis: &Redis) -> Arc<dyn Ledger> {
    Arc::new(RedisLedger::new(Link::open(redis.config()).await.unwrap()))
}

async fn registry(redis: &Redis) -> RedisRegistry {
    RedisRegistry::new(Link::open(redis.config()).await.unwrap())
}

/// How long Redis will keep `key`.
fn kept(redis: &Redis, key: &str) -> Duration {
    let said = redis.cli(6379, &["PTTL", key]);
    Duration::from_millis(said.trim().parse().unwrap_or_else(|_| panic!("{key} is not kept for a time: {said}")))
}

fn about(found: Duration, expected: Duration) -> bool {
    found <= expected && found + Duration::from_secs(60) > expected
}

#[tokio::test]
async fn redis_forgets_commands_seven_days_after_their_end() {
    let redis = Redis::single().await;
    let ledger = ledger(&redis).await;
    registry(&redis).await.add_tenant(TenantRecord { tenant: tenant("a"), created_at: UnixTime(0) }).await.unwrap();
    let (t, owner) = (tenant("a"), session());
    let [ended, given_up, taken_back] = [(); 3].map(|()| command(&t, agent()));
    ledger.accept(given_up.clone(), Intent::GiveUp(Undelivered::NoAgent), T).await.unwrap();
    for new in [&ended, &taken_back] {
        ledger.accept(new.clone(), Intent::Deliver(owner), T).await.unwrap();
        redis.cli(6379, &["PEXPIRE", &keys::command(&new.key), "100000"]);
    }
    ledger.conclude(&ended.key, ended.agent, "o".into(), T).await.unwrap();
    assert!(ledger.take_back(&taken_back.key, owner, Undelivered::NoAgent, T).await.unwrap().is_some());
    for new in [ended, given_up, taken_back] {
        let kept = kept(&redis, &keys::command(&new.key));
        assert!(about(kept, OUTCOME_RETENTION), "{kept:?}");
        assert_eq!(redis.cli(6379, &["EXISTS", &keys::open(&t, new.agent)]).trim(), "0", "nothing is open");
    }
}

#[tokio::test]
async fn a_command_that_redis_has_forgotten_is_not_delivered_and_leaves_nothing_behind() {
    let redis = Redis::single().await;
    let ledger = ledger(&redis).await;
    let t = tenant("a");
    let new = command(&t, agent());
    ledger.accept(new.clone(), Intent::Deliver(session()), T).await.unwrap();
    let open = keys::open(&t, new.agent);
    assert!(about(kept(&redis, &open), keys::OPEN_KEPT));
    redis.cli(6379, &["DEL", &keys::command(&new.key)]);
    assert_eq!(ledger.take_over(&t, new.agent, session(), Whose::Others).await.unwrap(), vec![]);
    assert_eq!(redis.cli(6379, &["EXISTS", &open]).trim(), "0");
}

#[tokio::test]
async fn every_key_but_the_registrys_has_an_end() {
    let redis = Redis::single().await;
    let ledger = ledger(&redis).await;
    let [open, lost] = [(); 2].map(|()| command(&tenant("a"), agent()));
    ledger.accept(open.clone(), Intent::Deliver(session()), T).await.unwrap();
    ledger.take_over(&open.key.tenant, open.agent, session(), Whose::Others).await.unwrap();
    ledger.conclude(&lost.key, lost.agent, "o".into(), T).await.unwrap();
    let stored = redis.cli(6379, &["KEYS", "*"]);
    assert_eq!(stored.lines().count(), 3, "{stored}");
    for key in stored.lines() {
        assert!(!kept(&redis, key).is_zero());
    }
}

#[tokio::test]
async fn a_server_that_came_back_empty_is_told_everything_again_scripts_too() {
    let redis = Redis::single().await;
    let ledger = ledger(&redis).await;
    let new = command(&tenant("a"), agent());
    ledger.accept(new.clone(), Intent::Deliver(session()), T).await.unwrap();
    redis.kill(6379).await;
    redis.start_again(6379).await;
    eventually("the ledger is back", async || ledger.get(&new.key).await.is_ok()).await;
    assert_eq!(ledger.get(&new.key).await.unwrap(), None);
    let again = ledger.accept(new.clone(), Intent::Deliver(session()), T + 1).await.unwrap();
    assert!(matches!(again, Accepted::New(entry) if entry.end.is_none()));
    let concluded = ledger.conclude(&new.key, new.agent, "o".into(), T + 2).await.unwrap();
    assert!(matches!(concluded, Concluded::Stored(_)));
}

#[tokio::test]
async fn a_ledger_that_came_back_empty_says_of_no_older_command_that_it_was_not_delivered() {
    let redis = Redis::single().await;
    let (ledger, registry, t, owner) = (ledger(&redis).await, registry(&redis).await, tenant("a"), session());
    registry.add_tenant(TenantRecord { tenant: t.clone(), created_at: UnixTime(0) }).await.unwrap();
    let [delivered, asked_again] = [(); 2].map(|()| command(&t, agent()));
    for new in [&delivered, &asked_again] {
        ledger.accept(new.clone(), Intent::Deliver(owner), T).await.unwrap();
    }
    let saved = registry.export().await.unwrap();
    redis.flush();
    registry.import(saved).await.unwrap();

    let given_up = ledger.accept(delivered.clone(), Intent::GiveUp(Undelivered::NoAgent), T + 1).await.unwrap();
    assert!(matches!(given_up, Accepted::New(entry) if entry.end.is_none()), "its agent may have it");
    let taken = ledger.take_over(&t, delivered.agent, session(), Whose::Others).await.unwrap();
    assert!(matches!(&taken[..], [entry] if entry.jws.is_some() && entry.attempt == 2), "its agent is asked");
    ledger.accept(asked_again.clone(), Intent::Deliver(owner), T + 1).await.unwrap();
    assert_eq!(ledger.take_back(&asked_again.key, owner, Undelivered::NoAgent, T + 2).await.unwrap(), None);

    let longest = MAX_COMMAND_LIFETIME + MAX_CLOCK_AHEAD;
    let began = UnixTime(i64::try_from(T / 1000).unwrap());
    for (exp, lost) in [(began.plus(longest), true), (began.plus(longest + Duration::from_secs(1)), false)] {
        let new = NewCommand { exp, ..command(&t, agent()) };
        let accepted = ledger.accept(new, Intent::GiveUp(Undelivered::NoAgent), T + 3).await.unwrap();
        assert!(matches!(accepted, Accepted::New(entry) if entry.end.is_none() == lost), "{exp}");
    }
}

#[tokio::test]
async fn a_cluster_without_one_master_still_runs_scripts_that_the_others_have_never_seen() {
    let redis = Redis::cluster().await;
    let ledger = ledger(&redis).await;
    redis.kill(7003).await;
    // Their slots are on the first node (b), and on the second (c).
    for name in ["b", "c"] {
        let new = command(&tenant(name), agent());
        let accepted = ledger.accept(new, Intent::Deliver(session()), T).await.unwrap();
        assert!(matches!(accepted, Accepted::New(_)));
    }
}
