//! One of a log's two files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::super::private_file::{make_private, sync_folder_of};
use super::group;

/// Room is made in such steps, in bytes, and filled with zeros: to write into it changes nothing of the file but what is in it,
/// which is half the work of a sync.
pub(super) const STEP: usize = 256 * 1024;

/// The first sector of a file is written apart from what comes after it: a disk writes a sector whole or not at all.
pub(super) const SECTOR: usize = 512;
/// Where the first group goes.
const FIRST: u64 = 512;

/// A file that groups are appended to. It is written over from its start, again and again, and keeps its room. Its first sector
/// has an empty group with the number of the last one that is stored elsewhere, of those that were ever in this file.
pub(super) struct Half {
    file: File,
    /// Where the next group goes, in bytes.
    end: u64,
    /// How long the file is.
    room: u64,
}

/// What a file has in it.
pub(super) struct Content {
    /// What is not above this number is stored elsewhere.
    pub(super) told: u64,
    /// Behind the first sector.
    pub(super) bytes: Vec<u8>,
}

impl Half {
    /// Opens it, or makes it. Its name is on disk, too.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Content)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        make_private(path).and_then(|()| sync_folder_of(path))?;
        let mut first = Vec::new();
        file.read_to_end(&mut first)?;
        let room = length(first.len())?;
        let bytes = first.split_off(first.len().min(SECTOR));
        let told = group::read(&first).map_or(0, |group| group.number);
        Ok((Self { file, end: FIRST, room }, Content { told, bytes }))
    }

    /// How much there is in it, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.end.saturating_sub(FIRST)
    }

    /// The next group comes behind so many bytes, and what is there now is gone.
    pub(super) fn cut(&mut self, len: usize) -> io::Result<()> {
        self.end = FIRST + length(len)?;
        self.room = self.end;
        self.file.set_len(self.end)
    }

    /// Appends, and returns when it is on disk.
    pub(super) fn append(&mut self, mut bytes: Vec<u8>) -> io::Result<()> {
        let end = self.end + length(bytes.len())?;
        if end > self.room {
            // In one write: room that is behind what was torn is never read.
            bytes.resize(bytes.len() + STEP, 0);
        }
        let written = self.file.write_all_at(&bytes, self.end).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // What failed has had no effect; if this fails too, it may be there at the next start.
            let _ = self.file.set_len(self.end);
            self.room = self.end;
        }
        written?;
        self.room = self.room.max(self.end + length(bytes.len())?);
        self.end = end;
        Ok(())
    }

    /// Says in it that everything up to this number is stored elsewhere, and returns when that is on disk. The next group is
    /// its first.
    pub(super) fn tell(&mut self, number: u64) -> io::Result<()> {
        self.file.write_all_at(&group::write(number, &[])?, 0)?;
        self.file.sync_data()?;
        self.end = FIRST;
        Ok(())
    }
}

fn length(bytes: usize) -> io::Result<u64> {
    u64::try_from(bytes).map_err(io::Error::other)
}
