//! What bad input gets: a clear refusal, a metric, an audit line, and nothing lost or half done.

mod commands;
mod enrolment;
mod folders;
mod kept;
mod limits;
mod redis;
mod registry;
mod rotations;
mod sessions;
mod slow;
mod startup;
mod strangers;
mod strict;
mod texts;
mod untrusted;

use crate::support::relay::Relay;

/// How far this counter is; 0 if it has never counted.
async fn counter(relay: &Relay, series: &str) -> u64 {
    let metrics = relay.metrics().await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap_or_else(|e| panic!("{series} is {value}: {e}")))
}

/// Makes `request`, and fails the test unless this counter counts it, once.
async fn counting<T>(relay: &Relay, series: &str, request: impl Future<Output = T>) -> T {
    let before = counter(relay, series).await;
    let answer = request.await;
    assert_eq!(counter(relay, series).await, before + 1, "{series}");
    answer
}

/// Makes `request`, and fails the test unless the relay counts it, once, as this problem.
async fn counted<T>(relay: &Relay, code: &str, request: impl Future<Output = T>) -> T {
    counting(relay, &format!("writeback_problems_total{{code=\"{code}\"}}"), request).await
}

/// Fails the test unless there is an audit line with this action and, in it, this text.
fn audited(relay: &Relay, action: &str, text: &str) {
    let found = relay.log().lines().any(|line| {
        line.contains("\"target\":\"audit\"")
            && line.contains(&format!("\"action\":\"{action}\""))
            && line.contains(text)
    });
    assert!(found, "no audit line {action} with {text}");
}
