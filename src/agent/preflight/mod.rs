//! Looks whether resets can work, before a user needs one, and says so: to people, to the relay, and in the event log.
//!
//! | module | what |
//! |---|---|
//! | `files` | what only the agent may read |
//! | `relay` | whether the relay can be reached |
//! | `troubles` | what the event log has been told |
//! | `table` | for people |
//!
//! The rest is the directory's own: [`Directory::preflight`].

mod files;
mod relay;
mod table;
mod troubles;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

pub use self::table::{brief, found_by, sum, table, worst};
use self::troubles::Troubles;
use super::directory::{Directory, Finding};
use super::events::EventLog;
use super::home::Home;
use crate::clock::Clock;
use crate::net::outbound::Access;
use crate::protocol::api::{PreflightReport, PreflightState};
use crate::protocol::frame::{FromAgent, v1};
use crate::protocol::limits::{CHECKS_PER_MINUTE, MAX_FRAME_BYTES};

/// Everything there is to check, once: files, the way to the relay, the directory. Changes nothing, and works while the
/// agent runs, or before it is enrolled.
pub async fn check(home: &Home, directory: &dyn Directory, access: &Access, clock: &dyn Clock) -> PreflightReport {
    let mut findings = files::look(home);
    findings.extend(relay::look(home, access, clock).await);
    findings.extend(directory.preflight(clock).await);
    report(findings, directory, clock)
}

/// The exit status of a check, as monitoring systems read it: 0 is green, 1 a warning, 2 a failure.
#[must_use]
pub fn exit_status(report: &PreflightReport) -> u8 {
    match report.worst() {
        PreflightState::Ok => 0,
        PreflightState::Warning => 1,
        PreflightState::Failed => 2,
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// When nothing could be checked: monitoring systems call it "unknown".
pub const NOTHING_CHECKED: u8 = 3;

/// A report for programs, with the worst row's `state` before the rows.
#[must_use]
pub fn json(report: &PreflightReport) -> String {
    let PreflightReport { checked_at, rows, domains } = report;
    let state = report.worst();
    let whole = serde_json::json!({ "checked_at": checked_at, "state": state, "rows": rows, "domains": domains });
    format!("{whole:#}")
}

fn report(findings: Vec<Finding>, directory: &dyn Directory, clock: &dyn Clock) -> PreflightReport {
    let rows = findings.into_iter().map(Into::into).collect();
    PreflightReport { checked_at: clock.now(), rows, domains: directory.domains() }
}

/// The running agent's check. Clones share it.
///
/// It leaves out whether the relay can be reached: a report that arrives proves it, and one that waited for the relay
/// would be wrong when it arrives.
#[derive(Clone)]
pub(super) struct Preflight(Arc<Inner>);

struct Inner {
    home: Home,
    directory: Arc<dyn Directory>,
    interval: Duration,
    clock: Arc<dyn Clock>,
    troubles: Mutex<Troubles>,
    wanted: Notify,
    turn: Mutex<Turn>,
    latest: watch::Sender<Option<v1::Preflight>>,
}

impl Inner {
    fn begin(&self) {
        let mut turn = self.turn.lock();
        (turn.checking, turn.overtaken) = (true, false);
    }

    fn end(&self, found: v1::Preflight) {
        let mut turn = self.turn.lock();
        turn.checking = false;
        if turn.overtaken {
            turn.stale = found.checked_at;
        }
        self.latest.send_replace(Some(found));
    }
}

/// Whether a check is going on, and which report is older than the last wish for one.
struct Turn {
    checking: bool,
    /// Somebody has wished for one since it began.
    overtaken: bool,
    /// Reports up to this `checked_at` are.
    stale: i64,
}

impl Preflight {
    pub(super) fn new(
        home: &Home,
        directory: Arc<dyn Directory>,
        events: EventLog,
        interval: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (troubles, latest) = (Mutex::new(Troubles::new(events)), watch::Sender::new(None));
        let (home, wanted) = (home.clone(), Notify::new());
        let turn = Mutex::new(Turn { checking: false, overtaken: false, stale: i64::MIN });
        Self(Arc::new(Inner { home, directory, interval, clock, troubles, wanted, turn, latest }))
    }

    /// Checks now, then in every interval, and when somebody wants to know. While something is red, it may have been mended:
    /// then every minute.
    pub(super) async fn run(&self) -> Infallible {
        let inner = &self.0;
        let mut lately = Lately::default();
        loop {
            inner.begin();
            let mut findings = files::look(&inner.home);
            findings.extend(inner.directory.preflight(&*inner.clock).await);
            inner.troubles.lock().note(&findings);
            let interval = until_next(&findings, inner.interval);
            let mut found = fitting(report(findings, &*inner.directory, &*inner.clock));
            // No two of them have one time, so that whoever has asked for one knows it from the one before.
            let before = inner.latest.borrow().as_ref().map_or(0, |before| before.checked_at);
            found.checked_at = found.checked_at.max(before.saturating_add(1));
            inner.end(found);
            let again = lately.next(Instant::now());
            // Either will do.
            if timeout(interval, inner.wanted.notified()).await.is_ok() {
                sleep_until(again).await;
            }
        }
    }

    /// Somebody wants to know how things stand. Whoever asks while it is checked is answered by one check more.
    pub(super) fn want(&self) {
        let inner = &self.0;
        let mut turn = inner.turn.lock();
        if turn.checking {
            turn.overtaken = true;
        } else {
            turn.stale = inner.latest.borrow().as_ref().map_or(i64::MIN, |latest| latest.checked_at);
        }
        drop(turn);
        inner.wanted.notify_one();
    }

    /// Whether its check had begun when somebody wanted to know last. Another one follows.
    pub(super) fn is_stale(&self, report: &v1::Preflight) -> bool {
        report.checked_at <= self.0.turn.lock().stale
    }

    /// What was found last.
    pub(super) fn latest(&self) -> Option<PreflightReport> {
        self.0.latest.borrow().clone().map(Into::into)
    }

    /// What was found last; the last one counts as new to whoever subscribes.
    pub(super) fn reports(&self) -> watch::Receiver<Option<v1::Preflight>> {
        let mut reports = self.0.latest.subscribe();
        reports.mark_changed();
        reports
    }
}

/// What is red may be mended at any moment.
fn until_next(findings: &[Finding], usually: Duration) -> Duration {
    let is_red = findings.iter().any(|finding| finding.state == PreflightState::Failed);
    if is_red { usually.min(MINUTE) } else { usually }
}

/// When it was checked.
#[derive(Default)]
struct Lately(VecDeque<Instant>);

impl Lately {
    /// It is checked now. Before the given time it is not checked again for whoever asks.
    fn next(&mut self, now: Instant) -> Instant {
        let most = usize::from(CHECKS_PER_MINUTE);
        if self.0.len() == most {
            self.0.pop_front();
        }
        self.0.push_back(now);
        let first = self.0.front().filter(|_| self.0.len() == most);
        first.map_or(now, |first| *first + MINUTE)
    }
}

/// The report as a frame; what does not fit is left off, and the worst rows come first.
fn fitting(mut report: PreflightReport) -> v1::Preflight {
    report.rows.sort_by_key(|row| std::cmp::Reverse(row.state));
    let mut frame = v1::Preflight::from(report);
    while FromAgent::Preflight(frame.clone()).encode_frame().len() > MAX_FRAME_BYTES {
        // Domains are few, and without them nobody knows what the rows leave.
        if frame.rows.pop().is_none() && frame.domains.pop().is_none() {
            break;
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{Enrolled, Scripted, deadline};
    use crate::clock::UnixTime;
    use crate::protocol::api::PreflightRow;
    use crate::protocol::untrusted::Untrusted;

    fn row(state: PreflightState, length: usize) -> PreflightRow {
        let (check, target, remedy) = ("c".into(), "t".into(), Untrusted::default());
        PreflightRow { check, target, state, detail: "x".repeat(length).into(), remedy, remedy_code: None, scope: None }
    }

    #[test]
    fn a_report_of_any_size_is_a_frame_and_keeps_the_worst_rows() {
        let mut rows = vec![row(PreflightState::Ok, 1000); 50];
        rows.push(row(PreflightState::Failed, 1000));
        let frame = fitting(PreflightReport { checked_at: UnixTime(1), rows, domains: vec![] });
        assert_eq!(frame.rows[0].state(), v1::PreflightState::Failed);
        assert!(frame.rows.len() > 10);
        assert!(FromAgent::Preflight(frame).encode_frame().len() <= MAX_FRAME_BYTES);
    }

    #[test]
    fn the_worst_row_is_the_exit_status() {
        let status = |states: &[PreflightState]| {
            let rows = states.iter().map(|state| row(*state, 1)).collect();
            exit_status(&PreflightReport { checked_at: UnixTime(1), rows, domains: vec![] })
        };
        use PreflightState::{Failed, Ok, Warning};
        assert_eq!((status(&[]), status(&[Ok]), status(&[Ok, Warning])), (0, 0, 1));
        assert_eq!(status(&[Failed, Warning, Ok]), 2);
    }

    #[tokio::test]
    async fn it_is_checked_at_the_start_and_whenever_somebody_wants_to_know() {
        let agent = Enrolled::new().await;
        let directory = Arc::new(Scripted::default());
        let events = EventLog::open(&agent.home().events(), agent.clock.clone()).unwrap();
        let hour = Duration::from_secs(3600);
        let preflight = Preflight::new(&agent.home(), directory.clone(), events, hour, agent.clock.clone());
        let mut reports = preflight.reports();
        let running = preflight.clone();
        tokio::spawn(async move { running.run().await });
        deadline(directory.called("preflight", 1)).await;
        deadline(reports.wait_for(Option::is_some)).await.unwrap();
        let before = reports.borrow_and_update().clone().unwrap();
        assert!(!preflight.is_stale(&before));
        preflight.want();
        // Whoever asks now is not answered by what was found before.
        assert!(preflight.is_stale(&before));
        deadline(directory.called("preflight", 2)).await;
        deadline(reports.changed()).await.unwrap();
        assert!(!preflight.is_stale(&reports.borrow().clone().unwrap()));
    }

    #[test]
    fn while_something_is_red_it_is_checked_every_minute() {
        use crate::agent::directory::Check;
        let hour = Duration::from_secs(3600);
        let [ok, warning, failed] =
            [Finding::ok, Finding::warning, Finding::failed].map(|of| of(Check::Bind, "dc", "d"));
        assert_eq!(until_next(&[ok.clone(), warning], hour), hour);
        assert_eq!(until_next(&[ok, failed.clone()], hour), MINUTE);
        assert_eq!(until_next(&[failed], Duration::from_secs(5)), Duration::from_secs(5));
    }

    #[test]
    fn a_relay_that_asks_without_end_has_the_domain_controllers_asked_a_few_times_a_minute() {
        let (mut lately, began) = (Lately::default(), Instant::now());
        let (mut now, mut checks) = (began, 0);
        while now < began + 10 * MINUTE {
            checks += 1;
            // It takes a moment, and then somebody has asked already.
            now = lately.next(now).max(now) + Duration::from_millis(20);
        }
        assert_eq!(checks, 10 * usize::from(CHECKS_PER_MINUTE));
        now += MINUTE;
        assert!((1..CHECKS_PER_MINUTE).all(|_| lately.next(now) <= now), "whoever asks now and then does not wait");
    }
}
