//! A redb file, opened with care: nothing is ever overwritten to mend it.

use std::fs;
use std::path::{Path, PathBuf};

use redb::{ReadTransaction, ReadableDatabase, WriteTransaction};

/// redb's page cache: the working set is small, and the default (1 GiB) is not for a service.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Why a database can't be opened or written. Nothing is ever overwritten to mend it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DatabaseError {
    /// There is no such file.
    #[error("{path}: the file does not exist")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("{path}: another process has this file open; stop it first")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is damaged, or not a database at all.
    #[error("{path}: the file is damaged and was left as it is ({detail}); restore it from a copy, or move it away")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The operating system refused, at opening.
    #[error("{path}: can't be opened: {detail}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What it said.
        detail: String,
    },
    /// A read or write failed. A write that failed has had no effect.
    #[error("{path}: {detail}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// What was said.
        detail: String,
    },
}

/// An open file.
pub struct DatabaseFile {
    redb: redb::Database,
    path: PathBuf,
}

impl DatabaseFile {
    /// Makes a new, empty file. An existing one is an error.
    ///
    /// # Errors
    /// If the file exists or can't be made.
    pub fn create(path: &Path) -> Result<(), DatabaseError> {
        let open = |detail: String| DatabaseError::Open { path: path.to_owned(), detail };
        if path.exists() {
            return Err(open("it exists already".to_owned()));
        }
        // Made beside and moved into place, so that a half-made file never bears the name.
        let unfinished = path.with_extension("new");
        if unfinished.exists() {
            fs::remove_file(&unfinished).map_err(|e| open(e.to_string()))?;
        }
        drop(redb::Database::builder().create(&unfinished).map_err(|e| open(e.to_string()))?);
        super::private_file::make_private(&unfinished).map_err(|e| open(e.to_string()))?;
        super::private_file::move_into_place(&unfinished, path).map_err(|e| open(e.to_string()))
    }

    /// Opens an existing file and checks all of it.
    ///
    /// # Errors
    /// If it is missing, in use, or damaged.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let owned = path.to_owned();
        match fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(DatabaseError::Missing { path: owned }),
            Err(e) => return Err(DatabaseError::Open { path: owned, detail: e.to_string() }),
            // redb would take an empty file for a new one.
            Ok(meta) if meta.len() == 0 => {
                return Err(DatabaseError::Corrupt { path: owned, detail: "it is empty".to_owned() });
            }
            Ok(_) => {}
        }
        let mut builder = redb::Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let redb = builder.open(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => DatabaseError::InUse { path: owned.clone() },
            redb::DatabaseError::Storage(redb::StorageError::Io(e)) if e.kind() != std::io::ErrorKind::InvalidData => {
                DatabaseError::Open { path: owned.clone(), detail: e.to_string() }
            }
            other => DatabaseError::Corrupt { path: owned.clone(), detail: other.to_string() },
        })?;
        Ok(Self { redb, path: owned })
    }

    /// Opens the file, or makes it if it is missing.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::create`].
    pub fn open_or_create(path: &Path) -> Result<Self, DatabaseError> {
        if !path.exists() {
            Self::create(path)?;
        }
        Self::open(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a consistent picture.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn read<T>(&self, f: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, DatabaseError> {
        self.begin_read().and_then(|t| f(&t)).map_err(|e| self.failed(&e))
    }

    /// A consistent picture.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn begin_read(&self) -> Result<ReadTransaction, redb::Error> {
        Ok(self.redb.begin_read()?)
    }

    /// Waits until nobody else writes.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn begin_write(&self) -> Result<WriteTransaction, redb::Error> {
        Ok(self.redb.begin_write()?)
    }

    /// Writes, and returns when it is on disk.
    ///
    /// # Errors
    /// If nothing of it is.
    pub fn write<T>(&self, f: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T, DatabaseError> {
        let write = || {
            let transaction = self.begin_write()?;
            let value = f(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        write().map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &redb::Error) -> DatabaseError {
        DatabaseError::Failed { path: self.path.clone(), detail: error.to_string() }
    }
}

impl std::fmt::Debug for DatabaseFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DatabaseFile({})", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use redb::TableDefinition;

    use super::*;

    const TABLE: TableDefinition<'_, u64, u64> = TableDefinition::new("t");

    #[test]
    fn damaged_empty_and_foreign_files_are_refused_and_left_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.redb");
        let db = DatabaseFile::open_or_create(&path).unwrap();
        db.write(|t| Ok(t.open_table(TABLE)?.insert(0, 0x0123_4567_89ab_cdef).map(|_| ())?)).unwrap();
        drop(db);
        let good = fs::read(&path).unwrap();
        let mut altered = good.clone();
        let stored = 0x0123_4567_89ab_cdef_u64.to_le_bytes();
        for at in 0..good.len() - stored.len() {
            if good[at..].starts_with(&stored) {
                altered[at] ^= 0xff;
            }
        }
        assert_ne!(altered, good);
        for bad in [Vec::new(), b"hello, this is a letter".to_vec(), good[..good.len() / 2].to_vec(), altered] {
            fs::write(&path, &bad).unwrap();
            let error = DatabaseFile::open(&path).unwrap_err();
            assert!(matches!(error, DatabaseError::Corrupt { .. }), "{error}");
            assert!(error.to_string().contains("a.redb"), "{error}");
            assert_eq!(fs::read(&path).unwrap().len(), bad.len(), "it was made anew");
        }
    }
}
