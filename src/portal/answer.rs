//! What is known about a command: a verified outcome, or that there is none.

use std::time::Duration;

use serde::Serialize;

use super::trust_store::Standing;
use super::{Portal, PortalError};
use crate::protocol::api::{CommandState, CommandView};
use crate::protocol::command::Command;
use crate::protocol::ids::{AgentId, CommandId, TenantId};
use crate::protocol::outcome::{Code, Outcome, Status};
use crate::protocol::problem::ProblemCode;
use crate::protocol::untrusted::Untrusted;

/// What is known about a reset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Answer {
    /// The agent's word, verified with the key that is pinned here. Whether it is good news stands in it.
    Concluded {
        /// What the agent says.
        outcome: Outcome,
        /// The support code.
        trace_id: Untrusted,
    },
    /// No agent has it, as far as the relay tells, and none will: a new reset may be sent.
    Undeliverable {
        /// In one word: `no_trusted_agent`, `keys_not_trusted`, `agent_pending`, `portal_not_trusted`, `no_agent`,
        /// `preflight_failed`, `agent_busy`, `draining`, `store_not_writable`, `registry_lost`, `expired`, or another of the relay's codes.
        reason: Untrusted,
        /// The agents that were asked.
        asked: Vec<AgentId>,
        /// The support code, if the relay was asked.
        trace_id: Option<Untrusted>,
    },
    /// It may have been done. Ask again with [`Portal::status`] before anything else.
    Unknown {
        /// The command.
        command: CommandId,
        /// The agent it went to.
        agent: AgentId,
        /// Why nothing is known.
        doubt: Doubt,
        /// The support code, if the relay gave one.
        trace_id: Option<Untrusted>,
    },
}

impl Answer {
    /// Whether the agent takes no commands of this portal: its word, verified.
    pub(super) fn is_of_another_portals_agent(&self) -> bool {
        let Self::Concluded { outcome, .. } = self else { return false };
        outcome.code == *Code::PortalNotTrusted.as_str() && outcome.status == Status::Rejected && outcome.retry_safe
    }
}

/// Why nothing is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "doubt", rename_all = "snake_case")]
pub enum Doubt {
    /// It is on its way.
    #[error("the command is still on its way")]
    StillRunning,
    /// Delivered, and the agent has not answered.
    #[error("the command was delivered, and the agent has not answered yet")]
    NoOutcome,
    /// The relay showed something that the agent did not sign about this command.
    #[error("the relay showed an outcome that is NOT THE AGENT'S ({reason}); it was not believed")]
    Forged {
        /// Why it is not.
        reason: String,
    },
    /// Its keys are no longer pinned here.
    #[error("the agent was revoked here meanwhile, so its word is no longer taken")]
    AgentRevoked,
    /// An older wish must not come true behind a newer one.
    #[error("a newer command for this account was sent from here, so this one was not sent again")]
    Superseded,
    /// The relay can't be asked, or its answer can't be verified.
    #[error("the command may have been sent, and what came of it can't be found out now: {reason}")]
    Lost {
        /// Why.
        reason: String,
    },
}

/// What one look at the relay's view of a command gives.
pub(super) enum Look {
    /// Look again.
    Waiting,
    /// It was not delivered, and won't be.
    Undeliverable(Untrusted),
    /// The agent's word.
    Concluded(Outcome),
    /// Looking again soon would tell no more.
    Unknown(Doubt),
}

impl Portal {
    /// What is known now about a command that was sent from this folder.
    ///
    /// # Errors
    /// If it was not sent from here, or the relay can't be asked.
    pub async fn status(&self, tenant: &TenantId, command: CommandId, wait: Duration) -> Result<Answer, PortalError> {
        let sent = self.sent.find(tenant, command)?;
        self.key()?;
        let view = match self.relay.command(tenant, command, wait).await {
            Err(error) if error.is(ProblemCode::NotFound) && self.sent.bytes(command)?.is_some() => {
                return Err(PortalError::NotThere { tenant: tenant.clone(), command });
            }
            viewed => viewed?,
        };
        let (agent, trace_id) = (sent.aud, view.trace_id.clone());
        let look = self.look_well(&view, &sent).await?;
        if matches!(look, Look::Concluded(_) | Look::Undeliverable(_)) {
            self.ended(command);
        }
        Ok(match look {
            Look::Concluded(outcome) => Answer::Concluded { outcome, trace_id },
            Look::Undeliverable(reason) => {
                Answer::Undeliverable { reason, asked: vec![agent], trace_id: Some(trace_id) }
            }
            Look::Waiting => unknown(&sent, Doubt::StillRunning, Some(trace_id)),
            Look::Unknown(doubt) => unknown(&sent, doubt, Some(trace_id)),
        })
    }

    /// The command has an end that the relay knows.
    pub(super) fn ended(&self, command: CommandId) {
        if let Err(error) = self.sent.end(command) {
            tracing::warn!(%error, %command, "the bytes of a command that has an end could not be erased");
        }
    }

    /// Judges what the relay shows. An outcome by a key that is not pinned here may be by one that the agent has rotated to
    /// meanwhile: then its rotation is asked for first.
    pub(super) async fn look_well(&self, view: &CommandView, command: &Command) -> Result<Look, PortalError> {
        let look = self.look(view, command)?;
        if !matches!(look, Look::Unknown(Doubt::Forged { .. })) || self.agents(&command.tenant).await.is_err() {
            return Ok(look);
        }
        self.look(view, command)
    }

    /// Judges what the relay shows: an outcome is believed only with the pinned key's signature and about this command;
    /// everything else is the relay's own word.
    pub(super) fn look(&self, view: &CommandView, command: &Command) -> Result<Look, PortalError> {
        let forged = |reason: String| Ok(Look::Unknown(Doubt::Forged { reason }));
        if let Some(jws) = &view.outcome {
            let trust = self.trust.read()?;
            let Some(keys) = trust.standing(&command.tenant, command.aud).and_then(Standing::verifying) else {
                return Ok(Look::Unknown(Doubt::AgentRevoked));
            };
            return match Outcome::verify_by(jws, keys.at(command.validity.iat), command) {
                Ok(outcome) => Ok(Look::Concluded(outcome)),
                Err(error) => forged(error.to_string()),
            };
        }
        if (view.command, view.agent) != (command.jti, command.aud) {
            return forged("the answer is about another command".to_owned());
        }
        Ok(match view.state {
            CommandState::Accepted | CommandState::Delivering | CommandState::Received => Look::Waiting,
            CommandState::Undeliverable => {
                Look::Undeliverable(view.reason.clone().unwrap_or_else(|| "undeliverable".into()))
            }
            CommandState::Expired => Look::Undeliverable("expired".into()),
            CommandState::Unknown => Look::Unknown(Doubt::NoOutcome),
            CommandState::Concluded => return forged("it is called concluded, and no outcome is shown".to_owned()),
        })
    }
}

pub(super) fn unknown(command: &Command, doubt: Doubt, trace_id: Option<Untrusted>) -> Answer {
    Answer::Unknown { command: command.jti, agent: command.aud, doubt, trace_id }
}
