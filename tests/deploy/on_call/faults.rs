//! Each fault, made as the world makes it.

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use writeback_relay::relay::redis::keys;
use writeback_relay::storage::PrivateFile;

use super::super::prometheus::Prometheus;
use super::rows;
use super::system::{System, is_well, now, shows};
use crate::support::agent::Agent;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::redis::Redis;
use crate::support::relay::Relay;
use crate::support::small_disk::SmallDisk;
use crate::support::wire::Fault;
use crate::support::wrong_clock::ahead;

const PORT: u16 = 6379;

#[tokio::test]
async fn redis_is_stopped() {
    let system = System::start().await;
    system.is_well(&rows::STOPPED).await;
    let since = now();
    system.cluster.redis.kill(PORT).await;
    system.shows(&rows::STOPPED, since, 0).await;
}

#[tokio::test]
async fn redis_came_back_empty() {
    let system = System::start().await;
    system.is_well(&rows::EMPTY).await;
    let since = now();
    system.cluster.redis.flush();
    system.shows(&rows::EMPTY, since, 0).await;
}

#[tokio::test]
async fn redis_is_a_read_only_replica() {
    let system = System::on(Redis::with_a_replica().await).await;
    system.is_well(&rows::READ_ONLY).await;
    let since = now();
    system.cluster.redis.swap_with_replica().await;
    system.shows(&rows::READ_ONLY, since, 0).await;
}

#[tokio::test]
async fn redis_is_full() {
    let system = System::start().await;
    system.is_well(&rows::FULL).await;
    let since = now();
    // As if others had filled it.
    system.cluster.redis.cli(PORT, &["CONFIG", "SET", "maxmemory", "1"]);
    system.shows(&rows::FULL, since, 0).await;
}

#[tokio::test]
async fn the_acl_of_redis_has_lost_the_channels() {
    let rights = keys::ACL.split_once(" NAME ").unwrap().1;
    let system = System::on(Redis::single_with_user("relay-password", rights).await).await;
    system.is_well(&rows::NOT_PERMITTED).await;
    let since = now();
    system.cluster.redis.cli(PORT, &["ACL", "SETUSER", "relay", "resetchannels"]);
    system.shows(&rows::NOT_PERMITTED, since, 0).await;
}

#[tokio::test]
async fn redis_is_slow() {
    let (cluster, wires) = Cluster::start_three_apart(Redis::single().await).await;
    let system = System::of(cluster).await;
    system.is_well(&rows::SLOW).await;
    let since = now();
    wires.iter().for_each(|wire| wire.set(Fault::Slow(Duration::from_millis(700))));
    system.shows(&rows::SLOW, since, 0).await;
}

#[tokio::test]
async fn one_node_hangs() {
    let system = System::start().await;
    system.is_well(&rows::FROZEN).await;
    let since = now();
    system.cluster.nodes[2].freeze();
    system.shows(&rows::FROZEN, since, 2).await;
}

#[tokio::test]
async fn all_agents_are_gone() {
    let mut system = System::start().await;
    system.is_well(&rows::NO_AGENTS).await;
    let since = now();
    system.agent = None;
    system.shows(&rows::NO_AGENTS, since, 0).await;
}

#[tokio::test]
async fn the_certificate_has_expired() {
    let system = System::start().await;
    system.is_well(&rows::EXPIRED).await;
    let (key, mut expired) = (KeyPair::generate().unwrap(), CertificateParams::new(["localhost".to_owned()]).unwrap());
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let since = now();
    let data = system.cluster.nodes[0].data_dir();
    for (file, text) in
        [("dev-key.pem", key.serialize_pem()), ("dev-cert.pem", expired.self_signed(&key).unwrap().pem())]
    {
        PrivateFile::new(data.join(file)).replace(&text).unwrap();
    }
    system.shows(&rows::EXPIRED, since, 0).await;
}

#[tokio::test]
async fn one_node_is_started_with_another_cluster_key() {
    let mut system = System::start().await;
    system.is_well(&rows::WRONG_KEY).await;
    let node = &mut system.cluster.nodes[2];
    let settings = std::fs::read_to_string(node.config_file()).unwrap();
    let file = settings.split("cluster_key_file = \"").nth(1).unwrap().split('"').next().unwrap();
    PrivateFile::new(file).replace("another key, of another cluster, as long as it must be").unwrap();
    node.kill();
    let since = now();
    let log = node.refuses_to_start_again().await;
    assert!(log.contains("runs on the same redis with another redis.cluster_key_file"), "{log}");
    system.shows(&rows::WRONG_KEY, since, 2).await;
}

#[tokio::test]
async fn the_clock_of_one_node_is_off() {
    let mut system = System::start().await;
    system.is_well(&rows::CLOCK_OFF).await;
    let node = &mut system.cluster.nodes[2];
    node.kill();
    node.starts_after(&ahead(300));
    let since = now();
    node.start_again().await;
    system.shows(&rows::CLOCK_OFF, since, 2).await;
}

#[tokio::test]
async fn the_disk_is_full() {
    let disk = SmallDisk::new();
    let nodes = [Relay::start_in(disk.path().join("data")).await];
    let portal = nodes[0].portal("portal-1").await;
    let _agent = Agent::running(&nodes[0], &portal, &["jane@corp.example"], 0).await;
    let prometheus = Prometheus::start_patient(&nodes);
    prometheus.sees("sum(up) == 1 and sum(writeback_sessions) > 0").await;
    is_well(&nodes[0], &prometheus, &rows::DISK_FULL).await;
    let since = now();
    disk.fill();
    shows(&nodes[0], &nodes[0], &prometheus, &rows::DISK_FULL, since).await;
    disk.empty();
    eventually("it heals", async || nodes[0].readiness().await == (200, "ok".to_owned())).await;
}
