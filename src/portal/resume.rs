//! What a process left that died before there was an answer: the very same bytes are sent again.

use std::time::Duration;

use super::answer::{Answer, Doubt, unknown};
use super::request::Asked;
use super::{Portal, PortalError};
use crate::protocol::command::Command;
use crate::protocol::ids::{CommandId, TenantId};

impl Portal {
    /// The commands that were sent from this folder, or were about to be, and have no end as far as is known here. The oldest
    /// first.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub fn unfinished(&self) -> Result<Vec<Command>, PortalError> {
        self.sent.forget_old(self.clock.now());
        self.sent.unfinished()
    }

    /// Goes on with such a command: sends its bytes again, and waits for the answer as whoever sent it first. It is executed
    /// once at most, and not after its `exp`: then this only asks. If a newer command for the same account was sent from here,
    /// this one is not sent again, only asked for.
    ///
    /// # Errors
    /// If it was not sent from here, has an end, or nothing can be asked.
    pub async fn resume(&self, tenant: &TenantId, command: CommandId) -> Result<Answer, PortalError> {
        let sent = self.sent.find(tenant, command)?;
        let ended = || PortalError::Ended { tenant: tenant.clone(), command };
        let jws = self.sent.bytes(command)?.ok_or_else(ended)?;
        self.key()?;
        if self.sent.is_superseded(&sent)? {
            return match self.status(tenant, command, Duration::ZERO).await {
                Err(PortalError::NotThere { .. }) => Ok(unknown(&sent, Doubt::Superseded, None)),
                asked => asked,
            };
        }
        Ok(match self.carry(&sent, &jws, true).await? {
            Asked::Answered(answer) => answer,
            Asked::Undeliverable { reason, trace_id } => {
                Answer::Undeliverable { reason, asked: vec![sent.aud], trace_id }
            }
        })
    }
}
