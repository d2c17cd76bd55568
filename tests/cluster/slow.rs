//! Redis is slow: commands are delivered all the same, and what is said of them stays true.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::command::Command;
use writeback_relay::protocol::frame::{FromAgent, FromRelay, v1};
use writeback_relay::protocol::ids::CommandId;
use writeback_relay::protocol::jose::Validity;
use writeback_relay::protocol::outcome::Code;
use writeback_relay::protocol::problem::Problem;

use super::{JANE, NEW, submit_until_taken};
use crate::support::cluster::Cluster;
use crate::support::deadline;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::redis::Redis;
use crate::support::relay::{RawPortal, TestPortal, now};
use crate::support::wire::{Fault, Wire};

/// Two nodes, each on a wire of its own, a portal at the first, an agent at the second.
async fn stage() -> (Cluster, [Wire; 2], TestPortal, RawAgent, RawSession) {
    let (cluster, wires) = Cluster::start_apart(Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    cluster.choose(1);
    let session = agent.open().await;
    cluster.choose(0);
    (cluster, wires, portal, agent, session)
}

/// Concludes the next command, and gives its id; nothing, if an outcome was stored.
async fn serve(agent: &RawAgent, session: &mut RawSession) -> Option<CommandId> {
    let deliver = match session.next().await {
        FromRelay::Deliver(deliver) => deliver,
        FromRelay::OutcomeStored(_) => return None,
        other => panic!("a command was expected: {other:?}"),
    };
    let asked: Command = Command::parse(&deliver.command_jws).unwrap().unverified().unwrap();
    session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
    Some(asked.jti)
}

#[tokio::test]
async fn every_command_over_a_slow_redis_is_delivered_once_and_answered() {
    let (_cluster, wires, portal, agent, mut session) = stage().await;
    wires.iter().for_each(|wire| wire.set(Fault::Slow(Duration::from_millis(500))));
    let asking = join_all((0..5).map(|_| {
        let (asked, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
        let raw = portal.raw.clone();
        async move { (asked.jti, raw.submit(&jws, 30).await) }
    }));
    let answering = async {
        let (mut seen, mut concluded) = (HashSet::new(), 0);
        while concluded < 5 {
            match serve(&agent, &mut session).await {
                Some(id) => assert!(seen.insert(id), "{id} was delivered twice"),
                None => concluded += 1,
            }
        }
        seen
    };
    let (answers, seen) = tokio::join!(asking, answering);
    for (id, answered) in answers {
        assert_eq!(answered.status, 200, "{}", answered.text());
        assert_eq!(answered.json::<CommandView>().state, CommandState::Concluded);
        assert!(seen.contains(&id));
    }
}

/// Submits a command that lives for some seconds; its id, if the answer is that it was not written.
async fn given_up(portal: &RawPortal, agent: &RawAgent) -> Option<CommandId> {
    let mut claims = portal.command(agent.agent, JANE);
    claims.validity = Validity::starting(now(), Duration::from_secs(4));
    let (asked, jws) = portal.sealed(claims, agent.sealing.public(), NEW);
    let answered = portal.submit(&jws, 30).await;
    let refused = answered.status >= 400 && serde_json::from_slice::<Problem>(&answered.body).unwrap().retry_safe;
    let known = answered.status == 200 && answered.json::<CommandView>().state != CommandState::Concluded;
    (refused || known).then_some(asked.jti)
}

#[tokio::test]
async fn however_slow_it_is_nothing_is_called_undelivered_that_was_delivered() {
    let (_cluster, wires, portal, agent, mut session) = stage().await;
    let mut given_up_on = HashSet::new();
    // Up to more than a command, and more than an answer of another node, may take.
    for (here, there) in [(0, 2500), (1300, 1300)] {
        for (wire, ms) in wires.iter().zip([here, there]) {
            wire.set(Fault::Slow(Duration::from_millis(ms)));
        }
        session.send(FromAgent::Heartbeat(v1::Heartbeat::default())).await;
        given_up_on.extend(join_all((0..3).map(|_| given_up(&portal.raw, &agent))).await.into_iter().flatten());
    }
    wires.iter().for_each(|wire| wire.set(Fault::None));
    session.send(FromAgent::Heartbeat(v1::Heartbeat::default())).await;
    let asking = async {
        loop {
            // A node that got no answer for so long may have lost its lease: then there is no agent for a moment.
            let (last, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
            let answered = submit_until_taken(&portal.raw, &jws).await.unwrap();
            if answered.status == 200 {
                return last.jti;
            }
            assert_eq!(answered.problem(), "no_agent");
        }
    };
    let mut served = HashSet::new();
    let serving = async {
        loop {
            served.extend(serve(&agent, &mut session).await);
        }
    };
    let last = deadline("all is well again", async {
        tokio::select! { last = asking => last, () = serving => unreachable!() }
    })
    .await;
    assert!(served.contains(&last));
    assert_eq!(served.intersection(&given_up_on).collect::<Vec<_>>(), Vec::<&CommandId>::new(), "they were delivered");
}
