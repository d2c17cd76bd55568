//! A file of the agent's folder that another process of it may replace: `rotate-keys` and `trust` beside a running agent.
//! It is read again when it is another one, and changed under a lock.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::home::Home;
use crate::storage::FileError;

const LOCK: &str = "agent.lock";

/// Which file it was: one that is replaced has another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: (i64, i64),
}

type Seen<T> = Mutex<Option<(Option<Stamp>, Arc<T>)>>;

/// What stands in the file.
pub(super) struct Watched<T> {
    home: Home,
    path: PathBuf,
    load: fn(&Home) -> Result<T, FileError>,
    seen: Seen<T>,
}

impl<T> Watched<T> {
    /// Reads it with `load`, for the first time.
    pub(super) fn open(home: &Home, path: PathBuf, load: fn(&Home) -> Result<T, FileError>) -> Result<Self, FileError> {
        let watched = Self { home: home.clone(), path, load, seen: Mutex::new(None) };
        watched.read()?;
        Ok(watched)
    }

    fn stamp(&self) -> Option<Stamp> {
        let meta = fs::metadata(&self.path).ok()?;
        Some(Stamp { inode: meta.ino(), modified: (meta.mtime(), meta.mtime_nsec()) })
    }

    /// As it stands now. If it can't be read any more, as it stood before, and the log says so.
    pub(super) fn read(&self) -> Result<Arc<T>, FileError> {
        let stamp = self.stamp();
        let mut seen = self.seen.lock();
        let before = match &*seen {
            Some((at, value)) if *at == stamp => return Ok(Arc::clone(value)),
            Some((_, value)) => Some(Arc::clone(value)),
            None => None,
        };
        match ((self.load)(&self.home), before) {
            (Ok(value), _) => Ok(Arc::clone(&seen.insert((stamp, Arc::new(value))).1)),
            (Err(error), Some(before)) => {
                tracing::error!(%error, "a file of the agent was changed and can't be read; going on without the change");
                *seen = Some((stamp, Arc::clone(&before)));
                Ok(before)
            }
            (Err(error), None) => Err(error),
        }
    }
}

/// Held while a file of the folder is read, changed and replaced: two processes never lose each other's change.
pub(super) fn hold(home: &Home) -> Result<File, FileError> {
    let path = home.folder().join(LOCK);
    let open = || {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        file.lock()?;
        Ok(file)
    };
    open().map_err(|error| FileError::Io { path: path.clone(), error })
}

/// Held while the journal is opened, or open for a moment: an agent that starts waits for whoever counts what is in it, and does
/// not take it for another agent's. The lock is on the identity, which is there whoever asks first, and may be read-only.
pub(super) fn hold_journal(home: &Home) -> Option<File> {
    let file = File::open(home.identity_file().path()).ok()?;
    file.lock().ok().map(|()| file)
}
