//! One command, from the lane to its outcome.

use tokio::sync::{OwnedMutexGuard, SemaphorePermit};
use tokio::time::Instant;

use crate::agent::directory::{Account, Deadline, DirectoryError};
use crate::agent::error::AgentError;
use crate::agent::events::About;
use crate::agent::execution::answer::{Answer, unsupported};
use crate::agent::execution::recovery::find_out;
use crate::agent::execution::{Executor, Job, Work};
use crate::protocol::command::{Operation, Subject};
use crate::protocol::event::Event;
use crate::protocol::ids::ObjectId;
use crate::protocol::outcome::{Code, Outcome};
use crate::protocol::password::Password;
use crate::protocol::sealed::open_for;

impl Executor {
    /// Brings a command to its outcome. If the agent stops before, the journal knows where to go on.
    pub(super) async fn run(&self, job: &Job) -> Result<(), AgentError> {
        if self.core.stop.is_cancelled() {
            return Ok(());
        }
        let answer = match &job.work {
            Work::Execute => self.execute(job).await?,
            Work::Say(answer) => Some(answer.clone()),
            Work::FindOut(account, held) => {
                let _lock = match held {
                    Some(_) => None,
                    None => Some(self.core.accounts.of(account.object_guid).lock_owned().await),
                };
                let password = open_for(&job.command, &self.core.keys.sealing).ok().map(|s| s.new_password);
                let not_done = Answer::new(Code::Interrupted, "the agent stopped in the middle; nothing was changed");
                self.find_out(account, password.as_ref(), not_done).await
            }
        };
        match answer {
            Some(answer) => self.finish(job, answer).await,
            None => Ok(()),
        }
    }

    async fn execute(&self, job: &Job) -> Result<Option<Answer>, AgentError> {
        let core = &self.core;
        let command = &job.command;
        let deadline = Deadline::new(command.validity.exp, core.clock.clone());
        let permit = self.permit().await;
        if let Err(over) = deadline.allows() {
            return Ok(Some(over.into()));
        }
        let begins = match command.operation {
            Operation::ChangePassword => Event::ChangePasswordStart,
            Operation::ResetPassword | Operation::UnlockAccount => Event::PasswordResetStart,
        };
        core.events.record(begins, "a command is being executed", &job.about());
        if let Some(answer) = unsupported(command) {
            return Ok(Some(answer));
        }
        let password = match open_for(command, &core.keys.sealing) {
            Ok(secrets) => secrets.new_password,
            Err(error) => {
                let detail = format!("the sealed password can't be opened: {error}");
                return Ok(Some(Answer::new(Code::DecryptionFailed, detail)));
            }
        };
        let began = Instant::now();
        let timed = |answer: Answer| Answer { directory: began.elapsed(), ..answer };
        let (account, _lock, permit) = match self.locate(&command.sub_id, permit).await {
            Ok(located) => located,
            Err(error) => return Ok(Some(timed(error.into()))),
        };
        if core.stop.is_cancelled() {
            return Ok(None);
        }
        core.journal.start(command.jti, account.clone()).await?;
        // Finding the account, waiting for it, and the disk may each have taken long.
        if let Err(over) = deadline.allows() {
            return Ok(Some(timed(over.into())));
        }
        let written = core.directory.reset_password(&account, &password, command.options, &deadline).await;
        // Finding out may take long; others need not wait for it.
        drop(permit);
        let answer = match written {
            Ok(()) => Some(Answer::new(Code::PasswordReset, "the new password is set")),
            Err(DirectoryError::Uncertain(detail)) => {
                let not_done = Answer::new(Code::DirectoryUnavailable, detail);
                self.find_out(&account, Some(&password), not_done).await
            }
            Err(error) => Some(error.into()),
        };
        Ok(answer.map(timed))
    }

    /// Nothing, if the agent stops before there is an answer.
    async fn find_out(&self, before: &Account, password: Option<&Password>, not_done: Answer) -> Option<Answer> {
        let core = &self.core;
        let asking = find_out(&*core.directory, before, password, &core.patience, core.random.clone());
        tokio::select! {
            biased;
            () = core.stop.cancelled() => None,
            finding = asking => Some(Answer::found(finding, not_done)),
        }
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
    pub(super) async fn finish(&self, job: &Job, answer: Answer) -> Result<(), AgentError> {
        let core = &self.core;
        let command = &job.command;
        let outcome = Outcome {
            iss: core.identity.agent,
            aud: command.iss.clone(),
            tenant: core.identity.tenant.clone(),
            jti: ObjectId::new(&*core.clock, &*core.random),
            command: command.jti,
            iat: core.clock.now(),
            status: answer.code.status(),
            code: answer.code.as_str().to_owned(),
            event_id: answer.code.event().id(),
            detail: answer.detail.clone(),
            retry_safe: answer.retry_safe(),
            directory_ms: u64::try_from(answer.directory.as_millis()).unwrap_or(u64::MAX),
        };
        let jws = outcome.sign(&core.keys.signing)?;
        let first = core.journal.conclude(command.jti, jws).await?;
        let about = About { code: Some(answer.code.as_str()), ..job.about() };
        for event in answer.events(command.operation) {
            core.events.record(event, &answer.detail, &about);
        }
        core.askers.answer((command.jti, first));
        Ok(())
    }
}
