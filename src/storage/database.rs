//! A redb file whose durable commits are grouped: what many tasks want to write at the same moment costs one fsync.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use redb::{ReadTransaction, ReadableDatabase, WriteTransaction};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::commit::{Changes, Job, commit_in_groups};
use super::log::Log;

/// How many writes may wait; more callers wait before they queue.
const QUEUE: usize = 1024;
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

/// An open file. Clones share it; when the last one is dropped, what was queued is written and the file is closed.
#[derive(Clone)]
pub struct Database {
    open: Arc<Open>,
}

struct Open {
    file: Arc<redb::Database>,
    path: PathBuf,
    queue: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    /// Cancelled when nothing can be written any more.
    failed: CancellationToken,
}

impl Drop for Open {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // It fails only if the writer panicked, which it has logged.
            let _ = writer.join();
        }
    }
}

impl Database {
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
        Ok(Self::open_with(path, None)?.0)
    }

    /// Opens the file, or makes it, with a log beside it for [`Self::write_logged`]. The records that stand in the log:
    /// what the file may lack, to be written again with [`Self::write`].
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::create`], or if the log is damaged, or there without its file.
    pub fn open_or_create_logged(path: &Path) -> Result<(Self, Vec<u8>), DatabaseError> {
        let beside = path.with_extension("wal");
        if !path.exists() && beside.exists() {
            let detail = format!("it belongs to {}, which is missing; restore both, or move both away", path.display());
            return Err(DatabaseError::Corrupt { path: beside, detail });
        }
        if !path.exists() {
            Self::create(path)?;
        }
        Self::open_with(path, Some(&beside))
    }

    fn open_with(path: &Path, log: Option<&Path>) -> Result<(Self, Vec<u8>), DatabaseError> {
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
        let file = builder.open(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => DatabaseError::InUse { path: owned.clone() },
            redb::DatabaseError::Storage(redb::StorageError::Io(e)) if e.kind() != std::io::ErrorKind::InvalidData => {
                DatabaseError::Open { path: owned.clone(), detail: e.to_string() }
            }
            other => DatabaseError::Corrupt { path: owned.clone(), detail: other.to_string() },
        })?;
        let file = Arc::new(file);
        // No other process has the file, nor its log.
        let (log, records) = log.map(Log::open).transpose()?.unzip();
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (writes_to, failed) = (Arc::clone(&file), CancellationToken::new());
        let guard = failed.clone();
        let writer = std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || {
                // Cancelled by a panic, too.
                let broken = guard.drop_guard();
                if commit_in_groups(&writes_to, log, jobs) {
                    broken.disarm();
                }
            })
            .map_err(|e| DatabaseError::Open { path: owned.clone(), detail: e.to_string() })?;
        let open = Arc::new(Open { file, path: owned, queue: Some(queue), writer: Some(writer), failed });
        Ok((Self { open }, records.unwrap_or_default()))
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
        &self.open.path
    }

    /// Resolves when nothing can be written any more, until the file is opened again: the disk has failed, or is full.
    pub fn failure(&self) -> impl Future<Output = DatabaseError> + Send + 'static {
        let (failed, path) = (self.open.failed.clone(), self.open.path.clone());
        async move {
            failed.cancelled().await;
            DatabaseError::Failed { path, detail: "it can't be written any more; is the disk full?".to_owned() }
        }
    }

    fn failed(&self, detail: impl ToString) -> DatabaseError {
        DatabaseError::Failed { path: self.open.path.clone(), detail: detail.to_string() }
    }

    /// Reads a consistent picture.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn read<T>(&self, f: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, DatabaseError> {
        let transaction = self.open.file.begin_read().map_err(|e| self.failed(e))?;
        f(&transaction).map_err(|e| self.failed(e))
    }

    async fn queue(&self, job: Job) -> Result<(), DatabaseError> {
        let stopped = || self.failed("the writer has stopped");
        self.open.queue.as_ref().ok_or_else(stopped)?.send(job).await.map_err(|_| stopped())
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
        self.change(|transaction, changes| {
            changes.unlogged = true;
            f(transaction)
        })
        .await
    }

    /// The same for what `f` tells the log, too: then the log is on disk, and the file follows. Without a log, or when it
    /// is long, it is [`Self::write`].
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn write_logged<T, F>(&self, f: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTransaction, &mut Vec<u8>) -> Result<T, redb::Error> + Send + 'static,
    {
        self.change(|transaction, changes| f(transaction, &mut changes.records)).await
    }

    async fn change<T, F>(&self, f: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTransaction, &mut Changes) -> Result<T, redb::Error> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.queue(Box::new(move |transaction, changes| {
            let value = f(transaction, changes)?;
            Ok(Box::new(move || drop(reply.send(value))))
        }))
        .await?;
        answer.await.map_err(|_| self.failed("the write failed; nothing of it was stored"))
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.open.path.display())
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

    /// What a process that is killed now leaves behind: the file as it is, and the log.
    fn left_behind(path: &Path, to: &Path) -> (Database, Vec<u8>) {
        for name in ["a.redb", "a.wal"] {
            fs::copy(path.with_file_name(name), to.join(name)).unwrap();
        }
        Database::open_or_create_logged(&to.join("a.redb")).unwrap()
    }

    #[tokio::test]
    async fn whatever_was_answered_is_in_the_file_or_in_its_log_while_one_follows_the_other() {
        const ROW: usize = 64 * 1024;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.redb");
        let (db, log) = Database::open_or_create_logged(&path).unwrap();
        assert!(log.is_empty());
        let mut shortest = usize::MAX;
        // Several logs long.
        for key in 0..40_u64 {
            let put = move |t: &WriteTransaction, log: &mut Vec<u8>| {
                log.resize(log.len() + ROW - 8, 0);
                log.extend_from_slice(&key.to_be_bytes());
                Ok(t.open_table(TABLE)?.insert(key, key).map(|_| ())?)
            };
            db.write_logged(put).await.unwrap();
            let copy = tempfile::tempdir().unwrap();
            let (left, log) = left_behind(&path, copy.path());
            let in_log = log.chunks(ROW).map(|row| u64::from_be_bytes(row[ROW - 8..].try_into().unwrap()));
            let in_file = left.read(|t| match t.open_table(TABLE) {
                Ok(table) => Ok(table.iter()?.map(|row| row.unwrap().0.value()).collect::<Vec<_>>()),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(Vec::new()),
                Err(error) => Err(error.into()),
            });
            let there: std::collections::BTreeSet<_> = in_file.unwrap().into_iter().chain(in_log).collect();
            assert!(there.into_iter().eq(0..=key), "after {key}");
            shortest = if key > 0 { shortest.min(log.len()) } else { shortest };
        }
        assert_eq!(shortest, 0, "the log was begun anew");
    }

    #[tokio::test]
    async fn damaged_empty_and_foreign_files_are_refused_and_left_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.redb");
        let db = Database::open_or_create(&path).unwrap();
        put(&db, 0x0123_4567_89ab_cdef).await.unwrap();
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
            let error = Database::open(&path).unwrap_err();
            assert!(matches!(error, DatabaseError::Corrupt { .. }), "{error}");
            assert!(error.to_string().contains("a.redb"), "{error}");
            assert_eq!(fs::read(&path).unwrap().len(), bad.len(), "it was made anew");
        }
    }
}
