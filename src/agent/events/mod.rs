//! The event log: one JSON line for each event in `events.jsonl`, and the same to the process's log. What the agent has done
//! stands in `audit.jsonl` as well: whoever can cause other events, by frames or by commands that change nothing, can make
//! those go, and not these.

mod file;
mod reading;
mod refusals;

pub use reading::{Filter, Follower, for_people, history, tail};
pub use refusals::Refused;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::file::{Appended, FILE_BYTES};
use self::refusals::{Refusals, Summary};
use crate::clock::Clock;
use crate::protocol::account::FoundAccount;
use crate::protocol::event::Event;
use crate::protocol::ids::{CommandId, PortalId};
use crate::protocol::untrusted::one_line;
use crate::storage::FileError;
use crate::telemetry::agent_metrics::AgentMetrics;

/// So much of a message is kept, in characters: it may say what a peer has said.
const MESSAGE_CHARS: usize = 2000;

/// What an event is about.
#[derive(Clone, Debug, Default, Serialize)]
pub struct About {
    /// The command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandId>,
    /// The account, as the portal named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The account that the directory has by that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Box<FoundAccount>>,
    /// The portal that asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portal: Option<PortalId>,
    /// The outcome's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// The W3C trace id of the request that brought the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    event_id: Event,
    name: &'static str,
    level: &'static str,
    message: &'a str,
    #[serde(flatten)]
    about: &'a About,
}

/// The open event log. Clones share it.
#[derive(Clone)]
pub struct EventLog {
    everything: Arc<Appended>,
    audit: Arc<Appended>,
    refusals: Arc<Mutex<Refusals>>,
    clock: Arc<dyn Clock>,
    /// Counts what is recorded.
    metrics: Arc<AgentMetrics>,
}

impl EventLog {
    /// Opens it for appending, and makes it if it is missing.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, FileError> {
        Self::with_files_of(FILE_BYTES, path, clock)
    }

    fn with_files_of(limit: u64, path: &Path, clock: Arc<dyn Clock>) -> Result<Self, FileError> {
        let everything = Arc::new(Appended::open(path.to_owned(), limit)?);
        let audit = Arc::new(Appended::open(audit(path), limit)?);
        Ok(Self { everything, audit, refusals: Arc::default(), clock, metrics: Arc::default() })
    }

    /// What the agent counts.
    pub(in crate::agent) fn metrics(&self) -> &Arc<AgentMetrics> {
        &self.metrics
    }

    /// Records an event. A log that can't be written never stops the work: the process's log says so instead.
    pub fn record(&self, event: Event, message: &str, about: &About) {
        self.write(level(event), event, message, about, false);
    }

    /// Records that the agent has done something, or may have: that outlives whatever others can cause.
    pub fn record_done(&self, event: Event, message: &str, about: &About) {
        self.write(level(event), event, message, about, true);
    }

    /// Records that what an event told of is over.
    pub fn record_mended(&self, event: Event, message: &str) {
        self.write("info", event, message, &About::default(), false);
    }

    /// Records that something of a peer's was refused; if that happens often, how often, once a minute.
    pub fn refuse(&self, kind: Refused, why: &str, about: &About) {
        self.metrics.refused(kind.label());
        if self.refusals.lock().is_told(kind, why, self.clock.now_ms()) {
            self.record(Event::InPutValidationError, &format!("{}: {why}", kind.one()), about);
        }
    }

    /// Records what was refused in the minute that is over.
    pub fn tell_refusals(&self) {
        self.summarise(false);
    }

    /// Records what was refused and has not been told yet, because the agent stops.
    pub fn tell_last_refusals(&self) {
        self.summarise(true);
    }

    fn summarise(&self, all: bool) {
        let due = self.refusals.lock().due(self.clock.now_ms(), all);
        for Summary { kind, count, seconds, last } in due {
            let message = format!("{count} {} within {seconds} s, the last one: {last}", kind.more());
            self.record(Event::InPutValidationError, &message, &About::default());
        }
    }

    fn write(&self, level: &'static str, event: Event, message: &str, about: &About, done: bool) {
        self.metrics.event(event.id(), event.name());
        let end = message.char_indices().nth(MESSAGE_CHARS).map_or(message.len(), |(end, _)| end);
        let message = message.get(..end).unwrap_or_default();
        let now = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.clock.now_ms()) * 1_000_000);
        let time = now.ok().and_then(|now| now.format(&Rfc3339).ok()).unwrap_or_default();
        let line = Line { time, event_id: event, name: event.name(), level, message, about };
        let written = serde_json::to_string(&line).map_err(std::io::Error::from).and_then(|line| {
            // The same JSON, but fit for whoever looks into the file at a terminal.
            let line = one_line(&line);
            // First, so that whoever reads it in the one finds it in the other.
            if done {
                self.audit.append(&line)?;
            }
            self.everything.append(&line)
        });
        if let Err(error) = written {
            tracing::error!(%error, "the event log can't be written");
        }
        let (id, name, command) = (event.id(), event.name(), about.command.map(|id| id.to_string()));
        let (account, portal) = (about.account.as_deref(), about.portal.as_ref().map(PortalId::as_str));
        let (code, trace_id) = (about.code, about.trace_id.as_deref());
        let found = about.found.as_ref().map(ToString::to_string);
        match level {
            "info" => {
                tracing::info!(
                    event_id = id,
                    event = name,
                    command,
                    account,
                    found,
                    portal,
                    code,
                    trace_id,
                    "{message}"
                );
            }
            "warning" => {
                tracing::warn!(
                    event_id = id,
                    event = name,
                    command,
                    account,
                    found,
                    portal,
                    code,
                    trace_id,
                    "{message}"
                );
            }
            _ => tracing::error!(
                event_id = id,
                event = name,
                command,
                account,
                found,
                portal,
                code,
                trace_id,
                "{message}"
            ),
        }
    }
}

/// What the agent has done, beside the log of everything.
pub(in crate::agent) fn audit(path: &Path) -> PathBuf {
    path.with_file_name("audit.jsonl")
}

impl std::fmt::Debug for EventLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventLog")
    }
}

fn level(event: Event) -> &'static str {
    match event {
        Event::PasswordResetStart
        | Event::PasswordResetSuccess
        | Event::OnboardingEventStart
        | Event::OnboardingEventSuccess
        | Event::ChangePasswordStart
        | Event::ChangePasswordSuccess
        | Event::WriteBackServiceStarted
        | Event::WriteBackServiceStopped
        | Event::AuthTokenSuccess
        | Event::KeyPairCreationSuccess => "info",
        Event::PasswordResetFail
        | Event::ChangePasswordFail
        | Event::OffboardingEventSuccess
        | Event::ServiceBusListenerError
        | Event::ServiceBusError
        | Event::ADUserNotFoundError
        | Event::ADMutliMatchError
        | Event::ADUserAccountDisabled
        | Event::ADUserAccountLockedOut
        | Event::ADUserIncorrectPassword
        | Event::ADPasswordPolicyError => "warning",
        Event::UnknownError
        | Event::ServiceError
        | Event::InPutValidationError
        | Event::DecryptionError
        | Event::ConfigurationError
        | Event::AuthTokenError
        | Event::ADUnKnownError
        | Event::ADPermissionsError
        | Event::ADConfigurationError => "error",
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
