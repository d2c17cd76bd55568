//! What many tasks want to write at the same moment is stored together: the disk is waited for once, not for each.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::DatabaseError;

/// How many writes may wait; more callers wait before they queue.
const QUEUE: usize = 1024;
/// How many writes are stored together at the most.
const GROUP: usize = 256;

/// Where groups of changes are stored. Only one thread has it.
pub trait Store: Send + 'static {
    /// The changes of one group, as they are made.
    type Changes;

    /// Begins a group.
    ///
    /// # Errors
    /// If nothing can be written.
    fn begin(&mut self) -> Result<Self::Changes, redb::Error>;

    /// Returns when all of it is on disk.
    ///
    /// # Errors
    /// If nothing of it is.
    fn commit(&mut self, changes: Self::Changes) -> Result<(), redb::Error>;

    /// Nobody writes any more.
    ///
    /// # Errors
    /// If what is left to do can't be done.
    fn finish(&mut self) -> Result<(), redb::Error> {
        Ok(())
    }
}

/// Runs among the changes; what it returns is called when they are on disk.
type Job<C> = Box<dyn FnOnce(&mut C) -> Result<Answer, redb::Error> + Send>;
type Answer = Box<dyn FnOnce() + Send>;

/// A store's thread. When it is dropped, what was queued is written and the store is finished.
pub struct Groups<S: Store> {
    path: PathBuf,
    queue: Option<mpsc::Sender<Job<S::Changes>>>,
    writer: Option<JoinHandle<()>>,
    /// Cancelled when nothing can be written any more.
    failed: CancellationToken,
}

impl<S: Store> Drop for Groups<S> {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // It fails only if the writer panicked, which it has logged.
            let _ = writer.join();
        }
    }
}

impl<S: Store> Groups<S> {
    /// Starts the thread. `path` is for people.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn start(path: &Path, mut store: S) -> Result<Self, DatabaseError> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let failed = CancellationToken::new();
        let guard = failed.clone();
        let writer = std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || {
                // Cancelled by a panic, too.
                let broken = guard.drop_guard();
                if store_groups(&mut store, jobs) {
                    broken.disarm();
                }
            })
            .map_err(|e| DatabaseError::Open { path: path.to_owned(), detail: e.to_string() })?;
        Ok(Self { path: path.to_owned(), queue: Some(queue), writer: Some(writer), failed })
    }

    /// Resolves when nothing can be written any more, until the store is opened again: the disk has failed, or is full.
    pub fn failure(&self) -> impl Future<Output = DatabaseError> + Send + 'static {
        let (failed, path) = (self.failed.clone(), self.path.clone());
        async move {
            failed.cancelled().await;
            DatabaseError::Failed { path, detail: "it can't be written any more; is the disk full?".to_owned() }
        }
    }

    /// Writes, and returns when it is on disk. `f` may run beside others' changes, never twice.
    ///
    /// # Errors
    /// If it is not on disk; then nothing of it is.
    pub async fn write<T, F>(&self, f: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&mut S::Changes) -> Result<T, redb::Error> + Send + 'static,
    {
        let failed = |detail: &str| DatabaseError::Failed { path: self.path.clone(), detail: detail.to_owned() };
        let (reply, answer) = oneshot::channel();
        let job: Job<S::Changes> = Box::new(move |changes| {
            let value = f(changes)?;
            Ok(Box::new(move || drop(reply.send(value))))
        });
        let queue = self.queue.as_ref().ok_or_else(|| failed("the writer has stopped"))?;
        queue.send(job).await.map_err(|_| failed("the writer has stopped"))?;
        answer.await.map_err(|_| failed("the write failed; nothing of it was stored"))
    }
}

/// Whether it has ended because nobody writes any more, and not because nothing can be written.
fn store_groups<S: Store>(store: &mut S, mut jobs: mpsc::Receiver<Job<S::Changes>>) -> bool {
    let mut group = Vec::with_capacity(GROUP);
    while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
        match store_group(store, group.drain(..)) {
            Ok(answers) => answers.into_iter().for_each(|answer| answer()),
            // The callers see their reply dropped. Nothing is written any more after a write that failed on disk.
            Err(error) => {
                tracing::error!(%error, "a commit failed");
                if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::LockPoisoned(_)) {
                    return false;
                }
            }
        }
    }
    store.finish().inspect_err(|error| tracing::error!(%error, "what was written could not be put in order")).is_ok()
}

fn store_group<S: Store>(
    store: &mut S,
    jobs: impl Iterator<Item = Job<S::Changes>>,
) -> Result<Vec<Answer>, redb::Error> {
    let mut changes = store.begin()?;
    let answers = jobs.map(|job| job(&mut changes)).collect::<Result<Vec<_>, _>>()?;
    store.commit(changes)?;
    Ok(answers)
}
