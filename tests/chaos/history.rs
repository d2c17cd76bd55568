//! What happened, one JSON line for each event, on disk as it happens: the checker needs nothing else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use writeback_relay::protocol::ids::{AgentId, CommandId};
use writeback_relay::protocol::outcome::Status;

/// A change that a directory has made, as its log has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    /// By the operating system's clock, in milliseconds.
    pub(crate) at_ms: i64,
    pub(crate) guid: Uuid,
    pub(crate) account: String,
    /// Of the new password.
    pub(crate) digest: String,
    pub(crate) pwd_last_set: i64,
}

impl Change {
    /// All that stand whole in a log.
    pub(crate) fn read(log: &Path) -> Vec<Self> {
        read_lines(log)
    }

    /// Each tenant's: `directory-TENANT.jsonl` in this folder.
    pub(crate) fn read_all(folder: &Path) -> BTreeMap<String, Vec<Self>> {
        let tenant = |path: &Path| {
            path.file_name()?.to_str()?.strip_prefix("directory-")?.strip_suffix(".jsonl").map(str::to_owned)
        };
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.filter_map(|path| Some((tenant(&path)?, Self::read(&path)))).collect()
    }
}

/// A command, as it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) command: CommandId,
    pub(crate) tenant: String,
    pub(crate) agent: AgentId,
    pub(crate) account: String,
    /// Of its password, which no other command has.
    pub(crate) digest: String,
    pub(crate) lifetime_seconds: u64,
}

/// What a portal was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub(crate) enum Said {
    /// Accepted, delivering, received.
    Going { state: String },
    /// Its time is over and nobody knows.
    Unknown,
    /// The agent's word, verified by the portal with the key it has pinned.
    Signed { status: Status, code: String, digest: String },
    /// An outcome that does not hold.
    Forged { why: String },
    /// The relay's word, which a portal takes for leave to make a new command: nothing was written, nothing will be.
    NotDelivered { reason: String },
    /// The relay has no such command.
    NotThere,
    /// Refused for another reason.
    Refused { code: String },
    /// No answer, or one that says nothing: the store was away, the connection was lost.
    Nothing { why: String },
}

/// One event. Times are milliseconds since the beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A command was made, and will be sent.
    Made { at: u64, made: Made },
    /// A portal asked about its command, or sent it (again), and this came back.
    Answered { command: CommandId, asked: u64, at: u64, call: String, answer: Said },
    /// A portal asked for another tenant's command.
    Trespassed { at: u64, command: CommandId, answer: Said },
    /// Something was broken.
    Broke { at: u64, fault: String, how: String },
    /// The store came back empty.
    Emptied { at: u64 },
    /// A process has ended by itself.
    Ended { at: u64, process: String, status: String, for_good: bool },
    /// Nothing is broken any more, and nothing will be.
    Healed { at: u64 },
    /// Every agent was started anew after that.
    Restarted { at: u64 },
}

fn read_lines<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last line may be half written.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Writes the history.
pub(crate) struct History {
    file: Mutex<File>,
    began: Instant,
}

impl History {
    pub(crate) fn new(path: &Path) -> Self {
        let file = File::options().create_new(true).append(true).open(path).unwrap();
        Self { file: Mutex::new(file), began: Instant::now() }
    }

    /// Milliseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        self.began.elapsed().as_millis().try_into().unwrap()
    }

    pub(crate) fn record(&self, event: &Event) {
        let line = serde_json::to_string(event).unwrap() + "\n";
        self.file.lock().unwrap().write_all(line.as_bytes()).unwrap();
    }

    pub(crate) fn read(path: &Path) -> Vec<Event> {
        read_lines(path)
    }
}
