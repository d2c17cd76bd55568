//! The agent's memory: every command it has seen, how far it came, and the outcome. Each stage is on disk before the
//! next thing happens, so a command is executed once, whatever crashes.

mod quota;
mod refused;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::quota::{Quota, Start};
use super::directory::Account;
use super::format::FORMAT;
use crate::clock::UnixTime;
use crate::protocol::command::Command;
use crate::protocol::ids::{CommandId, JournalId};
use crate::protocol::jose::{base64url, sha256};
use crate::protocol::limits::JOURNAL_RETENTION;
use crate::storage::redb::{self, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use crate::storage::{Database, DatabaseError};

/// `id` -> the journal's id; `format` -> the form of everything else, the first if it is absent.
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
/// Command id -> [`Entry`] as JSON.
const ENTRIES: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("entries");
/// Order of arrival -> command id, for entries that are not concluded, or whose outcome the relay has not stored.
const OPEN: TableDefinition<'_, u64, [u8; 16]> = TableDefinition::new("open");
/// (`exp`, command id), for the others: they are purged in this order.
const CLOSED: TableDefinition<'_, (i64, [u8; 16]), ()> = TableDefinition::new("closed");

/// So many commands may have no outcome, or one that the relay has not stored: a relay has no more of one tenant on their way.
const MAX_OPEN: u64 = 4096;
/// So many commands are remembered. It takes one every three seconds, day and night, until the oldest are purged.
const MAX_ENTRIES: u64 = 250_000;

/// Why the journal can't be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// The file is missing, damaged, in use, or a read or write failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// It belongs to another enrolment.
    #[error(
        "{path}: this journal is not the one the agent was enrolled with ({found} instead of {expected}); \
         put the right file back, or enrol again in an empty folder"
    )]
    Foreign {
        /// The file.
        path: String,
        /// The id in the file.
        found: String,
        /// The id in `identity.json`.
        expected: JournalId,
    },
    /// A newer version of the program has written it.
    #[error(
        "{path}: written by a newer version of this program (format {found}, and this one knows {known}); install that \
         version or a later one: with a journal of another time commands could be executed twice",
        known = FORMAT
    )]
    Newer {
        /// The file.
        path: String,
        /// The number of its form.
        found: String,
    },
    /// A command was to take a step it can't take from where it is.
    #[error("{path}: command {command} can't be {step} any more")]
    Stage {
        /// The file.
        path: String,
        /// The command.
        command: CommandId,
        /// The step.
        step: &'static str,
    },
}

/// A command, as the journal knows it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Entry {
    /// The command.
    pub command: CommandId,
    /// Greater than that of every command that came before.
    pub order: u64,
    /// base64url of the SHA-256 of its JWS, which tells the same command from another with the same id.
    pub sha256: String,
    /// Nothing is started at or after this time.
    pub exp: UnixTime,
    /// The W3C trace id it came with.
    pub trace_id: Option<String>,
    /// How far it came.
    pub stage: Stage,
}

/// How far a command came. The sealed password is gone with the JWS as soon as there is an outcome.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// The directory has not been asked to write.
    Received {
        /// The command.
        jws: String,
    },
    /// The directory may have been asked to write.
    Started {
        /// The command.
        jws: String,
        /// The account as it was before.
        account: Account,
    },
    /// There is an outcome, and it will never be another.
    Concluded {
        /// The signed outcome.
        outcome: String,
        /// Whether the relay has it.
        stored: bool,
    },
}

/// What came of taking a command in.
pub enum Receipt {
    /// It was not known; now it is on disk.
    New,
    /// The same one is known.
    Known(Box<Entry>),
    /// Another one with the same id is known. Nothing was changed.
    Conflict,
    /// There are too many. Nothing was changed, and this one is not known.
    Full,
}

/// The open journal. Clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    db: Database,
}

fn damaged(error: serde_json::Error) -> redb::Error {
    redb::Error::Corrupted(format!("an entry is not of its form: {error}"))
}

fn parse(bytes: &[u8]) -> Result<Entry, redb::Error> {
    serde_json::from_slice(bytes).map_err(damaged)
}

fn get(t: &WriteTransaction, id: CommandId) -> Result<Option<Entry>, redb::Error> {
    t.open_table(ENTRIES)?.get(id.as_bytes())?.map(|value| parse(value.value())).transpose()
}

fn put(t: &WriteTransaction, entry: &Entry) -> Result<(), redb::Error> {
    let id = *entry.command.as_bytes();
    t.open_table(ENTRIES)?.insert(id, serde_json::to_vec(entry).map_err(damaged)?.as_slice())?;
    if matches!(entry.stage, Stage::Concluded { stored: true, .. }) {
        t.open_table(OPEN)?.remove(entry.order)?;
        t.open_table(CLOSED)?.insert((entry.exp.0, id), ())?;
    } else {
        t.open_table(OPEN)?.insert(entry.order, id)?;
    }
    Ok(())
}

impl Journal {
    /// Makes the journal of a new agent, or goes on making it where a crash has interrupted that.
    ///
    /// # Errors
    /// If the file can't be made, or belongs to another agent.
    pub async fn create(path: &Path, id: JournalId) -> Result<Self, JournalError> {
        let db = Database::open_or_create(path)?;
        db.write(move |t| {
            let mut meta = t.open_table(META)?;
            t.open_table(ENTRIES)?;
            t.open_table(OPEN)?;
            t.open_table(CLOSED)?;
            if meta.is_empty()? {
                meta.insert("id", id.to_string().as_str())?;
                meta.insert("format", FORMAT.to_string().as_str())?;
            }
            Ok(())
        })
        .await?;
        Self { db }.belonging_to(id)
    }

    /// Opens the journal of an enrolled agent. It is never made anew: what it has forgotten could be executed twice.
    ///
    /// # Errors
    /// If it is missing, damaged, in use, or belongs to another enrolment.
    pub fn open(path: &Path, id: JournalId) -> Result<Self, JournalError> {
        Self { db: Database::open(path)? }.belonging_to(id)
    }

    fn belonging_to(self, expected: JournalId) -> Result<Self, JournalError> {
        let (format, found) = self.db.read(|t| {
            let meta = t.open_table(META)?;
            let value = |name| Ok::<_, redb::Error>(meta.get(name)?.map(|value| value.value().to_owned()));
            Ok((value("format")?, value("id")?))
        })?;
        if let Some(found) = format.filter(|format| !format.parse().is_ok_and(|known| (1..=FORMAT).contains(&known))) {
            return Err(JournalError::Newer { path: self.path(), found });
        }
        if found.as_deref() == Some(expected.to_string().as_str()) {
            return Ok(self);
        }
        let found = found.unwrap_or_else(|| "none".to_owned());
        Err(JournalError::Foreign { path: self.path(), found, expected })
    }

    fn path(&self) -> String {
        self.db.path().display().to_string()
    }

    /// Whether there is an entry for this command.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn knows(&self, id: CommandId) -> Result<bool, JournalError> {
        Ok(self.db.read(|t| Ok(t.open_table(ENTRIES)?.get(id.as_bytes())?.is_some()))?)
    }

    /// Takes a command in. When this returns [`Receipt::New`], it is on disk.
    ///
    /// # Errors
    /// If it is not on disk.
    pub async fn receive(
        &self,
        command: &Command,
        jws: &str,
        trace_id: Option<String>,
    ) -> Result<Receipt, JournalError> {
        let (id, exp, jws) = (command.jti, command.validity.exp, jws.to_owned());
        let hash = base64url(&sha256(jws.as_bytes()));
        let receive = move |t: &WriteTransaction| match get(t, id)? {
            Some(known) if known.sha256 == hash => Ok(Receipt::Known(Box::new(known))),
            Some(_) => Ok(Receipt::Conflict),
            None if t.open_table(OPEN)?.len()? >= MAX_OPEN || t.open_table(ENTRIES)?.len()? >= MAX_ENTRIES => {
                Ok(Receipt::Full)
            }
            None => {
                // Entries that are closed don't need an order any more, so the open ones alone decide the next.
                let order = t.open_table(OPEN)?.last()?.map_or(0, |(last, _)| last.value() + 1);
                put(t, &Entry { command: id, order, sha256: hash, exp, trace_id, stage: Stage::Received { jws } })?;
                Ok(Receipt::New)
            }
        };
        Ok(self.db.write(receive).await?)
    }

    /// The directory is about to be asked to write. When this returns [`Start::Now`], that is on disk, and counted.
    ///
    /// # Errors
    /// If it is not on disk; then the directory must not be asked.
    pub async fn start(&self, id: CommandId, account: Account, quota: Option<Quota>) -> Result<Start, JournalError> {
        let start = move |t: &WriteTransaction| {
            let Some(entry) = get(t, id)? else { return Ok(None) };
            let Stage::Received { jws } = entry.stage else { return Ok(None) };
            if let Some(quota) = quota
                && let Start::NotBefore(time) = quota.take(t, account.object_guid, id)?
            {
                return Ok(Some(Start::NotBefore(time)));
            }
            put(t, &Entry { stage: Stage::Started { jws, account }, ..entry })?;
            Ok(Some(Start::Now))
        };
        let stage = || JournalError::Stage { path: self.path(), command: id, step: "started" };
        self.db.write(start).await?.ok_or_else(stage)
    }

    /// A started write was certainly not sent, and is about to be sent to another controller, where the account was found.
    /// When this returns, that is on disk. It is not counted again.
    ///
    /// # Errors
    /// As [`Self::start`], and if it was not started.
    pub async fn start_elsewhere(&self, id: CommandId, account: Account) -> Result<(), JournalError> {
        let start = move |t: &WriteTransaction| {
            let Some(entry) = get(t, id)? else { return Ok(false) };
            let Stage::Started { jws, .. } = entry.stage else { return Ok(false) };
            put(t, &Entry { stage: Stage::Started { jws, account }, ..entry })?;
            Ok(true)
        };
        let stage = || JournalError::Stage { path: self.path(), command: id, step: "started elsewhere" };
        if self.db.write(start).await? { Ok(()) } else { Err(stage()) }
    }

    /// There is an outcome. Gives the first one, which is another if there was one already. A write that was certainly
    /// `not_done` is not counted any more.
    ///
    /// # Errors
    /// If it is not on disk; then it must not be told to anybody.
    pub async fn conclude(&self, id: CommandId, outcome: String, not_done: bool) -> Result<String, JournalError> {
        let conclude = move |t: &WriteTransaction| match get(t, id)? {
            None => Ok(None),
            Some(Entry { stage: Stage::Concluded { outcome: first, .. }, .. }) => Ok(Some(first)),
            Some(entry) => {
                if let (Stage::Started { account, .. }, true) = (&entry.stage, not_done) {
                    quota::give_back(t, account.object_guid, id)?;
                }
                put(t, &Entry { stage: Stage::Concluded { outcome: outcome.clone(), stored: false }, ..entry })?;
                Ok(Some(outcome))
            }
        };
        let stage = || JournalError::Stage { path: self.path(), command: id, step: "concluded" };
        self.db.write(conclude).await?.ok_or_else(stage)
    }

    /// The relay has the outcome. Of a command that is not known or has no outcome, nothing is changed.
    ///
    /// # Errors
    /// If it is not on disk.
    pub async fn stored(&self, id: CommandId) -> Result<(), JournalError> {
        let stored = move |t: &WriteTransaction| match get(t, id)? {
            Some(Entry {
                stage: Stage::Concluded { outcome, stored: false },
                command,
                order,
                sha256,
                exp,
                trace_id,
            }) => {
                let stage = Stage::Concluded { outcome, stored: true };
                put(t, &Entry { command, order, sha256, exp, trace_id, stage })
            }
            _ => Ok(()),
        };
        Ok(self.db.write(stored).await?)
    }

    /// What is not concluded, or not stored by the relay, in order of arrival.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn open_entries(&self) -> Result<Vec<Entry>, JournalError> {
        let entries = self.db.read(|t| {
            let (open, entries) = (t.open_table(OPEN)?, t.open_table(ENTRIES)?);
            let mut found = Vec::new();
            for row in open.iter()? {
                if let Some(value) = entries.get(row?.1.value())? {
                    found.push(parse(value.value())?);
                }
            }
            Ok(found)
        });
        Ok(entries?)
    }

    /// The commands without an outcome, in order of arrival.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn unfinished(&self) -> Result<Vec<Entry>, JournalError> {
        let mut entries = self.open_entries()?;
        entries.retain(|entry| !matches!(entry.stage, Stage::Concluded { .. }));
        Ok(entries)
    }

    /// The outcomes that the relay has not stored, in order of arrival of their commands.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn unstored(&self) -> Result<Vec<(CommandId, String)>, JournalError> {
        let outcome = |entry: Entry| match entry.stage {
            Stage::Concluded { outcome, stored: false } => Some((entry.command, outcome)),
            _ => None,
        };
        Ok(self.open_entries()?.into_iter().filter_map(outcome).collect())
    }

    /// Forgets what was stored by the relay and expired more than a week ago. Gives how many.
    ///
    /// # Errors
    /// If it is not on disk.
    pub async fn purge(&self, now: UnixTime) -> Result<usize, JournalError> {
        let until = now.0.saturating_sub_unsigned(JOURNAL_RETENTION.as_secs());
        let purge = move |t: &WriteTransaction| {
            quota::purge(t, now)?;
            let (mut closed, mut entries) = (t.open_table(CLOSED)?, t.open_table(ENTRIES)?);
            let mut purged = 0;
            for row in closed.extract_from_if(..(until, [0; 16]), |_, ()| true)? {
                let (_, id) = row?.0.value();
                entries.remove(id)?;
                refused::forget(t, id)?;
                purged += 1;
            }
            Ok(purged)
        };
        Ok(self.db.write(purge).await?)
    }
}

#[cfg(test)]
mod tests;
