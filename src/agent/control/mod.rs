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

use serde::{Deserialize, Serialize};

pub use self::client::{ControlError, ask};
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
