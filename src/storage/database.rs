//! A redb file that many tasks write.

use std::path::Path;
use std::sync::Arc;

use redb::{ReadTransaction, WriteTransaction};

use super::file::{DatabaseError, DatabaseFile};
use super::groups::{Groups, Store};

/// An open file. Clones share it; when the last one is dropped, what was queued is written and the file is closed.
#[derive(Clone)]
pub struct Database {
    file: Arc<DatabaseFile>,
    groups: Arc<Groups<Arc<DatabaseFile>>>,
}

/// A group is one transaction.
impl Store for Arc<DatabaseFile> {
    type Changes = WriteTransaction;

    fn begin(&mut self) -> Result<WriteTransaction, redb::Error> {
        self.begin_write()
    }

    fn commit(&mut self, transaction: WriteTransaction) -> Result<(), redb::Error> {
        Ok(transaction.commit()?)
    }
}

impl Database {
    /// Opens an existing file and checks all of it.
    ///
    /// # Errors
    /// If it is missing, in use, or damaged.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        Self::over(DatabaseFile::open(path)?)
    }

    /// Opens the file, or makes it if it is missing.
    ///
    /// # Errors
    /// As [`DatabaseFile::open_or_create`].
    pub fn open_or_create(path: &Path) -> Result<Self, DatabaseError> {
        Self::over(DatabaseFile::open_or_create(path)?)
    }

    fn over(file: DatabaseFile) -> Result<Self, DatabaseError> {
        let file = Arc::new(file);
        let groups = Arc::new(Groups::start(file.path(), Arc::clone(&file))?);
        Ok(Self { file, groups })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// As [`Groups::failure`].
    pub fn failure(&self) -> impl Future<Output = DatabaseError> + Send + 'static {
        self.groups.failure()
    }

    /// As [`DatabaseFile::read`].
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn read<T>(&self, f: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, DatabaseError> {
        self.file.read(f)
    }

    /// Writes, and returns when it is on disk. `f` may run beside others' writes in one transaction, never twice.
    ///
    /// # Errors
    /// If it is not on disk; then nothing of it is.
    pub async fn write<T, F>(&self, f: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    {
        self.groups.write(|transaction| f(transaction)).await
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.path().display())
    }
}

#[cfg(test)]
mod tests {
    use redb::{ReadableTable, TableDefinition};

    use super::*;

    const TABLE: TableDefinition<'_, u64, u64> = TableDefinition::new("t");

    async fn put(db: &Database, key: u64) -> Result<(), DatabaseError> {
        db.write(move |t| Ok(t.open_table(TABLE)?.insert(key, key).map(|_| ())?)).await
    }

    #[tokio::test]
    async fn writes_at_the_same_moment_are_all_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.redb");
        let db = Database::open_or_create(&path).unwrap();
        let writes = (0..200).map(|key| {
            let db = db.clone();
            tokio::spawn(async move { put(&db, key).await })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.unwrap().unwrap();
        }
        assert!(matches!(Database::open(&path), Err(DatabaseError::InUse { .. })));
        assert_eq!(db.read(|t| Ok(t.open_table(TABLE)?.iter()?.count())).unwrap(), 200);
    }
}
