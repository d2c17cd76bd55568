//! Why an agent can't start, or has to end.

use super::journal::JournalError;
use crate::net::NetError;
use crate::protocol::ids::CommandId;
use crate::protocol::jose::JoseError;
use crate::protocol::untrusted::Untrusted;
use crate::storage::FileError;

/// Why an agent can't start, or has to end. Nothing is lost by it: the journal knows where things stand.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// There is no identity in the folder.
    #[error("{folder}: the agent is not enrolled; run: writeback-agent setup")]
    NotEnrolled {
        /// The folder.
        folder: String,
    },
    /// A key or identity file, or the event log, is no use.
    #[error(transparent)]
    File(#[from] FileError),
    /// The journal can't be opened, read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An entry of the journal is not what the agent wrote.
    #[error("the journal's entry for command {command} is damaged: {detail}; restore the journal from a copy")]
    Entry {
        /// The command.
        command: CommandId,
        /// What was found.
        detail: String,
    },
    /// TLS can't be set up.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The cryptographic library refused to sign.
    #[error("nothing can be signed: {0}")]
    Signing(#[from] JoseError),
    /// A fault of the program.
    #[error("the agent failed while it executed command {command}; start it again: it will find out what was done")]
    Panicked {
        /// The command.
        command: CommandId,
    },
    /// The agent was revoked. It stays stopped.
    #[error("the agent was revoked: remove it from this host, or enrol a new one in an empty folder")]
    Revoked,
    /// Another process with the same identity has taken over.
    #[error("a newer process with this agent's identity has connected: look for a copy of this host or folder")]
    Displaced,
    /// The relay has another journal id for this agent.
    #[error("the relay was told of another journal when this agent enrolled: enrol again in an empty folder")]
    ForeignJournal,
    /// The two don't understand each other.
    #[error("the relay closed the session for good ({code} {}): use a newer agent", reason.quoted())]
    Refused {
        /// The WebSocket close code.
        code: u16,
        /// What the relay said.
        reason: Untrusted,
    },
}

impl AgentError {
    /// Whether the relay said that this agent must not come back: starting it again changes nothing.
    #[must_use]
    pub fn is_for_good(&self) -> bool {
        matches!(self, Self::Revoked | Self::Displaced | Self::ForeignJournal | Self::Refused { .. })
    }
}
