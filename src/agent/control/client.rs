//! How another process on this host asks the running agent.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Ask, MAX_ANSWER_BYTES, Question, Running, at};
use crate::agent::home::Home;
use crate::protocol::json;

/// How long the agent may take. It answers from memory.
const ANSWER: Duration = Duration::from_secs(5);

/// The agent has a socket there and did not answer as agents do.
#[derive(Debug, thiserror::Error)]
#[error("{path}: the running agent does not answer: {why}")]
pub struct ControlError {
    path: PathBuf,
    why: String,
}

/// Has the agent that runs in this folder check its directory, and says so, in one sentence; nothing if none runs there.
pub async fn have_checked(home: &Home) -> Option<String> {
    match ask(home, Ask::Check).await {
        Ok(running) => running.map(|_| "The running agent checks again now.".to_owned()),
        Err(error) => Some(format!("It checks again by itself, within a minute if something is red: {error}.")),
    }
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let stream = at(path, |short| std::os::unix::net::UnixStream::connect(short))?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Asks the agent that runs in this folder; nothing if none runs there.
///
/// # Errors
/// If it does not answer, or this user may not ask.
pub async fn ask(home: &Home, what: Ask) -> Result<Option<Running>, ControlError> {
    let path = home.socket();
    let failed = |why: String| ControlError { path: path.clone(), why };
    let asked = timeout(ANSWER, async {
        let mut stream = match connect(&path) {
            Ok(stream) => stream,
            // One that was killed leaves its socket behind.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut question = serde_json::to_vec(&Question { ask: what })?;
        question.push(b'\n');
        stream.write_all(&question).await?;
        let mut told = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut told).await?;
        Ok(Some(told))
    });
    let asked = asked.await.map_err(|_| failed(format!("not within {} s", ANSWER.as_secs())))?;
    let Some(told) = asked.map_err(|error| failed(error.to_string()))? else { return Ok(None) };
    json::read(&told).map(Some).map_err(|error| failed(error.to_string()))
}
