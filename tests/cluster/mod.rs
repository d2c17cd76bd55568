//! Any node reaches any agent: several relay processes on a real Redis.

mod cost;
mod empty;
mod failover;
mod failures;
mod forged;
mod frozen;
mod full;
mod keys;
mod lost;
mod partition;
mod rebalance;
mod redis_away;
mod rights;
mod rolling_restart;
mod rotation;
mod routes;
mod slow;
mod stale;
mod status;
mod store_faults;
mod storm;
mod subscription;
mod tenants;
mod two_sessions;
mod waiting;

use tokio::task::JoinHandle;
use writeback_relay::protocol::command::Command;
use writeback_relay::protocol::frame::{FromRelay, v1};
use writeback_relay::protocol::ids::CommandId;
use writeback_relay::protocol::outcome::Code;

use crate::support::deadline;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::relay::{Answered, RawPortal};

const JANE: &str = "jane@corp.example";
const NEW: &str = "Pass-Word-2026";

/// The next command that the agent gets.
async fn command(session: &mut RawSession) -> (v1::Deliver, Command) {
    let delivery = session.delivery().await;
    let command = Command::parse(&delivery.command_jws).unwrap().unverified().unwrap();
    (delivery, command)
}

/// The agent gets its next command, and has done it.
async fn conclude(agent: &RawAgent, session: &mut RawSession) -> CommandId {
    let (_, asked) = command(session).await;
    session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
    stored(session).await;
    asked.jti
}

/// Whether a store that is away, or takes no writes (as a master that has become a replica), is all that stands in the way.
fn is_the_stores(answered: &Answered) -> bool {
    answered.status == 503 && matches!(answered.problem().as_str(), "store_unavailable" | "store_not_writable")
}

/// The answer says that the same may be sent again, and when.
fn store_unavailable(answered: &Answered) {
    assert_eq!((answered.status, answered.problem().as_str()), (503, "store_unavailable"), "{}", answered.text());
    assert!(answered.headers.contains_key("retry-after"));
}

/// Submits the same bytes again, as such an answer says, until there is another one.
fn submit_until_taken(portal: &RawPortal, jws: &str) -> JoinHandle<Answered> {
    let (portal, jws) = (portal.clone(), jws.to_owned());
    tokio::spawn(async move {
        deadline("the store is back", async {
            loop {
                let answered = portal.submit(&jws, 30).await;
                if !is_the_stores(&answered) {
                    return answered;
                }
            }
        })
        .await
    })
}

/// An outcome is stored. Until then its command may be asked for again.
async fn stored(session: &mut RawSession) {
    loop {
        match session.next().await {
            FromRelay::OutcomeStored(_) => return,
            FromRelay::Deliver(again) => assert!(again.attempt > 1, "a new command comes before it"),
            other => panic!("it is not stored: {other:?}"),
        }
    }
}
