//! Files that survive: a database, a log, writes in groups, small private files that are replaced in one step, and the
//! folders that they are in.

mod database;
mod file;
mod folder;
mod groups;
mod log;
mod private_file;
mod reserve;
mod secret;
mod text;
mod volume;

pub use database::Database;
pub use file::{DatabaseError, DatabaseFile};
pub use folder::{check_folder, check_folder_to_read, make_private_folder, make_temporary_folder};
pub use groups::{Groups, Store};
pub use log::{Log, Spare};
pub use private_file::{FileError, PrivateFile, check_file};
pub use reserve::{RESERVE_BYTES, Reserve};
pub use secret::Secret;
pub use text::{decode, read_text, read_text_from};

/// The tables and transactions of [`Database`].
pub use redb;
