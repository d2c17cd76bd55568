//! One of this package's programs on the command line: arguments and standard input in, exit status and text out.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use super::hosts::knowing;
use super::process::{Process, Signal};

/// A program, with the arguments that every call has.
pub(crate) struct Cli {
    program: &'static str,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    hosts: Option<PathBuf>,
    /// What each call has said.
    said: TempDir,
    calls: AtomicUsize,
}

/// What a call said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A call that has not ended. Dropped, it is killed.
pub(crate) struct Call {
    process: Process,
    folder: PathBuf,
    number: usize,
}

impl Cli {
    pub(crate) fn new(program: &'static str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let environment = Vec::new();
        let said = tempfile::tempdir().unwrap();
        Self { program, arguments, environment, hosts: None, said, calls: AtomicUsize::new(0) }
    }

    /// From now on, with this in its environment.
    pub(crate) fn set(&mut self, variable: &'static str, value: &str) {
        self.environment.push((variable, value.to_owned()));
    }

    /// From now on, with this hosts file.
    pub(crate) fn knowing(&mut self, hosts: &Path) {
        self.hosts = Some(hosts.to_owned());
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, b"").await
    }

    pub(crate) async fn run_with(&self, arguments: &[&str], input: &[u8]) -> Said {
        self.start(arguments, input).said().await
    }

    /// Begins a call; its standard input is `input`, and then ends.
    pub(crate) fn start(&self, arguments: &[&str], input: &[u8]) -> Call {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let file = |what| File::create(self.said.path().join(format!("{number:03}.{what}"))).unwrap();
        let mut stdin = tempfile::tempfile_in(self.said.path()).unwrap();
        stdin.write_all(input).unwrap();
        std::io::Seek::rewind(&mut stdin).unwrap();
        let mut command = Command::new(self.program);
        command.args(&self.arguments).args(arguments).env("RUST_LOG", "debug");
        command.envs(self.environment.iter().map(|(variable, value)| (variable, value)));
        if let Some(hosts) = &self.hosts {
            command = knowing(hosts, &command);
        }
        command.stdin(Stdio::from(stdin)).stdout(file("out")).stderr(file("err"));
        Call { process: Process::spawn(&mut command), folder: self.said.path().to_owned(), number }
    }

    /// Everything that all calls have said.
    pub(crate) fn transcript(&self) -> String {
        let files = std::fs::read_dir(self.said.path()).unwrap();
        files.map(|file| read(&file.unwrap().path())).collect::<Vec<_>>().join("\n")
    }
}

impl Call {
    /// What it has said so far.
    pub(crate) fn out(&self) -> String {
        read(&self.folder.join(format!("{:03}.out", self.number)))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Waits for its end.
    pub(crate) async fn said(mut self) -> Said {
        let status = self.process.ended().await.code().expect("it was killed");
        let text = |what| read(&self.folder.join(format!("{:03}.{what}", self.number)));
        Said { status, out: text("out"), err: text("err") }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}
