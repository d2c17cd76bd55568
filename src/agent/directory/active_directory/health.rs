//! What is remembered of a domain controller from one question to the next.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a controller that did not answer is tried last. The check of the directory may find earlier that it is back.
const TRIED_LAST_FOR: Duration = Duration::from_secs(5 * 60);

/// How a controller was when it was last met.
#[derive(Default)]
pub(super) struct Health {
    trouble: Mutex<Option<Instant>>,
    read_only: AtomicBool,
}

impl Health {
    /// It did not answer.
    pub(super) fn note_trouble(&self) {
        *self.trouble.lock() = Some(Instant::now());
    }

    /// It answered.
    pub(super) fn note_answer(&self) {
        *self.trouble.lock() = None;
    }

    pub(super) fn note_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Relaxed);
    }

    pub(super) fn in_trouble(&self) -> bool {
        self.trouble.lock().is_some_and(|at| at.elapsed() < TRIED_LAST_FOR)
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }
}
