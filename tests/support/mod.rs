//! What tests share.

pub mod scripted_relay;

use std::future::Future;
use std::time::Duration;

/// Every wait of a test has an end.
pub async fn deadline<T>(what: &str, future: impl Future<Output = T>) -> T {
    let within = Duration::from_secs(30);
    tokio::time::timeout(within, future).await.unwrap_or_else(|_| panic!("it took too long: {what}"))
}
