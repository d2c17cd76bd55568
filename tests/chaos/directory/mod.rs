//! The demo directory: a process of its own that a tenant's agents share. Every change is on disk, in a log, before it
//! is answered; the log is the truth that everything else is compared with.

pub(crate) mod client;
pub(crate) mod server;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use writeback_relay::protocol::jose::{base64url, sha256};

/// Where it listens.
const PORT: u16 = 3890;

/// Passwords with this in them are against the policy.
pub(crate) const WEAK: &str = "weak";

/// What an agent asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Question {
    Find(String),
    FindGuid(Uuid),
    Reset { guid: Uuid, digest: String, force_change: bool },
    LastSet(Uuid),
    Check { guid: Uuid, digest: String },
}

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Account { guid: Uuid, account: String, pwd_last_set: i64 },
    NoSuchAccount,
    Done,
    LastSet(i64),
    Checked(bool),
}

/// A password, as it stands in logs: each command has a password of its own, so this names the command.
pub(crate) fn digest(password: &str) -> String {
    base64url(&sha256(password.as_bytes()))
}

/// The name of an account that exists. Every tenant has the same names.
pub(crate) fn account(number: usize) -> String {
    format!("user-{number:03}@corp.example")
}
