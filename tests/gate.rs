//! `tests/run` itself, with a `cargo` and a `rustc` that only say how they were called; and what a test says of a process that
//! does not come up.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::deadline;
use crate::support::process::Process;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn program(folder: &Path, name: &str, script: &str) {
    let file = folder.join(name);
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(file, PermissionsExt::from_mode(0o755)).unwrap();
}

/// What is called if the compiler is this one.
fn called(rustc: &str, arguments: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    program(folder.path(), "rustc", &format!("echo 'rustc {rustc} (0123456789 2026-01-01)'"));
    program(folder.path(), "cargo", &format!("echo \"$*\" >>{}/called", folder.path().display()));
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new(format!("{ROOT}/tests/run")).args(arguments).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(folder.path().join("called")).unwrap().lines().map(str::to_owned).collect()
}

const LINTS: [&str; 2] =
    ["clippy --all-targets --locked -- -D warnings", "clippy --test chaos --test abuse --locked -- -D warnings"];

#[test]
fn lints_fail_with_the_compiler_that_the_code_is_kept_clean_with_and_are_only_shown_by_others() {
    let script = fs::read_to_string(format!("{ROOT}/tests/run")).unwrap();
    let linted_with = script.lines().find_map(|line| line.strip_prefix("linted_with=")).unwrap();
    assert_eq!(called(&format!("{linted_with}.0"), &[])[..3], [LINTS[0], LINTS[1], "fmt --check"]);
    for other in ["1.90.0", "1.999.0", "2.0.0-nightly", &format!("{linted_with}9.1")] {
        let shown = LINTS.map(|lints| lints.trim_end_matches(" -- -D warnings"));
        assert_eq!(called(other, &[])[..2], shown, "{other}");
    }
}

#[test]
fn a_part_is_run_by_its_name_and_chaos_and_abuse_are_two() {
    let tests = |arguments: &[&str]| called("1.0.0", arguments).split_off(2);
    let built = "test --locked --test abuse --no-run";
    assert_eq!(tests(&[]), ["test --locked", "test --locked --test chaos --", built]);
    assert_eq!(tests(&["active_directory"]), ["test --locked active_directory"]);
    let alone = |arguments: &[&str]| called("1.0.0", arguments);
    assert_eq!(alone(&["chaos"]), ["test --locked --test chaos --"]);
    assert_eq!(alone(&["chaos", "--seed", "7"]), ["test --locked --test chaos -- --seed 7"]);
    assert_eq!(alone(&["abuse", "slow clients"]), ["test --locked --test abuse -- slow clients"]);
}

#[test]
fn a_temporary_folder_that_is_no_use_is_named_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let (file, long) = (folder.path().join("file"), folder.path().join("x".repeat(100)));
    fs::write(&file, "").unwrap();
    fs::create_dir(&long).unwrap();
    for (path, why) in [
        (folder.path().join("missing"), "is no folder"),
        (file, "is no folder"),
        ("tmp".into(), "is no absolute path"),
        // Nobody makes a folder there, not even root.
        ("/proc".into(), "can't be written"),
        (long, "too long for Unix sockets"),
    ] {
        let Output { status, stderr, .. } =
            Command::new(format!("{ROOT}/tests/setup")).env("TMPDIR", &path).output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        assert!(!status.success() && said.lines().count() == 1, "{said}");
        assert!(said.contains(&format!("TMPDIR={}", path.display())) && said.contains(why), "{said}");
    }
}

#[tokio::test]
async fn a_process_that_ends_instead_of_coming_up_is_told_with_what_it_has_said() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut command = Command::new("sh");
    let said = fs::File::create(&log).unwrap();
    let process = Process::spawn(command.args(["-c", "echo crypto is not defined >&2; exit 1"]).stderr(said));
    let waiting = tokio::spawn(async move {
        process.comes_up("the provider answers", &log, || std::future::ready(false)).await;
    });
    let told = deadline("it is told", waiting).await.unwrap_err().into_panic();
    let told = told.downcast_ref::<String>().unwrap();
    assert!(told.contains("the provider answers") && told.contains("crypto is not defined"), "{told}");
}
