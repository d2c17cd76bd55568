//! Files that survive: a database with grouped commits, and small private files that are replaced in one step.

mod commit;
mod database;
mod log;
mod private_file;

pub use database::{Database, DatabaseError};
pub use private_file::{FileError, PrivateFile, make_private_folder};

/// The tables and transactions of [`Database`].
pub use redb;
