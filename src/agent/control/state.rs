//! What the running agent tells about itself.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::protocol::api::PreflightReport;
use crate::protocol::untrusted::Untrusted;

/// The running agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its version.
    pub version: String,
    /// Its process.
    pub process: u32,
    /// Since when it runs.
    pub since: UnixTime,
    /// Its sessions with the relay.
    pub sessions: Vec<OpenSession>,
    /// Why there is no further session, if it has tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Whether a portal has approved the agent, as the relay said last; absent before it said anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<bool>,
    /// The proxy on the way to the relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// What it has done, and what is left to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// What the last check found; absent before the first has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preflight: Option<PreflightReport>,
}

impl Running {
    /// Whether a portal has approved it. A relay that does not say it while a session is open has it known by the first command.
    #[must_use]
    pub fn is_approved(&self) -> bool {
        self.approved == Some(true) || self.work.as_ref().is_some_and(|work| work.done + work.not_done > 0)
    }
}

/// Numbers of commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Done since it runs: passwords reset or changed, accounts unlocked.
    pub done: u64,
    /// Answered since it runs, and not done, or not known to be.
    pub not_done: u64,
    /// Without an outcome.
    pub unfinished: usize,
    /// Outcomes that the relay has not stored.
    pub unstored: usize,
}

/// A session with the relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    /// The relay node's name.
    pub node: Untrusted,
    /// Since when.
    pub since: UnixTime,
}

/// What of it changes while the agent runs, noted by whoever changes it.
#[derive(Debug, Default)]
pub(in crate::agent) struct Noted(Mutex<Inner>);

#[derive(Clone, Debug, Default)]
struct Inner {
    sessions: Vec<OpenSession>,
    trouble: Option<String>,
}

impl Noted {
    /// These sessions are open.
    pub(in crate::agent) fn sessions(&self, open: Vec<OpenSession>) {
        self.0.lock().sessions = open;
    }

    /// A session was opened.
    pub(in crate::agent) fn opened(&self) {
        self.0.lock().trouble = None;
    }

    /// There is no session, or none more, because of this.
    pub(in crate::agent) fn trouble(&self, why: &str) {
        self.0.lock().trouble = Some(why.to_owned());
    }

    /// Put together with what does not change.
    pub(super) fn tell(
        &self,
        still: &Still,
        approved: Option<bool>,
        work: Option<Work>,
        preflight: Option<PreflightReport>,
    ) -> Running {
        let Inner { sessions, trouble } = self.0.lock().clone();
        Running {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            since: still.since,
            sessions,
            trouble,
            approved,
            proxy: still.proxy.clone(),
            work,
            preflight,
        }
    }
}

/// What does not change.
pub(super) struct Still {
    pub(super) since: UnixTime,
    pub(super) proxy: Option<String>,
}
