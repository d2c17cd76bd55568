//! How entries come to disk. What has changed is in the log, and in memory; from time to time the file is told all of it, and
//! a new log begins. Most commands have ended by then, so that the file is told of them once.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::super::super::ledger::{CommandKey, Entry, Quota, Quotas};
use super::super::{read_row, write_row};
use super::open::Open;
use super::recent::{Entries, Recent};
use super::rows::{self, Picture};
use super::usage::Usage;
use crate::clock::UnixTime;
use crate::storage::{DatabaseFile, Log, Spare, Store, redb};

/// A log that is this long, in bytes, is told to the file; what changes meanwhile goes into the next one.
const LOG_BYTES: u64 = 1024 * 1024;
/// A file that is so far behind is waited for.
const MAX_LOG_BYTES: u64 = 4 * LOG_BYTES;
/// Others wait while entries are forgotten.
const FORGOTTEN_AT_ONCE: usize = 500;

/// File and log, in the hands of the one thread that writes the log.
pub(super) struct Stored {
    file: Arc<DatabaseFile>,
    log: Log,
    /// What the logs tell, and the file does not know yet.
    recent: Arc<Mutex<Recent>>,
    open: Arc<Open>,
    usage: Arc<Mutex<Usage>>,
    /// The thread that tells the file: nobody waits for what it does.
    telling: Option<JoinHandle<Result<Spare, redb::Error>>>,
}

impl Stored {
    /// Over a file that has its tables; tells it what stands in the log.
    pub(super) fn new(
        file: Arc<DatabaseFile>,
        (log, records): (Log, Vec<u8>),
        recent: Arc<Mutex<Recent>>,
        open: Arc<Open>,
    ) -> Result<Self, redb::Error> {
        for entry in read_records(&records)? {
            // As it was when its process ended: a later record replaces it.
            match entry.end {
                None => open.add(&entry),
                Some(_) => open.remove(&entry.key, entry.agent),
            }
            recent.lock().extend([(entry.key.clone(), Arc::new(entry))]);
        }
        let mut stored = Self { file, log, recent, open, usage: Arc::default(), telling: None };
        stored.tell_file()?;
        *stored.usage.lock() = rows::usage(&stored.file.begin_read()?)?;
        Ok(stored)
    }

    /// Tells the file everything, and waits until it knows.
    fn tell_file(&mut self) -> Result<(), redb::Error> {
        self.settle()?;
        let entries = self.recent.lock().tell();
        put(&self.file, &entries)?;
        self.recent.lock().told();
        Ok(self.log.clear()?)
    }

    /// Tells it everything, and does not wait.
    fn begin_telling(&mut self) -> Result<(), redb::Error> {
        let Some(log) = self.log.set_aside() else { return Ok(()) };
        let entries = self.recent.lock().tell();
        let (file, recent) = (Arc::clone(&self.file), Arc::clone(&self.recent));
        let telling = thread::Builder::new().name("ledger".to_owned()).spawn(move || {
            put(&file, &entries)?;
            // Whoever reads finds an entry here until the file has it.
            recent.lock().told();
            Ok(log.told()?)
        });
        self.telling = Some(telling?);
        Ok(())
    }

    /// Waits until the file knows what it was told.
    fn settle(&mut self) -> Result<(), redb::Error> {
        let Some(telling) = self.telling.take() else { return Ok(()) };
        let spare = telling.join().unwrap_or(Err(redb::Error::PreviousIo)).map_err(|error| {
            // What it should have heard is in the log that was set aside: it hears that at the next start.
            tracing::error!(%error, "the ledger's file could not be written");
            redb::Error::PreviousIo
        })?;
        self.log.take_back(spare);
        Ok(())
    }

    fn forget(&mut self, now: UnixTime) -> Result<bool, redb::Error> {
        self.tell_file()?;
        let transaction = self.file.begin_write()?;
        let (forgotten, more) = rows::forget(&transaction, now, FORGOTTEN_AT_ONCE)?;
        transaction.commit()?;
        let mut usage = self.usage.lock();
        for entry in &forgotten {
            self.open.remove(&entry.key, entry.agent);
            usage.remove(entry);
        }
        tracing::debug!(forgotten = forgotten.len(), "old commands were forgotten");
        Ok(more)
    }
}

fn put(file: &DatabaseFile, entries: &Entries) -> Result<(), redb::Error> {
    let transaction = file.begin_write()?;
    rows::put(&transaction, entries.values().map(Arc::as_ref))?;
    Ok(transaction.commit()?)
}

impl Store for Stored {
    type Changes = Changes;

    fn begin(&mut self) -> Result<Changes, redb::Error> {
        if self.telling.as_ref().is_some_and(JoinHandle::is_finished) || self.log.bytes() >= MAX_LOG_BYTES {
            self.settle()?;
        }
        if self.telling.is_none() && self.log.bytes() >= LOG_BYTES {
            self.begin_telling()?;
        }
        // In this order: what the file hears between the two is in both.
        let telling = self.recent.lock().telling();
        let known = Picture::take(&self.file.begin_read()?)?;
        Ok(Changes {
            changed: Entries::default(),
            recent: Arc::clone(&self.recent),
            telling,
            known,
            open: Arc::clone(&self.open),
            usage: Arc::clone(&self.usage),
            added: Usage::default(),
            forget: None,
        })
    }

    fn commit(&mut self, changes: Changes) -> Result<(), redb::Error> {
        if !changes.changed.is_empty() {
            self.log.append(&records(changes.changed.values().map(Arc::as_ref))?)?;
            self.recent.lock().extend(changes.changed);
            self.usage.lock().extend(changes.added);
        }
        if let Some((now, reply)) = changes.forget {
            // The group is stored, whatever becomes of this: whoever asked for it sees his reply dropped, or may have gone.
            match self.forget(now) {
                Ok(more) => drop(reply.send(more)),
                Err(error) => tracing::error!(%error, "old commands could not be forgotten"),
            }
        }
        Ok(())
    }

    /// Whoever copies the file of a node that has stopped has all of it.
    fn finish(&mut self) -> Result<(), redb::Error> {
        self.tell_file()
    }
}

/// What one group changes.
pub(super) struct Changes {
    changed: Entries,
    recent: Arc<Mutex<Recent>>,
    /// What the file may have heard since, and did not know when its picture was taken.
    telling: Arc<Entries>,
    known: Picture,
    open: Arc<Open>,
    usage: Arc<Mutex<Usage>>,
    /// To what was kept before.
    added: Usage,
    forget: Option<(UnixTime, oneshot::Sender<bool>)>,
}

impl Changes {
    /// An entry as it stands now.
    pub(super) fn get(&self, key: &CommandKey) -> Result<Option<Entry>, redb::Error> {
        let recent = || self.recent.lock().get(key).or_else(|| self.telling.get(key).cloned());
        let entry = match self.changed.get(key).cloned().or_else(recent) {
            Some(entry) => Some(Arc::unwrap_or_clone(entry)),
            None => self.known.get(key)?,
        };
        Ok(entry.map(|entry| self.open.with_milestones(entry)))
    }

    /// The same, if it has no end.
    pub(super) fn open(&self, key: &CommandKey) -> Result<Option<Entry>, redb::Error> {
        Ok(self.get(key)?.filter(|entry| entry.end.is_none()))
    }

    /// Stores a new entry, if there is room for it; else nothing, and the quota that is used up.
    pub(super) fn insert(&mut self, entry: &Entry, quotas: Quotas) -> Result<(), Quota> {
        if let Some(quota) = self.usage.lock().exceeded(&self.added, entry, quotas) {
            return Err(quota);
        }
        self.added.insert(entry);
        self.put(entry);
        Ok(())
    }

    /// Stores an entry anew, which weighed so much `before`.
    pub(super) fn replace(&mut self, entry: &Entry, before: u64) {
        self.added.reweigh(entry, before);
        self.put(entry);
    }

    /// The same, if there is room for what it weighs more than before; else nothing, and the quota that is used up.
    pub(super) fn replace_within(&mut self, entry: &Entry, before: u64, quotas: Quotas) -> Result<(), Quota> {
        if let Some(quota) = self.usage.lock().outgrown(&self.added, entry, before, quotas) {
            return Err(quota);
        }
        self.replace(entry, before);
        Ok(())
    }

    fn put(&mut self, entry: &Entry) {
        self.open.add(entry);
        self.changed.insert(entry.key.clone(), Arc::new(entry.clone()));
    }

    /// Forgets some of what has been kept long enough; says whether there may be more.
    pub(super) fn forget(&mut self, now: UnixTime, more: oneshot::Sender<bool>) {
        self.forget = Some((now, more));
    }
}

/// Each entry's length in bytes (u32, big-endian), and the entry.
fn records<'a>(entries: impl Iterator<Item = &'a Entry>) -> Result<Vec<u8>, redb::Error> {
    let mut records = Vec::new();
    for entry in entries {
        let row = write_row(entry)?;
        let len = u32::try_from(row.len()).map_err(|_| redb::Error::ValueTooLarge(row.len()))?;
        records.extend_from_slice(&len.to_be_bytes());
        records.extend_from_slice(&row);
    }
    Ok(records)
}

fn read_records(mut records: &[u8]) -> Result<Vec<Entry>, redb::Error> {
    let mut entries = Vec::new();
    while let Some((len, rest)) = records.split_first_chunk::<4>() {
        let row = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX));
        let Some((row, behind)) = row else { return Err(redb::Error::Corrupted("a record is cut off".to_owned())) };
        entries.push(read_row(row)?);
        records = behind;
    }
    Ok(entries)
}
