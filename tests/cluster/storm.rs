//! Agents that come all at once: so many are served as can be, and the others are told when to come back.

use writeback_relay::protocol::frame::SUBPROTOCOL;

use crate::support::cluster::Cluster;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::redis::Redis;
use tokio_tungstenite::tungstenite;

/// The problem's code, and `Retry-After`.
fn refusal(upgraded: Result<RawSession, tungstenite::Error>) -> (String, u64) {
    let Err(tungstenite::Error::Http(answer)) = upgraded else { panic!("it was not refused") };
    let problem: serde_json::Value = serde_json::from_slice(answer.body().as_ref().unwrap()).unwrap();
    let retry_after = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    (problem["code"].as_str().unwrap().to_owned(), retry_after)
}

#[tokio::test]
async fn agents_that_find_no_place_are_refused_and_told_when_to_come_back_and_portals_are_not() {
    let cluster = Cluster::start_with(1, Redis::single().await, "[limits]\nsession_openings = 1").await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    // Whoever has the place waits for the store until that is given up.
    cluster.redis.freeze(6379);
    let upgrade = || async {
        let bearer = agent.assertion().sign(&agent.signing).unwrap();
        refusal(agent.upgrade(&bearer, SUBPROTOCOL).await)
    };
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    let (one, other, asked) = tokio::join!(upgrade(), upgrade(), portal.raw.submit(&jws, 1));
    cluster.redis.thaw(6379);
    let mut codes = [one.0, other.0];
    codes.sort();
    assert_eq!(codes, ["overloaded", "store_unavailable"]);
    assert!((1..=5).contains(&one.1) && (1..=5).contains(&other.1), "{} {}", one.1, other.1);
    assert_eq!(asked.problem(), "store_unavailable");
    let metrics = cluster.nodes[0].metrics().await;
    assert!(metrics.contains("writeback_handshakes_total{result=\"overloaded\"} 1"), "{metrics}");
    assert!(metrics.contains("writeback_limits_hits_total{limit=\"session_openings\"} 1"), "{metrics}");
    // The place is free again.
    agent.open().await;
}
