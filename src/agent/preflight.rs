//! Looks whether resets can work, before a user needs one, and says so to the relay and in the event log.

use std::sync::Arc;

use parking_lot::Mutex;

use super::directory::Directory;
use super::events::{About, EventLog};
use crate::clock::Clock;
use crate::protocol::api::{PreflightReport, PreflightRow, PreflightState};
use crate::protocol::event::Event;
use crate::protocol::frame::{FromAgent, v1};
use crate::protocol::limits::MAX_FRAME_BYTES;

/// The check. Clones share what it found last.
#[derive(Clone)]
pub(super) struct Preflight {
    directory: Arc<dyn Directory>,
    events: EventLog,
    clock: Arc<dyn Clock>,
    /// The failed rows that the event log knows of.
    known: Arc<Mutex<Vec<PreflightRow>>>,
}

impl Preflight {
    pub(super) fn new(directory: Arc<dyn Directory>, events: EventLog, clock: Arc<dyn Clock>) -> Self {
        Self { directory, events, clock, known: Arc::default() }
    }

    /// Checks now. What fails is recorded when it begins to fail.
    pub(super) async fn report(&self) -> v1::Preflight {
        let rows = self.directory.preflight().await;
        let failed: Vec<_> = rows.iter().filter(|row| row.state == PreflightState::Failed).cloned().collect();
        let known = {
            let mut known = self.known.lock();
            std::mem::replace(&mut *known, failed.clone())
        };
        for row in failed.iter().filter(|row| !known.contains(row)) {
            let message = format!("preflight: {} at {} failed: {}", row.check, row.target, row.detail);
            self.events.record(Event::ADConfigurationError, &message, &About::default());
        }
        fitting(PreflightReport { checked_at: self.clock.now(), rows })
    }
}

/// The report as a frame; what does not fit is left off, and the worst rows come first.
fn fitting(mut report: PreflightReport) -> v1::Preflight {
    report.rows.sort_by_key(|row| std::cmp::Reverse(row.state));
    let mut frame = v1::Preflight::from(report);
    while FromAgent::Preflight(frame.clone()).encode_frame().len() > MAX_FRAME_BYTES {
        frame.rows.pop();
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;

    #[test]
    fn a_report_of_any_size_is_a_frame_and_keeps_the_worst_rows() {
        let row = |state| PreflightRow { check: "c".into(), target: "t".into(), state, detail: "x".repeat(1000) };
        let mut rows = vec![row(PreflightState::Ok); 50];
        rows.push(row(PreflightState::Failed));
        let frame = fitting(PreflightReport { checked_at: UnixTime(1), rows });
        assert_eq!(frame.rows[0].state(), v1::PreflightState::Failed);
        assert!(frame.rows.len() > 10);
        assert!(FromAgent::Preflight(frame).encode_frame().len() <= MAX_FRAME_BYTES);
    }
}
