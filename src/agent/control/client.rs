//! How another process on this host asks the running agent.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Ask, MAX_ANSWER_BYTES, Question, Running};
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

/// Asks the agent that runs in this folder; nothing if none runs there.
///
/// # Errors
/// If it does not answer, or this user may not ask.
pub async fn ask(home: &Home, what: Ask) -> Result<Option<Running>, ControlError> {
    let path = home.control_socket();
    let failed = |why: String| ControlError { path: path.clone(), why };
    let asked = timeout(ANSWER, async {
        let mut stream = match UnixStream::connect(&path).await {
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
