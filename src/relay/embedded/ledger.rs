//! The ledger in a redb file.

use std::path::Path;

use async_trait::async_trait;

use super::super::StoreError;
use super::super::ids::SessionId;
use super::super::ledger::{
    Accepted, CommandKey, Concluded, End, Entry, Intent, Ledger, Milestone, NewCommand, Undelivered, Whose, Written,
};
use super::{read_row, write_row};
use crate::clock::UnixTime;
use crate::protocol::ids::{AgentId, TenantId};
use crate::protocol::limits::OUTCOME_RETENTION;
use crate::storage::redb::{self, ReadableTable, TableDefinition, WriteTransaction};
use crate::storage::{Database, DatabaseError};

/// tenant/portal/command → [`Entry`].
const ENTRIES: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("entries");
/// tenant/agent/command of each command that has no end → its key in `ENTRIES`.
const OPEN: TableDefinition<'static, &'static str, &'static str> = TableDefinition::new("open");
/// When an entry may be forgotten, and its key in `ENTRIES`.
const KEPT_UNTIL: TableDefinition<'static, (i64, &'static str), ()> = TableDefinition::new("kept_until");

/// When the file was made, in seconds, by this one key.
const COMPLETE_SINCE: TableDefinition<'static, (), i64> = TableDefinition::new("complete_since");

/// Others wait while entries are forgotten.
const PURGED_AT_ONCE: usize = 500;

/// [`Ledger`] for one node.
#[derive(Debug)]
pub struct EmbeddedLedger {
    database: Database,
    complete_since: UnixTime,
}

/// A portal's name holds no space, so a key has one reading.
fn entry_key(key: &CommandKey) -> String {
    format!("{} {} {}", key.tenant, key.portal, key.command)
}

fn open_key(tenant: &TenantId, agent: AgentId, command: impl std::fmt::Display) -> String {
    format!("{tenant} {agent} {command}")
}

fn get(t: &WriteTransaction, key: &str) -> Result<Option<Entry>, redb::Error> {
    t.open_table(ENTRIES)?.get(key)?.map(|row| read_row(row.value())).transpose()
}

/// Stores the entry, and keeps the index of open commands true to it.
fn put(t: &WriteTransaction, key: &str, entry: &Entry) -> Result<(), redb::Error> {
    t.open_table(ENTRIES)?.insert(key, write_row(entry)?.as_slice())?;
    let open_key = open_key(&entry.key.tenant, entry.agent, entry.key.command);
    let mut open = t.open_table(OPEN)?;
    if entry.end.is_some() {
        open.remove(open_key.as_str())?;
    } else {
        open.insert(open_key.as_str(), key)?;
    }
    Ok(())
}

fn keep_until(from_ms: u64) -> UnixTime {
    UnixTime(i64::try_from(from_ms / 1000).unwrap_or(i64::MAX)).plus(OUTCOME_RETENTION)
}

fn keep(t: &WriteTransaction, key: &str, from_ms: u64) -> Result<(), redb::Error> {
    t.open_table(KEPT_UNTIL)?.insert((keep_until(from_ms).0, key), ())?;
    Ok(())
}

impl EmbeddedLedger {
    /// The file it stands on.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// If it is damaged, in use, or can't be made.
    pub async fn open(path: &Path, now: UnixTime) -> Result<Self, DatabaseError> {
        let database = Database::open_or_create(path)?;
        let complete_since = database
            .write(move |t| {
                t.open_table(ENTRIES)?;
                t.open_table(OPEN)?;
                t.open_table(KEPT_UNTIL)?;
                let mut table = t.open_table(COMPLETE_SINCE)?;
                let since = table.get(())?.map(|since| since.value());
                if since.is_none() {
                    table.insert((), now.0)?;
                }
                Ok(UnixTime(since.unwrap_or(now.0)))
            })
            .await?;
        Ok(Self { database, complete_since })
    }

    async fn write<T: Send + 'static>(
        &self,
        f: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        Ok(self.database.write(f).await?)
    }

    /// The keys of an agent's commands that have no end.
    fn open_commands(&self, tenant: &TenantId, agent: AgentId) -> Result<Vec<String>, StoreError> {
        let prefix = open_key(tenant, agent, "");
        Ok(self.database.read(|t| {
            let mut keys = Vec::new();
            for row in t.open_table(OPEN)?.range(prefix.as_str()..)? {
                let (open_key, key) = row?;
                if !open_key.value().starts_with(&prefix) {
                    break;
                }
                keys.push(key.value().to_owned());
            }
            Ok(keys)
        })?)
    }
}

#[async_trait]
impl Ledger for EmbeddedLedger {
    async fn complete_since(&self, _: &TenantId, _: UnixTime) -> Result<UnixTime, StoreError> {
        Ok(self.complete_since)
    }

    async fn accept(&self, command: NewCommand, intent: Intent, now_ms: u64) -> Result<Accepted, StoreError> {
        let may_be_forgotten = command.may_be_forgotten(self.complete_since);
        self.write(move |t| {
            let key = entry_key(&command.key);
            if let Some(known) = get(t, &key)? {
                let same = known.is_same(&command);
                return Ok(if same { Accepted::Known(known) } else { Accepted::Conflict });
            }
            let entry = Entry::new(command, intent, may_be_forgotten, now_ms);
            put(t, &key, &entry)?;
            keep(t, &key, now_ms)?;
            Ok(Accepted::New(entry))
        })
        .await
    }

    async fn get(&self, key: &CommandKey) -> Result<Option<Entry>, StoreError> {
        let key = entry_key(key);
        Ok(self
            .database
            .read(|t| t.open_table(ENTRIES)?.get(key.as_str())?.map(|row| read_row(row.value())).transpose())?)
    }

    async fn take_over(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        session: SessionId,
        whose: Whose,
    ) -> Result<Vec<Entry>, StoreError> {
        let keys = self.open_commands(tenant, agent)?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.write(move |t| {
            let mut taken = Vec::new();
            for key in keys {
                let Some(mut entry) = get(t, &key)? else { continue };
                let own = entry.owner == Some(session);
                if entry.end.is_some() || own != (whose == Whose::Own) {
                    continue;
                }
                entry.owner = Some(session);
                entry.attempt += 1;
                put(t, &key, &entry)?;
                taken.push(entry);
            }
            taken.sort_by_key(|entry| entry.accepted_ms);
            Ok(taken)
        })
        .await
    }

    async fn hand_over(&self, entry: Entry, to: SessionId, written: Written) -> Result<Option<Entry>, StoreError> {
        let key = entry_key(&entry.key);
        self.write(move |t| {
            let Some(now) = get(t, &key)? else { return Ok(None) };
            if now.end.is_some() || now.owner != entry.owner || now.attempt != entry.attempt {
                return Ok(None);
            }
            let handed = now.handed_to(to, written);
            put(t, &key, &handed)?;
            Ok(Some(handed))
        })
        .await
    }

    async fn take_back(
        &self,
        key: &CommandKey,
        owner: SessionId,
        reason: Undelivered,
        now_ms: u64,
    ) -> Result<Option<Entry>, StoreError> {
        let key = entry_key(key);
        self.write(move |t| {
            let Some(mut entry) = get(t, &key)? else { return Ok(None) };
            if entry.end.is_some() || entry.owner != Some(owner) || entry.attempt != 1 {
                return Ok(None);
            }
            entry.end = Some(End::Undelivered { reason, at_ms: now_ms });
            entry.jws = None;
            put(t, &key, &entry)?;
            Ok(Some(entry))
        })
        .await
    }

    async fn note(&self, key: &CommandKey, milestone: Milestone, now_ms: u64) -> Result<(), StoreError> {
        let key = entry_key(key);
        let note = move |t: &WriteTransaction| {
            let Some(mut entry) = get(t, &key)?.filter(|entry| entry.end.is_none()) else { return Ok(()) };
            let reached = match milestone {
                Milestone::Delivering => &mut entry.delivering_ms,
                Milestone::Received => &mut entry.received_ms,
            };
            if reached.is_some() {
                return Ok(());
            }
            *reached = Some(now_ms);
            put(t, &key, &entry)
        };
        Ok(self.database.write_soon(note).await?)
    }

    async fn conclude(
        &self,
        command: &CommandKey,
        agent: AgentId,
        outcome_jws: String,
        now_ms: u64,
    ) -> Result<Concluded, StoreError> {
        let command = command.clone();
        self.write(move |t| {
            let key = entry_key(&command);
            let end = Some(End::Outcome { jws: outcome_jws, at_ms: now_ms });
            let entry = match get(t, &key)? {
                Some(entry) if entry.agent != agent => return Ok(Concluded::Foreign),
                Some(Entry { end: Some(End::Outcome { .. }), .. }) => return Ok(Concluded::Already),
                Some(entry) => Entry { jws: None, end, ..entry },
                None => {
                    keep(t, &key, now_ms)?;
                    Entry { end, ..Entry::forgotten(command, agent, now_ms) }
                }
            };
            put(t, &key, &entry)?;
            Ok(Concluded::Stored(Box::new(entry)))
        })
        .await
    }

    async fn purge(&self, now: UnixTime) -> Result<bool, StoreError> {
        self.write(move |t| {
            let mut due = Vec::new();
            for row in t.open_table(KEPT_UNTIL)?.range(..(now.0, ""))?.take(PURGED_AT_ONCE) {
                let (row_key, ()) = row.map(|(key, _)| (key, ()))?;
                let (until, key) = row_key.value();
                due.push((until, key.to_owned()));
            }
            let mut forgotten = 0;
            for (until, key) in &due {
                t.open_table(KEPT_UNTIL)?.remove((*until, key.as_str()))?;
                let Some(entry) = get(t, key)? else { continue };
                // An outcome may have come late: it is kept as long as one that came at once.
                let ended_ms = entry.end.as_ref().map_or(entry.accepted_ms, End::at_ms);
                if keep_until(ended_ms) >= now {
                    keep(t, key, ended_ms)?;
                    continue;
                }
                let open_key = open_key(&entry.key.tenant, entry.agent, entry.key.command);
                t.open_table(OPEN)?.remove(open_key.as_str())?;
                t.open_table(ENTRIES)?.remove(key.as_str())?;
                forgotten += 1;
            }
            tracing::debug!(forgotten, "old commands were forgotten");
            Ok(due.len() == PURGED_AT_ONCE)
        })
        .await
    }
}
