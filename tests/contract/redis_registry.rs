//! What only a registry in Redis can get wrong.

use writeback_relay::protocol::api::AgentStatus;
use writeback_relay::relay::redis::link::Link;
use writeback_relay::relay::redis::registry::RedisRegistry;
use writeback_relay::relay::registry::Registry;

use super::registry::enrolled;
use super::tenant;
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
