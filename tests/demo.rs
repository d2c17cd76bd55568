//! The demo, as a newcomer runs it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The demo, with a folder of its own for temporary files.
fn demo(temporary: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_writeback-relay"));
    command.arg("demo").args(arguments).env("TMPDIR", temporary.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What is left there.
fn left(temporary: &TempDir) -> Vec<PathBuf> {
    std::fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn it_tells_the_whole_story_and_ends_by_itself_in_ten_seconds() {
    let temporary = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let output = demo(&temporary, &[]).output().unwrap();
    let took = begun.elapsed();
    let story = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{story}{}", String::from_utf8_lossy(&output.stderr));
    let mut rest = story.as_str();
    for told in [
        "tenant contoso made",
        "invitation",
        "31005 OnboardingEventSuccess",
        "fingerprints are the same: approved",
        "availability: a reset is possible now",
        "31001 PasswordResetStart",
        "31002 PasswordResetSuccess",
        "the old password is refused, the new one is taken",
        "33008 ADPasswordPolicyError",
        "bad_signature",
        "hold neither password",
        "undeliverable (no_agent)",
        "a reset is possible again",
    ] {
        let at = rest.find(told).unwrap_or_else(|| panic!("{told:?} is not told, or not in its place, in: {story}"));
        rest = &rest[at..];
    }
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    assert!(left(&temporary).is_empty(), "{:?}", left(&temporary));
}

#[test]
fn a_reader_who_has_seen_enough_is_no_error_and_nothing_is_left_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = demo(&temporary, &[]).spawn().unwrap();
    let mut first = String::new();
    BufReader::with_capacity(1, child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    assert!(left(&temporary).is_empty(), "{:?}", left(&temporary));
}

#[test]
fn a_step_that_fails_ends_it_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    // The relay comes up, and then there are not enough files for whoever wants to come to it.
    let limited = format!("ulimit -n 24; exec {} demo", env!("CARGO_BIN_EXE_writeback-relay"));
    let mut command = Command::new("sh");
    let output = command.args(["-c", &limited]).env("TMPDIR", temporary.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("writeback-relay: "), "{}: {said}", output.status);
    assert!(String::from_utf8(output.stdout).unwrap().contains("a node is up"), "{said}");
    assert!(left(&temporary).is_empty(), "{:?}", left(&temporary));
}

#[test]
fn behind_a_proxy_it_speaks_to_itself_directly() {
    let temporary = tempfile::tempdir().unwrap();
    for proxy in ["http://127.0.0.1:1", "socks5h://127.0.0.1:1"] {
        let mut command = demo(&temporary, &[]);
        for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"] {
            command.env(variable, proxy);
        }
        let output = command.env("NO_PROXY", "").env("no_proxy", "").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && said.is_empty(), "{proxy}: {}: {said}", output.status);
    }
}

#[test]
fn a_place_for_temporary_files_that_is_no_use_is_named_with_what_to_do() {
    let temporary = tempfile::tempdir().unwrap();
    let (file, missing) = (temporary.path().join("file"), temporary.path().join("missing"));
    std::fs::write(&file, "").unwrap();
    // Nobody makes a folder in /proc, not even root.
    for path in [missing, file, "/proc".into(), temporary.path().join("x".repeat(300))] {
        let output = demo(&temporary, &[]).env("TMPDIR", &path).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.lines().count() == 1, "{said}");
        assert!(said.contains(&format!("{}: ", path.display())) && said.contains("set TMPDIR"), "{said}");
        assert!(output.stdout.is_empty());
    }
}

/// The line with this word in what `demo --serve` says to try.
fn tried(temporary: &TempDir, word: &str, change: impl FnOnce(&mut Command) -> &mut Command) -> String {
    let mut command = demo(temporary, &["--serve"]);
    let mut child = change(&mut command).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.by_ref().find(|line| line.contains(word)).expect("a command to try");
    lines.find(|line| line.contains("Ctrl-C")).expect("how to end it");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    line.trim().to_owned()
}

#[test]
fn what_it_says_to_try_is_run_as_it_was_started() {
    let temporary = tempfile::tempdir().unwrap();
    let installed = tried(&temporary, "availability contoso", |command| command.env_remove("CARGO_MANIFEST_DIR"));
    assert!(installed.starts_with(env!("CARGO_BIN_EXE_writeback-portal")), "{installed}");
    let by_cargo = tried(&temporary, " sessions ", |command| command.env("CARGO_MANIFEST_DIR", "/src"));
    assert!(by_cargo.starts_with("cargo run -q --bin writeback-relay -- sessions "), "{by_cargo}");
}

#[test]
fn with_serve_it_waits_prints_what_to_try_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = demo(&temporary, &["--serve"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let reset = lines.by_ref().find(|line| line.contains("reset contoso")).expect("a command to try");
    let home = reset.split_whitespace().skip_while(|word| *word != "--home").nth(1).expect("--home FOLDER").to_owned();
    let portal = Command::new(env!("CARGO_BIN_EXE_writeback-portal"))
        .args(["--home", &home, "availability", "contoso"])
        .output()
        .unwrap();
    assert!(portal.status.success(), "{}", String::from_utf8_lossy(&portal.stderr));
    lines.find(|line| line.contains("Ctrl-C")).expect("how to end it");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    assert!(Path::new(&home).starts_with(temporary.path()), "{home}");
    assert!(left(&temporary).is_empty(), "{:?}", left(&temporary));
}
