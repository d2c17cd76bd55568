//! Files that survive: a database, a log, writes in groups, and small private files that are replaced in one step.

mod database;
mod file;
mod groups;
mod log;
mod private_file;
mod reserve;
mod secret;

pub use database::Database;
pub use file::{DatabaseError, DatabaseFile};
pub use groups::{Groups, Store};
pub use log::{Log, Spare};
pub use private_file::{FileError, PrivateFile, make_private_folder};
pub use reserve::{RESERVE_BYTES, Reserve};
pub use secret::Secret;

/// The tables and transactions of [`Database`].
pub use redb;
