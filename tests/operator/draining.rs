//! A drain that the operator asks for gives load balancers their time; one by SIGTERM has had it.

use std::time::{Duration, Instant};

use super::{done, run};
use crate::support::eventually;
use crate::support::raw_agent::RawAgent;
use crate::support::relay::Relay;

#[tokio::test]
async fn a_node_that_is_told_to_go_is_not_ready_and_works_on_and_sigterm_does_not_wait_once_more() {
    let mut relay = Relay::start_with("[drain]\ndelay_seconds = 300\n").await;
    let portal = relay.portal("portal-1").await;
    done(&relay, &["drain"]);
    eventually("load balancers are told", || async { relay.probe("readyz").await == 503 }).await;
    assert!(relay.metrics().await.contains("\nwriteback_draining 1"), "nobody is woken by a node that is not ready");
    let status = String::from_utf8(run(&relay, "", &["status"]).stdout).unwrap();
    assert!(status.contains("draining"), "{status}");
    // New connections, sessions and commands are served as before.
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let mut session = agent.open().await;
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Summer-Rain-2026!");
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    session.delivery().await;
    drop(session);
    // Long before the delay is over.
    assert!(relay.terminate().await.success());
}

#[tokio::test]
async fn after_the_delay_it_ends_by_itself() {
    let mut relay = Relay::start_with("[drain]\ndelay_seconds = 2\n").await;
    let begun = Instant::now();
    done(&relay, &["drain"]);
    assert!(relay.ended().await.success());
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn sigterm_to_a_node_that_the_operator_has_drained_is_no_second_request() {
    let mut relay = Relay::start_with("[drain]\ntimeout_seconds = 5\n").await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    // It is waited for: it has a command, and does not go.
    let mut session = agent.open().await;
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Summer-Rain-2026!");
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    session.delivery().await;
    done(&relay, &["drain"]);
    eventually("it goes", || async { relay.probe("readyz").await == 503 }).await;
    assert!(relay.terminate().await.success());
}
