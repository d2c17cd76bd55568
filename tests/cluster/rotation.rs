//! The password for Redis and the CA of its certificates change while the nodes run, by the steps in docs/operations.md.

use std::time::Instant;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::routes::{PASSWORD, a_command_crosses, disconnect, rights};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::redis::Redis;
use crate::support::relay::Relay;

const NEXT: &str = "the-next-password";

/// At each of its servers.
fn command(cluster: &Cluster, words: &[&str]) {
    for port in cluster.redis.ports() {
        let said = cluster.redis.cli(port, words);
        assert_eq!(said.trim(), "OK", "{words:?}");
    }
}

/// The node has looked at Redis since then, and found nothing wrong. It looks every second.
async fn is_let_in(node: &Relay, since: Instant) -> bool {
    let metrics = node.metrics().await;
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().parse::<f64>().unwrap()
    };
    let looked = since.elapsed().as_secs_f64() - value("writeback_bus_probe_age_seconds");
    looked > 2.0 && value("writeback_ready") > 0.0 && value("writeback_store_writable") > 0.0
}

/// All connections are made anew, and the nodes that were started are those that go on.
async fn goes_on(cluster: &mut Cluster) {
    let since = Instant::now();
    disconnect(&cluster.redis);
    for node in &cluster.nodes {
        eventually("it is let in", async || is_let_in(node, since).await).await;
    }
    a_command_crosses(cluster).await;
    for node in &mut cluster.nodes {
        assert!(node.has_ended().is_none());
    }
}

async fn the_password_changes(redis: Redis) {
    let mut cluster = Cluster::start(2, redis).await;
    command(&cluster, &["ACL", "SETUSER", "relay", &format!(">{NEXT}")]);
    cluster.redis.password_file(NEXT);
    goes_on(&mut cluster).await;
    command(&cluster, &["ACL", "SETUSER", "relay", &format!("<{PASSWORD}")]);
    goes_on(&mut cluster).await;
}

#[tokio::test]
async fn the_password_changes_while_nodes_run() {
    the_password_changes(Redis::single_with_user(PASSWORD, rights()).await).await;
}

#[tokio::test]
async fn so_does_that_of_a_cluster() {
    the_password_changes(Redis::locked_cluster(PASSWORD, rights()).await).await;
}

#[tokio::test]
async fn another_ca_is_trusted_first_and_shown_afterwards() {
    let mut cluster = Cluster::start(2, Redis::single_with_tls().await).await;
    let ca_file = cluster.redis.ca_file();
    let folder = ca_file.parent().unwrap().to_owned();
    let (ca_key, mut ca) = (KeyPair::generate().unwrap(), CertificateParams::new(Vec::new()).unwrap());
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "Another CA");
    let next = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new([cluster.redis.addr(6379).ip().to_string()]).unwrap();
    let certificate = server.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let (cert_file, key_file) = (folder.join("next.pem"), folder.join("next-key.pem"));
    std::fs::write(&cert_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();

    let old = std::fs::read_to_string(&ca_file).unwrap();
    std::fs::write(&ca_file, format!("{old}{next}")).unwrap();
    let (cert_file, key_file) = (cert_file.display().to_string(), key_file.display().to_string());
    command(&cluster, &["CONFIG", "SET", "tls-cert-file", &cert_file, "tls-key-file", &key_file]);
    goes_on(&mut cluster).await;
    std::fs::write(&ca_file, next).unwrap();
    goes_on(&mut cluster).await;
}
