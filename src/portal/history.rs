//! Which commands went out from here, for whoever has to know whose accounts an agent had to do with.

use std::fmt::Write;

use serde::Serialize;

use super::report::utc;
use super::{Portal, PortalError};
use crate::clock::UnixTime;
use crate::protocol::command::{Command, Operation};
use crate::protocol::ids::{AgentId, CommandId, TenantId};
use crate::protocol::untrusted::Untrusted;

/// A command that was sent, or was about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// The command: `status` tells what came of it.
    pub command: CommandId,
    /// The agent that it was for.
    pub agent: AgentId,
    /// When.
    pub sent_at: UnixTime,
    /// What was wanted.
    pub operation: Operation,
    /// Whose account: as whoever asked has written it.
    pub account: Untrusted,
}

impl From<Command> for Sent {
    fn from(command: Command) -> Self {
        Self {
            command: command.jti,
            agent: command.aud,
            sent_at: command.validity.iat,
            operation: command.operation,
            account: command.sub_id.to_string().into(),
        }
    }
}

impl Portal {
    /// The commands that were sent to a tenant, or to one agent of it, from this folder within the last seven days, oldest
    /// first. What came of each, [`Portal::status`] tells.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub fn history(&self, tenant: &TenantId, agent: Option<AgentId>) -> Result<Vec<Sent>, PortalError> {
        let commands = self.sent.all()?.into_iter().filter(|command| command.tenant == *tenant);
        Ok(commands.filter(|command| agent.is_none_or(|agent| command.aud == agent)).map(Sent::from).collect())
    }
}

/// A line for each.
#[must_use]
pub fn lines(sent: &[Sent]) -> String {
    let mut text = String::new();
    for Sent { command, agent, sent_at, operation, account } in sent {
        let operation = match operation {
            Operation::ResetPassword => "reset",
            Operation::ChangePassword => "change",
            Operation::UnlockAccount => "unlock",
        };
        // Writing to a text does not fail.
        let _ =
            writeln!(text, "{}  {operation:<6}  {}  agent {agent}  command {command}", utc(*sent_at), account.cell());
    }
    text
}
