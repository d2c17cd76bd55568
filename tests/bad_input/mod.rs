//! What bad input gets: a clear refusal, a metric, an audit line, and nothing lost or half done.

mod commands;
mod enrolment;
mod redis;
mod sessions;
mod startup;

use crate::support::relay::Relay;

/// Fails the test unless the relay has counted this problem.
async fn counted(relay: &Relay, code: &str) {
    let metrics = relay.metrics().await;
    assert!(metrics.contains(&format!("writeback_problems_total{{code=\"{code}\"}}")), "{code} is not in {metrics}");
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
