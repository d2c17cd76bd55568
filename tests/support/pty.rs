//! A program in a pseudo-terminal, and whoever sits before it. `script` (util-linux) makes the terminal.

use std::io::Write;
use std::path::PathBuf;
use std::process::{ChildStdin, Stdio};

use tempfile::TempDir;

use super::eventually;
use super::process::{Process, in_a_terminal};

/// A terminal with a program in it. Dropped, both are gone.
pub(crate) struct Pty {
    process: Process,
    keyboard: ChildStdin,
    folder: TempDir,
    /// How much of the screen was read, in bytes.
    read: usize,
}

impl Pty {
    /// Starts `program` with these arguments, which hold no quotes.
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let command = [&[program], arguments].concat().join("' '");
        let mut script = in_a_terminal("script");
        script.args(["--quiet", "--flush", "--return", "--echo", "never", "--command", &format!("'{command}'")]);
        script.arg(folder.path().join("screen")).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = script.spawn().unwrap_or_else(|error| panic!("script: {error}"));
        let keyboard = child.stdin.take().unwrap();
        Self { process: Process::from(child), keyboard, folder, read: 0 }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("screen")
    }

    /// All that was shown, without `script`'s own first and last line.
    pub(crate) fn screen(&self) -> String {
        let screen = String::from_utf8_lossy(&std::fs::read(self.file()).unwrap_or_default()).replace('\r', "");
        let lines = screen.lines().filter(|line| !line.starts_with("Script "));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// All that was written to the terminal, byte for byte but for the line ends that a terminal makes.
    pub(crate) fn lines(&self) -> String {
        let written = String::from_utf8(std::fs::read(self.file()).unwrap()).unwrap().replace("\r\n", "\n");
        written.lines().filter(|line| !line.starts_with("Script ")).collect::<Vec<_>>().join("\n")
    }

    /// Waits until this is shown after what was waited for before.
    pub(crate) async fn shows(&mut self, text: &str) {
        let mut found = None;
        let read = self.read;
        eventually(&format!("the terminal shows {text:?}"), || {
            found = self.screen().get(read..).and_then(|new| new.find(text)).map(|at| read + at + text.len());
            std::future::ready(found.is_some())
        })
        .await;
        self.read = found.unwrap();
    }

    /// Types an answer when its question is there.
    pub(crate) async fn answer(&mut self, question: &str, answer: &str) {
        self.shows(question).await;
        self.types(answer);
    }

    /// Types an answer.
    pub(crate) fn types(&mut self, answer: &str) {
        self.keyboard.write_all(format!("{answer}\n").as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Somebody closes the terminal's window.
    pub(crate) fn close(&mut self) {
        self.process.kill();
    }

    /// The program's exit status when it has ended.
    pub(crate) async fn ended(&mut self) -> i32 {
        self.process.ended().await.code().expect("it was killed")
    }
}
