//! What a relay feels when its Redis restarts, freezes, fails over, or loses a part.

use std::time::Duration;

use redis::Cmd;
use tokio::time::Instant;
use writeback_relay::relay::StoreError;
use writeback_relay::relay::redis::config::Config;
use writeback_relay::relay::redis::link::Link;

use crate::support::redis::Redis;
use crate::support::{deadline, eventually};

/// How long one command may take here.
const LIMIT: Duration = Duration::from_millis(500);

/// A machine under load may wake a task late.
const SLACK: Duration = Duration::from_millis(300);

fn config(redis: &Redis) -> Config {
    Config { connect_timeout_ms: 500, command_timeout_ms: 500, ..redis.config() }
}

async fn link(redis: &Redis) -> Link {
    Link::open(config(redis)).await.unwrap()
}

async fn set(link: &Link, key: &str) -> Result<(), StoreError> {
    link.command(&Cmd::set(key, "x")).await
}

/// The same, and fails the test if the caller waits longer than one command may take.
async fn set_in_time(link: &Link, key: &str) -> Result<(), StoreError> {
    let begun = Instant::now();
    let answer = set(link, key).await;
    assert!(begun.elapsed() < LIMIT + SLACK, "a caller waited {:?}: {answer:?}", begun.elapsed());
    answer
}

/// How long until `key` can be written, asked again and again.
async fn healed(link: &Link, key: &str) -> Duration {
    let begun = Instant::now();
    eventually("redis is back", async || set_in_time(link, key).await.is_ok()).await;
    begun.elapsed()
}

#[tokio::test]
async fn after_a_restart_commands_work_again_at_once_and_nobody_waits_meanwhile() {
    let redis = Redis::single().await;
    let link = link(&redis).await;
    set(&link, "a").await.unwrap();
    redis.kill(6379).await;
    for _ in 0..20 {
        set_in_time(&link, "a").await.unwrap_err();
    }
    redis.start_again(6379).await;
    let healed = healed(&link, "a").await;
    assert!(healed < Duration::from_secs(1), "{healed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_that_nobody_has_noticed_costs_no_command() {
    let redis = Redis::single().await;
    let (idle, busy) = (link(&redis).await, link(&redis).await);
    set(&idle, "a").await.unwrap();
    redis.kill(6379).await;
    redis.start_again(6379).await;
    healed(&busy, "a").await;
    set(&idle, "a").await.unwrap();
}

#[tokio::test]
async fn a_frozen_server_costs_each_caller_one_deadline_however_many_they_are() {
    let redis = Redis::single().await;
    let link = link(&redis).await;
    set(&link, "a").await.unwrap();
    redis.freeze(6379);
    for _ in 0..3 {
        let callers: Vec<_> = (0..50)
            .map(|_| {
                let link = link.clone();
                tokio::spawn(async move { set_in_time(&link, "a").await.unwrap_err() })
            })
            .collect();
        for caller in callers {
            deadline("a caller's answer", caller).await.unwrap();
        }
    }
    redis.thaw(6379);
    let healed = healed(&link, "a").await;
    assert!(healed < Duration::from_secs(1), "{healed:?}");
}

#[tokio::test]
async fn a_failover_heals_by_itself() {
    let redis = Redis::sentinel().await;
    let link = link(&redis).await;
    set(&link, "a").await.unwrap();
    redis.kill(6379).await;
    let healed = healed(&link, "a").await;
    assert!(healed < Duration::from_secs(10), "{healed:?}");
    println!("a failover took {healed:?}");
}

#[tokio::test]
async fn a_frozen_master_is_failed_over_too() {
    let redis = Redis::sentinel().await;
    let link = link(&redis).await;
    set(&link, "a").await.unwrap();
    redis.freeze(6379);
    let healed = healed(&link, "a").await;
    assert!(healed < Duration::from_secs(10), "{healed:?}");
    println!("a failover of a frozen master took {healed:?}");
}

#[tokio::test]
async fn a_cluster_without_one_master_serves_the_slots_of_the_others() {
    let redis = Redis::cluster().await;
    let link = link(&redis).await;
    // Slots 15495, 3300 and 7365: one on each node.
    let (lost, here, there) = ("a", "b", "c");
    for key in [lost, here, there] {
        set(&link, key).await.unwrap();
    }
    redis.kill(7003).await;
    set_in_time(&link, lost).await.unwrap_err();
    let mut longest = Duration::ZERO;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        set_in_time(&link, lost).await.unwrap_err();
        for key in [here, there] {
            longest = longest.max(healed(&link, key).await);
        }
    }
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    println!("the other slots were away for {longest:?} at most");
    redis.start_again(7003).await;
    let healed = healed(&link, lost).await;
    assert!(healed < Duration::from_secs(5), "{healed:?}");
    println!("the restarted node's slots came back after {healed:?}");
}
