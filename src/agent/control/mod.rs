//! The control socket: how other processes on this host ask the running agent how it is, and have it check again.
//!
//! A Unix socket in the agent's folder. One question is one line of JSON, and so is its answer. It takes questions of the
//! agent's own user and of root; it takes no order that changes anything but the time of the next check.
//!
//! | module | what |
//! |---|---|
//! | `server` | the running agent's side |
//! | `client` | the other processes' |
//! | `state` | what is told |

mod client;
mod server;
mod state;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::client::{ControlError, ask, have_checked};
pub(super) use self::server::Control;
pub(super) use self::state::Noted;
pub use self::state::{OpenSession, Running, Work};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// How it is.
    Status,
    /// The same, and to check again whether resets can work: somebody has changed something.
    Check,
}

/// A question as it is sent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Question {
    ask: Ask,
}

/// A question is shorter.
const MAX_QUESTION_BYTES: u64 = 256;
/// An answer, with a report that fits into a frame, is shorter.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;
/// Longer names of sockets don't fit into `sockaddr_un` (unix(7)).
const LONGEST_NAME: usize = 100;

/// Calls the operating system with the socket's name, or with a shorter one that leads there.
fn at<T>(path: &Path, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return call(path) };
    if path.as_os_str().len() <= LONGEST_NAME {
        return call(path);
    }
    let folder = File::open(folder)?;
    call(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_folder_of_any_depth_has_a_socket() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("agent.sock");
        assert!(UnixListener::bind(&path).is_err());
        let _listener = at(&path, |short| UnixListener::bind(short)).unwrap();
        assert!(path.exists());
        at(&path, |short| UnixStream::connect(short)).unwrap();
    }
}
