//! The running agent's side of the control socket.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::future::pending;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::state::{Still, Work};
use super::{Ask, MAX_QUESTION_BYTES, Question, at};
use crate::agent::events::EventLog;
use crate::agent::home::Home;
use crate::agent::link::Shared;
use crate::clock::Clock;
use crate::host;
use crate::protocol::json;

/// Connections at a time: a person, a monitor, and one that hangs.
const MAX_CONNECTIONS: usize = 8;
/// How long a question may take, and how long its answer.
const STEP: Duration = Duration::from_secs(2);
/// After a failed accept: long enough not to spin, short enough not to be missed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The socket, open as long as this is.
pub(in crate::agent) struct Control {
    /// None where there can be no socket: the agent works without it.
    listener: Option<UnixListener>,
    path: PathBuf,
    about: Arc<About>,
}

struct About {
    still: Still,
    shared: Shared,
    events: EventLog,
}

impl About {
    fn work(&self) -> Option<Work> {
        let journal = &self.shared.executor.core.journal;
        let (unfinished, unstored) = (journal.unfinished().ok()?.len(), journal.unstored().ok()?.len());
        let (done, not_done) = self.events.commands();
        Some(Work { done, not_done, unfinished, unstored })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if self.listener.is_some() {
            // One that is left is known by nobody's answering.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Control {
    /// Opens the socket of this folder. The caller holds the folder's journal open, so no other agent runs here, and a
    /// socket that is there is a dead one's.
    pub(in crate::agent) fn open(
        home: &Home,
        proxy: Option<String>,
        shared: Shared,
        events: EventLog,
        clock: &dyn Clock,
    ) -> Self {
        let path = home.socket();
        let listener = listen(&path)
            .inspect_err(|error| {
                let path = path.display();
                tracing::warn!(%path, %error, "no control socket: `status` and `check` can't ask this agent anything");
            })
            .ok();
        let still = Still { since: clock.now(), proxy };
        Self { listener, path, about: Arc::new(About { still, shared, events }) }
    }

    /// Answers for ever.
    pub(in crate::agent) async fn serve(&self) -> Infallible {
        let Some(listener) = &self.listener else { return pending().await };
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return pending().await };
            let Ok((stream, _)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let about = Arc::clone(&self.about);
            tokio::spawn(async move {
                let _place = place;
                // Who hangs up, or asks for what is not known, gets no answer.
                let _ = answer(stream, &about).await;
            });
        }
    }
}

fn listen(path: &PathBuf) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::other("something else has this name; move it away")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = at(path, |short| UnixListener::bind(short))?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn answer(mut stream: UnixStream, about: &About) -> io::Result<()> {
    // The folder may let a group in.
    let who = stream.peer_cred()?.uid();
    if who != host::user_id() && who != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    let mut asked = BufReader::new(reading.take(MAX_QUESTION_BYTES));
    timeout(STEP, asked.read_line(&mut line)).await??;
    let question: Question = json::read(line.as_bytes()).map_err(io::Error::other)?;
    if question.ask == Ask::Check {
        about.shared.preflight.want();
    }
    let mut told = serde_json::to_vec(&about.shared.noted.tell(
        &about.still,
        about.shared.approval.known(),
        about.work(),
        about.shared.preflight.latest(),
    ))?;
    told.push(b'\n');
    timeout(STEP, writing.write_all(&told)).await??;
    writing.shutdown().await
}
