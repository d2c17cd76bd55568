//! What a delivery guarantees, whoever dies in between.

mod drain;
mod execution;
mod forgotten;
mod full_disk;
mod mailbox;
mod presence;
mod relay_crash;

use writeback_relay::protocol::api::CommandView;
use writeback_relay::protocol::command::Command;
use writeback_relay::protocol::jose::PublicKey;
use writeback_relay::protocol::outcome::Outcome;

use crate::support::agent::Agent;
use crate::support::eventually;
use crate::support::relay::{Relay, TestPortal};

const JANE: &str = "jane@corp.example";
const JOE: &str = "joe@corp.example";
const NEW: &str = "Better-Passw0rd-2";

/// A relay, a portal, and an agent with accounts in memory whose writes take so long.
async fn with_real_agent(delay_before_ms: u32) -> (Relay, TestPortal, Agent) {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = Agent::running(&relay, &portal, &[JANE, JOE], delay_before_ms).await;
    (relay, portal, agent)
}

/// The agent's word, verified.
pub(crate) fn outcome(view: &CommandView, command: &Command, signing_key: &PublicKey) -> Outcome {
    Outcome::verify(view.outcome.as_deref().expect("an outcome"), signing_key, command).unwrap()
}

/// Waits until the relay has no session.
async fn nobody_is_here(relay: &Relay) {
    let admin = relay.admin();
    eventually("the session ends", || async { admin.sessions().await.unwrap().is_empty() }).await;
}

/// Waits until the relay has verified this command, and is about to look for its agent.
async fn submitted(relay: &Relay, command: &Command) {
    let id = command.jti.to_string();
    let audited = |line: &str| line.contains("\"action\":\"command_submitted\"") && line.contains(&id);
    eventually("it is submitted", || std::future::ready(relay.log().lines().any(audited))).await;
}
