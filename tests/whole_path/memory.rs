//! What is in a process's memory stays there: no core is written, and no other process of its user reads it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};
use tempfile::TempDir;
use writeback_relay::clock::System;
use writeback_relay::portal::{Config, Home};

use crate::support::eventually;
use crate::support::process::Process;

/// Who runs the programs: not root, to whom everything of an unreadable process belongs.
fn user() -> u32 {
    const NOBODY: u32 = 65534;
    if getuid().is_root() { NOBODY } else { getuid().as_raw() }
}

/// A folder of that user, with a copy of this program in it.
fn folder(program: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(program, folder.path().join("program")).unwrap();
    fs::set_permissions(folder.path().join("program"), fs::Permissions::from_mode(0o755)).unwrap();
    chown(folder.path(), Some(user()), None).unwrap();
    folder
}

/// The program, waiting for standard input for ever, where cores may be as large as they like.
fn start(folder: &Path, arguments: &[&str]) -> Process {
    // The limit is this process's, and another test changes it too.
    static LIMIT: Mutex<()> = Mutex::new(());
    let mut command = Command::new(folder.join("program"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    if getuid().is_root() {
        command.uid(user()).gid(user());
    }
    let _one_at_a_time = LIMIT.lock().unwrap();
    let before = getrlimit(Resource::Core);
    let largest = if getuid().is_root() { None } else { before.maximum };
    setrlimit(Resource::Core, Rlimit { current: largest, maximum: largest }).unwrap();
    let process = Process::spawn(&mut command);
    setrlimit(Resource::Core, before).unwrap();
    process
}

/// Who may read the process's memory, and how large its core may be.
fn owner_and_core_limit(process: &Process) -> (u32, String) {
    let folder = Path::new("/proc").join(process.pid().to_string());
    let limits = fs::read_to_string(folder.join("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let [.., soft, hard, _bytes] = core.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{core}") };
    (fs::metadata(folder.join("environ")).unwrap().uid(), format!("{soft} {hard}"))
}

async fn assert_closed(what: &str, mut process: Process) {
    let closed = (0, "0 0".to_owned());
    eventually(&format!("{what}: nobody reads its memory"), || {
        std::future::ready(owner_and_core_limit(&process) == closed)
    })
    .await;
    assert!(process.is_running(), "{what}: of a process that has ended, everything looks closed");
}

#[test]
fn an_ordinary_process_is_open_so_the_check_can_fail() {
    let folder = folder("/usr/bin/cat");
    let cat = start(folder.path(), &[]);
    let (owner, limit) = owner_and_core_limit(&cat);
    assert_eq!(owner, user());
    assert_ne!(limit, "0 0");
}

#[tokio::test]
async fn no_core_of_an_agent_a_portal_or_a_relay_can_be_written() {
    let at = folder(env!("CARGO_BIN_EXE_writeback-agent"));
    let home = at.path().join("home").display().to_string();
    assert_closed("the agent", start(at.path(), &["--home", &home, "enroll", "-"])).await;

    let at = folder(env!("CARGO_BIN_EXE_writeback-portal"));
    let home = at.path().join("home");
    let config = Config { id: "portal-1".parse().unwrap(), relay: "https://localhost:1".into(), ca_file: None };
    Home::new(&home).init(&config, &System).unwrap();
    for file in fs::read_dir(&home).unwrap().map(|file| file.unwrap().path()).chain([home.clone()]) {
        chown(&file, Some(user()), None).unwrap();
    }
    let home = home.display().to_string();
    let reset = ["--home", &home, "reset", "contoso", "jane@corp.example"];
    assert_closed("the portal", start(at.path(), &reset)).await;

    let at = folder(env!("CARGO_BIN_EXE_writeback-relay"));
    let data = at.path().join("data").display().to_string();
    let run = ["run", "--dev-tls", "--data-dir", &data, "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    assert_closed("the relay", start(at.path(), &run)).await;
}
