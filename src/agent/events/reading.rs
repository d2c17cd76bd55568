//! The event log, as people and programs read it: from its end, for it may be long.

use std::collections::HashSet;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::audit;
use super::file::{KEPT_ASIDE, aside};
use crate::protocol::untrusted::one_line;

/// So much is read at a time.
const CHUNK: usize = 64 * 1024;
/// What is longer is no line of an event log, and shown in parts.
const LINE: usize = 1024 * 1024;

/// All lines that are kept, oldest first; none if there is no log.
///
/// # Errors
/// If a file is there and can't be read.
pub fn history(path: &Path) -> io::Result<Vec<String>> {
    Ok(tail(path, usize::MAX, &Filter::default())?.0)
}

/// The last `count` lines that the filter takes, oldest first, and what comes behind them. No more of the files is read than
/// has to be.
///
/// # Errors
/// If a file is there and can't be read.
pub fn tail(path: &Path, count: usize, filter: &Filter) -> io::Result<(Vec<String>, Follower)> {
    let mut follower = Follower { path: path.to_owned(), file: open(path)?, read: 0, rest: Vec::new() };
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    if let Some(file) = &mut follower.file {
        seen.insert(identity(file)?);
        let mut lines = Backwards::of(file.try_clone()?)?;
        // A line that is not whole yet comes later.
        follower.read = lines.skip_half_a_line()?;
        file.seek(SeekFrom::Start(follower.read))?;
        take(&mut found, count, filter, lines)?;
    }
    take_aside(&mut found, count, filter, path, &mut seen)?;
    if found.len() < count {
        // All of the log is read; of what was done, older lines may be kept.
        let hasher = RandomState::new();
        let known: HashSet<u64> = found.iter().map(|line| hasher.hash_one(line)).collect();
        let mut done = Vec::new();
        if let Some(file) = open(&audit(path))? {
            seen.insert(identity(&file)?);
            let mut lines = Backwards::of(file)?;
            lines.skip_half_a_line()?;
            take(&mut done, usize::MAX, filter, lines)?;
        }
        take_aside(&mut done, usize::MAX, filter, &audit(path), &mut seen)?;
        done.retain(|line| !known.contains(&hasher.hash_one(line)));
        done.truncate(count - found.len());
        found.extend(done);
    }
    found.reverse();
    Ok((found, follower))
}

/// The lines of the files that were put aside, the youngest file first.
fn take_aside(
    found: &mut Vec<String>,
    count: usize,
    filter: &Filter,
    path: &Path,
    seen: &mut HashSet<(u64, u64)>,
) -> io::Result<()> {
    for n in 1..=KEPT_ASIDE {
        if found.len() >= count {
            break;
        }
        // One that is put aside meanwhile is met again under its new name.
        if let Some(file) = open(&aside(path, n))?
            && seen.insert(identity(&file)?)
        {
            take(found, count, filter, Backwards::of(file)?)?;
        }
    }
    Ok(())
}

fn take(found: &mut Vec<String>, count: usize, filter: &Filter, mut lines: Backwards) -> io::Result<()> {
    while found.len() < count {
        let Some(line) = lines.next()? else { break };
        let line = String::from_utf8_lossy(&line);
        if filter.takes(&line) {
            found.push(line.into_owned());
        }
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Lines from a file's end to its beginning.
struct Backwards {
    file: File,
    /// Before this nothing has been read.
    at: u64,
    /// What was read and not given, up to and without the newline behind it.
    rest: Vec<u8>,
}

impl Backwards {
    fn of(file: File) -> io::Result<Self> {
        let at = file.metadata()?.len();
        Ok(Self { file, at, rest: Vec::new() })
    }

    /// Leaves out what stands behind the last newline, and says where that begins.
    fn skip_half_a_line(&mut self) -> io::Result<u64> {
        loop {
            if let Some(newline) = self.rest.iter().rposition(|byte| *byte == b'\n') {
                self.rest.truncate(newline);
                return Ok(self.at + newline as u64 + 1);
            }
            if !self.read_before()? {
                self.rest.clear();
                return Ok(0);
            }
        }
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let newline = self.rest.iter().rposition(|byte| *byte == b'\n');
            let line = match newline {
                Some(newline) => {
                    let line = self.rest.split_off(newline + 1);
                    self.rest.pop();
                    line
                }
                None if self.rest.len() < LINE && self.read_before()? => continue,
                None if self.rest.is_empty() => return Ok(None),
                None => std::mem::take(&mut self.rest),
            };
            if !line.is_empty() {
                return Ok(Some(line));
            }
        }
    }

    /// Whether there was something.
    fn read_before(&mut self) -> io::Result<bool> {
        let length = self.at.min(CHUNK as u64);
        let mut chunk = vec![0; usize::try_from(length).unwrap_or(CHUNK)];
        self.at -= length;
        match self.file.read_exact_at(&mut chunk, self.at) {
            // It was shortened meanwhile.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => chunk.clear(),
            read => read?,
        }
        let read = !chunk.is_empty();
        chunk.append(&mut self.rest);
        self.rest = chunk;
        Ok(read)
    }
}

/// A line as people read it, as one line. What is no event is shown too.
#[must_use]
pub fn for_people(line: &str) -> String {
    let Ok(Value::Object(mut event)) = serde_json::from_str(line) else { return one_line(line).into_owned() };
    let mut take = |key: &str| match event.remove(key) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let first = ["time", "level", "event_id", "name", "message"].map(&mut take);
    let [time, level, id, name, message] = first;
    let about: String = event.into_iter().map(|(key, value)| format!("  {}={}", called(&key), plain(&value))).collect();
    one_line(&format!("{time}  {level:<7}  {id} {name}  {message}{about}")).into_owned()
}

/// What people call a member: the id of a request's trace is what a user reads out to them.
fn called(key: &str) -> &str {
    if key == "trace_id" { "support code" } else { key }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Which events are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// These ids; all, if empty.
    pub ids: Vec<u16>,
}

impl Filter {
    /// Whether this line is one of them.
    #[must_use]
    pub fn takes(&self, line: &str) -> bool {
        // Few lines are wanted, and parsing is slow.
        let may_be = || self.ids.iter().any(|wanted| line.contains(&wanted.to_string()));
        let id = || serde_json::from_str::<Value>(line).ok()?.get("event_id")?.as_u64();
        self.ids.is_empty() || may_be() && id().is_some_and(|id| self.ids.iter().any(|wanted| u64::from(*wanted) == id))
    }
}

/// Reads what is appended, whatever is put aside or shortened meanwhile.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: Option<File>,
    read: u64,
    /// A line that is not whole yet.
    rest: Vec<u8>,
}

impl Follower {
    /// The lines that have come since the last call.
    ///
    /// # Errors
    /// If the log can't be read.
    pub fn lines(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        // What was written before the file was put aside comes first.
        self.read_on(&mut lines)?;
        if self.was_replaced()? {
            self.file = open(&self.path)?;
            self.read = 0;
            self.read_on(&mut lines)?;
        }
        Ok(lines)
    }

    fn was_replaced(&self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(true) };
        let (mine, now) = (file.metadata()?, fs::metadata(&self.path));
        Ok(mine.len() < self.read || now.is_ok_and(|now| (now.dev(), now.ino()) != (mine.dev(), mine.ino())))
    }

    fn read_on(&mut self, lines: &mut Vec<String>) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        self.read += u64::try_from(file.read_to_end(&mut self.rest)?).unwrap_or_default();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).take(end).collect();
            lines.push(String::from_utf8_lossy(&line).into_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn whatever_happens_to_the_file_each_line_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let append = |text: &str| {
            let mut file = File::options().append(true).create(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let all = || tail(&path, usize::MAX, &Filter::default()).unwrap();
        let (none, mut early) = all();
        assert!(none.is_empty());
        append("one\n");
        assert_eq!(early.lines().unwrap(), ["one"]);
        let (one, mut late) = all();
        assert_eq!(one, ["one"]);
        append("two\nthr");
        assert_eq!(late.lines().unwrap(), ["two"]);
        let (two, mut latest) = tail(&path, 1, &Filter::default()).unwrap();
        assert_eq!(two, ["two"]);
        append("ee\n");
        fs::rename(&path, aside(&path, 1)).unwrap();
        append("four\n");
        for follower in [&mut early, &mut late, &mut latest] {
            assert!(follower.lines().unwrap().ends_with(&["three".to_owned(), "four".to_owned()]));
            assert!(follower.lines().unwrap().is_empty());
        }
        assert_eq!(history(&path).unwrap(), ["one", "two", "three", "four"]);
        // As logrotate does with copytruncate.
        fs::write(&path, "").unwrap();
        append("5\n");
        assert_eq!(late.lines().unwrap(), ["5"]);
    }

    #[test]
    fn people_read_the_time_what_happened_and_to_whom() {
        let line = r#"{"time":"T","event_id":33008,"name":"ADPasswordPolicyError","level":"warning","message":"no","account":"j@x"}"#;
        assert_eq!(for_people(line), "T  warning  33008 ADPasswordPolicyError  no  account=j@x");
        assert_eq!(for_people("half a li"), "half a li");
        let hostile =
            r#"{"time":"T","level":"info","event_id":1,"name":"N","message":"a\nb\u001b[2J","a\u202e":"c\r"}"#;
        assert_eq!(for_people(hostile), r"T  info     1 N  a\nb\u001b[2J  a\u202e=c\r");
        assert_eq!(for_people("half\u{9b}2J"), r"half\u009b2J");
    }

    #[test]
    fn a_filter_takes_the_ids_that_it_names() {
        let wanted = Filter { ids: vec![33004, 31002] };
        assert!(wanted.takes(r#"{"event_id":33004,"message":"x"}"#));
        for other in [r#"{"event_id":31001,"message":"33004"}"#, "not json", "{}"] {
            assert!(!wanted.takes(other) && Filter::default().takes(other), "{other}");
        }
    }

    #[test]
    fn of_a_large_log_only_the_end_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let line = |n: u32| format!("{{\"event_id\":{},\"message\":\"{n}\"}}", 31001 + n % 7);
        let text: String = (0..100_000).map(|n| line(n) + "\n").collect();
        fs::write(&path, &text).unwrap();
        // Nobody can read this one.
        fs::create_dir(aside(&path, 1)).unwrap();
        let (last, _) = tail(&path, 10, &Filter::default()).unwrap();
        assert_eq!(last, (99_990..100_000).map(line).collect::<Vec<_>>());
        let (wanted, _) = tail(&path, 2, &Filter { ids: vec![31003] }).unwrap();
        let (before, newest) = ((0..100_000).rev().filter(|n| n % 7 == 2)).fold((0, 0), |found, n| match found {
            (_, 0) => (0, n),
            (0, newest) => (n, newest),
            both => both,
        });
        assert_eq!(wanted, [before, newest].map(line));
        assert!(history(&path).is_err());
    }

    #[test]
    fn lines_of_any_length_are_read_backwards_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let lengths = [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 2, CHUNK - 2, 1];
        let lines: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        assert_eq!(history(&path).unwrap(), lines);
        fs::write(&path, vec![b'x'; 3 * LINE]).unwrap();
        assert!(history(&path).unwrap().is_empty(), "half a line");
        fs::rename(&path, aside(&path, 1)).unwrap();
        assert_eq!(history(&path).unwrap().concat().len(), 3 * LINE);
    }
}
