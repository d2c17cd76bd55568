//! Commands of portals that are not trusted any more. A refusal is remembered like any outcome, so that the same command is
//! never executed, whoever is trusted later. It has a small room of its own: such a portal must not take the room of those that
//! are trusted.

use super::{ENTRIES, Entry, Journal, JournalError, MAX_OPEN, OPEN, Receipt, Stage, get, put};
use crate::protocol::command::Command;
use crate::protocol::jose::{base64url, sha256};
use crate::storage::redb::{self, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

/// Command id, for those that were refused.
const REFUSED: TableDefinition<'_, [u8; 16], ()> = TableDefinition::new("refused");

/// So many are remembered: of all that a journal holds, one in sixty.
const MAX_REFUSED: u64 = 4096;
/// None is taken while so many commands have no outcome that a relay has stored: three quarters of that room are for others.
const MAX_OPEN_FOR_REFUSED: u64 = MAX_OPEN / 4;

/// Forgets that a command was refused, with its entry.
pub(super) fn forget(t: &WriteTransaction, id: [u8; 16]) -> Result<(), redb::Error> {
    t.open_table(REFUSED)?.remove(id)?;
    Ok(())
}

impl Journal {
    /// Takes a command in together with the outcome that refuses it. When this returns [`Receipt::New`], both are on disk.
    ///
    /// # Errors
    /// If they are not; then nobody may be told.
    pub async fn refuse(
        &self,
        command: &Command,
        jws: &str,
        trace_id: Option<String>,
        outcome: String,
    ) -> Result<Receipt, JournalError> {
        let (id, exp, sha256) = (command.jti, command.validity.exp, base64url(&sha256(jws.as_bytes())));
        let refuse = move |t: &WriteTransaction| match get(t, id)? {
            Some(known) if known.sha256 == sha256 => Ok(Receipt::Known(Box::new(known))),
            Some(_) => Ok(Receipt::Conflict),
            None => {
                let mut refused = t.open_table(REFUSED)?;
                let open = t.open_table(OPEN)?.len()?;
                if open >= MAX_OPEN_FOR_REFUSED || refused.len()? >= MAX_REFUSED || is_full(t)? {
                    return Ok(Receipt::Full);
                }
                refused.insert(*id.as_bytes(), ())?;
                let order = t.open_table(OPEN)?.last()?.map_or(0, |(last, _)| last.value() + 1);
                let stage = Stage::Concluded { outcome, stored: false };
                put(t, &Entry { command: id, order, sha256, exp, trace_id, stage })?;
                Ok(Receipt::New)
            }
        };
        Ok(self.db.write(refuse).await?)
    }
}

fn is_full(t: &WriteTransaction) -> Result<bool, redb::Error> {
    Ok(t.open_table(ENTRIES)?.len()? >= super::MAX_ENTRIES)
}
