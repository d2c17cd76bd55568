//! An agent's own keys.

use super::{Flow, followed, reset};
use crate::support::agent::{Agent, demo};
use crate::support::eventually;
use crate::support::relay::{Relay, TestPortal, tenant};
use serde_json::Value;

const USERS: &[&str] =
    &["a@corp.example", "b@corp.example", "c@corp.example", "d@corp.example", "e@corp.example", "f@corp.example"];

fn keys_json(agent: &Agent) -> Value {
    serde_json::from_str(&std::fs::read_to_string(agent.home().join("keys.json")).unwrap()).unwrap()
}

async fn agent(relay: &Relay, portal: &TestPortal) -> Agent {
    let mut agent = Agent::new(relay);
    agent.configure(&demo(&agent.home(), USERS, 20));
    let code = portal.portal.invite(&tenant(), true).await.unwrap();
    assert_eq!(agent.enroll(&code.to_text().unwrap()).await.status, 0);
    agent.start();
    agent.usable(portal).await;
    agent
}

#[tokio::test]
async fn keys_rotate_twice_while_resets_flow_and_none_fails() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = agent(&relay, &portal).await;
    let first = agent.keys(&portal).await;
    let flow = Flow::start(portal.another(), USERS);
    for seq in 1..=2 {
        let said = agent.rotate_keys().await;
        assert_eq!(said.status, 0, "{said:?}");
        assert!(said.out.contains(&format!("rotation {seq}")), "{said:?}");
        eventually("the portal has followed", || async { followed(&portal, agent.id()).await == seq }).await;
        assert_eq!(reset(&portal.portal, "a@corp.example", "After-Passw0rd1").await, "password_reset");
    }
    assert!(flow.stop().await > 0);
    let now = agent.keys(&portal).await;
    assert!(now.signing != first.signing && now.sealing != first.sealing);
    // The running process took them into use: its next session is opened with them.
    let mut agent = agent;
    agent.kill();
    agent.start();
    eventually("a new session", || async { agent.event_ids().iter().filter(|id| **id == 31017).count() > 1 }).await;
    agent.usable(&portal).await;
    assert_eq!(reset(&portal.portal, "b@corp.example", "After-Passw0rd2").await, "password_reset");
    let files = agent.home();
    assert!(!files.join("signing-key.jwk").exists() && !files.join("sealing-key.jwk").exists());
}

#[tokio::test]
async fn an_agent_killed_at_any_step_of_a_rotation_works_and_ends_it_by_itself() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let mut agent = agent(&relay, &portal).await;

    // It has made its keys, and the relay does not answer.
    relay.freeze();
    let rotating = agent.start_rotate_keys();
    eventually("a rotation has begun", || async { agent.home().join("keys.json").exists() }).await;
    drop(rotating);
    agent.kill();
    relay.thaw();
    assert_eq!(keys_json(&agent)["seq"], 0);
    agent.start();
    eventually("it is ended", || async { keys_json(&agent)["seq"] == 1 }).await;
    agent.usable(&portal).await;
    assert_eq!(followed(&portal, agent.id()).await, 1);
    assert_eq!(reset(&portal.portal, "a@corp.example", "After-Passw0rd1").await, "password_reset");

    // The relay has its keys, and it was killed before it heard so: its old ones are of no use any more.
    relay.freeze();
    drop(agent.start_rotate_keys());
    agent.kill();
    let rotating = agent.start_rotate_keys();
    eventually("a rotation has begun", || async { keys_json(&agent)["next"].is_object() }).await;
    drop(rotating);
    relay.thaw();
    let jws = keys_json(&agent)["next"]["rotation"].as_str().unwrap().to_owned();
    let told = portal.raw.send(|http, relay| {
        http.post(format!("{relay}/v1/agent/rotations")).header("content-type", "application/jose").body(jws)
    });
    let told = told.await;
    assert_eq!(told.status, 204, "{}", told.text());
    eventually("the portal has followed", || async { followed(&portal, agent.id()).await == 2 }).await;
    assert_eq!(keys_json(&agent)["seq"], 1);
    agent.start();
    eventually("it is ended", || async { keys_json(&agent)["seq"] == 2 }).await;
    agent.usable(&portal).await;
    assert_eq!(reset(&portal.portal, "b@corp.example", "After-Passw0rd2").await, "password_reset");
}

#[tokio::test]
async fn a_relay_restored_from_before_a_rotation_is_reminded_of_it() {
    let mut relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = agent(&relay, &portal).await;
    relay.terminate().await;
    let registry = relay.data_dir().join("registry.redb");
    let before = std::fs::read(&registry).unwrap();
    relay.start_again().await;
    agent.usable(&portal).await;
    assert_eq!(agent.rotate_keys().await.status, 0);
    assert_eq!(followed(&portal, agent.id()).await, 1);

    relay.terminate().await;
    std::fs::write(&registry, before).unwrap();
    relay.start_again().await;
    agent.usable(&portal).await;
    assert_eq!(reset(&portal.portal, "a@corp.example", "After-Passw0rd1").await, "password_reset");
}

#[tokio::test]
async fn keys_that_are_too_old_are_rotated_by_the_agent_itself() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let mut agent = agent(&relay, &portal).await;
    agent.terminate().await;
    // As if it had enrolled long ago.
    let key = std::fs::File::options().write(true).open(agent.home().join("signing-key.jwk")).unwrap();
    key.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)).unwrap();
    agent.start();
    eventually("it has rotated", || async { agent.home().join("keys.json").exists() && keys_json(&agent)["seq"] == 1 })
        .await;
    agent.usable(&portal).await;
    assert_eq!(reset(&portal.portal, "a@corp.example", "After-Passw0rd1").await, "password_reset");
    assert_eq!(keys_json(&agent)["seq"], 1, "and not again");
}
