//! The agent's memory: every command it has seen, how far it came, and the outcome. Each stage is on disk before the
//! next thing happens, so a command is executed once, whatever crashes.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::directory::Account;
use crate::clock::UnixTime;
use crate::protocol::command::Command;
use crate::protocol::ids::{CommandId, JournalId};
use crate::protocol::jose::{base64url, sha256};
use crate::protocol::limits::JOURNAL_RETENTION;
use crate::storage::redb::{self, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use crate::storage::{Database, DatabaseError};

/// `id` -> the journal's id.
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
/// Command id -> [`Entry`] as JSON.
const ENTRIES: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("entries");
/// Order of arrival -> command id, for entries that are not concluded, or whose outcome the relay has not stored.
const OPEN: TableDefinition<'_, u64, [u8; 16]> = TableDefinition::new("open");
/// (`exp`, command id), for the others: they are purged in this order.
const CLOSED: TableDefinition<'_, (i64, [u8; 16]), ()> = TableDefinition::new("closed");

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
        let found = self.db.read(|t| Ok(t.open_table(META)?.get("id")?.map(|id| id.value().to_owned())))?;
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
            None => {
                // Entries that are closed don't need an order any more, so the open ones alone decide the next.
                let order = t.open_table(OPEN)?.last()?.map_or(0, |(last, _)| last.value() + 1);
                put(t, &Entry { command: id, order, sha256: hash, exp, trace_id, stage: Stage::Received { jws } })?;
                Ok(Receipt::New)
            }
        };
        Ok(self.db.write(receive).await?)
    }

    /// The directory is about to be asked to write. When this returns, that is on disk.
    ///
    /// # Errors
    /// If it is not on disk; then the directory must not be asked.
    pub async fn start(&self, id: CommandId, account: Account) -> Result<(), JournalError> {
        let start = move |t: &WriteTransaction| {
            let Some(entry) = get(t, id)? else { return Ok(false) };
            let Stage::Received { jws } = entry.stage else { return Ok(false) };
            put(t, &Entry { stage: Stage::Started { jws, account }, ..entry })?;
            Ok(true)
        };
        if self.db.write(start).await? {
            Ok(())
        } else {
            Err(JournalError::Stage { path: self.path(), command: id, step: "started" })
        }
    }

    /// There is an outcome. Gives the first one, which is another if there was one already.
    ///
    /// # Errors
    /// If it is not on disk; then it must not be told to anybody.
    pub async fn conclude(&self, id: CommandId, outcome: String) -> Result<String, JournalError> {
        let conclude = move |t: &WriteTransaction| match get(t, id)? {
            None => Ok(None),
            Some(Entry { stage: Stage::Concluded { outcome: first, .. }, .. }) => Ok(Some(first)),
            Some(entry) => {
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
            let (mut closed, mut entries) = (t.open_table(CLOSED)?, t.open_table(ENTRIES)?);
            let mut purged = 0;
            for row in closed.extract_from_if(..(until, [0; 16]), |_, ()| true)? {
                let (_, id) = row?.0.value();
                entries.remove(id)?;
                purged += 1;
            }
            Ok(purged)
        };
        Ok(self.db.write(purge).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{Enrolled, JANE, NOW, Scripted};
    use crate::clock::System;

    const DAY: i64 = 24 * 3600;

    async fn receive(journal: &Journal, agent: &Enrolled, command: &Command) -> Receipt {
        journal.receive(command, &agent.delivery(command).command_jws, None).await.unwrap()
    }

    fn stages(journal: &Journal) -> Vec<&'static str> {
        let name = |entry: Entry| match entry.stage {
            Stage::Received { .. } => "received",
            Stage::Started { .. } => "started",
            Stage::Concluded { .. } => "concluded",
        };
        journal.open_entries().unwrap().into_iter().map(name).collect()
    }

    #[tokio::test]
    async fn every_stage_is_there_after_reopening_and_the_sealed_password_only_until_the_outcome() {
        let agent = Enrolled::new().await;
        let command = agent.command(JANE);
        let sealed = agent.delivery(&command).command_jws;
        let holds_sealed = |journal: &Journal| {
            let entry = journal.open_entries().unwrap().remove(0);
            serde_json::to_string(&entry).unwrap().contains(&sealed)
        };
        assert!(matches!(receive(&agent.journal(), &agent, &command).await, Receipt::New));
        assert_eq!(stages(&agent.journal()), ["received"]);
        agent.journal().start(command.jti, Scripted::account(7)).await.unwrap();
        assert_eq!(stages(&agent.journal()), ["started"]);
        assert!(holds_sealed(&agent.journal()));
        assert_eq!(agent.journal().conclude(command.jti, "one".into()).await.unwrap(), "one");
        assert_eq!(agent.journal().unstored().unwrap(), [(command.jti, "one".to_owned())]);
        assert!(!holds_sealed(&agent.journal()));
        agent.journal().stored(command.jti).await.unwrap();
        assert_eq!(stages(&agent.journal()), [""; 0]);
        let Receipt::Known(entry) = receive(&agent.journal(), &agent, &command).await else { panic!("it was new") };
        assert!(matches!(entry.stage, Stage::Concluded { outcome, stored: true } if outcome == "one"));
    }

    #[tokio::test]
    async fn the_first_outcome_stays_and_nothing_starts_twice() {
        let agent = Enrolled::new().await;
        let journal = agent.journal();
        let command = agent.command(JANE);
        assert!(journal.start(command.jti, Scripted::account(7)).await.is_err());
        receive(&journal, &agent, &command).await;
        journal.start(command.jti, Scripted::account(7)).await.unwrap();
        assert!(journal.start(command.jti, Scripted::account(7)).await.is_err());
        journal.conclude(command.jti, "one".into()).await.unwrap();
        assert_eq!(journal.conclude(command.jti, "two".into()).await.unwrap(), "one");
        assert!(journal.start(command.jti, Scripted::account(7)).await.is_err());
    }

    #[tokio::test]
    async fn the_same_id_with_another_body_is_a_conflict_and_changes_nothing() {
        let agent = Enrolled::new().await;
        let journal = agent.journal();
        let command = agent.command(JANE);
        receive(&journal, &agent, &command).await;
        let mut other = command.clone();
        agent.seal(&mut other, "Other-Passw0rd");
        assert!(matches!(receive(&journal, &agent, &other).await, Receipt::Conflict));
        assert!(matches!(receive(&journal, &agent, &command).await, Receipt::Known(_)));
    }

    #[tokio::test]
    async fn what_is_open_comes_in_order_of_arrival() {
        let agent = Enrolled::new().await;
        let journal = agent.journal();
        let mut commands: Vec<_> = (0..20).map(|_| agent.command(JANE)).collect();
        commands.reverse();
        for command in &commands {
            receive(&journal, &agent, command).await;
        }
        let order: Vec<_> = journal.unfinished().unwrap().into_iter().map(|entry| entry.command).collect();
        assert_eq!(order, commands.iter().map(|command| command.jti).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn an_entry_is_purged_a_week_after_exp_and_only_if_the_relay_has_its_outcome() {
        let agent = Enrolled::new().await;
        let journal = agent.journal();
        let (stored, unstored, running) = (agent.command(JANE), agent.command(JANE), agent.command(JANE));
        for command in [&stored, &unstored, &running] {
            receive(&journal, &agent, command).await;
        }
        for command in [&stored, &unstored] {
            journal.conclude(command.jti, "one".into()).await.unwrap();
        }
        journal.stored(stored.jti).await.unwrap();
        let week_after_exp = NOW + 120 + 7 * DAY;
        assert_eq!(journal.purge(UnixTime(week_after_exp)).await.unwrap(), 0);
        assert_eq!(journal.purge(UnixTime(week_after_exp + 1)).await.unwrap(), 1);
        assert_eq!(journal.purge(UnixTime(week_after_exp + 100 * DAY)).await.unwrap(), 0);
        let known: Vec<_> = [&stored, &unstored, &running].map(|c| journal.knows(c.jti).unwrap()).into();
        assert_eq!(known, [false, true, true]);
    }

    #[tokio::test]
    async fn a_missing_damaged_or_foreign_journal_is_refused_by_name_and_never_made_anew() {
        let agent = Enrolled::new().await;
        let (path, id) = (agent.home().journal(), agent.identity.journal);
        let refused = |id| Journal::open(&path, id).unwrap_err().to_string();
        assert!(refused(JournalId::new(&System, &System)).contains("not the one"));
        std::fs::write(&path, "not a journal").unwrap();
        assert!(refused(id).contains("journal.redb"));
        std::fs::remove_file(&path).unwrap();
        assert!(refused(id).contains("journal.redb"));
        assert!(!path.exists());
    }
}
