//! What a hostile relay can make an agent write down and keep: little, however much it sends.

use std::path::Path;

use serde_json::Value;
use writeback_relay::agent::events::history;
use writeback_relay::agent::home::Home;
use writeback_relay::protocol::frame::{FromRelay, v1};
use writeback_relay::protocol::outcome::Status;

use super::sessions::{JANE, Running};
use crate::support::scripted_relay::ScriptedRelay;

/// Eight megabytes of events, if each were one.
const FRAMES: usize = 30_000;
/// So many of each kind are told one by one.
const FIRST: usize = 16;

fn size_of(folder: &Path, prefix: &str) -> u64 {
    let files = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let log = files.filter(|file| file.file_name().to_string_lossy().starts_with(prefix));
    log.map(|file| file.metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn a_relay_that_sends_garbage_by_the_thousand_makes_a_few_lines_and_what_was_done_stays() {
    let relay = ScriptedRelay::start().await;
    let agent = Running::start(&relay).await;
    let mut session = relay.welcome().await;
    let done = relay.command(JANE, "New-Passw0rd");
    session.say(relay.deliver(&done)).await;
    assert_eq!(relay.read(&session.outcome().await.jws, &done).status, Status::Succeeded);
    session.stored(&done).await;

    // Not a command; one of somebody else's; the one that was done, with another signature; keys that nobody has signed.
    let foreign = ScriptedRelay::start().await;
    let stranger = done.sign(&foreign.portal).unwrap();
    let altered = done.sign(&relay.portal).unwrap() + "AA";
    let garbage = ["x".repeat(8000), stranger, altered, "a.b.c".to_owned()];
    let before = size_of(agent.dir.path(), "events");
    for n in 0..FRAMES {
        let jws = garbage[n % garbage.len()].clone();
        session
            .say(match n % 3 {
                0 => FromRelay::PortalRotation(v1::PortalRotation { jws }),
                _ => FromRelay::Deliver(v1::Deliver { command_jws: jws, traceparent: String::new(), attempt: 1 }),
            })
            .await;
    }
    // Answered when all of that has been heard.
    let next = relay.command(JANE, "Third-Passw0rd");
    session.say(relay.deliver(&next)).await;
    assert_eq!(relay.read(&session.outcome().await.jws, &next).status, Status::Succeeded);
    session.stored(&next).await;
    let written = size_of(agent.dir.path(), "events") - before;
    assert!(written < 30_000, "{written} bytes");
    agent.stop.cancel();
    while session.next().await.is_some() {}
    let (dir, ended) = agent.ended().await;
    ended.unwrap();

    let events: Vec<Value> = history(&Home::new(dir.path()).events())
        .unwrap()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let count = |id| events.iter().filter(|event| event["event_id"] == id).count();
    assert_eq!(count(31002), 2);
    let refused: Vec<_> = events.iter().filter(|event| event["event_id"] == 32003).collect();
    assert!((2 * FIRST + 2..50).contains(&refused.len()), "{refused:?}");
    // The first of each kind as they were, and all the others counted.
    let counted =
        refused.iter().filter_map(|event| event["message"].as_str()?.split_once(" more ")?.0.parse::<usize>().ok());
    assert_eq!(counted.sum::<usize>() + 2 * FIRST, FRAMES);
}
