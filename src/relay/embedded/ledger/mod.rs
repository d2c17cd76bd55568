//! The ledger in a redb file.

mod open;
mod rows;

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use self::open::Open;
use self::rows::{Rows, entry_key, keep_until};
use super::super::StoreError;
use super::super::ids::SessionId;
use super::super::ledger::{
    Accepted, CommandKey, Concluded, End, Entry, Intent, Ledger, Milestone, NewCommand, Undelivered, Whose, Written,
};
use crate::clock::UnixTime;
use crate::protocol::ids::{AgentId, TenantId};
use crate::storage::redb::{self, WriteTransaction};
use crate::storage::{Database, DatabaseError};

/// Others wait while entries are forgotten.
const PURGED_AT_ONCE: usize = 500;

/// [`Ledger`] for one node.
#[derive(Debug)]
pub struct EmbeddedLedger {
    database: Database,
    complete_since: UnixTime,
    open: Arc<Open>,
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
        let (database, log) = Database::open_or_create_logged(path)?;
        let prepare = move |t: &WriteTransaction| rows::replay(t, &log).and_then(|()| rows::prepare(t, now));
        let (complete_since, open) = database.write(prepare).await?;
        Ok(Self { database, complete_since, open: Arc::new(open) })
    }

    async fn write<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Rows<'_>) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let open = Arc::clone(&self.open);
        let change = move |t: &WriteTransaction, log: &mut Vec<u8>| {
            let rows = Rows { t, open: &open, log: RefCell::default() };
            let changed = f(&rows)?;
            log.append(&mut rows.log.into_inner());
            Ok(changed)
        };
        Ok(self.database.write_logged(change).await?)
    }

    /// What is on disk needs the index no more.
    fn has_ended(&self, entry: &Entry) {
        self.open.remove(&entry_key(&entry.key), &entry.key.tenant, entry.agent);
    }
}

#[async_trait]
impl Ledger for EmbeddedLedger {
    async fn complete_since(&self, _: &TenantId, _: UnixTime) -> Result<UnixTime, StoreError> {
        Ok(self.complete_since)
    }

    async fn accept(&self, command: NewCommand, intent: Intent, now_ms: u64) -> Result<Accepted, StoreError> {
        let may_be_forgotten = command.may_be_forgotten(self.complete_since);
        self.write(move |rows| {
            let key = entry_key(&command.key);
            if let Some(known) = rows.any(&key)? {
                let same = known.is_same(&command);
                return Ok(if same { Accepted::Known(known) } else { Accepted::Conflict });
            }
            let entry = Entry::new(command, intent, may_be_forgotten, now_ms);
            rows.put(&key, &entry)?;
            rows.keep(&key, now_ms)?;
            Ok(Accepted::New(entry))
        })
        .await
    }

    async fn get(&self, key: &CommandKey) -> Result<Option<Entry>, StoreError> {
        let key = entry_key(key);
        let entry = self.database.read(|t| rows::read(t, &key))?;
        Ok(entry.map(|entry| self.open.with_milestones(&key, entry)))
    }

    async fn take_over(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        session: SessionId,
        whose: Whose,
    ) -> Result<Vec<Entry>, StoreError> {
        let keys = self.open.of(tenant, agent);
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let (taken, ended) = self
            .write(move |rows| {
                let (mut taken, mut ended) = (Vec::new(), Vec::new());
                for key in keys {
                    let Some(mut entry) = rows.open(&key)? else {
                        ended.push(key);
                        continue;
                    };
                    if (entry.owner == Some(session)) != (whose == Whose::Own) {
                        continue;
                    }
                    entry.owner = Some(session);
                    entry.attempt += 1;
                    rows.put(&key, &entry)?;
                    taken.push(entry);
                }
                taken.sort_by_key(|entry| entry.accepted_ms);
                Ok((taken, ended))
            })
            .await?;
        ended.iter().for_each(|key| self.open.remove(key, tenant, agent));
        Ok(taken)
    }

    async fn hand_over(&self, entry: Entry, to: SessionId, written: Written) -> Result<Option<Entry>, StoreError> {
        let key = entry_key(&entry.key);
        self.write(move |rows| {
            let Some(now) = rows.open(&key)? else { return Ok(None) };
            if now.owner != entry.owner || now.attempt != entry.attempt {
                return Ok(None);
            }
            let handed = now.handed_to(to, written);
            rows.put(&key, &handed)?;
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
        let key = key.clone();
        let ended = self
            .write(move |rows| {
                let key = entry_key(&key);
                let Some(mut entry) = rows.open(&key)? else { return Ok(None) };
                if entry.owner != Some(owner) || entry.attempt != 1 {
                    return Ok(None);
                }
                entry.end = Some(End::Undelivered { reason, at_ms: now_ms });
                entry.jws = None;
                rows.put(&key, &entry)?;
                Ok(Some(entry))
            })
            .await?;
        ended.iter().for_each(|entry| self.has_ended(entry));
        Ok(ended)
    }

    async fn note(&self, key: &CommandKey, milestone: Milestone, now_ms: u64) -> Result<(), StoreError> {
        self.open.note(&entry_key(key), milestone, now_ms);
        Ok(())
    }

    async fn conclude(
        &self,
        command: &CommandKey,
        agent: AgentId,
        outcome_jws: String,
        now_ms: u64,
    ) -> Result<Concluded, StoreError> {
        let command = command.clone();
        let concluded = self
            .write(move |rows| {
                let key = entry_key(&command);
                let end = Some(End::Outcome { jws: outcome_jws, at_ms: now_ms });
                let entry = match rows.any(&key)? {
                    Some(entry) if entry.agent != agent => return Ok(Concluded::Foreign),
                    Some(Entry { end: Some(End::Outcome { .. }), .. }) => return Ok(Concluded::Already),
                    Some(entry) => Entry { jws: None, end, ..entry },
                    None => {
                        rows.keep(&key, now_ms)?;
                        Entry { end, ..Entry::forgotten(command, agent, now_ms) }
                    }
                };
                rows.put(&key, &entry)?;
                Ok(Concluded::Stored(Box::new(entry)))
            })
            .await?;
        if let Concluded::Stored(entry) = &concluded {
            self.has_ended(entry);
        }
        Ok(concluded)
    }

    async fn purge(&self, now: UnixTime) -> Result<bool, StoreError> {
        let open = Arc::clone(&self.open);
        let (forgotten, more) = self
            .database
            .write(move |t| {
                let rows = Rows { t, open: &open, log: RefCell::default() };
                let due = rows.due(now, PURGED_AT_ONCE)?;
                let mut forgotten = Vec::new();
                for key in &due {
                    let Some(entry) = rows.any(key)? else { continue };
                    // An outcome may have come late: it is kept as long as one that came at once.
                    let ended_ms = entry.end.as_ref().map_or(entry.accepted_ms, End::at_ms);
                    if keep_until(ended_ms) >= now {
                        rows.keep(key, ended_ms)?;
                        continue;
                    }
                    rows.remove(key)?;
                    forgotten.push(entry);
                }
                Ok((forgotten, due.len() == PURGED_AT_ONCE))
            })
            .await?;
        forgotten.iter().for_each(|entry| self.has_ended(entry));
        tracing::debug!(forgotten = forgotten.len(), "old commands were forgotten");
        Ok(more)
    }
}
