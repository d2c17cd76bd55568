//! The three contracts for one node: registry and ledger in a redb file each, the bus in memory.

mod bus;
mod ledger;
mod registry;
mod room;

pub use bus::EmbeddedBus;
pub use ledger::EmbeddedLedger;
pub use registry::EmbeddedRegistry;
pub use room::Room;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use crate::storage::{DatabaseError, redb};

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        Self::Unanswered(error.to_string())
    }
}

/// A row is JSON. One that can't be read is damage, not a gap: redb's checksums have passed, so our own form is wrong.
fn read_row<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, redb::Error> {
    serde_json::from_slice(bytes).map_err(|e| redb::Error::Corrupted(format!("a row can't be read: {e}")))
}

fn write_row<T: Serialize>(row: &T) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(row).map_err(|e| redb::Error::Corrupted(format!("a row can't be written: {e}")))
}
