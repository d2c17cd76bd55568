//! What Redis refuses to the relay's user. It is no outage: the server answers, and everything else works.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::protocol::untrusted::Untrusted;

/// What is kept of a server's words, in characters.
const MAX_CHARS: usize = 200;

/// Where something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Where {
    /// Among the commands.
    Commands,
    /// This node's channel.
    Channel,
}

/// The last refusals that hold.
#[derive(Debug, Default)]
pub(super) struct Forbidden(Mutex<BTreeMap<Where, Untrusted>>);

/// Whether it is the user's rights that an answer is about. Of a step inside a script the server says so in words alone.
pub(super) fn is_forbidden(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
        || error.code() == Some("NOPERM")
        || error.detail().is_some_and(|detail| detail.contains("ACL failure in script"))
}

impl Forbidden {
    /// Notes a refusal, if it is one.
    pub(super) fn note(&self, at: Where, error: &RedisError) {
        if !is_forbidden(error) {
            return;
        }
        let said: String = error.detail().unwrap_or("NOPERM").chars().take(MAX_CHARS).collect();
        let mut refused = self.0.lock();
        if !refused.contains_key(&at) {
            tracing::error!(%error, "redis refuses a command to the relay's user");
        }
        refused.insert(at, said.into());
    }

    /// Nothing is refused there any more.
    pub(super) fn allowed(&self, at: Where) {
        if self.0.lock().remove(&at).is_some() {
            tracing::info!("redis lets the relay's user do again what it had refused");
        }
    }

    /// What is refused, in the server's words.
    pub(super) fn words(&self) -> Option<String> {
        let refused = self.0.lock();
        refused.values().next().map(|said| said.quoted().to_string())
    }
}
