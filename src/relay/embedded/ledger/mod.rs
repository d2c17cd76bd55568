//! The ledger in a redb file.

mod open;
mod recent;
mod rows;
mod stored;
mod usage;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::open::Open;
use self::recent::Recent;
use self::rows::Picture;
use self::stored::{Changes, Stored};
use super::super::StoreError;
use super::super::ids::SessionId;
use super::super::ledger::{
    Accepted, CommandKey, Concluded, Cursor, End, Entry, Intent, Ledger, Milestone, NewCommand, Quotas,
    TAKEN_OVER_AT_ONCE, Undelivered, Whose, Written,
};
use super::room::Room;
use crate::clock::UnixTime;
use crate::protocol::ids::{AgentId, TenantId};
use crate::storage::redb;
use crate::storage::{DatabaseError, DatabaseFile, Groups, Log};
use crate::telemetry::metrics::Metrics;

/// [`Ledger`] for one node.
pub struct EmbeddedLedger {
    file: Arc<DatabaseFile>,
    recent: Arc<Mutex<Recent>>,
    open: Arc<Open>,
    writes: Groups<Stored>,
    complete_since: UnixTime,
    quotas: Quotas,
    room: Room,
    /// Told how long writes take.
    metrics: Option<Arc<Metrics>>,
}

impl EmbeddedLedger {
    /// Opens the file and the log beside it, or makes them.
    ///
    /// # Errors
    /// If one is damaged, in use, or can't be made, or the log is there without its file.
    pub fn open(path: &Path, now: UnixTime) -> Result<Self, DatabaseError> {
        let beside = path.with_extension("wal");
        if let Some(path_of_log) = Log::files(&beside).into_iter().find(|file| !path.exists() && file.exists()) {
            let detail = format!("it belongs to {}, which is missing; restore both, or move both away", path.display());
            return Err(DatabaseError::Corrupt { path: path_of_log, detail });
        }
        let file = Arc::new(DatabaseFile::open_or_create(path)?);
        // No other process has the file, nor its log.
        let log = Log::open(&beside)?;
        let (complete_since, unfinished) = file.write(|t| rows::prepare(t, now))?;
        let (recent, open) = (Arc::<Mutex<Recent>>::default(), Arc::<Open>::default());
        unfinished.iter().for_each(|entry| open.add(entry));
        let stored = Stored::new(Arc::clone(&file), log, Arc::clone(&recent), Arc::clone(&open))
            .map_err(|error| DatabaseError::Failed { path: path.to_owned(), detail: error.to_string() })?;
        let writes = Groups::start(path, stored)?;
        Ok(Self {
            file,
            recent,
            open,
            writes,
            complete_since,
            quotas: Quotas::UNLIMITED,
            room: Room::default(),
            metrics: None,
        })
    }

    /// The same, that keeps no more than this.
    #[must_use]
    pub fn bounded(self, quotas: Quotas) -> Self {
        Self { quotas, ..self }
    }

    /// The same, whose writes are timed.
    #[must_use]
    pub fn timed(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// The same, on a disk that may be full.
    #[must_use]
    pub fn within(self, room: Room) -> Self {
        Self { room, ..self }
    }

    /// Resolves when nothing can be written any more.
    pub fn failure(&self) -> impl Future<Output = DatabaseError> + Send + 'static {
        self.writes.failure()
    }

    async fn write<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Changes) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.room.check()?;
        self.write_anyway(f).await
    }

    /// What makes room is written on a full disk, too.
    async fn write_anyway<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Changes) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.room.make_way();
        let begun = Instant::now();
        let written = self.writes.write(f).await;
        if let Some(metrics) = &self.metrics {
            metrics.stored("embedded", "ledger", begun.elapsed(), written.is_ok());
        }
        Ok(written?)
    }

    /// Stores an outcome; one whose command is not known, only if it is `forgotten`.
    async fn conclude_if(
        &self,
        command: &CommandKey,
        agent: AgentId,
        outcome_jws: String,
        now_ms: u64,
        forgotten: bool,
    ) -> Result<Concluded, StoreError> {
        let (command, quotas) = (command.clone(), self.quotas);
        let index = Arc::clone(&self.open);
        let concluded = self
            .write(move |changes| {
                let end = Some(End::Outcome { jws: outcome_jws, at_ms: now_ms });
                let entry = match changes.get(&command)? {
                    Some(entry) if entry.agent != agent => return Ok(Concluded::Foreign),
                    Some(Entry { end: Some(End::Outcome { .. }), .. }) => return Ok(Concluded::Already),
                    Some(entry) => {
                        let before = entry.weight();
                        let entry = Entry { jws: None, end, ..entry };
                        if let Err(quota) = changes.replace_within(&entry, before, quotas) {
                            return Ok(Concluded::OverQuota(quota));
                        }
                        entry
                    }
                    None if meant_for_another(changes, &index, &command, agent)? => {
                        return Ok(Concluded::OtherPortals);
                    }
                    None if !forgotten => return Ok(Concluded::Unknown),
                    None => {
                        let entry = Entry { end, ..Entry::forgotten(command, agent, now_ms) };
                        if let Err(quota) = changes.insert(&entry, quotas) {
                            return Ok(Concluded::OverQuota(quota));
                        }
                        entry
                    }
                };
                Ok(Concluded::Stored(Box::new(entry)))
            })
            .await?;
        if let Concluded::Stored(entry) = &concluded {
            self.has_ended(entry);
        }
        Ok(concluded)
    }

    /// It is on disk, and the index needs it no more.
    fn has_ended(&self, entry: &Entry) {
        self.open.remove(&entry.key, entry.agent);
    }
}

/// Whether the agent has a command by this id, without an end, from another portal.
fn meant_for_another(
    changes: &mut Changes,
    index: &Open,
    command: &CommandKey,
    agent: AgentId,
) -> Result<bool, redb::Error> {
    for key in index.by_id(&command.tenant, agent, command.command) {
        if changes.open(&key)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[async_trait]
impl Ledger for EmbeddedLedger {
    async fn complete_since(&self, _: &TenantId, _: UnixTime) -> Result<UnixTime, StoreError> {
        self.room.check()?;
        Ok(self.complete_since)
    }

    async fn accept(&self, command: NewCommand, intent: Intent, now_ms: u64) -> Result<Accepted, StoreError> {
        let (may_be_forgotten, quotas) = (command.may_be_forgotten(self.complete_since), self.quotas);
        self.write(move |changes| {
            if let Some(known) = changes.get(&command.key)? {
                let same = known.is_same(&command);
                return Ok(if same { Accepted::Known(known) } else { Accepted::Conflict });
            }
            let entry = Entry::new(command, intent, may_be_forgotten, now_ms);
            Ok(changes.insert(&entry, quotas).map_or(Accepted::OverQuota, |()| Accepted::New(entry)))
        })
        .await
    }

    async fn get(&self, key: &CommandKey) -> Result<Option<Entry>, StoreError> {
        let recent = self.recent.lock().get(key);
        let entry = match recent {
            Some(entry) => Some(Arc::unwrap_or_clone(entry)),
            None => self.file.read(|t| Picture::take(t)?.get(key))?,
        };
        Ok(entry.map(|entry| self.open.with_milestones(entry)))
    }

    async fn take_over(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        session: SessionId,
        whose: Whose,
        after: Option<Cursor>,
    ) -> Result<Vec<Entry>, StoreError> {
        let keys = self.open.of(tenant, agent, after);
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let (taken, ended) = self
            .write(move |changes| {
                let (mut taken, mut ended) = (Vec::new(), Vec::new());
                for key in keys {
                    if taken.len() == TAKEN_OVER_AT_ONCE {
                        break;
                    }
                    let Some(mut entry) = changes.open(&key)? else {
                        ended.push(key);
                        continue;
                    };
                    if (entry.owner == Some(session)) != (whose == Whose::Own) {
                        continue;
                    }
                    entry.owner = Some(session);
                    entry.attempt += 1;
                    changes.replace(&entry, entry.weight());
                    taken.push(entry);
                }
                Ok((taken, ended))
            })
            .await?;
        ended.iter().for_each(|key| self.open.remove(key, agent));
        Ok(taken)
    }

    async fn hand_over(&self, entry: Entry, to: SessionId, written: Written) -> Result<Option<Entry>, StoreError> {
        self.write(move |changes| {
            let Some(now) = changes.open(&entry.key)? else { return Ok(None) };
            if now.owner != entry.owner || now.attempt != entry.attempt {
                return Ok(None);
            }
            let handed = now.handed_to(to, written);
            changes.replace(&handed, handed.weight());
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
            .write(move |changes| {
                let Some(mut entry) = changes.open(&key)? else { return Ok(None) };
                if entry.owner != Some(owner) || entry.attempt != 1 {
                    return Ok(None);
                }
                let before = entry.weight();
                entry.end = Some(End::Undelivered { reason, at_ms: now_ms });
                entry.jws = None;
                changes.replace(&entry, before);
                Ok(Some(entry))
            })
            .await?;
        ended.iter().for_each(|entry| self.has_ended(entry));
        Ok(ended)
    }

    async fn note(&self, key: &CommandKey, milestone: Milestone, now_ms: u64) -> Result<(), StoreError> {
        self.open.note(key, milestone, now_ms);
        Ok(())
    }

    async fn conclude(
        &self,
        command: &CommandKey,
        agent: AgentId,
        outcome_jws: String,
        now_ms: u64,
    ) -> Result<Concluded, StoreError> {
        self.conclude_if(command, agent, outcome_jws, now_ms, false).await
    }

    async fn conclude_forgotten(
        &self,
        command: &CommandKey,
        agent: AgentId,
        outcome_jws: String,
        now_ms: u64,
    ) -> Result<Concluded, StoreError> {
        self.conclude_if(command, agent, outcome_jws, now_ms, true).await
    }

    async fn purge(&self, now: UnixTime) -> Result<bool, StoreError> {
        let (reply, more) = oneshot::channel();
        self.write_anyway(move |changes| {
            changes.forget(now, reply);
            Ok(())
        })
        .await?;
        more.await.map_err(|_| StoreError::Unanswered("old commands could not be forgotten".to_owned()))
    }
}
