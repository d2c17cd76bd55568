//! How often an account was written within the last hour. It is counted by objectGUID: an account that is named by its UPN
//! and then by its GUID is one.

use uuid::Uuid;

use crate::clock::UnixTime;
use crate::protocol::command::Operation;
use crate::protocol::ids::CommandId;
use crate::storage::redb::{self, ReadableTable, TableDefinition, WriteTransaction};

/// (objectGUID, operation, second, command id): each write that was begun, and was not certainly without effect.
const WRITES: TableDefinition<'_, Key, ()> = TableDefinition::new("writes");

type Key = ([u8; 16], u8, i64, [u8; 16]);

/// What is counted, in seconds.
const WINDOW: i64 = 3600;

/// How often one operation may be begun for one account within an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Each is counted by itself.
    pub operation: Operation,
    /// So often.
    pub most: usize,
    /// When it is asked.
    pub now: UnixTime,
}

/// Whether a write may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It may.
    Now,
    /// It was done as often as it may be within an hour; at this time it may be done again.
    NotBefore(UnixTime),
}

fn number(operation: Operation) -> u8 {
    match operation {
        Operation::ResetPassword => 0,
        Operation::ChangePassword => 1,
        Operation::UnlockAccount => 2,
    }
}

impl Quota {
    /// Counts one more, if there is room for it.
    pub(super) fn take(self, t: &WriteTransaction, account: Uuid, command: CommandId) -> Result<Start, redb::Error> {
        let mut writes = t.open_table(WRITES)?;
        let (account, operation, now) = (account.into_bytes(), number(self.operation), self.now.0);
        let key = |second, id| (account, operation, second, id);
        // What a clock wrote that was an hour ahead or more says nothing.
        let window = key(now - WINDOW + 1, [0; 16])..key(now + WINDOW, [0; 16]);
        let begun = writes.range(window)?.map(|row| Ok(row?.0.value().2)).collect::<Result<Vec<_>, redb::Error>>()?;
        // With the oldest of these gone, there is room for one.
        let Some(oldest) = begun.len().checked_sub(self.most) else {
            writes.insert(key(now, *command.as_bytes()), ())?;
            return Ok(Start::Now);
        };
        Ok(Start::NotBefore(UnixTime(begun.get(oldest).copied().unwrap_or(now) + WINDOW)))
    }
}

/// This command has not written the account after all.
pub(super) fn give_back(t: &WriteTransaction, account: Uuid, command: CommandId) -> Result<(), redb::Error> {
    let account = account.into_bytes();
    let all = (account, 0, i64::MIN, [0; 16])..=(account, u8::MAX, i64::MAX, [0xff; 16]);
    let mut writes = t.open_table(WRITES)?;
    writes.retain_in(all, |(_, _, _, id), ()| id != *command.as_bytes())?;
    Ok(())
}

/// Forgets what counts no more.
pub(super) fn purge(t: &WriteTransaction, now: UnixTime) -> Result<(), redb::Error> {
    t.open_table(WRITES)?.retain(|(_, _, second, _), ()| (now.0 - second).abs() < WINDOW)?;
    Ok(())
}
