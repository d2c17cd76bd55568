//! Which domain controller is asked: they are made ready side by side, so that some that are dead cost a moment, and not a
//! timeout each. In the spirit of RFC 8305.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::sleep;

use super::controller::{Controller, ControllerError};

/// How long one controller is waited for before others are tried beside it. Several round trips: name, TCP, TLS, logon.
pub(super) const STAGGER: Duration = Duration::from_millis(500);
/// With each stagger there are so many times as many of them.
const GROWTH: usize = 4;

type Attempt<T> = BoxFuture<'static, (Arc<Controller>, Result<T, ControllerError>)>;

/// Controllers that are made ready, the preferred ones first: one, four, sixteen, all.
pub(super) struct Contest<T> {
    waiting: std::vec::IntoIter<Attempt<T>>,
    running: FuturesUnordered<Attempt<T>>,
    begun: usize,
}

impl<T: 'static> Contest<T> {
    /// Of these, in this order.
    pub(super) fn of<F>(controllers: Vec<Arc<Controller>>, attempt: impl Fn(Arc<Controller>) -> F) -> Self
    where
        F: Future<Output = Result<T, ControllerError>> + Send + 'static,
    {
        let attempts = controllers.into_iter().map(|controller| {
            let attempt = attempt(Arc::clone(&controller));
            Box::pin(async move { (controller, attempt.await) }) as Attempt<T>
        });
        Self { waiting: attempts.collect::<Vec<_>>().into_iter(), running: FuturesUnordered::new(), begun: 0 }
    }

    /// The next one that is ready, or that failed; none when all have been.
    pub(super) async fn next(&mut self) -> Option<(Arc<Controller>, Result<T, ControllerError>)> {
        // Whoever asks again has no use for the last one.
        self.begin(1);
        loop {
            tokio::select! {
                biased;
                ended = self.running.next() => return ended,
                () = sleep(STAGGER), if self.waiting.len() > 0 => self.begin(self.begun * (GROWTH - 1)),
            }
        }
    }

    fn begin(&mut self, more: usize) {
        let attempts = self.waiting.by_ref().take(more);
        let before = self.running.len();
        self.running.extend(attempts);
        self.begun += self.running.len() - before;
    }
}
