//! Why a portal can't do what it was asked.

use std::path::PathBuf;

use super::client::ClientError;
use crate::net::NetError;
use crate::protocol::ids::{AgentId, CommandId, TenantId};
use crate::protocol::jose::JoseError;
use crate::storage::FileError;

/// Why a portal can't do what it was asked. Nothing was done that asking again could do twice: what may have been done is
/// never an error but an [`Answer::Unknown`](super::Answer::Unknown).
#[derive(Debug, thiserror::Error)]
pub enum PortalError {
    /// A file in the portal's folder can't be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder of the commands that were sent can't be read.
    #[error("{path}: {error}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The configuration is not usable.
    #[error("{path}: {detail}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Which field, and what is expected.
        detail: String,
    },
    /// There is a portal in this folder already.
    #[error("{path}: there is a portal here already; choose another folder with --home")]
    AlreadyInitialised {
        /// Its configuration.
        path: PathBuf,
    },
    /// A file belongs to a newer version of this program.
    #[error("{path}: this file was written by a newer version ({version}); use that version")]
    Newer {
        /// The file.
        path: PathBuf,
        /// What it says of itself.
        version: u32,
    },
    /// Outbound TLS can't be prepared.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The relay refused, or could not be asked.
    #[error(transparent)]
    Relay(#[from] ClientError),
    /// The cryptographic library refused.
    #[error(transparent)]
    Jose(#[from] JoseError),
    /// Neither the relay nor the trust store knows the agent.
    #[error("agent {agent} is not known in tenant {tenant}; see: writeback-portal agents {tenant}")]
    UnknownAgent {
        /// The organisation.
        tenant: TenantId,
        /// The agent.
        agent: AgentId,
    },
    /// The agent was asked to check its directory, and said nothing.
    #[error(
        "agent {agent} was asked to check, and its report has not come within {seconds} s; see later: writeback-portal \
         agents {tenant}"
    )]
    NoReport {
        /// The organisation.
        tenant: TenantId,
        /// The agent.
        agent: AgentId,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Nobody vouches for the agent's keys.
    #[error(
        "agent {agent} can't be approved: {reason}. If it is yours, revoke it, and enrol it again with a new code from: \
         writeback-portal invite {tenant}"
    )]
    NotAttested {
        /// The organisation.
        tenant: TenantId,
        /// The agent.
        agent: AgentId,
        /// What is wrong with its attestation.
        reason: String,
    },
    /// Another fingerprint than the agent's.
    #[error(
        "this is not the fingerprint of agent {agent}: either it was mistyped, or somebody else's keys were enrolled. \
         Compare it with what the agent printed; if it differs, run: writeback-portal revoke {tenant} {agent}"
    )]
    WrongFingerprint {
        /// The organisation.
        tenant: TenantId,
        /// The agent.
        agent: AgentId,
    },
    /// The agent was revoked here, which nothing undoes.
    #[error(
        "agent {agent} was revoked, which is for ever; enrol it again under a new id: writeback-portal invite {tenant}"
    )]
    Revoked {
        /// The organisation.
        tenant: TenantId,
        /// The agent.
        agent: AgentId,
    },
    /// The relay has no such command, and its bytes are kept here.
    #[error(
        "the relay has no command {command}: it never came there, or the relay has lost it. To send the very same again is \
         safe either way, and tells: writeback-portal resume {tenant} {command}"
    )]
    NotThere {
        /// The organisation.
        tenant: TenantId,
        /// The command.
        command: CommandId,
    },
    /// There is nothing to send again.
    #[error(
        "command {command} has an end, or its bytes were not kept; ask what came of it: writeback-portal status {tenant} \
         {command}"
    )]
    Ended {
        /// The organisation.
        tenant: TenantId,
        /// The command.
        command: CommandId,
    },
    /// No record of this command.
    #[error(
        "command {command} was not sent to tenant {tenant} from this folder, so its outcome can't be verified here"
    )]
    NotSentHere {
        /// The organisation.
        tenant: TenantId,
        /// The command.
        command: CommandId,
    },
}
