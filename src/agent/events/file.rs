//! A file of lines that is put aside when it is long enough: `events.jsonl` becomes `events.jsonl.1`, and so on; the oldest
//! goes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::storage::{FileError, PrivateFile};

/// A file that is this long, in bytes, is put aside: some 30,000 events.
pub(super) const FILE_BYTES: u64 = 8 * 1024 * 1024;
/// So many files are kept beside the one that is written.
pub(super) const KEPT_ASIDE: u32 = 4;

/// Appends lines.
pub(super) struct Appended {
    file: Mutex<File>,
    path: PathBuf,
    /// How long a file becomes, in bytes.
    limit: u64,
}

impl Appended {
    /// Opens it, and makes it if it is missing.
    pub(super) fn open(path: PathBuf, limit: u64) -> Result<Self, FileError> {
        let file = Mutex::new(PrivateFile::new(&path).append()?);
        Ok(Self { file, path, limit })
    }

    pub(super) fn append(&self, line: &str) -> io::Result<()> {
        let mut file = self.file.lock();
        // Whoever may have shortened it meanwhile.
        if file.metadata()?.len() >= self.limit {
            *file = self.put_aside()?;
        }
        // One write for one line, so that lines of two processes don't mix.
        file.write_all(format!("{line}\n").as_bytes())
    }

    fn put_aside(&self) -> io::Result<File> {
        for n in (1..KEPT_ASIDE).rev() {
            match fs::rename(aside(&self.path, n), aside(&self.path, n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, aside(&self.path, 1))?;
        PrivateFile::new(&self.path).append().map_err(io::Error::other)
    }
}

/// The `n`th file that was put aside; the first is the youngest.
pub(super) fn aside(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}
