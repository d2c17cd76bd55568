//! A portal's key, from `rotate-keys` to the last agent's acknowledgement.

use writeback_relay::portal::RotationStatus;
use writeback_relay::protocol::jose::SigningKey;

use super::{Flow, reset};
use crate::support::agent::{Agent, demo};
use crate::support::eventually;
use crate::support::relay::{Relay, TestPortal, tenant};

const USERS: &[&str] =
    &["a@corp.example", "b@corp.example", "c@corp.example", "d@corp.example", "e@corp.example", "f@corp.example"];

async fn agent(relay: &Relay, portal: &TestPortal) -> Agent {
    let mut agent = Agent::new(relay);
    agent.configure(&demo(&agent.home(), USERS, 20));
    let code = portal.portal.invite(&tenant(), true).await.unwrap();
    assert_eq!(agent.enroll(&code.to_text().unwrap()).await.status, 0);
    agent.start();
    agent.usable(portal).await;
    agent
}

async fn finished(portal: &TestPortal) -> RotationStatus {
    eventually("every agent has acknowledged", || async { portal.portal.rotation_status().await.unwrap().finished })
        .await;
    portal.portal.rotation_status().await.unwrap()
}

fn key(portal: &TestPortal) -> SigningKey {
    portal.home().signing_key().unwrap()
}

#[tokio::test]
async fn a_portal_rotates_twice_while_resets_flow_and_none_fails() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let _agent = agent(&relay, &portal).await;
    let first = key(&portal);
    // Another process of the same portal: it has opened the old key.
    let flow = Flow::start(portal.another(), USERS);
    for seq in 1..=2 {
        let begun = portal.portal.rotate_keys().await.unwrap();
        assert_eq!(begun.seq, seq);
        assert_eq!(finished(&portal).await.seq, seq);
        assert_eq!(reset(&portal.portal, "a@corp.example", "After-Passw0rd1").await, "password_reset");
    }
    assert!(flow.stop().await > 0);
    assert_ne!(key(&portal).kid(), first.kid());
    let record = relay.admin().portals().await.unwrap().remove(0);
    assert_eq!(record.keys, [key(&portal).public().clone()]);
    // What the first key has signed is still taken for a while, and it makes no new keys.
    assert_eq!(record.later.retiring.len(), 2);
}

#[tokio::test]
async fn an_agent_that_was_away_is_waited_for_and_follows_when_it_comes_back() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let (here, mut away) = (agent(&relay, &portal).await, agent(&relay, &portal).await);
    away.terminate().await;
    assert!(!portal.portal.rotate_keys().await.unwrap().finished);
    eventually("one has acknowledged", || async {
        let status = portal.portal.rotation_status().await.unwrap();
        assert!(!status.finished);
        status.agents.iter().any(|known| known.agent == here.id() && known.acknowledged)
    })
    .await;
    let status = portal.portal.rotation_status().await.unwrap();
    assert!(status.agents.iter().any(|known| known.agent == away.id() && !known.acknowledged && !known.online));
    // Meanwhile the old key signs, and an operator's change of the portal does not undo the rotation.
    assert_eq!(reset(&portal.portal, "a@corp.example", "Old-Key-Passw0rd1").await, "password_reset");
    relay.grant(&portal.raw.id, portal.raw.key.public(), &["contoso"]).await;
    away.start();
    assert_eq!(finished(&portal).await.seq, 1);
    assert_eq!(reset(&portal.portal, "b@corp.example", "New-Key-Passw0rd1").await, "password_reset");
}

#[tokio::test]
async fn one_that_is_finished_without_an_agent_is_followed_by_it_later() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let mut away = agent(&relay, &portal).await;
    away.terminate().await;
    for _ in 0..2 {
        portal.portal.rotate_keys().await.unwrap();
        portal.portal.finish_rotation().await.unwrap();
    }
    assert_eq!(portal.portal.rotation_status().await.unwrap().seq, 2);
    away.start();
    away.usable(&portal).await;
    eventually("it has followed both", || async {
        away.events().iter().filter(|e| e["message"].as_str().unwrap().contains("has a new key")).count() == 2
    })
    .await;
    assert_eq!(reset(&portal.portal, "a@corp.example", "New-Key-Passw0rd1").await, "password_reset");
}

#[tokio::test]
async fn a_code_from_before_a_rotation_still_enrols() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let code = portal.portal.invite(&tenant(), true).await.unwrap();
    portal.portal.rotate_keys().await.unwrap();
    assert!(finished(&portal).await.finished);
    let mut agent = Agent::new(&relay);
    agent.configure(&demo(&agent.home(), USERS, 0));
    let said = agent.enroll(&code.to_text().unwrap()).await;
    assert_eq!(said.status, 0, "{said:?}");
    agent.start();
    agent.usable(&portal).await;
    assert_eq!(reset(&portal.portal, "a@corp.example", "New-Key-Passw0rd1").await, "password_reset");
}
