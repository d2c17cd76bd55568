//! The registry's tables, and what is done with their rows.

use std::ops::Bound;

use super::super::super::registry::{AgentRecord, Counts, INVITATION_KEPT, InvitationRecord};
use super::super::{read_row, write_row};
use super::marks;
use crate::clock::UnixTime;
use crate::protocol::api::AgentStatus;
use crate::protocol::ids::TenantId;
use crate::storage::redb::{self, ReadableTable, TableDefinition, WriteTransaction};

pub(super) type Rows = TableDefinition<'static, &'static str, &'static [u8]>;

/// tenant → [`TenantRecord`].
pub(super) const TENANTS: Rows = TableDefinition::new("tenants");
/// portal → [`PortalRecord`].
pub(super) const PORTALS: Rows = TableDefinition::new("portals");
/// tenant/invitation → [`InvitationRecord`].
pub(super) const INVITATIONS: Rows = TableDefinition::new("invitations");
/// tenant/agent → [`AgentRecord`].
pub(super) const AGENTS: Rows = TableDefinition::new("agents");
/// tenant/agent that nobody has approved → when it is forgotten.
pub(super) const UNAPPROVED: TableDefinition<'static, &'static str, i64> = TableDefinition::new("unapproved");
/// agent and `jti` of an assertion that was used → its `exp`.
pub(super) const ASSERTIONS: TableDefinition<'static, (&'static [u8; 16], &'static [u8; 16]), i64> =
    TableDefinition::new("assertions");

pub(super) fn row_key(tenant: &TenantId, id: impl std::fmt::Display) -> String {
    format!("{tenant}/{id}")
}

pub(super) fn put<T: serde::Serialize>(
    t: &WriteTransaction,
    table: Rows,
    key: &str,
    row: &T,
) -> Result<(), redb::Error> {
    t.open_table(table)?.insert(key, write_row(row)?.as_slice())?;
    Ok(())
}

/// The same, and the mark of the row's part moves.
pub(super) fn put_counted<T: serde::Serialize>(
    t: &WriteTransaction,
    table: Rows,
    key: &str,
    row: &T,
) -> Result<(), redb::Error> {
    put(t, table, key, row)?;
    marks::changed(t, table, key, &write_row(row)?)
}

pub(super) fn get<T: serde::de::DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<T>, redb::Error> {
    table.get(key)?.map(|row| read_row(row.value())).transpose()
}

/// Every row whose key begins with `prefix`, in order.
pub(super) fn all<T: serde::de::DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    prefix: &str,
) -> Result<Vec<T>, redb::Error> {
    some(table, prefix, Bound::Included(prefix), usize::MAX)
}

/// The same from `from` on, `limit` at the most.
pub(super) fn some<T: serde::de::DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    prefix: &str,
    from: Bound<&str>,
    limit: usize,
) -> Result<Vec<T>, redb::Error> {
    let mut rows = Vec::new();
    for row in table.range::<&str>((from, Bound::Unbounded))? {
        let (key, value) = row?;
        if !key.value().starts_with(prefix) || rows.len() >= limit {
            break;
        }
        rows.push(read_row(value.value())?);
    }
    Ok(rows)
}

/// Whether a tenant has `most` rows or more in a table.
pub(super) fn is_full<V: redb::Value + 'static>(
    table: &impl ReadableTable<&'static str, V>,
    tenant: &TenantId,
    most: u32,
) -> Result<bool, redb::Error> {
    let (prefix, most) = (row_key(tenant, ""), usize::try_from(most).unwrap_or(usize::MAX));
    let mut count = 0;
    for row in table.range(&*prefix..)? {
        if count >= most || !row?.0.value().starts_with(&prefix) {
            break;
        }
        count += 1;
    }
    Ok(count >= most)
}

/// A write that changes a record, if there is one, and gives what the change gives.
pub(super) fn change_in<R, T>(
    table: Rows,
    key: String,
    counts: Counts,
    change: impl FnOnce(R) -> (R, T) + Send + 'static,
) -> impl FnOnce(&WriteTransaction) -> Result<Option<T>, redb::Error> + Send + 'static
where
    R: serde::Serialize + serde::de::DeserializeOwned,
{
    move |t| {
        let Some(record) = get::<R>(&t.open_table(table)?, &key)? else { return Ok(None) };
        let (record, given) = change(record);
        match counts {
            Counts::Yes => put_counted(t, table, &key, &record)?,
            Counts::No => put(t, table, &key, &record)?,
        }
        Ok(Some(given))
    }
}

/// Forgets what was kept long enough; how many invitations and agents.
pub(super) fn purge(t: &WriteTransaction, now: UnixTime) -> Result<u64, redb::Error> {
    t.open_table(ASSERTIONS)?.retain(|_, exp| exp > now.0)?;
    let (ended, mut forgotten) = (now.minus(INVITATION_KEPT), 0);
    let mut damaged = None;
    t.open_table(INVITATIONS)?.retain(|_, row| match read_row::<InvitationRecord>(row) {
        Ok(invitation) => {
            let is_kept = invitation.expires_at > ended;
            forgotten += u64::from(!is_kept);
            is_kept
        }
        Err(error) => {
            damaged = Some(error);
            true
        }
    })?;
    if let Some(error) = damaged {
        return Err(error);
    }
    let (mut agents, mut unapproved) = (t.open_table(AGENTS)?, t.open_table(UNAPPROVED)?);
    let due = unapproved.extract_if(|_, until| until <= now.0)?;
    for row in due {
        let (key, _) = row?;
        let record = get::<AgentRecord>(&agents, key.value())?;
        if record.is_some_and(|record| record.status != AgentStatus::Approved) {
            agents.remove(key.value())?;
            marks::changed(t, AGENTS, key.value(), b"")?;
            forgotten += 1;
        }
    }
    Ok(forgotten)
}
