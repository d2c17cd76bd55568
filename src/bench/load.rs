//! Requests, one after the other on each connection: as many as possible, or so many a second whatever comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::time::sleep_until;

use super::Fallible;
use super::callers::Caller;
use super::population::Request;

/// What was seen from the portals' side.
pub(super) struct Seen {
    /// How long each request took, in microseconds.
    pub(super) latency: Histogram<u64>,
    pub(super) elapsed: Duration,
}

fn histogram() -> Fallible<Histogram<u64>> {
    // A microsecond to a minute, to a thousandth.
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Each caller sends its next request when the one before was answered.
pub(super) async fn closed(callers: &mut [Caller], requests: Vec<Request>) -> Fallible<Seen> {
    let due = requests.into_iter().map(|request| (None, request)).collect();
    run(callers, due).await
}

/// Requests are sent at their time, so many a second. One that finds no free connection waits, and that counts: how long it
/// took is counted from the time at which it was due, so that a server that stands still is not asked less.
pub(super) async fn open(callers: &mut [Caller], requests: Vec<Request>, per_second: f64) -> Fallible<Seen> {
    let begin = Instant::now() + Duration::from_millis(50);
    let due = requests.into_iter().enumerate().map(|(n, request)| {
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        let after = Duration::from_secs_f64(n as f64 / per_second);
        (Some(begin + after), request)
    });
    run(callers, due.collect()).await
}

async fn run(callers: &mut [Caller], due: Vec<(Option<Instant>, Request)>) -> Fallible<Seen> {
    let due = Arc::new(Mutex::new(due.into_iter()));
    let begun = Instant::now();
    let each = callers.iter_mut().map(async |caller| {
        let mut latency = histogram()?;
        loop {
            let Some((at, request)) = due.lock().next() else { return Fallible::Ok(latency) };
            if let Some(at) = at {
                sleep_until(at.into()).await;
            }
            let from = at.unwrap_or_else(Instant::now);
            caller.call(request).await?;
            latency.saturating_record(micros(from.elapsed()));
        }
    });
    let each = try_join_all(each).await?;
    let mut latency = histogram()?;
    for one in each {
        latency.add(one)?;
    }
    Ok(Seen { latency, elapsed: begun.elapsed() })
}
