//! A write that was sent and not answered: what became of it, asked beside everything else. The account stays held, so
//! that no newer command overtakes the write.

use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep, timeout};

use crate::agent::directory::{Account, Deadline, DirectoryError, LateAnswer};
use crate::agent::execution::answer::Answer;
use crate::agent::execution::finding::Finding;
use crate::agent::execution::recovery::{Wanted, find_out, seen_done};
use crate::agent::execution::task::Task;
use crate::agent::execution::{Executor, Traced};
use crate::protocol::event::Event;
use crate::protocol::limits::JOURNAL_RETENTION;
use crate::telemetry::trace::{Here, Parent as _, within};

/// A write of which nobody knows whether it was done.
pub(super) struct Inquiry {
    /// The account, before.
    pub(super) before: Account,
    /// What was to be written, if it can still be opened.
    pub(super) task: Option<Task>,
    /// What to say if it was not done.
    pub(super) not_done: Answer,
    pub(super) began: Instant,
}

impl Executor {
    /// Finds out, and answers; if the write is under way, as soon as it is answered. Returns at once: commands for other
    /// accounts go on, and those for this one wait for its lock, each until its `exp`.
    pub(super) fn find_out(
        &self,
        traced: &Traced,
        inquiry: Inquiry,
        under_way: Option<LateAnswer>,
        held: Option<OwnedMutexGuard<()>>,
    ) {
        let (executor, traced, here) = (self.clone(), traced.clone(), Here.context());
        self.core.running.spawn(async move {
            let finding = async {
                match executor.found(&traced, &inquiry, under_way, held).await {
                    Some(answer) => executor.finish(&traced, answer).await,
                    None => Ok(()),
                }
            };
            let guarded = executor.guard(traced.command.jti, finding);
            match here {
                Some(command) => within(command, guarded).await,
                None => guarded.await,
            }
        });
    }

    /// The answer; nothing if the agent stops before there is one.
    async fn found(
        &self,
        traced: &Traced,
        inquiry: &Inquiry,
        under_way: Option<LateAnswer>,
        held: Option<OwnedMutexGuard<()>>,
    ) -> Option<Answer> {
        let core = &self.core;
        let lock = match held {
            Some(lock) => lock,
            None => core.accounts.of(inquiry.before.object_guid).lock_owned().await,
        };
        if let Some(under_way) = under_way
            && let Some(answer) = self.listen(traced, inquiry, under_way).await
        {
            return Some(answer.hindered_by(self.hindrances(&traced.command, &inquiry.before)));
        }
        // A controller that is silent may never come back, so others don't wait for ever; but the write may still reach
        // it, so they wait as long as anybody expects that.
        let hold = core.patience.hold.max(core.clock.now().until(traced.command.validity.exp));
        if let Ok(answer) = timeout(hold, self.ask(traced, inquiry)).await {
            return answer;
        }
        drop(lock);
        let message = format!(
            "{} does not answer, so it is not known what became of a command; it is asked on, and other commands for the \
             account are executed meanwhile",
            inquiry.before.controller
        );
        core.events.record(Event::ADUnKnownError, &message, &traced.about());
        self.ask(traced, inquiry).await
    }

    /// Listens to a write that is under way, and looks meanwhile whether it has been done: its answer may be lost. That it
    /// has not been done yet means nothing. Also while the agent stops, as for every write. Nothing, if no answer is to be
    /// expected any more.
    async fn listen(&self, traced: &Traced, inquiry: &Inquiry, under_way: LateAnswer) -> Option<Answer> {
        let core = &self.core;
        let operation = traced.command.operation;
        let message = format!(
            "{} has not answered a write yet; the agent waits for the answer, and other commands for the account wait, too",
            inquiry.before.controller
        );
        core.events.record(Event::ADUnKnownError, &message, &traced.about());
        let wanted = Wanted::of(operation, inquiry.task.as_ref());
        let long: Duration = core.clock.now().until(traced.command.validity.exp.plus(core.patience.late_answer));
        let answer = tokio::select! {
            biased;
            answered = under_way => match answered {
                Ok(()) => Answer::done(operation),
                Err(DirectoryError::Uncertain(_)) => return None,
                Err(error) => error.into(),
            },
            () = seen_done(&*core.directory, &inquiry.before, &wanted, &core.patience, core.random.clone()) => {
                Answer::found(Finding::Done, operation, &inquiry.not_done)
            }
            () = sleep(long) => return None,
        };
        Some(Answer { directory: inquiry.began.elapsed(), ..answer }.of(&inquiry.before))
    }

    /// Asks the account's controller, until it answers. Nothing, if the agent stops before.
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
        let answer = answer.hindered_by(self.hindrances(&traced.command, &inquiry.before));
        Some(Answer { directory: inquiry.began.elapsed(), ..answer }.of(&inquiry.before))
    }
}
