//! What is remembered of a domain controller from one question to the next.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

/// How a controller was when it was last met.
#[derive(Default)]
pub(super) struct Health {
    trouble: Mutex<Option<Instant>>,
    read_only: AtomicBool,
}

impl Health {
    /// It did not answer, or said that it can't. It is tried last until it answers: whoever has to ask it, or the check,
    /// finds that out. No time alone makes it well again.
    pub(super) fn note_trouble(&self) {
        *self.trouble.lock() = Some(Instant::now());
    }

    /// It answered a question.
    pub(super) fn note_answer(&self) {
        *self.trouble.lock() = None;
    }

    pub(super) fn note_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Relaxed);
    }

    /// Since when it is in trouble.
    pub(super) fn in_trouble_since(&self) -> Option<Instant> {
        *self.trouble.lock()
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }
}
