//! What only a registry in Redis can get wrong.

use writeback_relay::protocol::api::AgentStatus;
use writeback_relay::protocol::rotation::AgentRotation;
use writeback_relay::relay::redis::link::Link;
use writeback_relay::relay::redis::registry::RedisRegistry;
use writeback_relay::relay::registry::{Registry, Rotated};

use super::registry::{RELAY, enrolled, enrolled_with, pair, step};
use super::{agent, tenant};
use crate::support::eventually;
use crate::support::redis::Redis;

async fn registry(redis: &Redis) -> RedisRegistry {
    RedisRegistry::new(Link::open(redis.config()).await.unwrap())
}

#[tokio::test]
async fn a_revocation_is_answered_only_when_a_replica_has_it_even_if_it_is_asked_for_again() {
    let redis = Redis::sentinel().await;
    let registry = registry(&redis).await;
    let (t, record) = (tenant("a"), enrolled(&registry, "a").await);
    for replica in [6380, 6381] {
        redis.freeze(replica);
    }
    for _ in 0..2 {
        // On a connection of its own, which has written nothing yet.
        let registry = self::registry(&redis).await;
        let said = registry.revoke(&t, record.agent).await.unwrap_err().to_string();
        assert!(said.contains("no replica"), "{said}");
    }
    redis.thaw(6380);
    eventually("the replica confirms", async || registry.revoke(&t, record.agent).await.is_ok()).await;
}

#[tokio::test]
async fn a_revocation_that_was_answered_outlives_a_failover() {
    let redis = Redis::sentinel().await;
    let registry = registry(&redis).await;
    let (t, record) = (tenant("a"), enrolled(&registry, "a").await);
    registry.revoke(&t, record.agent).await.unwrap();
    redis.kill(6379).await;
    eventually("another master answers", async || registry.tenants().await.is_ok()).await;
    let status = registry.agent(&t, record.agent).await.unwrap().map(|agent| agent.status);
    assert_eq!(status, Some(AgentStatus::Revoked));
}

#[tokio::test]
async fn a_rotation_is_answered_when_a_replica_has_it_even_if_it_comes_again_and_what_changes_nothing_waits_for_none() {
    let redis = Redis::sentinel().await;
    let registry = registry(&redis).await;
    let (t, [first, second, third]) = (tenant("a"), [pair(), pair(), pair()]);
    let id = enrolled_with(&registry, "a", &first).await.agent;
    for replica in [6380, 6381] {
        redis.freeze(replica);
    }
    let (one, two) = (step(id, "a", &first, &second, 1), step(id, "a", &second, &third, 2));
    let rotate =
        async |(rotation, jws): &(AgentRotation, String)| registry.rotate_agent(&t, RELAY, rotation, jws).await;
    assert!(matches!(rotate(&two).await.unwrap(), Rotated::Refused(_)));
    assert_eq!(rotate(&step(agent(), "a", &first, &second, 1)).await.unwrap(), Rotated::Unknown);
    for rotation in [&one, &one, &two] {
        let said = rotate(rotation).await.unwrap_err().to_string();
        assert!(said.contains("no replica"), "{said}");
    }
    assert_eq!(rotate(&one).await.unwrap(), Rotated::Passed);
}
