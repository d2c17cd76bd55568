//! What only a ledger in Redis can get wrong.

use std::sync::Arc;
use std::time::Duration;

use writeback_relay::clock::UnixTime;
use writeback_relay::protocol::limits::OUTCOME_RETENTION;
use writeback_relay::relay::ledger::{Accepted, Concluded, Intent, Ledger, Undelivered, Whose};
use writeback_relay::relay::redis::keys;
use writeback_relay::relay::redis::ledger::RedisLedger;
use writeback_relay::relay::redis::link::Link;

use super::ledger::{T, command, session};
use super::{agent, tenant};
use crate::support::eventually;
use crate::support::redis::Redis;

async fn ledger(redis: &Redis) -> Arc<dyn Ledger> {
    Arc::new(RedisLedger::new(Link::open(redis.config()).await.unwrap()))
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
    assert_eq!(ledger.take_over(&t, new.agent, session(), Whose::Others, None).await.unwrap(), vec![]);
    assert_eq!(redis.cli(6379, &["EXISTS", &open]).trim(), "0");
}

#[tokio::test]
async fn every_key_but_the_registrys_has_an_end() {
    let redis = Redis::single().await;
    let ledger = ledger(&redis).await;
    let [open, lost] = [(); 2].map(|()| command(&tenant("a"), agent()));
    ledger.accept(open.clone(), Intent::Deliver(session()), T).await.unwrap();
    ledger.take_over(&open.key.tenant, open.agent, session(), Whose::Others, None).await.unwrap();
    ledger.conclude_forgotten(&lost.key, lost.agent, "o".into(), T).await.unwrap();
    let stored = redis.cli(6379, &["KEYS", "*"]);
    assert_eq!(stored.lines().count(), 6, "{stored}");
    for key in stored.lines() {
        assert!(!kept(&redis, key).is_zero());
    }
}

/// Since when the ledger is complete, if it is asked at this second.
async fn complete_since(ledger: &Arc<dyn Ledger>, now: i64) -> i64 {
    let t = tenant("a");
    let asked = || ledger.complete_since(&t, UnixTime(now));
    eventually("the ledger answers", async || asked().await.is_ok()).await;
    asked().await.unwrap().0
}

#[tokio::test]
async fn a_server_that_started_again_with_what_it_had_is_complete_since_then() {
    let redis = Redis::single_with("appendonly yes").await;
    let ledger = ledger(&redis).await;
    let first = complete_since(&ledger, 1000).await;
    assert!(first <= 1000, "as old as the server: {first}");
    assert_eq!(complete_since(&ledger, 2000).await, first);
    redis.kill(6379).await;
    redis.start_again(6379).await;
    assert_eq!(complete_since(&ledger, 3000).await, 3000, "it may have lost its last second");
    assert_eq!(complete_since(&ledger, 4000).await, 3000);
}

#[tokio::test]
async fn a_server_that_came_back_with_nothing_is_complete_since_it_started() {
    let redis = Redis::single().await;
    let ledger = ledger(&redis).await;
    complete_since(&ledger, 1000).await;
    redis.kill(6379).await;
    redis.start_again(6379).await;
    let since = complete_since(&ledger, 1_000_000).await;
    assert!((1_000_000 - 60..=1_000_000).contains(&since), "{since}");
}

#[tokio::test]
async fn a_replica_that_took_over_is_complete_since_then() {
    let redis = Redis::sentinel().await;
    let ledger = ledger(&redis).await;
    let first = complete_since(&ledger, 1000).await;
    assert_eq!(redis.cli(6379, &["WAIT", "2", "5000"]).trim(), "2");
    redis.kill(6379).await;
    let since = complete_since(&ledger, 2000).await;
    assert_eq!((first <= 1000, since), (true, 2000));
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
