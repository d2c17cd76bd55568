//! Redis servers that a relay must not start on.

use std::fmt::Display;

use writeback_relay::relay::redis::checks::{CheckError, checked};
use writeback_relay::relay::redis::config::{Config, Topology};
use writeback_relay::relay::redis::keys::ACL;

use crate::support::deadline;
use crate::support::logged::Logged;
use crate::support::redis::Redis;

const PASSWORD: &str = "the-relays-password";

/// What it says when it refuses to start; fails the test if that holds the password.
async fn refusal(config: Config) -> String {
    let server = config.urls[0].clone();
    let refused = deadline("a refusal", checked(config)).await;
    let said = refused.map(|_| ()).expect_err("it was accepted").to_string();
    assert!(said.contains(&server), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
    said
}

fn says(said: &str, parts: &[impl Display]) {
    for part in parts {
        assert!(said.contains(&part.to_string()), "{part} is not in: {said}");
    }
}

/// The rights that the documentation and the refusal name.
fn documented_rights() -> &'static str {
    ACL.strip_prefix("ACL SETUSER NAME ").unwrap()
}

fn with_user(redis: &Redis, password: &str) -> Config {
    let config = redis.config();
    Config { username: Some("relay".into()), password_file: Some(redis.password_file(password)), ..config }
}

#[tokio::test]
async fn healthy_servers_of_every_topology_are_accepted() {
    for redis in [Redis::single().await, Redis::sentinel().await, Redis::cluster().await] {
        checked(redis.config()).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let redis = Redis::single().await;
    redis.kill(6379).await;
    says(&refusal(redis.config()).await, &["refused", "redis.urls"]);
    let redis = Redis::cluster().await;
    for port in [7001, 7002, 7003] {
        redis.kill(port).await;
    }
    says(&refusal(redis.config()).await, &["refused", "redis.urls"]);
}

#[tokio::test]
async fn a_master_that_the_sentinels_do_not_know_is_refused() {
    let redis = Redis::sentinel().await;
    let config = Config { master_name: Some("another".into()), ..redis.config() };
    says(&refusal(config).await, &["redis.master_name"]);
}

#[tokio::test]
async fn a_user_with_the_documented_rights_and_a_password_from_a_file_is_let_in_and_no_other() {
    let redis = Redis::single_with_user(PASSWORD, documented_rights()).await;
    checked(with_user(&redis, PASSWORD)).await.unwrap();
    let wrong = refusal(with_user(&redis, "wrong")).await;
    says(&wrong, &["redis.username", "redis.password_file"]);
    let nobody = Config { username: None, password_file: None, ..redis.config() };
    says(&refusal(nobody).await, &["redis.username", "redis.password_file"]);
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_with_how_to_give_it() {
    for command in ["info", "eval", "hset", "smembers", "spublish", "wait"] {
        let redis = Redis::single_with_user(PASSWORD, &format!("{} -{command}", documented_rights())).await;
        let said = refusal(with_user(&redis, PASSWORD)).await;
        says(&said, &[&format!("may not run {}", command.to_uppercase()), ACL]);
    }
    for missing in ["resetkeys", "resetchannels"] {
        let redis = Redis::single_with_user(PASSWORD, &format!("{} {missing}", documented_rights())).await;
        says(&refusal(with_user(&redis, PASSWORD)).await, &["may not run", ACL]);
    }
}

#[tokio::test]
async fn a_server_that_may_evict_keys_is_refused() {
    let redis = Redis::single_with("maxmemory 100mb\nmaxmemory-policy allkeys-lru").await;
    says(&refusal(redis.config()).await, &["allkeys-lru", "maxmemory-policy noeviction"]);
    redis.cli(6379, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    checked(redis.config()).await.unwrap();
    let redis = Redis::cluster().await;
    redis.cli(7003, &["CONFIG", "SET", "maxmemory", "100mb"]);
    redis.cli(7003, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let refused = checked(redis.config()).await.unwrap_err();
    assert!(matches!(&refused, CheckError::Eviction { server, .. } if server.ends_with(":7003")), "{refused}");
}

#[tokio::test]
async fn a_server_that_keeps_nothing_over_a_restart_is_warned_about_and_no_other() {
    let redis = Redis::single().await;
    for (setting, value, warned) in
        [("appendonly", "no", true), ("appendonly", "yes", false), ("appendonly", "no", true), ("save", "60 1", false)]
    {
        redis.cli(6379, &["CONFIG", "SET", setting, value]);
        let (logged, _here) = Logged::here();
        checked(redis.config()).await.unwrap();
        let said = logged.text();
        assert_eq!(said.contains("keeps nothing over a restart"), warned, "{setting} {value}: {said}");
        assert!(!warned || said.contains(&redis.config().urls[0]), "{said}");
    }
}

#[tokio::test]
async fn a_server_whose_certificate_another_ca_has_signed_is_refused() {
    let redis = Redis::single_with_tls().await;
    checked(redis.config()).await.unwrap();
    let other = Redis::single_with_tls().await;
    let config = Config { ca_file: Some(other.ca_file()), ..redis.config() };
    says(&refusal(config).await, &["certificate", "redis.ca_file"]);
    let config = Config { ca_file: None, ..redis.config() };
    says(&refusal(config).await, &["certificate", "redis.ca_file"]);
    let config = Config { ca_file: Some("/nowhere/ca.pem".into()), ..redis.config() };
    let said = checked(config).await.unwrap_err().to_string();
    says(&said, &["redis.ca_file", "/nowhere/ca.pem"]);
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_of_its_clients_says_so_and_each_mistake_in_it_is_named() {
    let redis = Redis::that_knows_its_clients(Topology::Single).await;
    checked(redis.config()).await.unwrap();
    let config = Config { cert_file: None, key_file: None, ..redis.config() };
    says(&refusal(config).await, &["wants a certificate of its clients", "redis.cert_file and redis.key_file"]);
    let wrong = async |config: Config, parts: &[&str]| says(&checked(config).await.unwrap_err().to_string(), parts);
    wrong(Config { key_file: None, ..redis.config() }, &["redis.cert_file", "belong together"]).await;
    wrong(Config { cert_file: None, ..redis.config() }, &["redis.key_file", "belong together"]).await;
    let plain = redis.config().urls.iter().map(|url| url.replace("rediss", "redis")).collect();
    wrong(Config { urls: plain, ..redis.config() }, &["redis.cert_file", "rediss://"]).await;
    let config = redis.config();
    let swapped = Config { cert_file: config.key_file.clone(), key_file: config.cert_file.clone(), ..redis.config() };
    wrong(swapped, &["redis.cert_file", "it holds a private key"]).await;
    wrong(Config { key_file: config.cert_file, ..redis.config() }, &["redis.key_file", "it holds a certificate"]).await;
    let missing = Config { cert_file: Some("/nowhere/client.pem".into()), ..redis.config() };
    wrong(missing, &["redis.cert_file", "/nowhere/client.pem"]).await;
    redis.spoil_client_certificate();
    refusal(redis.config()).await;
}

/// Both refuse a wrong password and a wrong CA, and are good without either mistake.
async fn locked_servers(redis: Redis) {
    checked(redis.config()).await.unwrap();
    says(&refusal(with_user(&redis, "wrong")).await, &["redis.username", "redis.password_file"]);
    let (config, other) = (with_user(&redis, PASSWORD), Redis::single_with_tls().await);
    let said = refusal(Config { ca_file: Some(other.ca_file()), ..config }).await;
    says(&said, &["redis.ca_file"]);
}

#[tokio::test]
async fn behind_sentinel_a_wrong_password_and_a_wrong_ca_are_named() {
    let redis = Redis::locked_sentinel(PASSWORD, documented_rights()).await;
    let config = redis.config();
    let wrong = Config { sentinel_password_file: Some(redis.sentinel_password_file("wrong")), ..config };
    says(&refusal(wrong).await, &["redis.sentinel_password_file"]);
    locked_servers(redis).await;
}

#[tokio::test]
async fn of_a_cluster_a_wrong_password_and_a_wrong_ca_are_named() {
    locked_servers(Redis::locked_cluster(PASSWORD, documented_rights()).await).await;
}
