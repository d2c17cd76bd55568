//! One command, from the lane to its outcome.

use tokio::sync::{OwnedMutexGuard, SemaphorePermit};
use tokio::time::{Instant, timeout};

use crate::agent::directory::{Account, Deadline, DirectoryError, Written};
use crate::agent::error::AgentError;
use crate::agent::events::About;
use crate::agent::execution::answer::Answer;
use crate::agent::execution::inquiry::Inquiry;
use crate::agent::execution::task::Task;
use crate::agent::execution::{Executor, Job, Traced, Work};
use crate::agent::journal::{Quota, Start};
use crate::clock::UnixTime;
use crate::protocol::command::{Command, Operation, Subject};
use crate::protocol::event::Event;
use crate::protocol::hindrance::Hindrance;
use crate::protocol::ids::ObjectId;
use crate::protocol::outcome::{Code, Outcome};

impl Executor {
    /// Brings a command to its outcome. If the agent stops before, the journal knows where to go on.
    pub(super) async fn run(&self, job: Job) -> Result<(), AgentError> {
        if self.core.stop.is_cancelled() {
            return Ok(());
        }
        let Job { traced, work, .. } = job;
        let answer = match work {
            Work::Execute => self.execute(&traced).await?,
            Work::Say(answer) => Some(answer),
            Work::FindOut(before, held) => {
                let task = Task::of(&traced.command, self.core.keys.now()?.as_ref()).ok();
                let not_done = Answer::new(Code::Interrupted, "the agent stopped in the middle; nothing was changed");
                let inquiry = Inquiry { before, task, not_done, began: Instant::now() };
                self.find_out(&traced, inquiry, None, held);
                None
            }
        };
        match answer {
            Some(answer) => self.finish(&traced, answer).await,
            None => Ok(()),
        }
    }

    async fn execute(&self, traced: &Traced) -> Result<Option<Answer>, AgentError> {
        let core = &self.core;
        let command = &traced.command;
        let deadline = Deadline::new(command.validity.exp, core.clock.clone());
        let permit = self.permit().await;
        if let Err(over) = deadline.allows() {
            return Ok(Some(over.into()));
        }
        if !core.portals.trusts(&command.iss) {
            return Ok(Some(Answer::not_trusted(&command.iss)));
        }
        let begins = match command.operation {
            Operation::ChangePassword => Event::ChangePasswordStart,
            Operation::ResetPassword | Operation::UnlockAccount => Event::PasswordResetStart,
        };
        core.events.record(begins, "a command is being executed", &traced.about());
        let task = match Task::of(command, core.keys.now()?.as_ref()) {
            Ok(task) => task,
            Err(answer) => return Ok(Some(answer)),
        };
        let began = Instant::now();
        let timed = |answer: Answer| Answer { directory: began.elapsed(), ..answer };
        let (mut account, lock, permit) = match self.locate(&command.sub_id, permit, command.validity.exp).await {
            Ok(located) => located,
            Err(error) => return Ok(Some(timed(error.into()))),
        };
        if core.stop.is_cancelled() {
            return Ok(None);
        }
        // It may have waited long for its account.
        if !core.portals.trusts(&command.iss) {
            return Ok(Some(timed(Answer::not_trusted(&command.iss))));
        }
        if let Start::NotBefore(time) =
            core.journal.start(command.jti, account.clone(), self.quota(command.operation)).await?
        {
            let limited = Answer::rate_limited(command.operation, core.resets_per_hour, time, core.clock.now());
            return Ok(Some(timed(limited.of(&account))));
        }
        // Finding the account, waiting for it, and the disk may each have taken long.
        if let Err(over) = deadline.allows() {
            return Ok(Some(timed(Answer::from(over).of(&account))));
        }
        let mut tried = Vec::new();
        let written = loop {
            let written = task.write(&*core.directory, &account, &deadline).await;
            let Err(DirectoryError::Unavailable(why)) = &written else { break written };
            tried.push(account.controller.clone());
            let Some(other) = self.elsewhere(&command.sub_id, &account, &tried).await else { break written };
            tracing::warn!(
                why,
                to = other.controller,
                "nothing was sent; the command goes to another domain controller"
            );
            core.journal.start_elsewhere(command.jti, other.clone()).await?;
            account = other;
        };
        let (under_way, detail) = match written {
            Ok(Written::Done) => {
                let done = Answer::done(command.operation).of(&account);
                return Ok(Some(timed(done.hindered_by(self.hindrances(command, &account)))));
            }
            Ok(Written::UnderWay(answer)) => {
                (Some(answer), format!("{}: no answer to the write, and it was not done", account.controller))
            }
            Err(DirectoryError::Uncertain(detail)) => {
                (None, format!("{detail}; asked afterwards, the account is as it was before"))
            }
            Err(error) => return Ok(Some(timed(Answer::from(error).of(&account)))),
        };
        // This may take long; others need not wait for it.
        drop(permit);
        let not_done = Answer::new(Code::DirectoryUnavailable, detail);
        let inquiry = Inquiry { before: account, task: Some(task), not_done, began };
        self.find_out(traced, inquiry, under_way, Some(lock));
        Ok(None)
    }

    /// The same account at a controller that was not tried, if there is one. Only for what was certainly not sent.
    async fn elsewhere(&self, subject: &Subject, account: &Account, tried: &[String]) -> Option<Account> {
        if self.core.stop.is_cancelled() {
            return None;
        }
        let other = self.core.directory.find(subject).await.ok()?;
        (other.object_guid == account.object_guid && !tried.contains(&other.controller)).then_some(other)
    }

    /// What keeps the user from logging on now, when the command has been executed. Nothing, if it is not known.
    pub(super) fn hindrances(&self, command: &Command, before: &Account) -> Option<Vec<Hindrance>> {
        let now = self.core.clock.now();
        before.logon.as_ref().map(|logon| logon.hindrances(now, command.operation, command.options))
    }

    /// Wrong current passwords lock an account, so the directory itself limits changes.
    fn quota(&self, operation: Operation) -> Option<Quota> {
        let (most, now) = (self.core.resets_per_hour, self.core.clock.now());
        (operation != Operation::ChangePassword).then_some(Quota { operation, most, now })
    }

    async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.core.permits.acquire().await.ok()
    }

    /// Finds the account and takes its lock, until `exp`. Nobody waits for a lock while others could use the permit.
    async fn locate<'a>(
        &'a self,
        subject: &Subject,
        mut permit: Option<SemaphorePermit<'a>>,
        exp: UnixTime,
    ) -> Result<(Account, OwnedMutexGuard<()>, Option<SemaphorePermit<'a>>), DirectoryError> {
        let mut account = self.core.directory.find(subject).await?;
        loop {
            let lock = self.core.accounts.of(account.object_guid);
            if let Ok(held) = lock.clone().try_lock_owned() {
                return Ok((account, held, permit));
            }
            drop(permit.take());
            // What is waited for may be a write that is not answered, which can last.
            let left = self.core.clock.now().until(exp);
            let held = timeout(left, lock.lock_owned()).await.map_err(|_| DirectoryError::Expired)?;
            permit = self.permit().await;
            // What was found before the wait is old.
            let again = self.core.directory.find(subject).await?;
            if again.object_guid == account.object_guid {
                return Ok((again, held, permit));
            }
            account = again;
        }
    }

    /// Signs the outcome, makes it durable, and only then tells anybody.
    pub(super) async fn finish(&self, traced: &Traced, answer: Answer) -> Result<(), AgentError> {
        let core = &self.core;
        let command = &traced.command;
        let jws = self.signed(command, &answer)?;
        let first = core.journal.conclude(command.jti, jws, answer.retry_safe()).await?;
        let about = About { code: Some(answer.code.as_str()), found: answer.account.clone(), ..traced.about() };
        for event in answer.events(command.operation) {
            // Nobody can cause these in masses but by resets that are done.
            if answer.retry_safe() {
                core.events.record(event, &answer.detail, &about);
            } else {
                core.events.record_done(event, &answer.detail, &about);
            }
        }
        core.askers.answer((command.jti, first));
        Ok(())
    }

    /// The outcome, signed; nobody is told yet.
    pub(super) fn signed(&self, command: &Command, answer: &Answer) -> Result<String, AgentError> {
        let core = &self.core;
        let outcome = Outcome {
            iss: core.identity.agent,
            aud: command.iss.clone(),
            tenant: core.identity.tenant.clone(),
            jti: ObjectId::new(&*core.clock, &*core.random),
            command: command.jti,
            iat: core.clock.now(),
            status: answer.code.status(),
            code: answer.code.as_str().into(),
            event_id: answer.event(command.operation).id(),
            detail: answer.detail.as_str().into(),
            retry_safe: answer.retry_safe(),
            retry_at: answer.retry_at,
            hindrances: answer.hindrances.as_ref().map(|all| all.iter().map(|each| each.as_str().into()).collect()),
            directory_ms: u64::try_from(answer.directory.as_millis()).unwrap_or(u64::MAX),
            account: answer.account.clone(),
        };
        Ok(outcome.sign(&core.keys.now()?.keys.signing)?)
    }
}
