//! A master is lost, and a replica takes its place: commands flow again in seconds, and what the replica did not have,
//! the agents' journals know.

use std::time::{Duration, Instant};

use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::command::Command;
use writeback_relay::protocol::outcome::{Code, Status};
use writeback_relay::relay::redis::keys;

use super::{JANE, NEW, command, conclude, is_the_stores, stored, submit_until_taken};
use crate::guarantees::outcome;
use crate::support::agent::Agent;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::redis::Redis;
use crate::support::relay::{RawPortal, TestPortal, now, tenant};

/// Two nodes, a portal at the first, an agent at the second.
async fn stage(redis: Redis) -> (Cluster, TestPortal, RawAgent, RawSession) {
    let cluster = Cluster::start(2, redis).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    cluster.choose(1);
    let session = agent.open().await;
    cluster.choose(0);
    (cluster, portal, agent, session)
}

/// A command is asked for and answered while `fail` happens in between; then another one, which shows how long it took.
async fn goes_on(portal: &RawPortal, agent: &RawAgent, session: &mut RawSession, fail: impl AsyncFnOnce()) {
    let (_, jws) = portal.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let asking = submit_until_taken(portal, &jws);
    let (_, asked) = command(session).await;
    fail().await;
    let begun = Instant::now();
    session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
    stored(session).await;
    assert_eq!(asking.await.unwrap().json::<CommandView>().state, CommandState::Concluded);

    let (_, jws) = portal.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let asking = submit_until_taken(portal, &jws);
    conclude(agent, session).await;
    assert_eq!(asking.await.unwrap().json::<CommandView>().state, CommandState::Concluded);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn behind_sentinel_a_killed_master_stops_commands_for_seconds_and_loses_no_outcome() {
    let (cluster, portal, agent, mut session) = stage(Redis::sentinel().await).await;
    // What this test is about is not what a replica lacks.
    let fail = async || {
        assert_eq!(cluster.redis.cli(6379, &["WAIT", "2", "5000"]).trim(), "2");
        cluster.redis.kill(6379).await;
    };
    goes_on(&portal.raw, &agent, &mut session, fail).await;
}

#[tokio::test]
async fn in_a_cluster_a_killed_master_of_the_tenant_stops_commands_for_seconds() {
    let (cluster, portal, agent, mut session) = stage(Redis::cluster_with_replicas().await).await;
    let master = cluster.redis.master_of(7001, &keys::agents(&tenant()));
    let fail = async || {
        assert_eq!(cluster.redis.cli(master, &["WAIT", "1", "5000"]).trim(), "1");
        cluster.redis.kill(master).await;
    };
    goes_on(&portal.raw, &agent, &mut session, fail).await;
}

/// The commands and outcomes that a master has not yet handed on when it dies: its replicas have never seen them.
fn not_replicated(redis: &Redis, asked: &Command) {
    for replica in [6380, 6381] {
        redis.cli(replica, &["CONFIG", "SET", "replica-read-only", "no"]);
        let key = format!("wb:{{{}}}:command:{}:{}", asked.tenant, asked.iss, asked.jti);
        assert_eq!(redis.cli(replica, &["DEL", &key, &keys::open(&asked.tenant, asked.aud)]).trim().len(), 1);
        redis.cli(replica, &["CONFIG", "SET", "replica-read-only", "yes"]);
    }
}

#[tokio::test]
async fn what_a_failover_has_lost_is_restored_by_the_agents_journal_and_not_executed_again() {
    let cluster = Cluster::start(2, Redis::sentinel().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    cluster.choose(1);
    let agent = Agent::running(&cluster.nodes[0], &portal, &[JANE], 0).await;
    cluster.choose(0);
    let keys = agent.keys(&portal).await;
    let (asked, jws) = portal.raw.reset(agent.id(), &keys.sealing, JANE, NEW);
    assert_eq!(portal.raw.submit(&jws, 30).await.status, 200);
    let first = portal.raw.concluded(asked.jti).await;
    assert_eq!(cluster.redis.cli(6379, &["WAIT", "2", "5000"]).trim(), "2");
    not_replicated(&cluster.redis, &asked);
    cluster.redis.kill(6379).await;

    let forgotten = || async { portal.raw.follow(asked.jti, 0).await.status == 404 };
    eventually("another master answers, and has forgotten", forgotten).await;
    let again = submit_until_taken(&portal.raw, &jws).await.unwrap();
    assert_eq!(again.status, 200, "{}", again.text());
    let view: CommandView = again.json();
    assert_eq!(view.outcome, first.outcome);
    assert_eq!(outcome(&view, &asked, &keys.signing).status, Status::Succeeded);
    assert_eq!(agent.event_ids_about(JANE), [31001, 31002], "executed once");
}

#[tokio::test]
async fn of_a_command_that_a_failover_has_lost_nobody_says_that_it_was_not_written() {
    let (cluster, portal, agent, mut session) = stage(Redis::sentinel().await).await;
    let enrolled = now();
    eventually("the clock moves on", || std::future::ready(now() > enrolled)).await;
    let (asked, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    assert_eq!(command(&mut session).await.1.jti, asked.jti);
    assert_eq!(cluster.redis.cli(6379, &["WAIT", "2", "5000"]).trim(), "2");
    drop(session);
    not_replicated(&cluster.redis, &asked);
    cluster.redis.kill(6379).await;
    let forgotten = || async { portal.raw.follow(asked.jti, 0).await.status == 404 };
    eventually("another master answers, and has forgotten", forgotten).await;

    let answered = portal.raw.submit(&jws, 1).await;
    assert_eq!(answered.status, 202, "{}", answered.text());
    let mut session = agent.open().await;
    let (delivery, again) = command(&mut session).await;
    assert!(delivery.attempt >= 2);
    session.send(agent.outcome_frame(&again, Code::PasswordReset)).await;
    stored(&mut session).await;
    assert_eq!(portal.raw.concluded(asked.jti).await.state, CommandState::Concluded);
}

#[tokio::test]
async fn in_a_cluster_listeners_leave_a_master_that_steps_back_at_once_and_no_answer_is_false() {
    let (cluster, portal, agent, mut session) = stage(Redis::cluster_with_replicas().await).await;
    let channels = || {
        let ports = [7001, 7002, 7003];
        ports.into_iter().find(|port| !cluster.redis.cli(*port, &["PUBSUB", "SHARDCHANNELS"]).trim().is_empty())
    };
    // Masters that a node listens at hand over to their replicas. The servers stay.
    for _ in 0..2 {
        let Some(master) = channels() else { break };
        let replica = [7004, 7005, 7006].into_iter().find(|port| {
            let said = cluster.redis.cli(*port, &["INFO", "replication"]);
            said.contains(&format!("master_port:{master}"))
        });
        let replica = replica.expect("it has a replica");
        assert_eq!(cluster.redis.cli(replica, &["CLUSTER", "FAILOVER"]).trim(), "OK");
        eventually("it has handed over", async || {
            cluster.redis.cli(replica, &["INFO", "replication"]).contains("role:master")
        })
        .await;
        for n in 0..5 {
            let (asked, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
            let asking = submit_until_taken(&portal.raw, &jws);
            // A command may be delivered once more while its outcome is being stored.
            while conclude(&agent, &mut session).await != asked.jti {}
            let answered = asking.await.unwrap();
            assert_eq!(answered.status, 200, "{n} was delivered: {}", answered.text());
        }
    }
    for node in &cluster.nodes {
        assert!(!node.log().contains("is silent"), "nobody had to miss anything to find out");
    }
}

#[tokio::test]
async fn a_listener_that_stayed_at_the_old_master_hears_and_no_answer_is_false() {
    let (cluster, wires) = Cluster::start_apart(Redis::with_a_replica().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    cluster.choose(1);
    let mut session = agent.open().await;
    cluster.choose(0);
    // Whoever runs Redis makes the replica the master, and has new connections go there; the old ones stay.
    cluster.redis.swap_with_replica().await;
    wires.iter().for_each(|wire| wire.lead_to(cluster.redis.addr(6380)));
    let (asked, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let raw = portal.raw.clone();
    let submitting = jws.clone();
    let asking = tokio::spawn(async move {
        loop {
            let answered = raw.submit(&submitting, 3).await;
            if !is_the_stores(&answered) {
                return answered;
            }
        }
    });
    let answered = asking.await.unwrap();
    assert_eq!(answered.status, 202, "it is delivered: {}", answered.text());
    assert_eq!(command(&mut session).await.1.jti, asked.jti);
    let listens = || async { !cluster.redis.cli(6380, &["PUBSUB", "SHARDCHANNELS"]).trim().is_empty() };
    eventually("the nodes listen at the new master", listens).await;
    session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
    assert_eq!(portal.raw.concluded(asked.jti).await.state, CommandState::Concluded);
}
