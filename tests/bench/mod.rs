//! The bench, as people run it: with tiny sizes, and when something is not as it should be.

mod everything;
mod trouble;

use std::fs::{self, File};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::process::{Process, in_a_terminal};

/// A whole run takes half a minute on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// A run, with a folder of its own for all that it and its processes keep.
struct Bench {
    process: Process,
    folder: TempDir,
}

/// What a run said.
struct Said {
    status: ExitStatus,
    out: String,
    err: String,
}

/// As `bash` runs it after `before`.
fn start(before: &str, arguments: &[&str]) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("kept")).unwrap();
    let file = |name| Stdio::from(File::create(folder.path().join(name)).unwrap());
    let mut command = in_a_terminal("/bin/bash");
    command.args(["-euc", &format!("{before}\nexec {} \"$@\"", env!("CARGO_BIN_EXE_writeback-bench")), "bench"]);
    command.args(arguments).env("TMPDIR", folder.path().join("kept")).env("PATH", path());
    let process = Process::spawn(command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err")));
    Bench { process, folder }
}

/// With what Debian keeps for root.
fn path() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap())
}

async fn run(before: &str, arguments: &[&str]) -> Said {
    start(before, arguments).ended().await
}

impl Bench {
    /// What it has said of trouble.
    fn err(&self) -> String {
        fs::read_to_string(self.folder.path().join("err")).unwrap()
    }

    /// Waits for its end. It leaves nothing behind, however that came.
    async fn ended(mut self) -> Said {
        let status = self.process.ended_within(PATIENCE).await;
        let read = |name| fs::read_to_string(self.folder.path().join(name)).unwrap();
        let said = Said { status, out: read("out"), err: read("err") };
        assert!(self.processes().is_empty(), "{:?} still run after {}", self.processes(), said.err);
        let left: Vec<_> = fs::read_dir(self.kept()).unwrap().collect();
        assert!(left.is_empty(), "{left:?} was left behind after {}", said.err);
        said
    }

    fn kept(&self) -> std::path::PathBuf {
        self.folder.path().join("kept")
    }

    /// All that it has started: each is given a file of its folder.
    fn processes(&self) -> Vec<(i32, String)> {
        let kept = self.kept().display().to_string();
        let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        // One may end between two looks.
        all.filter_map(|pid: i32| Some((pid, fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?)))
            .map(|(pid, line)| (pid, line.replace('\0', " ")))
            .filter(|(_, line)| line.contains(&kept))
            .collect()
    }
}

/// The cells of a row of Markdown; none of any other line.
fn cells(line: &str) -> Option<Vec<&str>> {
    Some(line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").map(str::trim).collect())
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
