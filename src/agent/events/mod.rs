//! The event log: one JSON line for each event in `events.jsonl`, and the same to the process's log. A file that is long
//! enough becomes `events.jsonl.1`, and so on; the oldest goes.

mod reading;

pub use reading::{Filter, Follower, for_people, history};

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::Clock;
use crate::protocol::event::Event;
use crate::protocol::ids::{CommandId, PortalId};
use crate::protocol::untrusted::one_line;
use crate::storage::{FileError, PrivateFile};
use crate::telemetry::agent_metrics::AgentMetrics;

/// A file that is this long, in bytes, is put aside: some 30,000 events.
const FILE_BYTES: u64 = 8 * 1024 * 1024;
/// So many files are kept beside the one that is written.
const KEPT_ASIDE: u32 = 4;

/// What an event is about.
#[derive(Clone, Debug, Default, Serialize)]
pub struct About {
    /// The command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandId>,
    /// The account, as the portal named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
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
    file: Arc<Mutex<File>>,
    path: PathBuf,
    /// How long a file becomes, in bytes.
    limit: u64,
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
        let file = Arc::new(Mutex::new(PrivateFile::new(path).append()?));
        Ok(Self { file, path: path.to_owned(), limit: FILE_BYTES, clock, metrics: Arc::default() })
    }

    /// What the agent counts.
    pub(in crate::agent) fn metrics(&self) -> &Arc<AgentMetrics> {
        &self.metrics
    }

    /// Records an event. A log that can't be written never stops the work: the process's log says so instead.
    pub fn record(&self, event: Event, message: &str, about: &About) {
        self.write(level(event), event, message, about);
    }

    /// Records that what an event told of is over.
    pub fn record_mended(&self, event: Event, message: &str) {
        self.write("info", event, message, &About::default());
    }

    fn write(&self, level: &'static str, event: Event, message: &str, about: &About) {
        self.metrics.event(event.id(), event.name());
        let now = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.clock.now_ms()) * 1_000_000);
        let time = now.ok().and_then(|now| now.format(&Rfc3339).ok()).unwrap_or_default();
        let line = Line { time, event_id: event, name: event.name(), level, message, about };
        let written = serde_json::to_string(&line).map_err(std::io::Error::from).and_then(|text| {
            // The same JSON, but fit for whoever looks into the file at a terminal.
            let text = one_line(&text);
            let mut file = self.file.lock();
            // Whoever may have shortened it meanwhile.
            if file.metadata()?.len() >= self.limit {
                *file = self.put_aside()?;
            }
            // One write for one line, so that lines of two processes don't mix.
            file.write_all(format!("{text}\n").as_bytes())
        });
        if let Err(error) = written {
            tracing::error!(%error, "the event log can't be written");
        }
        let (id, name, command) = (event.id(), event.name(), about.command.map(|id| id.to_string()));
        let (account, portal) = (about.account.as_deref(), about.portal.as_ref().map(PortalId::as_str));
        let (code, trace_id) = (about.code, about.trace_id.as_deref());
        match level {
            "info" => {
                tracing::info!(event_id = id, event = name, command, account, portal, code, trace_id, "{message}");
            }
            "warning" => {
                tracing::warn!(event_id = id, event = name, command, account, portal, code, trace_id, "{message}");
            }
            _ => tracing::error!(event_id = id, event = name, command, account, portal, code, trace_id, "{message}"),
        }
    }
}

impl EventLog {
    fn put_aside(&self) -> io::Result<File> {
        for n in (1..KEPT_ASIDE).rev() {
            match fs::rename(aside(&self.path, n), aside(&self.path, n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, aside(&self.path, 1))?;
        PrivateFile::new(&self.path).append().map_err(io::Error::other)
    }
}

/// The `n`th file that was put aside; the first is the youngest.
fn aside(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
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
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::clock::System;

    #[test]
    fn each_event_is_one_private_line_with_what_it_is_about() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let log = EventLog::open(&path, System::clock()).unwrap();
        log.record(Event::PasswordResetStart, "a \"quoted\"\nmessage", &About::default());
        let about = About { account: Some("jane@corp.example".into()), code: Some("x"), ..About::default() };
        log.record(Event::ADPasswordPolicyError, "no", &about);
        let lines = history(&path).unwrap();
        assert_eq!(lines.len(), 2);
        let line: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!((line["event_id"].as_u64(), line["level"].as_str()), (Some(33008), Some("warning")));
        assert_eq!((line["account"].as_str(), line["command"].as_str()), (Some("jane@corp.example"), None));
        let time = line["time"].as_str().unwrap();
        assert!(OffsetDateTime::parse(time, &Rfc3339).is_ok() && time.ends_with('Z'), "{time}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_long_log_is_put_aside_and_only_the_oldest_lines_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let log = EventLog { limit: 1000, ..EventLog::open(&path, System::clock()).unwrap() };
        let mut longest = 0;
        for n in 0..100 {
            log.record(Event::PasswordResetStart, &format!("number {n}"), &About::default());
            let lines = history(&path).unwrap();
            longest = longest.max(lines.len());
            let numbers =
                lines.iter().map(|line| line.split('"').find_map(|text| text.strip_prefix("number ")).unwrap());
            let first = n + 1 - lines.len();
            assert!(numbers.eq((first..=n).map(|n| n.to_string())), "after {n}");
            assert!(lines.len() >= (n + 1).min(4 * longest / 5), "after {n}: {}", lines.len());
        }
        let mut files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, ["events.jsonl", "events.jsonl.1", "events.jsonl.2", "events.jsonl.3", "events.jsonl.4"]);
        for file in files {
            assert_eq!(fs::metadata(dir.path().join(file)).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
