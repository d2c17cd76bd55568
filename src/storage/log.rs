//! What a database has to be told yet: appended and synced in groups, which costs less than a commit of its own.
//!
//! A group is `WBL1`, its length in bytes (u32, big-endian), the first eight bytes of the SHA-256 of length and records, and the
//! records. A group is whole or it is not there: nobody was told that what stands in a torn one is stored.
//!
//! A log may be set aside while the database is told what is in it: it has `.old` behind its name until the database knows.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};

use super::DatabaseError;
use super::private_file::{make_private, sync_folder_of};

const MAGIC: &[u8; 4] = b"WBL1";
const HEADER: usize = 16;
/// Room is made in such steps, in bytes, and filled with zeros: to write into it changes nothing of the file but what is in it,
/// which is half the work of a sync.
const STEP: usize = 256 * 1024;

/// An open log.
pub struct Log {
    path: PathBuf,
    file: File,
    /// How much of it is written, in bytes.
    len: u64,
    /// How long the file is.
    room: u64,
}

impl Log {
    /// Whether there is one.
    #[must_use]
    pub fn exists(path: &Path) -> bool {
        path.exists() || set_aside(path).exists()
    }

    /// Opens it, or makes it. Its records, in the order in which they were written, those first that were set aside.
    ///
    /// # Errors
    /// If it can't be read or made, or a group before the last is damaged.
    pub fn open(path: &Path) -> Result<(Self, Vec<u8>), DatabaseError> {
        let failed = |e: io::Error| DatabaseError::Open { path: PathBuf::from(path), detail: e.to_string() };
        let mut records = Vec::new();
        let aside = set_aside(path);
        if aside.exists() {
            let bytes = fs::read(&aside).map_err(failed)?;
            let behind = read_groups(&bytes, &aside, &mut records)?;
            // Its last group was whole when it was set aside.
            if behind.iter().any(|byte| *byte != 0) {
                return Err(damaged(&aside, bytes.len() - behind.len()));
            }
        }
        let mut file = open_or_make(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let behind = read_groups(&bytes, path, &mut records)?.len();
        let len = u64::try_from(bytes.len() - behind).unwrap_or(u64::MAX);
        file.set_len(len).map_err(failed)?;
        Ok((Self { path: path.to_owned(), file, len, room: len }, records))
    }

    /// How long it is, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.len
    }

    /// Appends a group, and returns when it is on disk.
    ///
    /// # Errors
    /// If it is not; then nothing of it is.
    pub fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let len = u32::try_from(records.len()).map_err(io::Error::other)?.to_be_bytes();
        let mut group = Vec::with_capacity(HEADER + records.len());
        group.extend_from_slice(MAGIC);
        group.extend_from_slice(&len);
        group.extend_from_slice(&checksum(&len, records));
        group.extend_from_slice(records);
        let end = self.len + u64::try_from(group.len()).map_err(io::Error::other)?;
        if end > self.room {
            // In one write: room that is behind what was torn is never read.
            group.resize(group.len() + STEP, 0);
        }
        let written = self.file.write_all_at(&group, self.len).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // What failed has had no effect; if this fails too, it may be there at the next start.
            let _ = self.file.set_len(self.len);
        }
        written?;
        self.room = self.room.max(self.len + u64::try_from(group.len()).map_err(io::Error::other)?);
        self.len = end;
        Ok(())
    }

    /// All of it is stored elsewhere, durably, what was set aside too.
    ///
    /// # Errors
    /// If it can't be emptied.
    pub fn clear(&mut self) -> io::Result<()> {
        let aside = Aside(set_aside(&self.path));
        if aside.0.exists() {
            aside.remove()?;
        }
        if self.len > 0 {
            self.file.set_len(0)?;
            (self.len, self.room) = (0, 0);
        }
        Ok(())
    }

    /// Sets aside what there is, and goes on with a new log. What was set aside before must be stored elsewhere.
    ///
    /// # Errors
    /// If it can't be; then nothing can be appended any more.
    pub fn set_aside(&mut self) -> io::Result<Aside> {
        let aside = set_aside(&self.path);
        fs::rename(&self.path, &aside)?;
        self.file = open_or_make(&self.path)?;
        (self.len, self.room) = (0, 0);
        Ok(Aside(aside))
    }
}

/// A log that was set aside.
#[must_use]
pub struct Aside(PathBuf);

impl Aside {
    /// All of it is stored elsewhere, durably.
    ///
    /// # Errors
    /// If it can't be removed.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_file(self.0)
    }
}

fn set_aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

/// Its name is on disk, too.
fn open_or_make(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    make_private(path).and_then(|()| sync_folder_of(path))?;
    Ok(file)
}

/// Adds the records of all whole groups; what is behind them.
fn read_groups<'a>(bytes: &'a [u8], path: &Path, records: &mut Vec<u8>) -> Result<&'a [u8], DatabaseError> {
    let mut rest = bytes;
    while let Some((group, behind)) = split(rest) {
        records.extend_from_slice(group);
        rest = behind;
    }
    // Only the last group can be torn.
    if (1..rest.len()).any(|at| rest.get(at..).and_then(split).is_some()) {
        return Err(damaged(path, bytes.len() - rest.len()));
    }
    Ok(rest)
}

fn damaged(path: &Path, at: usize) -> DatabaseError {
    DatabaseError::Corrupt { path: path.to_owned(), detail: format!("byte {at} and what follows") }
}

fn checksum(len: &[u8; 4], records: &[u8]) -> [u8; 8] {
    let mut context = Context::new(&SHA256);
    context.update(len);
    context.update(records);
    let mut first = [0; 8];
    first.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    first
}

/// The records of the group that `bytes` begins with, and what is behind it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let bytes = bytes.strip_prefix(MAGIC)?;
    let (len, bytes) = bytes.split_first_chunk::<4>()?;
    let (sum, bytes) = bytes.split_first_chunk::<8>()?;
    let (records, behind) = bytes.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
    (checksum(len, records) == *sum).then_some((records, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(groups: &[&[u8]]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wal");
        let (mut log, found) = Log::open(&path).unwrap();
        assert_eq!((found.len(), log.bytes()), (0, 0));
        groups.iter().for_each(|group| log.append(group).unwrap());
        (dir, path)
    }

    #[test]
    fn whatever_is_cut_off_at_the_end_whole_groups_are_there() {
        let (_dir, path) = written(&[b"one", b"two"]);
        let all = fs::read(&path).unwrap();
        let whole = 2 * (HEADER + 3);
        assert!(all[whole..].iter().all(|byte| *byte == 0));
        for len in 0..whole {
            fs::write(&path, &all[..len]).unwrap();
            let (mut log, found) = Log::open(&path).unwrap();
            assert_eq!(found, if len < HEADER + 3 { "" } else { "one" }.as_bytes(), "{len} bytes");
            log.append(b"three").unwrap();
            assert!(Log::open(&path).unwrap().1.ends_with(b"three"));
        }
    }

    #[test]
    fn what_does_not_fit_the_room_that_was_made_is_there_too() {
        let group = vec![b'x'; STEP / 3];
        let (_dir, path) = written(&[group.as_slice(); 10]);
        assert_eq!(Log::open(&path).unwrap().1.len(), 10 * group.len());
    }

    #[test]
    fn a_damaged_group_before_the_last_is_refused_and_left_as_it_is() {
        let (_dir, path) = written(&[b"one", b"two"]);
        let good = fs::read(&path).unwrap();
        for at in 0..HEADER + 3 {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(matches!(Log::open(&path), Err(DatabaseError::Corrupt { .. })), "byte {at}");
            assert_eq!(fs::read(&path).unwrap(), bad);
        }
    }

    #[test]
    fn what_was_cleared_does_not_come_back() {
        let (_dir, path) = written(&[b"one"]);
        let (mut log, found) = Log::open(&path).unwrap();
        assert_eq!(found, b"one");
        log.clear().unwrap();
        log.append(b"two").unwrap();
        assert_eq!(Log::open(&path).unwrap().1, b"two");
    }

    #[test]
    fn what_was_set_aside_is_read_before_what_came_after_it_until_it_is_removed() {
        let (_dir, path) = written(&[b"one"]);
        let (mut log, _) = Log::open(&path).unwrap();
        let aside = log.set_aside().unwrap();
        assert_eq!(Log::open(&path).unwrap().1, b"one");
        log.append(b"two").unwrap();
        assert_eq!(Log::open(&path).unwrap().1, b"onetwo");
        fs::rename(&path, path.with_extension("gone")).unwrap();
        assert!(Log::exists(&path));
        assert_eq!(Log::open(&path).unwrap().1, b"one");
        let good = fs::read(&aside.0).unwrap();
        fs::write(&aside.0, &good[..HEADER + 2]).unwrap();
        assert!(matches!(Log::open(&path), Err(DatabaseError::Corrupt { .. })), "none of it can be torn");
        fs::write(&aside.0, good).unwrap();
        fs::rename(path.with_extension("gone"), &path).unwrap();
        aside.remove().unwrap();
        assert_eq!(Log::open(&path).unwrap().1, b"two");
        let _aside = log.set_aside().unwrap();
        log.append(b"three").unwrap();
        log.clear().unwrap();
        assert_eq!(Log::open(&path).unwrap().1, b"");
    }
}
