//! Whether a command may be sent again is said once, and every sentence means the same.

use futures_util::future::join_all;
use writeback_relay::portal::Answer;
use writeback_relay::protocol::problem::ProblemCode;

use super::fake_relay::Reply;
use super::{SHORT, World};

/// What a relay says only of a command that it will not take, and has not taken: whatever was lost before.
const FOR_GOOD: [ProblemCode; 7] = [
    ProblemCode::NoAgent,
    ProblemCode::AgentBusy,
    ProblemCode::Draining,
    ProblemCode::Expired,
    ProblemCode::AgentPending,
    ProblemCode::AgentRevoked,
    ProblemCode::UnknownAgent,
];

/// Whether people read that they may, and whether they read that they may not.
fn claims(said: &str) -> (bool, bool) {
    let says = |word: &str| {
        ["a new command may be sent", "safe to repeat"].iter().any(|of| said.contains(&format!("{of}: {word}")))
    };
    (says("yes"), says("no"))
}

/// What a person reads whose relay answers with this problem for ever; after an answer that was lost, if it is.
async fn said(code: ProblemCode, lost: bool) -> String {
    let world = World::new().await;
    world.trusted_agent().await;
    if lost {
        world.relay.then(|_| Reply::Lost);
    }
    (0..100).for_each(|_| world.relay.then(move |_| Reply::Problem(code)));
    match world.reset(SHORT).await {
        Ok(answer) => answer.for_people("contoso"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn no_problem_is_both_safe_and_unsafe_to_repeat() {
    let all = ProblemCode::ALL.iter().flat_map(|code| [(*code, false), (*code, true)]);
    join_all(all.map(|(code, lost)| async move {
        let said = said(code, lost).await;
        let may = code.retry_safe() && (!lost || FOR_GOOD.contains(&code));
        assert_eq!(claims(&said), (may, !may), "{} (lost before: {lost}): {said}", code.as_str());
    }))
    .await;
}

#[tokio::test]
async fn a_store_that_takes_no_writes_is_an_answer_at_once() {
    let world = World::new().await;
    world.trusted_agent().await;
    world.relay.then(|_| Reply::Problem(ProblemCode::StoreNotWritable));
    let begun = std::time::Instant::now();
    let answer = world.reset(super::LONG).await.unwrap();
    assert!(matches!(&answer, Answer::Undeliverable { reason, .. } if reason == "store_not_writable"), "{answer:?}");
    assert!(begun.elapsed() < SHORT, "{:?}", begun.elapsed());
    assert!(answer.for_people("contoso").contains("the relay's store takes no writes"), "{answer:?}");
}
