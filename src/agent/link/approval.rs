//! Whether a portal has approved this agent: the log tells when one does.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::agent::events::{About, EventLog};
use crate::protocol::event::Event;

/// What the relay has said last. Clones share it.
#[derive(Clone)]
pub(in crate::agent) struct Approval {
    events: EventLog,
    known: Arc<Mutex<Option<bool>>>,
}

impl Approval {
    pub(in crate::agent) fn new(events: EventLog) -> Self {
        Self { events, known: Arc::default() }
    }

    /// As the relay has said it last; nothing before it has said anything.
    pub(in crate::agent) fn known(&self) -> Option<bool> {
        *self.known.lock()
    }

    /// The relay says so, on one of its sessions.
    pub(super) fn note(&self, approved: bool) {
        let before = self.known.lock().replace(approved);
        // Each session tells how it was when it opened.
        if (before, approved) == (Some(false), true) {
            let message = "a portal has approved this agent: commands may come from now on";
            self.events.record(Event::OnboardingEventSuccess, message, &About::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;

    #[test]
    fn the_log_tells_of_an_approval_when_it_is_news() {
        let dir = tempfile::tempdir().unwrap();
        let told = |said: &[bool]| {
            let path = dir.path().join(format!("{}.jsonl", said.len()));
            let approval = Approval::new(EventLog::open(&path, System::clock()).unwrap());
            said.iter().for_each(|approved| approval.note(*approved));
            let text = std::fs::read_to_string(&path).unwrap();
            text.lines().filter(|line| line.contains("OnboardingEventSuccess")).count()
        };
        assert_eq!(told(&[false]), 0);
        assert_eq!(told(&[true, true]), 0, "it was approved before this process began");
        assert_eq!(told(&[false, false, true, true]), 1, "both sessions hear of it");
    }
}
