//! One command, from the lane to its outcome.

use tokio::sync::{OwnedMutexGuard, SemaphorePermit};
use tokio::time::{Instant, timeout};

use crate::agent::directory::{Account, Deadline, DirectoryError};
use crate::agent::error::AgentError;
use crate::agent::events::About;
use crate::agent::execution::answer::Answer;
use crate::agent::execution::recovery::{Wanted, find_out};
use crate::agent::execution::task::Task;
use crate::agent::execution::{Executor, Job, Traced, Work};
use crate::agent::journal::{Quota, Start};
use crate::protocol::command::{Operation, Subject};
use crate::protocol::event::Event;
use crate::protocol::ids::ObjectId;
use crate::protocol::limits::JOURNAL_RETENTION;
use crate::protocol::outcome::{Code, Outcome};

/// A write of which nobody knows whether it was done.
struct Inquiry {
    /// The account, before.
    before: Account,
    /// What was to be written, if it can still be opened.
    task: Option<Task>,
    /// What to say if it was not done.
    not_done: Answer,
    began: Instant,
}

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
                let lock = match held {
                    Some(lock) => lock,
                    None => self.core.accounts.of(before.object_guid).lock_owned().await,
                };
                let task = Task::of(&traced.command, self.core.keys.now()?.as_ref()).ok();
                let not_done = Answer::new(Code::Interrupted, "the agent stopped in the middle; nothing was changed");
                self.find_out(&traced, Inquiry { before, task, not_done, began: Instant::now() }, lock).await
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
        let (mut account, lock, permit) = match self.locate(&command.sub_id, permit).await {
            Ok(located) => located,
            Err(error) => return Ok(Some(timed(error.into()))),
        };
        if core.stop.is_cancelled() {
            return Ok(None);
        }
        if let Start::NotBefore(time) =
            core.journal.start(command.jti, account.clone(), self.quota(command.operation)).await?
        {
            let limited = Answer::rate_limited(command.operation, core.resets_per_hour, time, core.clock.now());
            return Ok(Some(timed(limited)));
        }
        // Finding the account, waiting for it, and the disk may each have taken long.
        if let Err(over) = deadline.allows() {
            return Ok(Some(timed(over.into())));
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
        // Finding out may take long; others need not wait for it.
        drop(permit);
        Ok(match written {
            Ok(()) => Some(timed(Answer::done(command.operation))),
            Err(DirectoryError::Uncertain(detail)) => {
                let not_done = Answer::new(Code::DirectoryUnavailable, detail);
                self.find_out(traced, Inquiry { before: account, task: Some(task), not_done, began }, lock).await
            }
            Err(error) => Some(timed(error.into())),
        })
    }

    /// The same account at a controller that was not tried, if there is one. Only for what was certainly not sent.
    async fn elsewhere(&self, subject: &Subject, account: &Account, tried: &[String]) -> Option<Account> {
        if self.core.stop.is_cancelled() {
            return None;
        }
        let other = self.core.directory.find(subject).await.ok()?;
        (other.object_guid == account.object_guid && !tried.contains(&other.controller)).then_some(other)
    }

    /// Wrong current passwords lock an account, so the directory itself limits changes.
    fn quota(&self, operation: Operation) -> Option<Quota> {
        let (most, now) = (self.core.resets_per_hour, self.core.clock.now());
        (operation != Operation::ChangePassword).then_some(Quota { operation, most, now })
    }

    /// Asks the account's controller. While it is silent, other commands for the account wait, but not for ever: a
    /// controller may never come back. Nothing, if the agent stops before there is an answer, or somebody else will say it.
    async fn find_out(&self, traced: &Traced, inquiry: Inquiry, lock: OwnedMutexGuard<()>) -> Option<Answer> {
        let held = timeout(self.core.patience.hold, self.ask(traced, &inquiry)).await;
        drop(lock);
        if let Ok(answer) = held {
            return answer;
        }
        let message = format!(
            "{} does not answer, so it is not known what became of a command; it is asked on, and other commands for the \
             account are executed meanwhile",
            inquiry.before.controller
        );
        self.core.events.record(Event::ADUnKnownError, &message, &traced.about());
        let (executor, traced) = (self.clone(), traced.clone());
        self.core.running.spawn(async move {
            let asking = async {
                match executor.ask(&traced, &inquiry).await {
                    Some(answer) => executor.finish(&traced, answer).await,
                    None => Ok(()),
                }
            };
            executor.guard(traced.command.jti, asking).await;
        });
        None
    }

    async fn ask(&self, traced: &Traced, inquiry: &Inquiry) -> Option<Answer> {
        let core = &self.core;
        let operation = traced.command.operation;
        let wanted = Wanted::of(operation, inquiry.task.as_ref());
        // Afterwards no relay would take the answer to anybody.
        let until = Deadline::new(traced.command.validity.exp.plus(JOURNAL_RETENTION), core.clock.clone());
        let random = core.random.clone();
        let asking = find_out(&*core.directory, &inquiry.before, &wanted, &core.patience, &until, random);
        let finding = tokio::select! {
            biased;
            () = core.stop.cancelled() => return None,
            finding = asking => finding,
        };
        let answer = Answer::found(finding, operation, &inquiry.not_done);
        Some(Answer { directory: inquiry.began.elapsed(), ..answer })
    }

    async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.core.permits.acquire().await.ok()
    }

    /// Finds the account and takes its lock. Nobody waits for a lock while others could use the permit.
    async fn locate<'a>(
        &'a self,
        subject: &Subject,
        mut permit: Option<SemaphorePermit<'a>>,
    ) -> Result<(Account, OwnedMutexGuard<()>, Option<SemaphorePermit<'a>>), DirectoryError> {
        let mut account = self.core.directory.find(subject).await?;
        loop {
            let lock = self.core.accounts.of(account.object_guid);
            if let Ok(held) = lock.clone().try_lock_owned() {
                return Ok((account, held, permit));
            }
            drop(permit.take());
            let held = lock.lock_owned().await;
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
        let outcome = Outcome {
            iss: core.identity.agent,
            aud: command.iss.clone(),
            tenant: core.identity.tenant.clone(),
            jti: ObjectId::new(&*core.clock, &*core.random),
            command: command.jti,
            iat: core.clock.now(),
            status: answer.code.status(),
            code: answer.code.as_str().to_owned(),
            event_id: answer.event(command.operation).id(),
            detail: answer.detail.clone(),
            retry_safe: answer.retry_safe(),
            retry_at: answer.retry_at,
            directory_ms: u64::try_from(answer.directory.as_millis()).unwrap_or(u64::MAX),
        };
        let jws = outcome.sign(&core.keys.now()?.keys.signing)?;
        let first = core.journal.conclude(command.jti, jws, answer.retry_safe()).await?;
        let about = About { code: Some(answer.code.as_str()), ..traced.about() };
        for event in answer.events(command.operation) {
            core.events.record(event, &answer.detail, &about);
        }
        core.askers.answer((command.jti, first));
        Ok(())
    }
}
