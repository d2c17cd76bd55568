//! Redis is away for all nodes: nothing is lost, nobody waits for long, and all heals by itself.

use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::Error;
use writeback_relay::clock::System;
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::frame::{CloseReason, FromRelay, SUBPROTOCOL};
use writeback_relay::protocol::ids::InstanceId;
use writeback_relay::protocol::outcome::Code;

use super::{JANE, NEW, command, store_unavailable, stored, submit_until_taken};
use crate::support::cluster::Cluster;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::redis::Redis;
use crate::support::relay::TestPortal;

const PORT: u16 = 6379;

/// Two nodes whose Redis keeps what it has, a portal at the first, an agent at the second.
async fn stage() -> (Cluster, TestPortal, RawAgent, RawSession) {
    let redis = Redis::single_with("appendonly yes\nappendfsync always").await;
    let cluster = Cluster::start_with(2, redis, "[session]\nheartbeat_seconds = 1\n").await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    cluster.choose(1);
    let session = agent.open().await;
    cluster.choose(0);
    (cluster, portal, agent, session)
}

#[tokio::test]
async fn redis_away_is_503_and_all_heals_by_itself() {
    let (cluster, portal, agent, mut session) = stage().await;
    cluster.redis.kill(PORT).await;
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    store_unavailable(&portal.raw.submit(&jws, 30).await);
    cluster.redis.start_again(PORT).await;
    let asking = submit_until_taken(&portal.raw, &jws);
    // The socket has stayed open all the time.
    let (_, asked) = command(&mut session).await;
    session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
    stored(&mut session).await;
    assert_eq!(asking.await.unwrap().json::<CommandView>().state, CommandState::Concluded);
}

#[tokio::test]
async fn while_redis_is_away_sockets_stay_open_probes_stay_green_and_everybody_is_answered_at_once() {
    let (cluster, portal, agent, mut session) = stage().await;
    cluster.choose(1);
    let mut half_open = agent.connect().await;
    cluster.redis.kill(PORT).await;
    let instance = InstanceId::new(&System, &System);
    half_open.send(agent.hello(instance)).await;
    assert_eq!(half_open.closed().await.0, CloseReason::Internal.code());
    assert!(CloseReason::may_come_back(CloseReason::Internal.code()));

    let begun = Instant::now();
    // Longer than a silent session, or a node that is deaf, is borne with.
    for beat in 0..5 {
        session.heartbeat().await;
        for (n, node) in cluster.nodes.iter().enumerate() {
            assert_eq!((node.probe("livez").await, node.probe("readyz").await), (200, 200), "node {n}, beat {beat}");
            crate::support::eventually("readyz says what is wrong", async || {
                let (status, said) = node.readiness().await;
                status == 200 && said.starts_with("ok; ") && said.contains("redis does not answer")
            })
            .await;
            cluster.choose(n);
            let asked = Instant::now();
            let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
            store_unavailable(&portal.raw.submit(&jws, 30).await);
            let bearer = agent.assertion().sign(&agent.signing).unwrap();
            let Err(Error::Http(refused)) = agent.upgrade(&bearer, SUBPROTOCOL).await else { panic!("it opened") };
            assert_eq!(refused.status(), 503);
            assert!(refused.headers().contains_key("retry-after"));
            assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        }
    }
    assert!(begun.elapsed() > Duration::from_secs(3));
    cluster.redis.start_again(PORT).await;
    cluster.choose(0);
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let asking = submit_until_taken(&portal.raw, &jws);
    let (_, asked) = command(&mut session).await;
    session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
    stored(&mut session).await;
    assert_eq!(asking.await.unwrap().json::<CommandView>().state, CommandState::Concluded);
}

#[tokio::test]
async fn an_outcome_that_comes_while_redis_is_away_for_a_moment_costs_no_session_and_the_caller_gets_it() {
    let (cluster, portal, agent, mut session) = stage().await;
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    let (_, asked) = command(&mut session).await;
    cluster.redis.kill(PORT).await;
    session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
    session.heartbeat().await;
    cluster.redis.start_again(PORT).await;
    let next = session.next().await;
    assert!(matches!(next, FromRelay::OutcomeStored(_)), "it has answered, and is not asked again: {next:?}");
    let view = submit_until_taken(&portal.raw, &jws).await.unwrap().json::<CommandView>();
    assert_eq!(view.state, CommandState::Concluded);
}

#[tokio::test]
async fn a_session_that_ended_while_redis_was_away_is_not_believed_in_afterwards() {
    let (cluster, portal, _, session) = stage().await;
    let tenant = crate::support::relay::tenant();
    assert!(portal.portal.availability(&tenant).await.unwrap().available);
    cluster.redis.kill(PORT).await;
    drop(session);
    let closed = || cluster.nodes[1].log().contains("could not be released");
    crate::support::eventually("the session has ended", || std::future::ready(closed())).await;
    cluster.redis.start_again(PORT).await;
    let gone = || async { portal.portal.availability(&tenant).await.is_ok_and(|said| !said.available) };
    crate::support::eventually("nobody believes in it", gone).await;
}

#[tokio::test]
async fn a_frozen_redis_is_503_in_seconds_and_forgotten_when_it_thaws() {
    let (cluster, portal, agent, mut session) = stage().await;
    cluster.redis.freeze(PORT);
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    for _ in 0..2 {
        let asked = Instant::now();
        store_unavailable(&portal.raw.submit(&jws, 30).await);
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        session.heartbeat().await;
    }
    cluster.redis.thaw(PORT);
    let asking = submit_until_taken(&portal.raw, &jws);
    let (_, asked) = command(&mut session).await;
    session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
    stored(&mut session).await;
    assert_eq!(asking.await.unwrap().json::<CommandView>().state, CommandState::Concluded);
}
