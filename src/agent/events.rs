//! The event log: one JSON line for each event in `events.jsonl`, and the same to the process's log.
//!
//! The file is opened for appending, so it can be rotated by copying and truncating it.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::Clock;
use crate::protocol::event::Event;
use crate::protocol::ids::{CommandId, PortalId};
use crate::storage::{FileError, PrivateFile};

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
    clock: Arc<dyn Clock>,
}

impl EventLog {
    /// Opens it for appending, and makes it if it is missing.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, FileError> {
        Ok(Self { file: Arc::new(Mutex::new(PrivateFile::new(path).append()?)), clock })
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
        let now = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.clock.now_ms()) * 1_000_000);
        let time = now.ok().and_then(|now| now.format(&Rfc3339).ok()).unwrap_or_default();
        let line = Line { time, event_id: event, name: event.name(), level, message, about };
        let written = serde_json::to_string(&line).map_err(std::io::Error::from).and_then(|text| {
            // One write for one line, so that lines of two processes don't mix.
            self.file.lock().write_all(format!("{text}\n").as_bytes())
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

/// The last `count` lines of an event log, oldest first; none if there is no log.
///
/// # Errors
/// If the file is there and can't be read.
pub fn last_lines(path: &Path, count: usize) -> Result<Vec<String>, std::io::Error> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let mut lines: Vec<String> = text.lines().rev().take(count).map(str::to_owned).collect();
    lines.reverse();
    Ok(lines)
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
        let lines = last_lines(&path, 10).unwrap();
        assert_eq!(lines.len(), 2);
        let line: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!((line["event_id"].as_u64(), line["level"].as_str()), (Some(33008), Some("warning")));
        assert_eq!((line["account"].as_str(), line["command"].as_str()), (Some("jane@corp.example"), None));
        let time = line["time"].as_str().unwrap();
        assert!(OffsetDateTime::parse(time, &Rfc3339).is_ok() && time.ends_with('Z'), "{time}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(last_lines(&path, 1).unwrap().len(), 1);
    }
}
