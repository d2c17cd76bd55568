//! What the tests share.

pub(crate) mod agent;
pub(crate) mod cli;
pub(crate) mod portal_cli;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod raw_agent;
pub(crate) mod relay;
pub(crate) mod samba;
pub(crate) mod scripted_relay;

use std::time::Duration;

/// How long anything may take before a test counts as failed: far more than it ever takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Every wait of a test has an end.
pub(crate) async fn deadline<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("it took too long: {what}"))
}

/// Waits for `condition`, and fails the test with `what` if it does not come true in time.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let waiting = async {
        while !condition().await {
            // Between two looks, not instead of one.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    deadline(what, waiting).await;
}
