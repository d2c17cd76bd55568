//! What a database has to be told yet: appended and synced in groups, which costs less than a commit of its own.
//!
//! A log is two files, of which one is written. When the database is to be told what is in it, the other one is written from
//! its start, and the two change again when the database knows. Neither is made or removed meanwhile, and each keeps its
//! length, so that a sync has nothing to wait for but the bytes. Groups are numbered: what is left over in a file from earlier
//! has lower numbers than what is written over it.

mod group;
mod half;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use self::half::{Content, Half};
use super::DatabaseError;

/// An open log.
pub struct Log {
    written: Half,
    other: Other,
    /// The number of the last group.
    number: u64,
}

/// The file that is not written.
enum Other {
    /// What is in it is needed: nobody was told.
    Needed(Half),
    /// It may be written over.
    Spare(Half),
    /// Somebody is being told what is in it.
    Aside,
}

/// One of the two files, as it was found.
struct Found {
    path: PathBuf,
    half: Half,
    /// What is not above this number is stored elsewhere.
    told: u64,
    /// The numbers of the first group that is needed, and of the last.
    numbers: Option<(u64, u64)>,
    /// How far they go, in bytes.
    len: usize,
    records: Vec<u8>,
}

impl Found {
    fn read(path: PathBuf) -> Result<Self, DatabaseError> {
        let (half, Content { told, bytes }) = match Half::open(&path) {
            Ok(found) => found,
            Err(error) => return Err(DatabaseError::Open { path, detail: error.to_string() }),
        };
        let mut found = Self { path, half, told, numbers: None, len: 0, records: Vec::new() };
        for group in group::run(&bytes).take_while(|group| group.number > told) {
            let first = found.numbers.map_or(group.number, |(first, _)| first);
            found.numbers = Some((first, group.number));
            found.records.extend_from_slice(group.records);
            found.len = bytes.len() - group.behind.len();
        }
        // Only the last group can be torn, and what was left over from earlier is stored elsewhere.
        if bytes.get(found.len..).is_some_and(|rest| group::is_above(found.last(), rest)) {
            return Err(found.damaged());
        }
        Ok(found)
    }

    /// The number of the last group that was ever seen whole here.
    fn last(&self) -> u64 {
        self.numbers.map_or(self.told, |(_, last)| last)
    }

    fn damaged(&self) -> DatabaseError {
        DatabaseError::Corrupt {
            path: self.path.clone(),
            detail: format!("group {} and what follows", self.last() + 1),
        }
    }
}

impl Log {
    /// The log's two files.
    #[must_use]
    pub fn files(path: &Path) -> [PathBuf; 2] {
        let file = |number: &str| {
            let mut name = path.file_stem().unwrap_or_else(|| OsStr::new("log")).to_owned();
            name.push(number);
            name.push(".wal");
            path.with_file_name(name)
        };
        [file(".0"), file(".1")]
    }

    /// Opens it, or makes it. Its records, in the order in which they were written: nothing is set aside until they are
    /// stored elsewhere and the log is cleared.
    ///
    /// # Errors
    /// If it can't be read or made, or a group before the last is damaged.
    pub fn open(path: &Path) -> Result<(Self, Vec<u8>), DatabaseError> {
        let [first, second] = Self::files(path);
        let (mut older, mut newer) = (Found::read(first)?, Found::read(second)?);
        if older.numbers >= newer.numbers {
            std::mem::swap(&mut older, &mut newer);
        }
        // The older one was whole when the newer one was begun.
        let before = newer.numbers.map_or(0, |(first, _)| first.saturating_sub(1));
        if before > older.last().max(newer.told) {
            return Err(older.damaged());
        }
        let number = older.last().max(newer.last());
        let Found { path, half: mut written, len, records, .. } = newer;
        written.cut(len).map_err(|error| DatabaseError::Open { path, detail: error.to_string() })?;
        let records = [older.records, records].concat();
        Ok((Self { written, other: Other::Needed(older.half), number }, records))
    }

    /// How much of the file that is written there is, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.written.len()
    }

    /// Appends a group, which must not be empty, and returns when it is on disk.
    ///
    /// # Errors
    /// If it is not; then nothing of it is.
    pub fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let number = self.number + 1;
        self.written.append(group::write(number, records)?)?;
        self.number = number;
        Ok(())
    }

    /// All of it is stored elsewhere, durably, and nothing is set aside.
    ///
    /// # Errors
    /// If it can't be emptied.
    pub fn clear(&mut self) -> io::Result<()> {
        // The older one first: it must not be there alone.
        self.other = match std::mem::replace(&mut self.other, Other::Aside) {
            Other::Needed(mut half) | Other::Spare(mut half) => {
                half.tell(self.number)?;
                half.cut(0)?;
                Other::Spare(half)
            }
            Other::Aside => Other::Aside,
        };
        self.written.tell(self.number)?;
        self.written.cut(0)
    }

    /// Goes on in the other file, and hands over the one that was written. `None` if there is nothing in it, or the other one
    /// is still needed.
    pub fn set_aside(&mut self) -> Option<Aside> {
        if self.written.len() == 0 {
            return None;
        }
        match std::mem::replace(&mut self.other, Other::Aside) {
            Other::Spare(spare) => {
                Some(Aside { half: std::mem::replace(&mut self.written, spare), number: self.number })
            }
            needed => {
                self.other = needed;
                None
            }
        }
    }

    /// A file that was set aside may be written over.
    pub fn take_back(&mut self, spare: Spare) {
        self.other = Other::Spare(spare.0);
    }
}

/// A file that was set aside.
#[must_use]
pub struct Aside {
    half: Half,
    number: u64,
}

/// A file that nobody needs.
#[must_use]
pub struct Spare(Half);

impl Aside {
    /// All of it is stored elsewhere, durably. That is said in the file, so that what is left over of it when it is written over
    /// is taken neither for records nor for damage.
    ///
    /// # Errors
    /// If that can't be written.
    pub fn told(self) -> io::Result<Spare> {
        let Self { mut half, number } = self;
        half.tell(number)?;
        Ok(Spare(half))
    }
}
