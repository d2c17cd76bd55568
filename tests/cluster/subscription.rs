//! What one node says to another is lost, while both believe that all is well: it is found in the ledger.

use std::time::{Duration, Instant};

use writeback_relay::clock::{Clock, System, UnixTime};
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::ids::ObjectId;
use writeback_relay::protocol::jose::sha256;
use writeback_relay::protocol::outcome::Code;
use writeback_relay::relay::ids::{NodeId, SessionId};
use writeback_relay::relay::ledger::{Accepted, CommandKey, Intent, Ledger, NewCommand};
use writeback_relay::relay::redis::ledger::RedisLedger;
use writeback_relay::relay::redis::link::Link;

use super::{JANE, NEW, command, stored};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::raw_agent::RawAgent;
use crate::support::redis::Redis;
use crate::support::wire::Fault;

#[tokio::test]
async fn a_silent_subscription_is_found_and_what_was_lost_on_it_is_delivered() {
    let (cluster, [_intact, wire]) = Cluster::start_apart(Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    cluster.choose(1);
    let mut session = agent.open().await;
    cluster.choose(0);
    wire.set(Fault::DeafSubscriptions);
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let raw = portal.raw.clone();
    let asking = tokio::spawn(async move { raw.submit(&jws, 30).await });
    eventually("the deaf node is not ready", || async { cluster.nodes[1].probe("readyz").await == 503 }).await;
    assert_eq!((cluster.nodes[1].probe("livez").await, cluster.nodes[0].probe("readyz").await), (200, 200));
    wire.set(Fault::None);
    let (delivery, asked) = command(&mut session).await;
    assert_eq!(delivery.attempt, 2, "nobody may say any more that it was not written");
    session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
    stored(&mut session).await;
    assert_eq!(asking.await.unwrap().json::<CommandView>().state, CommandState::Concluded);
    eventually("the node is ready again", || async { cluster.nodes[1].probe("readyz").await == 200 }).await;
}

#[tokio::test]
async fn a_subscription_that_is_killed_is_made_anew_and_answers_stay_true() {
    let cluster = Cluster::start(2, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    cluster.choose(1);
    let mut session = agent.open().await;
    cluster.choose(0);
    for _ in 0..3 {
        assert_eq!(cluster.redis.cli(6379, &["CLIENT", "KILL", "TYPE", "pubsub"]).trim(), "2");
        let begun = Instant::now();
        let taken = loop {
            let (asked, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
            let answered = portal.raw.submit(&jws, 0).await;
            if answered.status == 202 {
                break asked;
            }
            assert_eq!(answered.problem(), "no_agent", "it was not heard, and not delivered");
            assert!(begun.elapsed() < Duration::from_secs(10), "it is not made anew");
        };
        // Of those that were refused, none is delivered.
        assert_eq!(command(&mut session).await.1.jti, taken.jti);
        session.send(agent.outcome_frame(&taken, Code::PasswordReset)).await;
        stored(&mut session).await;
    }
}

#[tokio::test]
async fn a_command_whose_acceptance_was_not_answered_is_delivered_when_it_is_submitted_again() {
    let cluster = Cluster::start(2, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    cluster.choose(1);
    let mut session = agent.open().await;
    cluster.choose(0);
    let (claims, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    // What a node leaves that stores a command, gets no answer, and says 503.
    let owner = cluster.nodes[1].admin().sessions().await.unwrap().remove(0).session;
    let new = NewCommand {
        key: CommandKey { tenant: claims.tenant, portal: claims.iss, command: claims.jti },
        agent: agent.agent,
        jws: jws.clone(),
        body_sha256: sha256(jws.as_bytes()),
        exp: claims.validity.exp,
        earliest: UnixTime(claims.validity.iat.0 - 60),
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
        origin: NodeId(ObjectId::new(&System, &System)),
    };
    let ledger = RedisLedger::new(Link::open(cluster.redis.config()).await.unwrap());
    let accepted = ledger.accept(new, Intent::Deliver(SessionId(owner)), System.now_ms()).await.unwrap();
    assert!(matches!(accepted, Accepted::New(_)));

    let raw = portal.raw.clone();
    let asking = tokio::spawn(async move { raw.submit(&jws, 30).await });
    let (_, asked) = command(&mut session).await;
    session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
    stored(&mut session).await;
    assert_eq!(asking.await.unwrap().json::<CommandView>().state, CommandState::Concluded);
}
