//! The event log, written and read.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::refusals::FIRST;
use super::*;
use crate::agent::testing::{Hands, NOW};
use crate::clock::System;

#[test]
fn each_event_is_one_private_line_with_what_it_is_about() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let log = EventLog::open(&path, System::clock()).unwrap();
    log.record(Event::PasswordResetStart, "a \"quoted\"\nmessage", &About::default());
    let about = About { account: Some("jane@corp.example".into()), code: Some("x"), ..About::default() };
    log.record(Event::ADPasswordPolicyError, &"ä".repeat(5000), &about);
    let lines = history(&path).unwrap();
    assert_eq!(lines.len(), 2);
    let line: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!((line["event_id"].as_u64(), line["level"].as_str()), (Some(33008), Some("warning")));
    assert_eq!((line["account"].as_str(), line["command"].as_str()), (Some("jane@corp.example"), None));
    assert_eq!(line["message"].as_str().unwrap().chars().count(), MESSAGE_CHARS);
    let time = line["time"].as_str().unwrap();
    assert!(OffsetDateTime::parse(time, &Rfc3339).is_ok() && time.ends_with('Z'), "{time}");
    for file in ["events.jsonl", "audit.jsonl"] {
        assert_eq!(fs::metadata(dir.path().join(file)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

fn number(line: &str) -> usize {
    line.split('"').find_map(|text| text.strip_prefix("number ")).unwrap().parse().unwrap()
}

#[test]
fn a_long_log_is_put_aside_and_only_the_oldest_lines_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let log = EventLog::with_files_of(1000, &path, System::clock()).unwrap();
    let mut longest = 0;
    for n in 0..100 {
        log.record(Event::PasswordResetStart, &format!("number {n}"), &About::default());
        let lines = history(&path).unwrap();
        longest = longest.max(lines.len());
        let first = n + 1 - lines.len();
        assert!(lines.iter().map(|line| number(line)).eq(first..=n), "after {n}");
        assert!(lines.len() >= (n + 1).min(4 * longest / 5), "after {n}: {}", lines.len());
        for count in [1, 7] {
            let (last, _) = tail(&path, count, &Filter::default()).unwrap();
            assert_eq!(last, lines[lines.len().saturating_sub(count)..], "the last {count} after {n}");
        }
    }
    let mut files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    let expected =
        ["audit.jsonl", "events.jsonl", "events.jsonl.1", "events.jsonl.2", "events.jsonl.3", "events.jsonl.4"];
    assert_eq!(files, expected);
    for file in files {
        assert_eq!(fs::metadata(dir.path().join(file)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn what_was_done_outlives_whatever_others_can_cause_and_is_shown_once_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let log = EventLog::with_files_of(1000, &path, System::clock()).unwrap();
    // From before there was an audit log.
    log.record(Event::PasswordResetSuccess, "number 0", &About::default());
    for n in 1..400 {
        if n % 100 == 0 || n == 398 {
            log.record_done(Event::PasswordResetSuccess, &format!("number {n}"), &About::default());
        } else {
            log.record(Event::PasswordResetFail, &format!("number {n}"), &About::default());
        }
    }
    let lines: Vec<_> = history(&path).unwrap().iter().map(|line| number(line)).collect();
    let (old, last): (Vec<_>, Vec<_>) = lines.iter().partition(|n| **n <= 300);
    assert_eq!(old, [100, 200, 300]);
    assert!(last.len() > 10 && last.windows(2).all(|pair| pair[1] == pair[0] + 1) && last.last() == Some(&399));
    let done = Filter { ids: vec![31002] };
    for (count, expected) in [(1, &[398][..]), (2, &[300, 398]), (3, &[200, 300, 398]), (9, &[100, 200, 300, 398])] {
        let (found, _) = tail(&path, count, &done).unwrap();
        assert_eq!(found.iter().map(|line| number(line)).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_flood_of_refusals_is_a_line_a_minute_and_every_one_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let clock = Hands::at(NOW);
    let log = EventLog::open(&path, clock.clone()).unwrap();
    for minute in 0..10 {
        for _ in 0..1000 {
            log.refuse(Refused::Command, "it is garbage", &About::default());
            log.refuse(Refused::PortalKey, "it does not hold", &About::default());
        }
        clock.set(NOW + 60 * (minute + 1));
        log.tell_refusals();
        assert_eq!(
            history(&path).unwrap().len(),
            usize::try_from(2 * FIRST).unwrap() + 2 * (usize::try_from(minute).unwrap() + 1)
        );
    }
    let lines = history(&path).unwrap();
    assert!(lines[0].contains("a command was refused and not answered: it is garbage"), "{}", lines[0]);
    let told = "more commands were refused and not answered within 60 s, the last one: it is garbage";
    let counts = lines.iter().filter_map(|line| line.split_once(told)?.0.rsplit_once('"')?.1.trim().parse().ok());
    assert_eq!(counts.collect::<Vec<u64>>(), [[1000 - FIRST].as_slice(), &[1000; 9]].concat());
}
