//! Whose a command is: a portal's that is trusted here, or one's that was trusted once, which is told so.

use crate::agent::error::AgentError;
use crate::agent::events::{About, Refused};
use crate::agent::execution::answer::Answer;
use crate::agent::execution::{Asker, Executor, Traced, outcome_frame, received_frame};
use crate::agent::journal::{Entry, Receipt, Stage};
use crate::agent::pin::Pin;
use crate::protocol::command::Command;
use crate::protocol::frame::FromAgent;
use crate::protocol::jose::{JoseError, Jws};

/// A command that is for this agent, and was signed by the portal that it names.
pub(super) enum Verified {
    /// To be executed.
    Trusted(Command),
    /// To be refused.
    Distrusted(Command),
}

impl Executor {
    /// Everything about a command that does not change with time: a portal that is, or was, trusted here signed it, for this
    /// agent. Of nobody else's command anything is said.
    pub(super) fn verify(&self, jws: &str) -> Result<Verified, JoseError> {
        let core = &self.core;
        // Files that can't be read any more stay as they were.
        let identity = &core.portals.now().unwrap_or_else(|_| core.identity.clone());
        let parsed = Command::parse(jws)?;
        let claimed: Command = parsed.unverified()?;
        if let Some(pin) = identity.portals.get(&claimed.iss) {
            let command = self.verify_by(&parsed, pin)?;
            if let Err(error) = core.portals.used(&command.iss, pin, parsed.kid()) {
                tracing::warn!(%error, "that a portal uses its new key was not noted; its old key is taken for longer");
            }
            return Ok(Verified::Trusted(command));
        }
        let untrusted = || JoseError::mismatch("iss", "a portal that is trusted here is expected");
        let distrusted = core.portals.distrusted().map_err(|_| untrusted())?;
        let known = distrusted.portals.get(&claimed.iss).ok_or_else(untrusted)?;
        Ok(Verified::Distrusted(self.verify_by(&parsed, &known.pin)?))
    }

    fn verify_by(&self, parsed: &Jws<'_>, pin: &Pin) -> Result<Command, JoseError> {
        let identity = &self.core.identity;
        let command = Command::verify(parsed, pin.keys_at(self.core.clock.now()))?;
        if command.aud != identity.agent {
            return Err(JoseError::Audience { expected: identity.agent.to_string() });
        }
        if command.tenant != identity.tenant {
            return Err(JoseError::mismatch("tenant", "this agent's is expected"));
        }
        Ok(command)
    }

    /// Answers a command of a portal that was trusted once with a refusal. It is in the journal before it is said, so the
    /// command is never executed, even if the portal is trusted again.
    pub(super) async fn turn_away(
        &self,
        traced: &Traced,
        jws: &str,
        asker: &Asker,
    ) -> Result<Option<FromAgent>, AgentError> {
        let (core, command) = (&self.core, &traced.command);
        let answer = Answer::not_trusted(&command.iss);
        let outcome = self.signed(command, &answer)?;
        // Before it can have an outcome.
        core.askers.ask(command.jti, asker);
        let receipt = core.journal.refuse(command, jws, traced.trace_id.clone(), outcome.clone()).await?;
        let refuse = |kind, why: &str| {
            core.events.refuse(kind, why, &About { code: Some(answer.code.as_str()), ..traced.about() });
        };
        let is_under_way = |entry: &Entry| !matches!(entry.stage, Stage::Concluded { .. });
        if !matches!(&receipt, Receipt::Known(entry) if is_under_way(entry)) {
            core.askers.forget(command.jti);
        }
        match receipt {
            Receipt::New => {
                refuse(Refused::Portal, &format!("portal {}", command.iss));
                Ok(Some(outcome_frame((command.jti, outcome))))
            }
            // From when the portal was trusted, or the same refusal.
            Receipt::Known(entry) => Ok(Some(match entry.stage {
                Stage::Concluded { outcome, .. } => outcome_frame((command.jti, outcome)),
                Stage::Received { .. } | Stage::Started { .. } => received_frame(command.jti),
            })),
            Receipt::Conflict => {
                refuse(Refused::Command, "another command has the same id");
                Ok(None)
            }
            Receipt::Full => {
                refuse(
                    Refused::Room,
                    "too many commands of portals that are not trusted any more; it was not answered",
                );
                Ok(None)
            }
        }
    }
}
