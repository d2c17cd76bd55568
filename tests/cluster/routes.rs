use writeback_relay::clock::System;
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::frame::{FromAgent, v1};
use writeback_relay::protocol::ids::InstanceId;
use writeback_relay::protocol::outcome::Code;
use writeback_relay::relay::redis::config::Topology;
use writeback_relay::relay::redis::keys;

use super::{JANE, NEW, command, stored};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::raw_agent::RawAgent;
use crate::support::redis::Redis;
use crate::support::relay::{Relay, tenant};

pub(super) const PASSWORD: &str = "the-relays-password";

/// The rights that the documentation names.
pub(super) fn rights() -> &'static str {
    keys::ACL.strip_prefix("ACL SETUSER NAME ").unwrap()
}

/// A command at one node, its agent at another, and the outcome back.
async fn a_command_crosses_nodes(redis: Redis) {
    a_command_crosses(&Cluster::start(2, redis).await).await;
}

pub(super) async fn a_command_crosses(cluster: &Cluster) {
    cluster.choose(0);
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    cluster.choose(1);
    let mut session = agent.open().await;
    cluster.choose(0);
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let asking = portal.raw.submit(&jws, 30);
    let answering = async {
        let (_, asked) = command(&mut session).await;
        session.send(FromAgent::Received(v1::Received { command: asked.jti.to_string() })).await;
        session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
        stored(&mut session).await;
    };
    let (answered, ()) = tokio::join!(asking, answering);
    let view: CommandView = answered.json();
    assert_eq!((answered.status, view.state), (200, CommandState::Concluded));
    assert!(view.milestones.delivering_at.is_some() && view.milestones.received_at.is_some());
    assert_eq!(cluster.nodes[0].admin().sessions().await.unwrap().len(), 0, "the agent hangs on the other node");
}

#[tokio::test]
async fn on_one_server_a_command_reaches_an_agent_on_another_node() {
    a_command_crosses_nodes(Redis::single().await).await;
}

#[tokio::test]
async fn behind_sentinel_a_command_reaches_an_agent_on_another_node() {
    a_command_crosses_nodes(Redis::sentinel().await).await;
}

#[tokio::test]
async fn on_a_cluster_a_command_reaches_an_agent_on_another_node() {
    a_command_crosses_nodes(Redis::cluster().await).await;
}

#[tokio::test]
async fn behind_sentinel_with_tls_and_a_user_it_does_too_after_a_failover_as_well() {
    let cluster = Cluster::start(2, Redis::locked_sentinel(PASSWORD, rights()).await).await;
    a_command_crosses(&cluster).await;
    cluster.redis.kill(6379).await;
    eventually("another server is the master", async || {
        [6380, 6381].into_iter().any(|port| cluster.redis.cli(port, &["ROLE"]).starts_with("master"))
    })
    .await;
    for node in &cluster.nodes {
        let admin = node.admin();
        eventually("a node has found it", async || admin.tenants().await.is_ok()).await;
    }
    a_command_crosses(&cluster).await;
}

#[tokio::test]
async fn on_a_cluster_with_tls_and_a_user_it_does_too() {
    let cluster = Cluster::start(2, Redis::locked_cluster(PASSWORD, rights()).await).await;
    a_command_crosses(&cluster).await;
}

/// Every connection of the node's is closed, as by a firewall.
pub(super) fn disconnect(redis: &Redis) {
    for port in redis.ports() {
        redis.cli(port, &["CLIENT", "KILL", "TYPE", "normal"]);
        redis.cli(port, &["CLIENT", "KILL", "TYPE", "pubsub"]);
    }
}

async fn servers_that_know_their_clients(topology: Topology) {
    let cluster = Cluster::start(2, Redis::that_knows_its_clients(topology).await).await;
    a_command_crosses(&cluster).await;
    // The files are read anew: with these it is not let in, and with the next ones it is.
    let ready =
        async |node: &Relay| node.readiness_or_none().await.is_some_and(|(status, said)| status == 200 && said == "ok");
    cluster.redis.spoil_client_certificate();
    for node in &cluster.nodes {
        eventually("it is not let in", async || {
            disconnect(&cluster.redis);
            !ready(node).await
        })
        .await;
    }
    cluster.redis.renew_client_certificate();
    for node in &cluster.nodes {
        eventually("it is let in again", async || ready(node).await).await;
    }
    a_command_crosses(&cluster).await;
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_of_its_clients_gets_the_one_that_is_there_now() {
    servers_that_know_their_clients(Topology::Single).await;
}

#[tokio::test]
async fn so_do_servers_and_sentinels() {
    servers_that_know_their_clients(Topology::Sentinel).await;
}

#[tokio::test]
async fn so_do_the_nodes_of_a_cluster() {
    a_command_crosses_nodes(Redis::that_knows_its_clients(Topology::Cluster).await).await;
}

#[tokio::test]
async fn an_agent_that_moves_to_another_node_takes_its_commands_along() {
    let cluster = Cluster::start(2, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    let instance = InstanceId::new(&System, &System);
    let mut first = agent.open_as(instance).await;
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let asking = portal.raw.submit(&jws, 30);
    let moving = async {
        let (_, asked) = command(&mut first).await;
        cluster.choose(1);
        let mut second = agent.open_as(instance).await;
        drop(first);
        let (delivery, again) = command(&mut second).await;
        assert_eq!((delivery.attempt, again.jti), (2, asked.jti));
        second.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
        stored(&mut second).await;
    };
    let (answered, ()) = tokio::join!(asking, moving);
    assert_eq!(answered.json::<CommandView>().state, CommandState::Concluded);
}

#[tokio::test]
async fn a_revocation_at_one_node_drops_the_socket_at_another() {
    let cluster = Cluster::start(2, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    cluster.choose(1);
    let mut session = agent.open().await;
    cluster.choose(0);
    let told = portal.portal.revoke(&tenant(), agent.agent).await.unwrap();
    assert!(matches!(told, writeback_relay::portal::Told::Yes));
    assert_eq!(session.closed().await, (4501, "revoked".to_owned()));
}

#[tokio::test]
async fn a_newer_process_at_one_node_displaces_an_older_one_at_another() {
    let cluster = Cluster::start(2, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    let older = InstanceId::new(&System, &System);
    let mut first = agent.open_as(older).await;
    eventually("the clock moves on", || std::future::ready(InstanceId::new(&System, &System) > older)).await;
    cluster.choose(1);
    let _second = agent.open().await;
    assert_eq!(first.closed().await, (4502, "displaced".to_owned()));
    let mut again = agent.connect().await;
    again.send(agent.hello(older)).await;
    assert_eq!(again.closed().await, (4502, "displaced".to_owned()));
}

#[tokio::test]
async fn a_process_with_too_many_sessions_loses_the_oldest_and_may_come_back() {
    let cluster = Cluster::start(2, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    let instance = InstanceId::new(&System, &System);
    let mut sessions = Vec::new();
    for number in 0..5 {
        cluster.choose(number % 2);
        sessions.push(agent.open_as(instance).await);
    }
    assert_eq!(sessions[0].closed().await, (1013, "overload".to_owned()), "the other four may be dead");
    let mut hits = 0;
    for node in &cluster.nodes {
        hits += usize::from(node.metrics().await.contains("writeback_limits_hits_total{limit=\"agent_sessions\"} 1"));
    }
    assert_eq!(hits, 1, "it is counted, where the session was");
    agent.open_as(instance).await;
}

#[tokio::test]
async fn a_tenants_portal_sees_nothing_of_another_tenant_from_any_node() {
    let cluster = Cluster::start(2, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    let (asked, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    assert_eq!(portal.raw.submit(&jws, 0).await.problem(), "no_agent");
    let other = cluster.nodes[1].portal("portal-2").await;
    for node in [0, 1] {
        cluster.choose(node);
        assert_eq!(portal.raw.follow(asked.jti, 0).await.status, 200);
        assert_eq!(other.raw.follow(asked.jti, 0).await.problem(), "not_found");
    }
}
