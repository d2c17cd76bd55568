//! How writes come to disk: those of one moment together, in the log if there is one, else in a commit of the file.

use redb::{Durability, WriteTransaction};
use tokio::sync::mpsc;

use super::log::Log;

/// How many writes share a commit at the most.
const GROUP: usize = 256;
/// A log that is this long, in bytes, is committed and begun anew. Everybody waits for that: the longer the log, the longer.
const LOG_BYTES: u64 = 1024 * 1024;

/// What a group of writes has changed.
#[derive(Default)]
pub(super) struct Changes {
    /// As the log tells it.
    pub(super) records: Vec<u8>,
    /// There is something that no log tells.
    pub(super) unlogged: bool,
}

/// Runs in the transaction; what it returns is called when that is on disk.
pub(super) type Job = Box<dyn FnOnce(&WriteTransaction, &mut Changes) -> Result<Answer, redb::Error> + Send>;
type Answer = Box<dyn FnOnce() + Send>;

/// Whether it has ended because nobody writes any more, and not because nothing can be written.
pub(super) fn commit_in_groups(file: &redb::Database, mut log: Option<Log>, mut jobs: mpsc::Receiver<Job>) -> bool {
    let mut group = Vec::with_capacity(GROUP);
    while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
        match commit(file, log.as_mut(), group.drain(..)) {
            Ok(answers) => answers.into_iter().for_each(|answer| answer()),
            // The callers see their reply dropped. redb takes no more writes after one that failed on disk.
            Err(error) => {
                tracing::error!(%error, "a commit failed");
                if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::LockPoisoned(_)) {
                    return false;
                }
            }
        }
    }
    // Whoever copies the file of a node that has stopped has all of it.
    let finished: Job = Box::new(|_, changes| {
        changes.unlogged = true;
        Ok(Box::new(|| ()))
    });
    log.is_none() || commit(file, log.as_mut(), std::iter::once(finished)).is_ok()
}

fn commit(
    file: &redb::Database,
    log: Option<&mut Log>,
    jobs: impl Iterator<Item = Job>,
) -> Result<Vec<Answer>, redb::Error> {
    let (mut transaction, mut changes) = (file.begin_write()?, Changes::default());
    let answers = jobs.map(|job| job(&transaction, &mut changes)).collect::<Result<Vec<_>, _>>()?;
    match log {
        Some(log) if !changes.unlogged && log.len() < LOG_BYTES => {
            if !changes.records.is_empty() {
                log.append(&changes.records)?;
            }
            // Whoever reads sees it, and it is on disk: in the log, until the next commit that waits for the file.
            transaction.set_durability(Durability::None).map_err(redb::Error::from)?;
            transaction.commit()?;
        }
        log => {
            transaction.commit()?;
            log.map_or(Ok(()), Log::clear)?;
        }
    }
    Ok(answers)
}
