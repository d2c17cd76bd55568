//! Nodes with different cluster keys do not hear each other: it is found at the start, and nobody else suffers.

use writeback_relay::clock::System;
use writeback_relay::protocol::ids::ObjectId;
use writeback_relay::relay::ids::NodeId;
use writeback_relay::relay::redis::keys;

use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::redis::Redis;

const OTHER: &str = "another-key-than-the-others-have-got";

#[tokio::test]
async fn a_node_with_another_cluster_key_does_not_start_and_says_which_node_differs() {
    let mut cluster = Cluster::start(1, Redis::single().await).await;
    let said = cluster.refuses_with_key(OTHER).await;
    assert!(said.contains("node test (") && said.contains("redis.cluster_key_file"), "{said}");
    assert!(!said.contains(OTHER));
    // Nothing of it is left, and the next one starts.
    cluster.add().await;
    eventually("both are alive", async || cluster.redis.cli(6379, &["HLEN", keys::NODES]).trim() == "2").await;
    assert_eq!(cluster.nodes[0].readiness().await, (200, "ok".to_owned()));
    // When the others are gone, the key may be another one.
    for node in &mut cluster.nodes {
        node.terminate().await;
    }
    cluster.add_with_key(OTHER).await;
}

#[tokio::test]
async fn whoever_can_write_to_redis_can_forge_a_node_and_takes_no_node_out_of_service() {
    let mut cluster = Cluster::start(1, Redis::single().await).await;
    // Older than all others, and it never goes.
    let forged = NodeId(ObjectId::new(&Hand, &System));
    let lease = "{\"name\":\"forged\",\"mark\":\"AAAA\"}";
    cluster.redis.cli(6379, &["SET", &keys::node(forged), lease]);
    cluster.redis.cli(6379, &["HSET", keys::NODES, &forged.0.to_string(), "forged"]);
    let named = format!("forged ({})", forged.0);
    eventually("it is named", async || cluster.nodes[0].readiness().await.1.contains(&named)).await;
    assert_eq!(cluster.nodes[0].readiness().await.0, 200);
    assert!(cluster.nodes[0].log().contains(&named));
    // A good node starts, because another good node is there.
    cluster.add().await;
    assert_eq!(cluster.nodes[1].readiness().await.0, 200);
}

/// A clock of long ago.
#[derive(Debug)]
struct Hand;

impl writeback_relay::clock::Clock for Hand {
    fn now_ms(&self) -> u64 {
        1_000_000_000_000
    }
}
