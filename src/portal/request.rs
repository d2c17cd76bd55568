//! One request from a person: choose an agent, seal, sign, submit, and wait for the agent's own word.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::agents::Agent;
use super::answer::{Answer, Doubt, Look, unknown};
use super::client::{ClientError, MAX_WAIT};
use super::selection::ready_for;
use super::trust_store::Standing;
use super::{Portal, PortalError};
use crate::protocol::api::AgentView;
use crate::protocol::command::{Command, Operation, Options, Subject};
use crate::protocol::enrollment::AgentKeys;
use crate::protocol::ids::{AgentId, CommandId, TenantId};
use crate::protocol::jose::Validity;
use crate::protocol::limits::MAX_COMMAND_LIFETIME;
use crate::protocol::password::Password;
use crate::protocol::readiness::{Need, Readiness};
use crate::protocol::sealed::{Secrets, seal_for};
use crate::protocol::untrusted::Untrusted;
use crate::telemetry::trace::{Here, Kind, Parent as _, Span, within};
use crate::telemetry::trace_context::TraceContext;

/// The shortest life a command is given: less would be over before it arrives.
const MIN_LIFETIME: Duration = Duration::from_secs(2);
/// How long after `exp` an answer is still waited for: the agent may have begun in the last second.
const AFTER_EXP: Duration = Duration::from_secs(5);
/// How long a relay that takes no connection, or loses it, is tried, while nothing has been sent.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long agents are asked anew when the last answer was `draining` or `agent_busy`: both are soon over.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);
/// The same when the last answer was `portal_not_trusted`: an agent that was told on its host to trust this portal says so
/// within a second.
const TRUST_PATIENCE: Duration = Duration::from_secs(3);
/// The first pause between two tries; each is twice as long as the one before, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// How it went with one agent.
pub(super) enum Asked {
    Answered(Answer),
    /// This agent has not got it and won't; the next may be asked.
    Undeliverable {
        reason: Untrusted,
        trace_id: Option<Untrusted>,
    },
}

/// What a failed call means for the command.
enum Failed {
    /// The agent has not got it and won't.
    Undeliverable,
    /// It was delivered, and the relay does not know what came of it.
    Unknown,
    /// The relay has no such command.
    NotThere,
    /// Not taken, for a moment.
    Again(Option<Duration>),
    /// It may have been taken; the same may be sent again.
    PerhapsTaken,
    /// This time certainly not; an attempt before it, whose answer was lost, is not judged by that.
    NotTaken,
    /// Nothing that trying again would change.
    Refused,
}

fn judge(error: &ClientError) -> Failed {
    match error {
        ClientError::NoAnswer { .. } | ClientError::NotUnderstood { .. } => Failed::PerhapsTaken,
        ClientError::Unreachable { .. } => Failed::Again(None),
        ClientError::Jose(_) => Failed::Refused,
        ClientError::Refused { problem, retry_after, .. } => match problem.code.as_data() {
            "no_agent" | "agent_busy" | "draining" | "expired" | "agent_pending" | "agent_revoked"
            | "unknown_agent" => Failed::Undeliverable,
            "outcome_unknown" => Failed::Unknown,
            "not_found" => Failed::NotThere,
            "rate_limited" | "overloaded" => Failed::Again(*retry_after),
            "store_not_writable" | "registry_lost" => Failed::NotTaken,
            _ if !problem.retry_safe && problem.status >= 500 => Failed::PerhapsTaken,
            _ => Failed::Refused,
        },
    }
}

/// Whether a question may be answered when it is asked again.
fn may_pass(error: &ClientError) -> bool {
    matches!(judge(error), Failed::Again(_) | Failed::PerhapsTaken)
}

/// What a person wants.
enum Wish {
    Reset { new: Password, options: Options },
    Change { current: Password, new: Password },
    Unlock,
}

impl Wish {
    /// As a command says it: the operation, how, and what is sealed.
    fn parts(self) -> (Operation, Options, Option<Secrets>) {
        let secrets = |new_password, current_password| Some(Secrets { new_password, current_password });
        match self {
            Self::Reset { new, options } => (Operation::ResetPassword, options, secrets(new, None)),
            Self::Change { current, new } => {
                (Operation::ChangePassword, Options::default(), secrets(new, Some(current)))
            }
            Self::Unlock => (Operation::UnlockAccount, Options::default(), None),
        }
    }
}

impl Portal {
    /// Sets a new password, and waits for the answer for as long as the command lives: `wait`, from 2 to 300 seconds.
    /// Nothing is executed after that time.
    ///
    /// # Errors
    /// If nothing was sent: the relay can't be reached or refuses, or a file can't be used.
    pub async fn reset(
        &self,
        tenant: &TenantId,
        subject: &Subject,
        password: Password,
        options: Options,
        wait: Duration,
    ) -> Result<Answer, PortalError> {
        self.request(tenant, subject, Wish::Reset { new: password, options }, wait).await
    }

    /// Sets a new password by the rules for users, if `current` is right: the directory looks at its history and its age. A
    /// wrong one counts as a bad logon. Waits as [`Self::reset`].
    ///
    /// # Errors
    /// As [`Self::reset`].
    pub async fn change(
        &self,
        tenant: &TenantId,
        subject: &Subject,
        current: Password,
        new: Password,
        wait: Duration,
    ) -> Result<Answer, PortalError> {
        self.request(tenant, subject, Wish::Change { current, new }, wait).await
    }

    /// Unlocks an account, whose password stays. Waits as [`Self::reset`].
    ///
    /// # Errors
    /// As [`Self::reset`].
    pub async fn unlock(&self, tenant: &TenantId, subject: &Subject, wait: Duration) -> Result<Answer, PortalError> {
        self.request(tenant, subject, Wish::Unlock, wait).await
    }

    /// All calls of one request are one trace.
    async fn request(
        &self,
        tenant: &TenantId,
        subject: &Subject,
        wish: Wish,
        wait: Duration,
    ) -> Result<Answer, PortalError> {
        let mut span = Span::start("request command", Kind::Internal, &Here);
        span.set("writeback.tenant", tenant);
        let trace = span.context().or(Here.context()).unwrap_or_else(|| TraceContext::start(&*self.random));
        within(trace, self.request_within(tenant, subject, wish, wait)).await
    }

    async fn request_within(
        &self,
        tenant: &TenantId,
        subject: &Subject,
        wish: Wish,
        wait: Duration,
    ) -> Result<Answer, PortalError> {
        self.sent.forget_old(self.clock.now());
        let deadline = Instant::now() + wait.clamp(MIN_LIFETIME, MAX_COMMAND_LIFETIME);
        let (operation, options, secrets) = wish.parts();
        let (mut asked, mut trace_id) = (Vec::new(), support_code());
        let (begun, mut refused, mut pause) = (Instant::now(), None, FIRST_PAUSE);
        loop {
            let agents = self.agents_by(tenant, deadline.min(Instant::now() + CONNECT_PATIENCE)).await?;
            let about = Need::command(subject, operation);
            let mut reason = Untrusted::from(why_none(&agents, about));
            let ready: Vec<_> =
                agents.iter().filter_map(|agent| Some((agent.agent, agent.readiness(about)?))).collect();
            for agent in ready_for(subject, &ready) {
                // Looked up again: somebody may have revoked it while another was asked.
                let Some(keys) = self.trusted_keys(tenant, agent)? else { continue };
                let left = deadline.saturating_duration_since(Instant::now());
                if !asked.is_empty() && left < MIN_LIFETIME {
                    break;
                }
                let validity = Validity::starting(self.clock.now(), left.max(MIN_LIFETIME));
                let mut command = Command {
                    iss: self.config.id.clone(),
                    aud: agent,
                    tenant: tenant.clone(),
                    jti: CommandId::new(&*self.clock, &*self.random),
                    validity,
                    sub_id: subject.clone(),
                    operation,
                    options,
                    sealed: None,
                };
                if let Some(secrets) = &secrets {
                    command.sealed = Some(seal_for(&command, secrets, &keys.sealing, &*self.random)?);
                }
                if !asked.contains(&agent) {
                    asked.push(agent);
                }
                match self.ask(&command).await? {
                    // The next agent may trust this portal.
                    Asked::Answered(answer) if answer.is_of_another_portals_agent() => refused = Some(answer),
                    Asked::Answered(answer) => return Ok(answer),
                    Asked::Undeliverable { reason: why, trace_id: id } => (reason, trace_id) = (why, id),
                }
            }
            let patience = match reason.as_data() {
                "draining" | "agent_busy" => BUSY_PATIENCE,
                // By an agent's own word nothing else will come.
                "portal_not_trusted" if refused.is_none() => TRUST_PATIENCE,
                _ => Duration::ZERO,
            };
            if Instant::now() + pause > deadline.min(begun + patience) {
                return Ok(refused.unwrap_or(Answer::Undeliverable { reason, asked, trace_id }));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The agents, asked for again until `patience` ends while the relay is away: asking changes nothing, and one of its
    /// nodes may just be going down.
    async fn agents_by(&self, tenant: &TenantId, patience: Instant) -> Result<Vec<Agent>, PortalError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.agents(tenant).await {
                Err(PortalError::Relay(error)) if may_pass(&error) && Instant::now() + pause < patience => {}
                other => return other,
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The keys to seal to, if the agent is trusted here now.
    pub(super) fn trusted_keys(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<AgentKeys>, PortalError> {
        Ok(match self.trust.read()?.standing(tenant, agent) {
            Some(Standing::Trusted { keys, .. }) => Some(keys.clone()),
            _ => None,
        })
    }

    /// Signs a command, keeps its bytes, and carries it to its end.
    async fn ask(&self, command: &Command) -> Result<Asked, PortalError> {
        let jws = command.sign(&self.key()?)?;
        self.sent.remember(command, &jws)?;
        let asked = self.carry(command, &jws, false).await;
        if asked.is_err() {
            // Whoever hears that nothing was sent may send something else: these bytes must be gone.
            self.sent.end(command.jti)?;
        }
        asked
    }

    /// Submits the same bytes as often as needed, and looks until there is an answer or the command's time is over. Whether
    /// they may have been taken before decides what a refusal means. Without an end they are kept.
    pub(super) async fn carry(&self, command: &Command, jws: &str, sent_before: bool) -> Result<Asked, PortalError> {
        let asked = self.carry_on(command, jws, sent_before).await?;
        if !matches!(asked, Asked::Answered(Answer::Unknown { .. })) {
            self.ended(command.jti);
        }
        Ok(asked)
    }

    async fn carry_on(&self, command: &Command, jws: &str, sent_before: bool) -> Result<Asked, PortalError> {
        let started = Instant::now();
        let exp = started + self.clock.now().until(command.validity.exp);
        let (mut tried, mut taken, mut perhaps_taken) = (false, false, sent_before);
        let (mut pause, mut trace_id, mut last) = (FIRST_PAUSE, support_code(), String::new());
        let mut unsent = None;
        while Instant::now() < exp + AFTER_EXP {
            // No longer than the caller: one that returns at `exp` also tells what became of it.
            let wait = (exp + AFTER_EXP).saturating_duration_since(Instant::now()).min(MAX_WAIT);
            let expired = Instant::now() >= exp;
            // After `exp` the same bytes are only a question; it is put once.
            let viewed = if taken || (expired && tried) {
                self.relay.command(&command.tenant, command.jti, wait).await
            } else {
                tried = true;
                self.relay.submit(&command.tenant, jws, wait).await
            };
            match viewed {
                Ok(view) => {
                    (taken, unsent) = (true, None);
                    last.clear();
                    trace_id = Some(view.trace_id.clone());
                    // From here on a file that can't be read is no error but a doubt: the command is on its way.
                    let look = self.look_well(&view, command).await;
                    match look.unwrap_or_else(|e| Look::Unknown(Doubt::Lost { reason: e.to_string() })) {
                        Look::Waiting => pause = FIRST_PAUSE,
                        // The agent may be a moment late: its word replaces this.
                        Look::Unknown(Doubt::NoOutcome) => {}
                        Look::Undeliverable(reason) => return Ok(Asked::Undeliverable { reason, trace_id }),
                        Look::Concluded(outcome) => {
                            return Ok(Asked::Answered(Answer::Concluded { outcome, trace_id: view.trace_id }));
                        }
                        Look::Unknown(doubt) => return Ok(Asked::Answered(unknown(command, doubt, trace_id))),
                    }
                }
                Err(error) => {
                    trace_id = error.trace_id().cloned().or(trace_id);
                    last = error.what();
                    let undeliverable = |error: &ClientError| {
                        let reason = error.code().cloned().unwrap_or_else(|| "undeliverable".into());
                        Ok(Asked::Undeliverable { reason, trace_id: trace_id.clone() })
                    };
                    match judge(&error) {
                        Failed::Undeliverable => return undeliverable(&error),
                        // At once: the store may stay as it is for hours.
                        Failed::NotTaken if !taken && !perhaps_taken => return undeliverable(&error),
                        Failed::NotTaken => {}
                        Failed::Unknown => {
                            taken = true;
                            last.clear();
                        }
                        Failed::PerhapsTaken => perhaps_taken = true,
                        // The relay has lost it: before `exp` it is given the same again.
                        Failed::NotThere if taken && !expired => (taken, perhaps_taken) = (false, true),
                        Failed::Again(after) => pause = after.unwrap_or(pause).clamp(pause, LONGEST_PAUSE),
                        Failed::NotThere | Failed::Refused if taken || perhaps_taken => break,
                        Failed::NotThere | Failed::Refused => return Err(error.into()),
                    }
                    let never_left = !taken && !perhaps_taken;
                    if never_left && started.elapsed() > CONNECT_PATIENCE {
                        return Err(error.into());
                    }
                    unsent = never_left.then_some(error);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        // Its time is over, and it was not taken once.
        if let Some(error) = unsent {
            return Err(error.into());
        }
        let doubt = if last.is_empty() { Doubt::NoOutcome } else { Doubt::Lost { reason: last } };
        Ok(Asked::Answered(unknown(command, doubt, trace_id)))
    }
}

/// The trace id of the reset that is going on.
fn support_code() -> Option<Untrusted> {
    Here.context().map(|trace| trace.trace_id().into())
}

/// Why no agent can be asked, in one word.
fn why_none(agents: &[Agent], about: Need<'_>) -> &'static str {
    let trusted = |agent: &&Agent| matches!(agent.standing, Some(Standing::Trusted { .. }));
    if agents.iter().any(Agent::keys_stand_in_the_way) {
        return "keys_not_trusted";
    }
    let there = |agent: &Agent| agent.relay.as_ref().is_some_and(|view| view.online && !view.refuses_portal());
    let failed = |agent: &Agent| {
        let is_not_ready = |view: &AgentView| view.readiness(about) == Readiness::NotReady;
        there(agent) && agent.relay.as_ref().is_some_and(is_not_ready)
    };
    let pending = |agent: &Agent| there(agent) && matches!(agent.standing, Some(Standing::Attested { .. }));
    if agents.iter().filter(trusted).any(failed) {
        "preflight_failed"
    } else if agents.iter().any(pending) {
        "agent_pending"
    } else if agents.iter().any(Agent::refuses_this_portal) {
        "portal_not_trusted"
    } else if agents.iter().any(|agent| trusted(&agent)) {
        "no_agent"
    } else {
        "no_trusted_agent"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::problem::{Problem, ProblemCode};

    fn refused(code: ProblemCode) -> Failed {
        let problem = Box::new(Problem::new(code, "", ""));
        judge(&ClientError::Refused { relay: String::new(), status: code.status(), problem, retry_after: None })
    }

    #[test]
    fn a_problem_that_may_have_been_taken_is_never_a_reason_for_a_new_command() {
        for code in ProblemCode::ALL.iter().copied().filter(|code| !code.retry_safe()) {
            assert!(!matches!(refused(code), Failed::Undeliverable | Failed::Again(_)), "{}", code.as_str());
        }
    }
}
