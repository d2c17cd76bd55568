//! The ledger's tables. Open commands are few, so that their table is quickly changed, whatever is kept of those that ended.

use std::cell::RefCell;

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::super::super::ledger::{CommandKey, Entry};
use super::super::{read_row, write_row};
use super::open::Open;
use crate::clock::UnixTime;
use crate::protocol::limits::OUTCOME_RETENTION;
use crate::storage::redb;

type Entries = TableDefinition<'static, &'static str, &'static [u8]>;

/// tenant portal command → [`Entry`] that has no end.
const OPEN: Entries = TableDefinition::new("open");
/// tenant portal command → [`Entry`] that has one.
const ENDED: Entries = TableDefinition::new("ended");
/// When an entry may be forgotten, and its key.
const KEPT_UNTIL: TableDefinition<'static, (i64, &'static str), ()> = TableDefinition::new("kept_until");
/// When the file was made, in seconds, by this one key.
const COMPLETE_SINCE: TableDefinition<'static, (), i64> = TableDefinition::new("complete_since");

/// A portal's name holds no space, so a key has one reading.
pub(super) fn entry_key(key: &CommandKey) -> String {
    format!("{} {} {}", key.tenant, key.portal, key.command)
}

/// When what has ended, or begun, at this time may be forgotten.
pub(super) fn keep_until(from_ms: u64) -> UnixTime {
    UnixTime(i64::try_from(from_ms / 1000).unwrap_or(i64::MAX)).plus(OUTCOME_RETENTION)
}

/// Makes the tables if they are missing. Since when the file remembers everything, and every open command.
pub(super) fn prepare(t: &WriteTransaction, now: UnixTime) -> Result<(UnixTime, Open), redb::Error> {
    t.open_table(ENDED)?;
    t.open_table(KEPT_UNTIL)?;
    let open = Open::default();
    for row in t.open_table(OPEN)?.iter()? {
        let (key, entry) = row?;
        open.add(key.value(), &read_row(entry.value())?);
    }
    let mut table = t.open_table(COMPLETE_SINCE)?;
    let since = table.get(())?.map(|since| since.value());
    if since.is_none() {
        table.insert((), now.0)?;
    }
    Ok((UnixTime(since.unwrap_or(now.0)), open))
}

/// Stores once more what the log tells.
pub(super) fn replay(t: &WriteTransaction, mut log: &[u8]) -> Result<(), redb::Error> {
    let rows = Rows { t, open: &Open::default(), log: RefCell::default() };
    while let Some((len, rest)) = log.split_first_chunk::<4>() {
        let row = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX));
        let Some((row, behind)) = row else { return Err(redb::Error::Corrupted("a record is cut off".to_owned())) };
        let entry: Entry = read_row(row)?;
        let key = entry_key(&entry.key);
        rows.put(&key, &entry)?;
        rows.keep(&key, entry.accepted_ms)?;
        log = behind;
    }
    Ok(())
}

/// One entry, as it is on disk.
pub(super) fn read(t: &ReadTransaction, key: &str) -> Result<Option<Entry>, redb::Error> {
    for table in [OPEN, ENDED] {
        if let Some(row) = t.open_table(table)?.get(key)? {
            return read_row(row.value()).map(Some);
        }
    }
    Ok(None)
}

/// Entries, inside a transaction.
pub(super) struct Rows<'a> {
    pub(super) t: &'a WriteTransaction,
    pub(super) open: &'a Open,
    /// Each entry that was stored: its length in bytes (u32, big-endian), and its row.
    pub(super) log: RefCell<Vec<u8>>,
}

impl Rows<'_> {
    /// An entry that has no end.
    pub(super) fn open(&self, key: &str) -> Result<Option<Entry>, redb::Error> {
        let entry = self.t.open_table(OPEN)?.get(key)?.map(|row| read_row(row.value())).transpose()?;
        Ok(entry.map(|entry| self.open.with_milestones(key, entry)))
    }

    /// An entry.
    pub(super) fn any(&self, key: &str) -> Result<Option<Entry>, redb::Error> {
        match self.open(key)? {
            Some(entry) => Ok(Some(entry)),
            None => self.t.open_table(ENDED)?.get(key)?.map(|row| read_row(row.value())).transpose(),
        }
    }

    /// Stores an entry where it belongs.
    pub(super) fn put(&self, key: &str, entry: &Entry) -> Result<(), redb::Error> {
        let row = write_row(entry)?;
        let len = u32::try_from(row.len()).map_err(|_| redb::Error::ValueTooLarge(row.len()))?;
        let mut log = self.log.borrow_mut();
        log.extend_from_slice(&len.to_be_bytes());
        log.extend_from_slice(&row);
        let mut open = self.t.open_table(OPEN)?;
        if entry.end.is_none() {
            self.open.add(key, entry);
            open.insert(key, row.as_slice())?;
        } else {
            open.remove(key)?;
            self.t.open_table(ENDED)?.insert(key, row.as_slice())?;
        }
        Ok(())
    }

    /// Keeps an entry that began, or ended, at this time.
    pub(super) fn keep(&self, key: &str, from_ms: u64) -> Result<(), redb::Error> {
        self.t.open_table(KEPT_UNTIL)?.insert((keep_until(from_ms).0, key), ())?;
        Ok(())
    }

    /// Keys of at most `count` entries that were kept long enough, which they are no more.
    pub(super) fn due(&self, now: UnixTime, count: usize) -> Result<Vec<String>, redb::Error> {
        let mut table = self.t.open_table(KEPT_UNTIL)?;
        let mut due = Vec::new();
        for row in table.range(..(now.0, ""))?.take(count) {
            let (row, _) = row?;
            let (until, key) = row.value();
            due.push((until, key.to_owned()));
        }
        for (until, key) in &due {
            table.remove((*until, key.as_str()))?;
        }
        Ok(due.into_iter().map(|(_, key)| key).collect())
    }

    /// Forgets an entry.
    pub(super) fn remove(&self, key: &str) -> Result<(), redb::Error> {
        self.t.open_table(OPEN)?.remove(key)?;
        self.t.open_table(ENDED)?.remove(key)?;
        Ok(())
    }
}
