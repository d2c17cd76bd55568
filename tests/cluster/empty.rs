//! Redis restarts with nothing in it. The agents' journals know what was executed; the operator has the registry.

use std::time::Duration;

use tokio_tungstenite::tungstenite::Error;
use writeback_relay::clock::System;
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::frame::{CloseReason, SUBPROTOCOL};
use writeback_relay::protocol::ids::InstanceId;
use writeback_relay::protocol::jose::Validity;
use writeback_relay::protocol::outcome::{Code, Status};
use writeback_relay::protocol::problem::Problem;

use super::{JANE, NEW, command, store_unavailable, stored, submit_until_taken};
use crate::guarantees::outcome;
use crate::support::agent::Agent;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::raw_agent::RawAgent;
use crate::support::redis::Redis;
use crate::support::relay::{TestPortal, now, tenant};

const PORT: u16 = 6379;

/// Two nodes and a portal at the first.
async fn stage() -> (Cluster, TestPortal) {
    let cluster = Cluster::start(2, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    (cluster, portal)
}

/// The registry, kept by the operator.
fn backup(cluster: &Cluster) -> String {
    let file = cluster.nodes[0].data_dir().join("registry.json").display().to_string();
    assert!(cluster.nodes[0].operator(&["registry", "export", &file]));
    file
}

/// Everything in Redis is lost, and the operator restores the registry.
async fn emptied(cluster: &Cluster, backup: &str) {
    // What happens in one second has no order.
    let then = now();
    eventually("the clock moves on", || std::future::ready(now() > then)).await;
    cluster.redis.kill(PORT).await;
    cluster.redis.start_again(PORT).await;
    restored(cluster, backup).await;
}

/// The operator restores the registry.
async fn restored(cluster: &Cluster, backup: &str) {
    let import = || std::future::ready(cluster.nodes[0].operator(&["registry", "import", backup]));
    eventually("the registry is restored", import).await;
}

#[tokio::test]
async fn an_outcome_that_was_never_stored_is_brought_by_its_agent_and_nothing_is_executed_again() {
    let (cluster, portal) = stage().await;
    cluster.choose(1);
    let agent = Agent::running(&cluster.nodes[0], &portal, &[JANE], 2000).await;
    cluster.choose(0);
    let (keys, backup) = (agent.keys(&portal).await, backup(&cluster));
    let (asked, jws) = portal.raw.reset(agent.id(), &keys.sealing, JANE, NEW);
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    agent.event(31001, JANE).await;
    cluster.redis.kill(PORT).await;
    agent.event(31002, JANE).await;
    store_unavailable(&portal.raw.follow(asked.jti, 0).await);
    emptied(&cluster, &backup).await;

    eventually("the outcome is there", || async { portal.raw.follow(asked.jti, 0).await.status == 200 }).await;
    let view = portal.raw.concluded(asked.jti).await;
    assert_eq!(outcome(&view, &asked, &keys.signing).status, Status::Succeeded);
    let again = submit_until_taken(&portal.raw, &jws).await.unwrap().json::<CommandView>();
    assert_eq!(again.outcome, view.outcome);
    assert_eq!(agent.event_ids_about(JANE), [31001, 31002], "executed once");
}

#[tokio::test]
async fn a_command_that_was_forgotten_with_its_outcome_is_answered_by_the_agents_first_outcome() {
    let (cluster, portal) = stage().await;
    cluster.choose(1);
    let agent = Agent::running(&cluster.nodes[0], &portal, &[JANE], 0).await;
    cluster.choose(0);
    let (keys, backup) = (agent.keys(&portal).await, backup(&cluster));
    let (asked, jws) = portal.raw.reset(agent.id(), &keys.sealing, JANE, NEW);
    assert_eq!(portal.raw.submit(&jws, 30).await.status, 200);
    let first = portal.raw.concluded(asked.jti).await;
    emptied(&cluster, &backup).await;
    assert_eq!(portal.raw.follow(asked.jti, 0).await.problem(), "not_found");

    // The agent's session has stayed open, and the other node finds it.
    let again = submit_until_taken(&portal.raw, &jws).await.unwrap();
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(again.json::<CommandView>().outcome, first.outcome);
    assert_eq!(agent.event_ids_about(JANE), [31001, 31002], "executed once");
}

#[tokio::test]
async fn of_a_forgotten_command_nobody_says_that_it_was_not_written_although_nobody_remembers() {
    let (mut cluster, portal) = stage().await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    cluster.choose(1);
    let mut session = agent.open().await;
    cluster.choose(0);
    let backup = backup(&cluster);
    let claims = portal.raw.command(agent.agent, JANE);
    let (asked, jws) = portal.raw.sealed(claims, agent.sealing.public(), NEW);
    let mut short = portal.raw.command(agent.agent, JANE);
    short.validity = Validity::starting(now(), Duration::from_secs(3));
    let (short, short_jws) = portal.raw.sealed(short, agent.sealing.public(), NEW);
    for (claims, jws) in [(&asked, &jws), (&short, &short_jws)] {
        assert_eq!(portal.raw.submit(jws, 0).await.status, 202);
        assert_eq!(command(&mut session).await.1.jti, claims.jti);
    }
    // The node that wrote them dies with what it knows, and so does the ledger.
    cluster.nodes[1].kill();
    drop(session);
    emptied(&cluster, &backup).await;

    let answered = portal.raw.submit(&jws, 1).await;
    assert!(matches!(answered.status, 202 | 504), "{}", answered.text());
    let expired = || async { portal.raw.submit(&short_jws, 0).await.status != 202 };
    eventually("the short one has expired", expired).await;
    let answered = portal.raw.submit(&short_jws, 0).await;
    assert_eq!((answered.status, answered.problem().as_str()), (504, "outcome_unknown"));
    // The agent is back, is asked, and answers with what it has in its journal.
    let mut session = agent.open().await;
    let (delivery, again) = command(&mut session).await;
    assert_eq!(again.jti, asked.jti);
    assert!(delivery.attempt >= 2, "{}", delivery.attempt);
    session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
    // It may be asked for the short one, too.
    stored(&mut session).await;
    assert_eq!(portal.raw.concluded(asked.jti).await.state, CommandState::Concluded);
}

#[tokio::test]
async fn an_empty_registry_stops_no_agent_for_good_and_all_works_again_when_it_is_restored() {
    let (cluster, portal) = stage().await;
    let (raw, other) =
        (RawAgent::enrolled(&cluster.nodes[0], &portal).await, RawAgent::enrolled(&cluster.nodes[0], &portal).await);
    let mut agent = Agent::running(&cluster.nodes[0], &portal, &[JANE], 0).await;
    agent.terminate().await;
    let backup = backup(&cluster);
    cluster.choose(1);
    let mut session = other.open().await;
    let mut half_open = raw.connect().await;
    eventually("the node has seen the registry", async || {
        cluster.nodes[1].metrics().await.contains("writeback_registry_tenants 1")
    })
    .await;
    cluster.redis.kill(PORT).await;
    cluster.redis.start_again(PORT).await;
    let sessions = || async { cluster.nodes[1].admin().tenants().await.is_ok_and(|tenants| tenants.is_empty()) };
    eventually("the nodes see that there is nothing", sessions).await;

    half_open.send(raw.hello(InstanceId::new(&System, &System))).await;
    let (code, _) = half_open.closed().await;
    assert!(CloseReason::may_come_back(code), "{code}");
    let bearer = raw.assertion().sign(&raw.signing).unwrap();
    let Err(Error::Http(refused)) = raw.upgrade(&bearer, SUBPROTOCOL).await else { panic!("it opened") };
    let problem: Problem = serde_json::from_slice(refused.body().as_ref().unwrap()).unwrap();
    assert_eq!((problem.status, problem.code.as_data()), (503, "registry_lost"));
    agent.start();
    eventually("it says so", || {
        let said = agent.events().iter().any(|event| event.to_string().contains("the relay answered 503"));
        std::future::ready(said)
    })
    .await;
    assert!(agent.is_running(), "it keeps trying");

    restored(&cluster, &backup).await;
    let _back = raw.open().await;
    // A session that has stayed open all the time is found from the other node.
    cluster.choose(0);
    eventually("it is seen", || async {
        let agents = portal.portal.agents(&tenant()).await.unwrap();
        let seen = agents.into_iter().find(|known| known.agent == other.agent);
        seen.and_then(|known| known.relay).is_some_and(|view| view.online)
    })
    .await;
    let (asked, jws) = portal.raw.reset(other.agent, other.sealing.public(), JANE, NEW);
    let asking = submit_until_taken(&portal.raw, &jws);
    let answering = async {
        assert_eq!(command(&mut session).await.1.jti, asked.jti);
        session.send(other.outcome_frame(&asked, Code::PasswordReset)).await;
        stored(&mut session).await;
        std::future::pending().await
    };
    let answered = tokio::select! { answered = asking => answered.unwrap(), () = answering => unreachable!() };
    assert_eq!(answered.status, 200, "{}", answered.text());
}
