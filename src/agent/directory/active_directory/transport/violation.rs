//! What no domain controller sends.

use std::time::Duration;

use super::ber::MAX_MESSAGE;

/// Why nothing more is heard on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum Violation {
    /// By what it announces.
    #[error("it sends a message of {0} bytes, and at most {MAX_MESSAGE} are taken")]
    TooLarge(u64),
    #[error("it sends a message that is nested deeper than {0}")]
    TooDeep(usize),
    #[error("it sends a message of more than {0} elements")]
    TooManyElements(usize),
    #[error("what it sends is not LDAP: {0}")]
    Malformed(&'static str),
    #[error("it answers what was not asked (message {0})")]
    NotAsked(u32),
    #[error("it sends more than {0} entries for one search")]
    TooManyEntries(u32),
    #[error("it sends more than {0} references for one search")]
    TooManyReferences(u32),
    #[error("it sends more than {0} bytes for one search")]
    TooMuch(usize),
    #[error("it began a message and did not end it within {} s", .0.as_secs())]
    Trickled(Duration),
    #[error("it took no request within {} s", .0.as_secs())]
    Stuck(Duration),
}
