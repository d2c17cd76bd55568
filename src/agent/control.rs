//! How other programs of this host speak to the running agent: a Unix socket in its folder, `agent.sock`. One line of JSON
//! asks, one line answers. Only the agent's own user and root are heard.

use std::convert::Infallible;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use super::home::Home;
use super::preflight::Preflight;
use crate::host;
use crate::protocol::json;

/// How long either side waits for the other's line.
const PATIENCE: Duration = Duration::from_secs(2);
/// A line is shorter.
const MAX_LINE: u64 = 64 * 1024;
/// What was wrong with taking one connection may be wrong with the next.
const PAUSE: Duration = Duration::from_millis(100);
/// Longer names of sockets don't fit into `sockaddr_un` (unix(7)).
const LONGEST_NAME: usize = 100;

/// What may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// To check the directory now.
    Check,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// It checks.
    Checking,
    /// This agent, of another version, does not know what was asked.
    NotUnderstood,
}

/// Why the running agent was not asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    /// No agent runs in this folder.
    #[error("no agent is running here")]
    NotRunning,
    /// It runs, and can't be asked.
    #[error("the running agent can't be asked: {0}")]
    Unanswered(String),
}

/// The socket; it goes away with this.
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// In the agent's folder, whose journal this process has open: what is there of another process is left over.
    pub(super) fn listen(home: &Home) -> io::Result<Self> {
        let path = home.socket();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = at(&path, |short| UnixListener::bind(short))?;
        Ok(Self { listener, path })
    }

    /// Answers, one caller after another.
    pub(super) async fn serve(&self, preflight: &Preflight) -> Infallible {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                sleep(PAUSE).await;
                continue;
            };
            // Whoever goes away has no answer to get.
            let _ = timeout(PATIENCE, answer(stream, preflight)).await;
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = fs::remove_file(&self.path);
    }
}

async fn answer(stream: UnixStream, preflight: &Preflight) -> io::Result<()> {
    let caller = stream.peer_cred()?.uid();
    if caller != 0 && caller != host::user_id() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    let (asks, mut answers) = stream.into_split();
    let mut line = String::new();
    BufReader::new(asks.take(MAX_LINE)).read_line(&mut line).await?;
    let reply = match json::read(line.as_bytes()) {
        Ok(Request::Check) => {
            preflight.want();
            Reply::Checking
        }
        Err(_) => Reply::NotUnderstood,
    };
    answers.write_all(format!("{}\n", serde_json::to_string(&reply)?).as_bytes()).await
}

/// Asks the agent that runs in this folder.
pub(super) async fn ask(home: &Home, request: Request) -> Result<Reply, ControlError> {
    let asked = async {
        let stream = at(&home.socket(), |short| std::os::unix::net::UnixStream::connect(short))?;
        stream.set_nonblocking(true)?;
        let (answers, mut asks) = UnixStream::from_std(stream)?.into_split();
        asks.write_all(format!("{}\n", serde_json::to_string(&request)?).as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(answers.take(MAX_LINE)).read_line(&mut line).await?;
        json::read::<Reply>(line.as_bytes()).map_err(io::Error::other)
    };
    match timeout(PATIENCE, asked).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            Err(ControlError::NotRunning)
        }
        Ok(Err(error)) => Err(ControlError::Unanswered(error.to_string())),
        Err(_) => Err(ControlError::Unanswered(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

/// Has the running agent check its directory, and says so, in one sentence; nothing if none is running here.
pub async fn have_checked(home: &Home) -> Option<String> {
    match ask(home, Request::Check).await {
        Ok(Reply::Checking) => Some("The running agent checks again now.".to_owned()),
        Ok(Reply::NotUnderstood) => Some("The running agent is of another version; restart it.".to_owned()),
        Err(ControlError::NotRunning) => None,
        Err(error) => Some(format!("It checks again by itself, within a minute if something is red: {error}.")),
    }
}

/// Calls the operating system with the socket's name, or with a shorter one that leads there.
fn at<T>(path: &Path, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return call(path) };
    if path.as_os_str().len() <= LONGEST_NAME {
        return call(path);
    }
    let folder = fs::File::open(folder)?;
    call(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::agent::events::EventLog;
    use crate::agent::testing::{Enrolled, Scripted, deadline};

    fn preflight(agent: &Enrolled, directory: Arc<Scripted>) -> Preflight {
        let events = EventLog::open(&agent.home().events(), agent.clock.clone()).unwrap();
        Preflight::new(&agent.home(), directory, events, Duration::from_secs(3600), agent.clock.clone())
    }

    #[tokio::test]
    async fn the_running_agent_checks_when_it_is_asked_and_nobody_answers_when_none_runs() {
        let agent = Enrolled::new().await;
        let (home, directory) = (agent.home(), Arc::new(Scripted::default()));
        assert!(matches!(ask(&home, Request::Check).await, Err(ControlError::NotRunning)));
        assert_eq!(have_checked(&home).await, None);
        let preflight = preflight(&agent, directory.clone());
        let control = Control::listen(&home).unwrap();
        let running = tokio::spawn(async move {
            tokio::join!(preflight.run(), control.serve(&preflight));
        });
        deadline(directory.called("preflight", 1)).await;
        assert!(have_checked(&home).await.unwrap().contains("checks again now"));
        deadline(directory.called("preflight", 2)).await;
        running.abort();
        let _ = running.await;
        assert!(!home.socket().exists());
        assert_eq!(have_checked(&home).await, None);
    }

    #[tokio::test]
    async fn a_folder_of_any_depth_has_a_socket_and_what_a_killed_process_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        let home = Home::new(&deep);
        let left = Control::listen(&home).unwrap();
        std::mem::forget(left);
        assert!(home.socket().exists());
        drop(Control::listen(&home).unwrap());
        assert!(!home.socket().exists());
    }

    #[tokio::test]
    async fn what_is_not_understood_is_answered_so() {
        let agent = Enrolled::new().await;
        let (home, directory) = (agent.home(), Arc::new(Scripted::default()));
        let preflight = preflight(&agent, directory.clone());
        let control = Control::listen(&home).unwrap();
        tokio::spawn(async move { control.serve(&preflight).await });
        let mut stream = UnixStream::connect(home.socket()).await.unwrap();
        stream.write_all(b"\"of_a_newer_version\"\n").await.unwrap();
        let mut line = String::new();
        deadline(BufReader::new(stream).read_line(&mut line)).await.unwrap();
        assert_eq!(line, "\"not_understood\"\n");
        assert_eq!(directory.calls(), [""; 0]);
    }
}
