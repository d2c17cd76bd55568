use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::group::HEADER;
use super::half::{SECTOR, STEP};
use super::*;

/// An empty log, and the folder it is in.
fn empty() -> (tempfile::TempDir, PathBuf, Log) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.wal");
    let (mut log, found) = Log::open(&path).unwrap();
    assert_eq!((found.len(), log.bytes()), (0, 0));
    log.clear().unwrap();
    (dir, path, log)
}

fn found(path: &Path) -> String {
    String::from_utf8(Log::open(path).unwrap().1).unwrap()
}

fn is_refused(path: &Path) -> bool {
    matches!(Log::open(path), Err(DatabaseError::Corrupt { .. }))
}

#[test]
fn whatever_is_cut_off_at_the_end_whole_groups_are_there() {
    let (_dir, path, mut log) = empty();
    log.append(b"one").unwrap();
    log.append(b"two").unwrap();
    let [file, _] = Log::files(&path);
    let (all, whole) = (fs::read(&file).unwrap(), SECTOR + 2 * (HEADER + 3));
    assert!(all[whole..].iter().all(|byte| *byte == 0));
    for len in SECTOR..whole {
        fs::write(&file, &all[..len]).unwrap();
        let (mut log, found) = Log::open(&path).unwrap();
        assert_eq!(found, if len < SECTOR + HEADER + 3 { "" } else { "one" }.as_bytes(), "{len} bytes");
        log.append(b"three").unwrap();
        assert!(Log::open(&path).unwrap().1.ends_with(b"three"));
    }
}

#[test]
fn what_does_not_fit_the_room_that_was_made_is_there_too() {
    let (_dir, path, mut log) = empty();
    let group = vec![b'x'; STEP / 3];
    (0..10).for_each(|_| log.append(&group).unwrap());
    assert_eq!(found(&path).len(), 10 * group.len());
}

#[test]
fn a_damaged_group_before_the_last_is_refused_and_left_as_it_is() {
    let (_dir, path, mut log) = empty();
    for group in ["one", "two"] {
        log.append(group.as_bytes()).unwrap();
    }
    let _aside = log.set_aside().unwrap();
    log.append(b"three").unwrap();
    assert_eq!(found(&path), "onetwothree");
    let [older, _] = Log::files(&path);
    let good = fs::read(&older).unwrap();
    for at in SECTOR..SECTOR + 2 * (HEADER + 3) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&older, &bad).unwrap();
        assert!(is_refused(&path), "byte {at}");
        assert_eq!(fs::read(&older).unwrap(), bad);
    }
}

#[test]
fn what_was_cleared_does_not_come_back() {
    let (_dir, path, mut log) = empty();
    log.append(b"one").unwrap();
    let aside = log.set_aside().unwrap();
    log.append(b"two").unwrap();
    log.take_back(aside.told().unwrap());
    log.clear().unwrap();
    assert_eq!(found(&path), "");
    log.append(b"three").unwrap();
    assert_eq!(found(&path), "three");
}

#[test]
fn nothing_is_set_aside_over_what_is_needed() {
    let (_dir, path, mut log) = empty();
    log.append(b"one").unwrap();
    let aside = log.set_aside().unwrap();
    assert!(log.set_aside().is_none(), "the other file is being told");
    log.append(b"two").unwrap();
    log.take_back(aside.told().unwrap());
    assert_eq!(found(&path), "two");
    assert!(log.set_aside().is_some());
    assert!(log.set_aside().is_none(), "nothing is in it");
    let (mut again, _) = Log::open(&path).unwrap();
    assert!(again.set_aside().is_none(), "what was found is stored nowhere else yet");
    again.clear().unwrap();
    again.append(b"three").unwrap();
    assert!(again.set_aside().is_some());
}

/// What somebody does with a log.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Appends a group of so many bytes.
    Append(usize),
    SetAside,
    /// What is aside is stored elsewhere.
    Told,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![4 => (1..2000_usize).prop_map(Step::Append), 1 => Just(Step::SetAside), 1 => Just(Step::Told)]
}

/// A log, and what should be in it.
struct Model {
    log: Log,
    aside: Option<Aside>,
    groups: Vec<String>,
    /// From this group on they are needed.
    needed: usize,
    /// The first group of the file that is written.
    begun: usize,
}

impl Model {
    fn take(&mut self, step: Step) {
        match step {
            Step::Append(len) => {
                let group = format!("<{}{}>", self.groups.len(), ".".repeat(len));
                self.log.append(group.as_bytes()).unwrap();
                self.groups.push(group);
            }
            Step::SetAside => {
                if let Some(file) = self.log.set_aside() {
                    self.aside = Some(file);
                    self.begun = self.groups.len();
                }
            }
            Step::Told => {
                if let Some(file) = self.aside.take() {
                    self.log.take_back(file.told().unwrap());
                    self.needed = self.begun;
                }
            }
        }
    }

    /// Whether these are the first `count` groups, without some that are not needed.
    fn is(&self, read: &str, count: usize) -> bool {
        let all = self.groups[..count].concat();
        all.ends_with(read) && read.len() + self.groups[..self.needed].concat().len() >= all.len()
    }
}

/// A file as a crash leaves it while it is written: of each sector the old bytes or the new ones.
fn torn(before: &[u8], after: &[u8], dice: u64) -> Vec<u8> {
    let mut left = after.to_vec();
    for (n, sector) in left.chunks_mut(512).enumerate() {
        let old = before.get(n * 512..).unwrap_or_default();
        if dice.rotate_left(u32::try_from(n % 64).unwrap()) & 1 == 0 {
            sector.iter_mut().enumerate().for_each(|(at, byte)| *byte = old.get(at).copied().unwrap_or(0));
        }
    }
    left
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_crash_everything_is_there_that_was_synced_and_is_needed(
        steps in proptest::collection::vec(step(), 0..20),
        last in step(),
        dice in any::<u64>(),
    ) {
        let (_dir, path, log) = empty();
        let mut model = Model { log, aside: None, groups: Vec::new(), needed: 0, begun: 0 };
        steps.into_iter().for_each(|step| model.take(step));
        let read = || Log::files(&path).map(|file| fs::read(file).unwrap());
        let (count, before) = (model.groups.len(), read());
        model.take(last);
        let after = read();
        for crash in [u64::MAX, 0, dice, !dice] {
            for (file, (before, after)) in Log::files(&path).iter().zip(before.iter().zip(&after)) {
                fs::write(file, torn(before, after, crash)).unwrap();
            }
            let read = found(&path);
            let is_whole = model.is(&read, model.groups.len());
            prop_assert!(is_whole || (crash != u64::MAX && model.is(&read, count)), "{crash:x}: {read}");
        }
    }
}
