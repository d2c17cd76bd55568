//! The marks of the registry's parts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::super::registry::{HEADS_KEPT, IDS_KEPT, Mark, Marked, Part};
use super::super::write_row;
use super::rows::{AGENTS, PORTALS, Rows, TENANTS, get, row_key};
use crate::protocol::jose::{base64url, sha256};
use crate::storage::redb::{
    self, ReadTransaction, ReadableTable, ReadableTableMetadata, TableHandle, WriteTransaction,
};

/// part → [`Row`].
pub(super) const MARKS: Rows = Rows::new("marks");

/// What stands beside a part.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Row {
    mark: Option<Mark>,
    /// The heads at the last revisions.
    heads: BTreeMap<u64, String>,
    follows: Vec<String>,
    missing: Vec<String>,
}

impl Row {
    /// The head is a hash over all changes: the one before, and what is changed.
    fn changed(&mut self, change: &[&[u8]]) {
        let before = self.mark.take();
        let mut text = before.as_ref().map(|mark| mark.head.clone()).unwrap_or_default().into_bytes();
        for part in change {
            text.extend_from_slice(&sha256(part));
        }
        let head = base64url(&sha256(&text));
        let (id, revision) = before.map_or_else(|| (head.clone(), 0), |mark| (mark.id, mark.revision));
        let revision = revision + 1;
        self.heads.insert(revision, head.clone());
        self.heads.retain(|kept, _| *kept + HEADS_KEPT > revision);
        self.mark = Some(Mark { id, revision, head });
    }
}

/// Adds an id to a list of at most so many, the newest last.
fn add(ids: &mut Vec<String>, id: String) {
    ids.retain(|known| *known != id);
    ids.push(id);
    let surplus = ids.len().saturating_sub(IDS_KEPT);
    ids.drain(..surplus);
}

fn mark_key(part: &Part) -> String {
    match part {
        Part::Tenants => "tenants".to_owned(),
        Part::Portals => "portals".to_owned(),
        Part::Agents(tenant) => format!("agents/{tenant}"),
    }
}

/// The part that a row is of; invitations are of none, for they are gone after a day.
fn of_row(table: Rows, key: &str) -> Option<String> {
    match table.name() {
        name if name == TENANTS.name() => Some("tenants".to_owned()),
        name if name == PORTALS.name() => Some("portals".to_owned()),
        name if name == AGENTS.name() => Some(format!("agents/{}", key.split_once('/')?.0)),
        _ => None,
    }
}

fn change_row(t: &WriteTransaction, key: &str, change: impl FnOnce(&mut Row)) -> Result<(), redb::Error> {
    let mut marks = t.open_table(MARKS)?;
    let mut row = get::<Row>(&marks, key)?.unwrap_or_default();
    change(&mut row);
    marks.insert(key, write_row(&row)?.as_slice())?;
    Ok(())
}

/// A row has become this, or is gone.
pub(super) fn changed(t: &WriteTransaction, table: Rows, key: &str, row: &[u8]) -> Result<(), redb::Error> {
    match of_row(table, key) {
        Some(part) => change_row(t, &part, |marks| marks.changed(&[key.as_bytes(), row])),
        None => Ok(()),
    }
}

/// How many records the part has: of agents, whether there is one.
fn records(
    part: &Part,
    of: impl Fn(Rows) -> Result<u64, redb::Error>,
    agents: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<u64, redb::Error> {
    match part {
        Part::Tenants => of(TENANTS),
        Part::Portals => of(PORTALS),
        Part::Agents(tenant) => {
            let prefix = row_key(tenant, "");
            let first = agents.range(&*prefix..)?.next().transpose()?;
            Ok(u64::from(first.is_some_and(|(key, _)| key.value().starts_with(&prefix))))
        }
    }
}

pub(super) fn read(t: &ReadTransaction, part: &Part, revision: u64) -> Result<Marked, redb::Error> {
    let row = get::<Row>(&t.open_table(MARKS)?, &mark_key(part))?.unwrap_or_default();
    let records = records(part, |table| Ok(t.open_table(table)?.len()?), &t.open_table(AGENTS)?)?;
    let head_then = row.heads.get(&revision).cloned();
    Ok(Marked { mark: row.mark, head_then, follows: row.follows, missing: row.missing, records })
}

fn records_in(t: &WriteTransaction, part: &Part) -> Result<u64, redb::Error> {
    let agents = t.open_table(AGENTS)?;
    records(part, |table| Ok(t.open_table(table)?.len()?), &agents)
}

/// All records of a part, as text, so that no other registry begins in the same way.
fn contents(t: &WriteTransaction, part: &Part) -> Result<Vec<u8>, redb::Error> {
    let (table, prefix) = match part {
        Part::Tenants => (TENANTS, String::new()),
        Part::Portals => (PORTALS, String::new()),
        Part::Agents(tenant) => (AGENTS, row_key(tenant, "")),
    };
    let mut text = Vec::new();
    for row in t.open_table(table)?.range(&*prefix..)? {
        let (key, value) = row?;
        if !key.value().starts_with(&prefix) {
            break;
        }
        text.extend_from_slice(value.value());
    }
    Ok(text)
}

/// Marks a part that has records and no mark.
pub(super) fn begin(t: &WriteTransaction, part: &Part) -> Result<(), redb::Error> {
    if records_in(t, part)? == 0 {
        return Ok(());
    }
    let contents = contents(t, part)?;
    change_row(t, &mark_key(part), |row| {
        if row.mark.is_none() {
            row.changed(&[&contents]);
        }
    })
}

pub(super) fn miss(t: &WriteTransaction, part: &Part, id: String) -> Result<(), redb::Error> {
    change_row(t, &mark_key(part), |row| add(&mut row.missing, id))
}

/// As it is, the part takes the place of what it was, of what is missed, and of what the node knows.
pub(super) fn accept(t: &WriteTransaction, part: &Part, known: Option<String>) -> Result<(), redb::Error> {
    let has_records = records_in(t, part)? > 0;
    change_row(t, &mark_key(part), |row| {
        let was = row.mark.take().map(|mark| mark.id);
        for id in std::mem::take(&mut row.missing).into_iter().chain(was).chain(known) {
            add(&mut row.follows, id);
        }
        row.heads.clear();
        if has_records {
            let follows = row.follows.join(" ");
            row.changed(&[follows.as_bytes()]);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::embedded::read_row;

    #[test]
    fn heads_and_ids_of_the_past_are_kept_for_a_while_and_not_for_ever() {
        let mut row = Row::default();
        for n in 0..3 * HEADS_KEPT {
            row.changed(&[&n.to_be_bytes()]);
        }
        let kept = u64::try_from(row.heads.len()).unwrap();
        assert_eq!((kept, row.heads.keys().next_back()), (HEADS_KEPT, Some(&(3 * HEADS_KEPT))));
        for n in 0..3 * IDS_KEPT {
            add(&mut row.follows, n.to_string());
        }
        assert_eq!((row.follows.len(), row.follows.last().unwrap()), (IDS_KEPT, &(3 * IDS_KEPT - 1).to_string()));
        assert!(read_row::<Row>(&write_row(&row).unwrap()).is_ok());
    }
}
