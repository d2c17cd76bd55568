//! Some room on the disk that is kept back: when the disk is full it is given away, and what must be written then still is.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::host;

/// What is kept back, in bytes. A log that is told to its file takes some 4 MiB, and a revocation some pages.
pub const RESERVE_BYTES: u64 = 16 * 1024 * 1024;

/// A file that holds room for what must be written.
#[derive(Debug)]
pub struct Reserve {
    folder: PathBuf,
    file: PathBuf,
}

impl Reserve {
    /// In this folder. Nothing is taken yet.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), file: folder.join("reserve") }
    }

    /// How much anybody can still write there, in bytes, and the reserve is not part of that.
    ///
    /// # Errors
    /// If the operating system does not say.
    pub fn free(&self) -> io::Result<u64> {
        host::free_bytes(&self.folder)
    }

    /// Whether it is there.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        fs::metadata(&self.file).is_ok_and(|file| file.len() == RESERVE_BYTES)
    }

    /// Takes it (again).
    ///
    /// # Errors
    /// If there is no room for it; then nothing is taken.
    pub fn take(&self) -> io::Result<()> {
        let file = File::options().create(true).truncate(false).write(true).open(&self.file)?;
        let taken = host::allocate(&file, RESERVE_BYTES);
        if taken.is_err() {
            self.give()?;
        }
        taken
    }

    /// Gives it away.
    ///
    /// # Errors
    /// If it can't be removed.
    pub fn give(&self) -> io::Result<()> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_kept_back_is_really_taken_from_the_disk_and_given_away_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(folder.path());
        assert!(!reserve.is_taken());
        for _ in 0..2 {
            reserve.take().unwrap();
            assert!(reserve.is_taken());
            let blocks = fs::metadata(folder.path().join("reserve")).unwrap().blocks();
            assert!(blocks * 512 >= RESERVE_BYTES, "{blocks} blocks");
        }
        for _ in 0..2 {
            reserve.give().unwrap();
            assert!(!reserve.is_taken());
        }
    }
}
