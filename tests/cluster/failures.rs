use std::time::{Duration, Instant};

use writeback_relay::net::operator_client;
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::outcome::Code;

use super::{JANE, NEW, command, stored};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::raw_agent::RawAgent;
use crate::support::redis::Redis;

#[tokio::test]
async fn a_command_outlives_the_node_that_delivered_it() {
    let mut cluster = Cluster::start(2, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    cluster.choose(1);
    let mut session = agent.open().await;
    cluster.choose(0);
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let raw = portal.raw.clone();
    let asking = tokio::spawn(async move { raw.submit(&jws, 30).await });
    let (_, asked) = command(&mut session).await;
    cluster.nodes[1].kill();
    let mut session = agent.open().await;
    let (delivery, again) = command(&mut session).await;
    assert_eq!((delivery.attempt, again.jti), (2, asked.jti));
    session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
    stored(&mut session).await;
    assert_eq!(asking.await.unwrap().json::<CommandView>().state, CommandState::Concluded);
}

#[tokio::test]
async fn an_agent_whose_node_died_is_gone_when_the_lease_has_run_out_and_reached_again_when_it_is_back() {
    let mut cluster = Cluster::start(2, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    cluster.choose(1);
    let _session = agent.open().await;
    cluster.choose(0);
    let tenant = crate::support::relay::tenant();
    assert!(portal.portal.availability(&tenant).await.unwrap().available);
    cluster.nodes[1].kill();
    // Nobody listens there. It is looked for while its lease lasts, and not longer.
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let begun = Instant::now();
    assert_eq!(portal.raw.submit(&jws, 30).await.problem(), "no_agent");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    eventually("the lease runs out", || async { !portal.portal.availability(&tenant).await.unwrap().available }).await;
    let _back = agent.open().await;
    assert!(portal.portal.availability(&tenant).await.unwrap().available);
}

#[tokio::test]
async fn what_a_draining_node_has_refused_no_other_node_takes() {
    let mut cluster = Cluster::start(2, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    cluster.choose(1);
    let mut session = agent.open().await;
    cluster.choose(0);
    let (first, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202, "the node waits for its end");
    command(&mut session).await;
    cluster.nodes[0].signal_to_stop();
    let (http, ready) = (operator_client().unwrap(), format!("{}/readyz", cluster.nodes[0].ops_url()));
    eventually("the node is draining", || async { http.get(&ready).send().await.unwrap().status() == 503 }).await;
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    assert_eq!(portal.raw.submit(&jws, 0).await.problem(), "draining");
    cluster.choose(1);
    assert_eq!(portal.raw.submit(&jws, 0).await.problem(), "draining", "the portal may have sent a new one by now");
    session.send(agent.outcome_frame(&first, Code::PasswordReset)).await;
    stored(&mut session).await;
    assert!(cluster.nodes[0].ended().await.success());
}
