//! What a process tells systemd, or another that speaks `sd_notify(3)`. Without one, nothing is told.

use std::time::Duration;

use sd_notify::{NotifyState, notify, watchdog_enabled};

use crate::protocol::untrusted::one_line;

/// A service whose manager gave no watchdog looks after itself so often.
const UNWATCHED: Duration = Duration::from_secs(60);

fn tell(state: &NotifyState<'_>) {
    if let Err(error) = notify(std::slice::from_ref(state)) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// Whether there is one.
#[must_use]
pub fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// The service is up.
pub fn ready() {
    tell(&NotifyState::Ready);
}

/// How it is, in a line for people. One line: the next would be another word to the service manager.
pub fn status(text: &str) {
    tell(&NotifyState::Status(&one_line(text)));
}

/// It has begun to stop.
pub fn stopping() {
    tell(&NotifyState::Stopping);
}

/// It may take so long to stop, however short the manager's own patience (`TimeoutStopSec=`) is.
pub fn stops_within(limit: Duration) {
    let micros = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
    tell(&NotifyState::ExtendTimeoutUsec(micros));
}

/// Says that it is alive. A service that does not for [`alive_every`] and as much again is killed and started anew.
pub fn alive() {
    if watchdog_enabled().is_some() {
        tell(&NotifyState::Watchdog);
    }
}

/// How often [`alive`] is to be said: twice as often as the manager looks (`WatchdogSec=`).
#[must_use]
pub fn alive_every() -> Duration {
    watchdog_enabled().map_or(UNWATCHED, |limit| limit / 2)
}
