//! A retired sealing key is erased by the running agent, as soon as no command needs it and not before.

use std::time::Duration;

use serde_json::Value;
use writeback_relay::agent::home::Home;
use writeback_relay::agent::{Options, rotate_keys};
use writeback_relay::clock::System;
use writeback_relay::net::outbound::Access;

use super::reset;
use crate::support::eventually;
use crate::support::in_process::InProcessAgent;
use crate::support::relay::Relay;

const JANE: &str = "jane@corp.example";
/// How long each half of the write takes: longer than two rotations and a look of the agent at its keys.
const HALF: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_running_agent_erases_its_retired_sealing_key_when_the_command_that_needs_it_has_its_outcome() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let options =
        Options { key_interval: Duration::from_millis(20), key_overlap: Duration::ZERO, ..Options::default() };
    let agent = InProcessAgent::running_with(&relay, &portal, &[JANE.to_owned()], HALF, options).await;
    let file = |name: &str| std::fs::read_to_string(agent.home().join(name)).unwrap_or_default();
    let kept = |secret: &str| file("keys.json").contains(secret);
    let secret_of = |jwk: &str| serde_json::from_str::<Value>(jwk).unwrap()["d"].as_str().unwrap().to_owned();
    // As another process does it.
    let access = Access { ca_file: Some(relay.ca_file()), ..Access::default() };
    let home = Home::new(agent.home());
    let rotate = || rotate_keys(&home, access.clone(), System::clock(), System::random());

    let needed = secret_of(&file("sealing-key.jwk"));
    let another = portal.another();
    let resetting = tokio::spawn(async move { reset(&another, JANE, "Sealed-To-The-0ld-Key").await });
    eventually("the reset has begun", || std::future::ready(file("events.jsonl").contains("\"event_id\":31001"))).await;
    rotate().await.unwrap();
    let keys: Value = serde_json::from_str(&file("keys.json")).unwrap();
    let not_needed = secret_of(keys["keys"]["sealing"].as_str().unwrap());
    rotate().await.unwrap();
    // Nothing was sealed to this one. Whoever erases it has looked at the other one, too.
    eventually("a key that nothing needs is erased", || std::future::ready(!kept(&not_needed))).await;
    assert!(kept(&needed), "the command that was sealed to it has no outcome yet");
    assert!(!file("events.jsonl").contains("\"event_id\":31002"), "it was done before the keys were changed");

    eventually("the old key is erased", || std::future::ready(!kept(&needed))).await;
    assert_eq!(resetting.await.unwrap(), "password_reset");
    let told = "a sealing key from before the last rotation was erased";
    eventually("that is told", || std::future::ready(file("events.jsonl").matches(told).count() == 2)).await;
    let entries = std::fs::read_dir(agent.home()).unwrap().map(Result::unwrap);
    // A socket holds nothing.
    for entry in entries.filter(|entry| entry.file_type().unwrap().is_file()) {
        let bytes = std::fs::read(entry.path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(&needed), "the old key is on disk");
    }
}
