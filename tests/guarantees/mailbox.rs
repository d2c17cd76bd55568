//! An agent that takes nothing: what fits waits, the rest is refused at once, and a crash loses nothing that was taken.

use std::collections::HashSet;

use crate::support::https_client;
use futures_util::future::join_all;
use serde_json::json;
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::command::{COMMAND_TYP, Command};
use writeback_relay::protocol::ids::CommandId;

use super::{JANE, NEW};
use crate::support::raw_agent::RawAgent;
use crate::support::relay::{RawPortal, Relay, TENANT};

/// More than fits into the sockets' buffers and the session's queue.
const MANY: usize = 4000;
const AT_ONCE: usize = 16;

/// A command that is as long as it may be, and whose length is in a claim that nobody reads.
fn long_command(portal: &RawPortal, agent: &RawAgent) -> (CommandId, String) {
    let (command, _) = portal.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let mut claims = serde_json::to_value(&command).unwrap();
    claims["padding"] = json!("x".repeat(4000));
    (command.jti, portal.key.sign(COMMAND_TYP, &claims).unwrap())
}

#[tokio::test]
async fn a_full_mailbox_refuses_at_once_and_what_it_took_outlives_a_crash() {
    let mut relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let mut agent = RawAgent::enrolled(&relay, &portal).await;
    agent.receive_buffer = Some(4096);
    let session = agent.open().await;
    let (http, url) = (https_client(Some(&relay.ca_file())).unwrap(), portal.raw.relay.clone());
    let submit = async |(id, jws): (CommandId, String)| {
        let bearer = portal.raw.assertion().sign(&portal.raw.key).unwrap();
        let request = http.post(format!("{url}/v1/tenants/{TENANT}/commands")).bearer_auth(bearer).body(jws);
        let request = request.header("content-type", "application/jose").header("prefer", "wait=0");
        let answer = request.timeout(crate::support::PATIENCE).send().await.unwrap();
        (id, answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (mut taken, mut refused) = (HashSet::new(), Vec::new());
    while refused.is_empty() {
        assert!(taken.len() < MANY, "the mailbox never fills");
        let commands = (0..AT_ONCE).map(|_| submit(long_command(&portal.raw, &agent)));
        for (id, status, text) in join_all(commands).await {
            match status {
                202 => assert!(taken.insert(id)),
                503 => {
                    assert!(text.contains("\"agent_busy\"") && text.contains("\"retry_safe\":true"), "{text}");
                    refused.push(id);
                }
                _ => panic!("{status} {text}"),
            }
        }
    }
    relay.kill();
    drop(session);
    relay.start_again().await;

    for id in refused {
        let view: CommandView = portal.raw.follow(id, 0).await.json();
        assert_eq!(
            (view.state, view.reason.as_ref().map(|text| text.as_data())),
            (CommandState::Undeliverable, Some("agent_busy"))
        );
    }
    agent.receive_buffer = None;
    let mut session = agent.open().await;
    while !taken.is_empty() {
        let delivery = session.delivery().await;
        let command = Command::parse(&delivery.command_jws).unwrap();
        let command: Command = command.unverified().unwrap();
        assert!(taken.remove(&command.jti), "{} was not taken, or was delivered twice", command.jti);
    }
}
