//! Any node reaches any agent: several relay processes on a real Redis.

mod cost;
mod failures;
mod keys;
mod rebalance;
mod rights;
mod rolling_restart;
mod routes;
mod stale;
mod storm;
mod two_sessions;

use writeback_relay::protocol::command::Command;
use writeback_relay::protocol::frame::{FromRelay, v1};

use crate::support::raw_agent::RawSession;

const JANE: &str = "jane@corp.example";
const NEW: &str = "Pass-Word-2026";

/// The next command that the agent gets.
async fn command(session: &mut RawSession) -> (v1::Deliver, Command) {
    let delivery = session.delivery().await;
    let command = Command::parse(&delivery.command_jws).unwrap().unverified().unwrap();
    (delivery, command)
}

/// The next frame has to say that an outcome is stored.
async fn stored(session: &mut RawSession) {
    assert!(matches!(session.next().await, FromRelay::OutcomeStored(_)));
}
