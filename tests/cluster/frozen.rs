//! A node that stands still for longer than its lease, and comes back believing that no time has passed.

use std::time::{Duration, Instant};

use writeback_relay::clock::System;
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::ids::InstanceId;
use writeback_relay::protocol::outcome::Code;
use writeback_relay::relay::redis::keys::{NODE_LEASE, NODE_RENEWAL};

use super::{JANE, NEW, command, conclude, stored};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::raw_agent::RawAgent;
use crate::support::redis::Redis;
use crate::support::relay::tenant;

#[tokio::test]
async fn a_frozen_nodes_agents_are_gone_with_its_lease_and_it_changes_nothing_when_it_thaws() {
    let cluster = Cluster::start(2, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    let instance = InstanceId::new(&System, &System);
    cluster.choose(1);
    let mut first = agent.open_as(instance).await;
    cluster.choose(0);
    let reset = || portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let (running, jws) = reset();
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    assert_eq!(command(&mut first).await.1.jti, running.jti);

    cluster.nodes[1].freeze();
    let frozen = Instant::now();
    // It is sent to the frozen node, which is still believed in.
    let (asked, jws) = reset();
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    let gone = || async { !portal.portal.availability(&tenant()).await.unwrap().available };
    eventually("its agents are gone", gone).await;
    let slack = Duration::from_secs(2);
    assert!(frozen.elapsed() < NODE_LEASE + NODE_RENEWAL + slack, "{:?}", frozen.elapsed());
    eventually("its lease is over", || std::future::ready(frozen.elapsed() > NODE_LEASE)).await;

    // The agent moves with both commands; one of them it has never read before.
    drop(first);
    let mut second = agent.open_as(instance).await;
    let mut taken = [command(&mut second).await, command(&mut second).await];
    taken.sort_by_key(|(_, command)| command.jti);
    let found: Vec<_> = taken.iter().map(|(delivery, command)| (command.jti, delivery.attempt)).collect();
    assert_eq!(found, [(running.jti, 2), (asked.jti, 2)]);

    cluster.nodes[1].thaw();
    let empty = || async { cluster.nodes[1].admin().sessions().await.unwrap().is_empty() };
    eventually("the old session has ended", empty).await;
    eventually("the node is ready", || async { cluster.nodes[1].probe("readyz").await == 200 }).await;
    for (_, command) in &taken {
        let view: CommandView = portal.raw.follow(command.jti, 0).await.json();
        assert!(
            matches!(view.state, CommandState::Accepted | CommandState::Delivering | CommandState::Received),
            "nothing is known that the agent has not said: {view:?}"
        );
        second.send(agent.outcome_frame(command, Code::PasswordReset)).await;
        stored(&mut second).await;
        assert_eq!(portal.raw.concluded(command.jti).await.state, CommandState::Concluded);
    }
    // The new owner is found from the node that was frozen.
    cluster.choose(1);
    let (next, jws) = reset();
    let (answered, got) = tokio::join!(portal.raw.submit(&jws, 30), conclude(&agent, &mut second));
    assert_eq!((answered.status, got), (200, next.jti));
}

#[tokio::test]
async fn a_node_that_was_frozen_does_not_hold_an_agent_that_a_newer_process_has_taken_over() {
    let cluster = Cluster::start(2, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    let older = InstanceId::new(&System, &System);
    cluster.choose(1);
    let mut first = agent.open_as(older).await;
    cluster.choose(0);
    cluster.nodes[1].freeze();
    let gone = || async { !portal.portal.availability(&tenant()).await.unwrap().available };
    eventually("its lease is over", gone).await;
    // Nobody can be told that the older one is displaced: its node is believed to be dead.
    let mut second = agent.open().await;
    cluster.nodes[1].thaw();
    assert_eq!(first.closed().await, (4502, "displaced".to_owned()));
    let (next, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    cluster.choose(1);
    let (answered, got) = tokio::join!(portal.raw.submit(&jws, 30), conclude(&agent, &mut second));
    assert_eq!((answered.status, got), (200, next.jti));
}
