//! The ledger's tables. Open commands are few, so that their table is quickly changed, whatever is kept of those that ended.

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::super::super::ledger::{CommandKey, End, Entry};
use super::super::{read_row, write_row};
use super::usage::Usage;
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
fn row_key(key: &CommandKey) -> String {
    format!("{} {} {}", key.tenant, key.portal, key.command)
}

/// When an entry may be forgotten: an outcome may have come late, and is kept as long as one that came at once.
fn keep_until(entry: &Entry) -> UnixTime {
    let from_ms = entry.end.as_ref().map_or(entry.accepted_ms, End::at_ms);
    UnixTime(i64::try_from(from_ms / 1000).unwrap_or(i64::MAX)).plus(OUTCOME_RETENTION)
}

/// Makes the tables if they are missing. Since when the file remembers everything, and its open commands.
pub(super) fn prepare(t: &WriteTransaction, now: UnixTime) -> Result<(UnixTime, Vec<Entry>), redb::Error> {
    t.open_table(ENDED)?;
    t.open_table(KEPT_UNTIL)?;
    let open = t.open_table(OPEN)?.iter()?.map(|row| read_row(row?.1.value())).collect::<Result<_, _>>()?;
    let mut table = t.open_table(COMPLETE_SINCE)?;
    let since = table.get(())?.map(|since| since.value());
    if since.is_none() {
        table.insert((), now.0)?;
    }
    Ok((UnixTime(since.unwrap_or(now.0)), open))
}

/// Everything that is kept, by what it takes.
pub(super) fn usage(t: &ReadTransaction) -> Result<Usage, redb::Error> {
    let mut usage = Usage::default();
    for table in [OPEN, ENDED] {
        for row in t.open_table(table)?.iter()? {
            usage.insert(&read_row(row?.1.value())?);
        }
    }
    Ok(usage)
}

/// What the tables held at one moment.
pub(super) struct Picture {
    open: redb::ReadOnlyTable<&'static str, &'static [u8]>,
    ended: redb::ReadOnlyTable<&'static str, &'static [u8]>,
}

impl Picture {
    pub(super) fn take(t: &ReadTransaction) -> Result<Self, redb::Error> {
        Ok(Self { open: t.open_table(OPEN)?, ended: t.open_table(ENDED)? })
    }

    pub(super) fn get(&self, key: &CommandKey) -> Result<Option<Entry>, redb::Error> {
        let key = row_key(key);
        let row = match self.open.get(key.as_str())? {
            None => self.ended.get(key.as_str())?,
            open => open,
        };
        row.map(|row| read_row(row.value())).transpose()
    }
}

/// Stores entries where they belong, in the order of their keys: neighbours stand on one page.
pub(super) fn put<'a>(t: &WriteTransaction, entries: impl Iterator<Item = &'a Entry>) -> Result<(), redb::Error> {
    let mut rows: Vec<_> = entries.map(|entry| (row_key(&entry.key), entry)).collect();
    rows.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let (mut open, mut ended, mut kept) = (t.open_table(OPEN)?, t.open_table(ENDED)?, t.open_table(KEPT_UNTIL)?);
    for (key, entry) in &rows {
        let row = write_row(entry)?;
        if entry.end.is_none() {
            open.insert(key.as_str(), row.as_slice())?;
        } else {
            open.remove(key.as_str())?;
            ended.insert(key.as_str(), row.as_slice())?;
        }
        kept.insert((keep_until(entry).0, key.as_str()), ())?;
    }
    Ok(())
}

/// Forgets entries that were kept long enough, `count` at the most. Those, and whether there may be more.
pub(super) fn forget(t: &WriteTransaction, now: UnixTime, count: usize) -> Result<(Vec<Entry>, bool), redb::Error> {
    let (mut open, mut ended, mut kept) = (t.open_table(OPEN)?, t.open_table(ENDED)?, t.open_table(KEPT_UNTIL)?);
    let due = kept.range(..(now.0, ""))?.take(count).map(|row| row.map(|(row, _)| owned(row.value())));
    let due = due.collect::<Result<Vec<_>, _>>()?;
    let mut forgotten = Vec::new();
    for (until, key) in &due {
        kept.remove((*until, key.as_str()))?;
        for table in [&mut open, &mut ended] {
            let entry: Option<Entry> = table.get(key.as_str())?.map(|row| read_row(row.value())).transpose()?;
            // It has another date of its own if it was stored again since.
            if let Some(entry) = entry.filter(|entry| keep_until(entry) < now) {
                table.remove(key.as_str())?;
                forgotten.push(entry);
            }
        }
    }
    Ok((forgotten, due.len() == count))
}

fn owned((until, key): (i64, &str)) -> (i64, String) {
    (until, key.to_owned())
}
