//! The event log, as people and programs read it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{KEPT_ASIDE, aside};
use crate::protocol::untrusted::one_line;

/// All lines that are kept, oldest first; none if there is no log.
///
/// # Errors
/// If a file is there and can't be read.
pub fn history(path: &Path) -> io::Result<Vec<String>> {
    Ok(Follower::open(path)?.0)
}

fn put_aside(path: &Path) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for n in (1..=KEPT_ASIDE).rev() {
        match fs::read_to_string(aside(path, n)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            text => lines.extend(text?.lines().map(str::to_owned)),
        }
    }
    Ok(lines)
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
    let about: String = event.into_iter().map(|(key, value)| format!("  {key}={}", plain(&value))).collect();
    one_line(&format!("{time}  {level:<7}  {id} {name}  {message}{about}")).into_owned()
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
        let id = || serde_json::from_str::<Value>(line).ok()?.get("event_id")?.as_u64();
        self.ids.is_empty() || id().is_some_and(|id| self.ids.iter().any(|wanted| u64::from(*wanted) == id))
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
    /// From the end of the log, and what stands in it, oldest first.
    ///
    /// # Errors
    /// If it is there and can't be read.
    pub fn open(path: &Path) -> io::Result<(Vec<String>, Self)> {
        let mut lines = put_aside(path)?;
        let mut follower = Self { path: path.to_owned(), file: None, read: 0, rest: Vec::new() };
        lines.extend(follower.lines()?);
        Ok((lines, follower))
    }

    /// The lines that have come since the last call.
    ///
    /// # Errors
    /// If the log can't be read.
    pub fn lines(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        // What was written before the file was put aside comes first.
        self.read_on(&mut lines)?;
        if self.was_replaced()? {
            self.file = match File::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                file => Some(file?),
            };
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
        let (none, mut early) = Follower::open(&path).unwrap();
        assert!(none.is_empty());
        append("one\n");
        assert_eq!(early.lines().unwrap(), ["one"]);
        let (one, mut late) = Follower::open(&path).unwrap();
        assert_eq!(one, ["one"]);
        append("two\nthr");
        assert_eq!(late.lines().unwrap(), ["two"]);
        append("ee\n");
        fs::rename(&path, aside(&path, 1)).unwrap();
        append("four\n");
        for follower in [&mut early, &mut late] {
            assert_eq!(follower.lines().unwrap().last().unwrap(), "four");
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
}
