//! Why no reset is possible, as a portal is told, and as people read it.

use writeback_relay::clock::System;
use writeback_relay::protocol::frame::{FromAgent, FromRelay, v1};
use writeback_relay::protocol::ids::InstanceId;

use crate::support::eventually;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::relay::{Relay, TestPortal, tenant};

fn pinned(portals: &[&str]) -> Vec<v1::PinnedPortal> {
    portals.iter().map(|portal| v1::PinnedPortal { portal: (*portal).to_owned(), seq: 0 }).collect()
}

/// A session of an agent that says whose commands it takes, if it `announces` that.
async fn open(agent: &RawAgent, announces: bool, portals: &[&str]) -> RawSession {
    let mut session = agent.connect().await;
    let FromAgent::Hello(hello) = agent.hello(InstanceId::new(&System, &System)) else { panic!("no Hello") };
    session.send(FromAgent::Hello(v1::Hello { announces_portals: announces, portals: pinned(portals), ..hello })).await;
    let FromRelay::Welcome(welcome) = session.next().await else { panic!("no Welcome") };
    assert!(welcome.takes_portals);
    session
}

async fn announce(session: &mut RawSession, portals: &[&str]) {
    session.send(FromAgent::Portals(v1::Portals { portals: pinned(portals) })).await;
}

async fn becomes(portal: &TestPortal, reason: Option<&str>) {
    eventually(&format!("the reason is {reason:?}"), || async {
        let said = portal.portal.availability(&tenant()).await.unwrap();
        assert_eq!(said.available, said.reason.is_none());
        said.reason.as_ref().map(|reason| reason.as_data()) == reason
    })
    .await;
}

#[tokio::test]
async fn a_portal_is_told_whether_there_is_no_agent_one_waits_or_does_not_trust_it() {
    let relay = Relay::start().await;
    let (portal, other) = (relay.portal("portal-1").await, relay.portal("portal-2").await);
    becomes(&portal, Some("no_agent")).await;
    let agent = RawAgent::pending(&relay, &portal).await;
    becomes(&portal, Some("agent_pending")).await;
    let mut session = open(&agent, true, &["portal-1"]).await;
    becomes(&portal, Some("agent_pending")).await;
    becomes(&other, Some("portal_not_trusted")).await;
    let fingerprint = agent.keys().fingerprint(agent.agent);
    let _ = portal.portal.approve(&tenant(), agent.agent, &fingerprint).await.unwrap();
    becomes(&portal, None).await;
    becomes(&other, Some("portal_not_trusted")).await;

    announce(&mut session, &["portal-2"]).await;
    becomes(&portal, Some("portal_not_trusted")).await;
    becomes(&other, None).await;
    announce(&mut session, &["portal-1", "portal-2"]).await;
    becomes(&portal, None).await;
    announce(&mut session, &[]).await;
    becomes(&portal, Some("portal_not_trusted")).await;
    // The operator sees it, too.
    let troubles = relay.admin().overview().await.unwrap().troubles;
    let told = troubles.iter().any(|trouble| trouble.detail.as_data().contains("takes commands of no portal"));
    assert!(told, "{troubles:?}");
    // However often it says something else, what it has said last is known in the end.
    for n in 0..40 {
        announce(&mut session, if n % 2 == 0 { &["portal-2"] } else { &["portal-1"] }).await;
    }
    becomes(&portal, None).await;
    becomes(&other, Some("portal_not_trusted")).await;
    drop(session);
    becomes(&portal, Some("no_agent")).await;
}

#[tokio::test]
async fn an_agent_that_announces_nothing_is_served_whatever_its_hello_names() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    // As an older version, whose list may be old by now.
    for portals in [&[][..], &["portal-2"]] {
        let session = open(&agent, false, portals).await;
        becomes(&portal, None).await;
        let seen = portal.portal.agents(&tenant()).await.unwrap().remove(0);
        assert_eq!(seen.relay.unwrap().trusts_portal, None);
        drop(session);
    }
    // More than anybody has: nothing is known.
    let many: Vec<String> = (0..17).map(|n| format!("portal-{}", n + 2)).collect();
    let session = open(&agent, true, &many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    becomes(&portal, None).await;
    drop(session);
    let mut session = open(&agent, false, &["portal-1"]).await;
    announce(&mut session, &[]).await;
    assert_eq!(session.closed().await.0, 4500, "it said that it would not");
}
