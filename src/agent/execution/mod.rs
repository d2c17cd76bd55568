//! Takes commands in, executes each once, and answers.

mod answer;
mod askers;
mod finding;
mod inquiry;
mod lanes;
mod recovery;
mod run;
mod task;
mod verified;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::{Notify, OwnedMutexGuard, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::answer::Answer;
use self::askers::Askers;
pub(in crate::agent) use self::askers::{Asker, Concluded};
use self::lanes::{AccountLocks, Lanes};
use self::recovery::Patience;
use self::verified::Verified;
use crate::agent::directory::{Account, Directory};
use crate::agent::error::AgentError;
use crate::agent::events::{About, EventLog, Refused};
use crate::agent::home::Identity;
use crate::agent::journal::{Entry, Journal, JournalError, Receipt, Stage};
use crate::agent::keyring::Keyrings;
use crate::agent::options::Options;
use crate::agent::portals::{Followed, Portals};
use crate::clock::{Clock, Random};
use crate::protocol::account::FoldedName;
use crate::protocol::command::Command;
use crate::protocol::event::Event;
use crate::protocol::frame::{FromAgent, v1};
use crate::protocol::ids::CommandId;
use crate::protocol::limits::{JOURNAL_RETENTION, MAX_CLOCK_AHEAD};
use crate::protocol::outcome::Code;
use crate::protocol::rotation::Acknowledgement;
use crate::telemetry::trace::{Kind, Span};

/// A command, and the trace it belongs to.
#[derive(Clone)]
struct Traced {
    command: Command,
    trace_id: Option<String>,
}

/// A command on its way through a lane.
struct Job {
    traced: Traced,
    /// From its delivery to its outcome.
    span: Span,
    work: Work,
}

/// What is left to do.
enum Work {
    /// All of it.
    Execute,
    /// It was started before a crash: find out what became of it. The account's lock is held since before anything
    /// else could have taken it.
    FindOut(Account, Option<OwnedMutexGuard<()>>),
    /// Only to say this.
    Say(Answer),
}

impl Traced {
    fn about(&self) -> About {
        About {
            command: Some(self.command.jti),
            account: Some(self.command.sub_id.to_string()),
            portal: Some(self.command.iss.clone()),
            found: None,
            code: None,
            trace_id: self.trace_id.clone(),
        }
    }

    /// Commands of one lane run one after another.
    fn lane(&self) -> FoldedName {
        self.command.sub_id.folded()
    }
}

/// The executor. Clones share it.
#[derive(Clone)]
pub(in crate::agent) struct Executor {
    pub(in crate::agent) core: Arc<Core>,
}

pub(in crate::agent) struct Core {
    pub(in crate::agent) identity: Arc<Identity>,
    pub(in crate::agent) keys: Arc<Keyrings>,
    pub(in crate::agent) portals: Portals,
    pub(in crate::agent) directory: Arc<dyn Directory>,
    pub(in crate::agent) journal: Journal,
    events: EventLog,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    patience: Patience,
    resets_per_hour: usize,
    permits: Semaphore,
    accounts: AccountLocks,
    stop: CancellationToken,
    askers: Askers,
    lanes: Lanes<Job>,
    running: TaskTracker,
    stored: Notify,
    failures: mpsc::Sender<AgentError>,
}

impl Executor {
    /// With nothing to do yet. From `stop` on, it starts nothing more. What makes it unable to go on comes out of the
    /// receiver: the process has to end then, and the next one finds out from the journal where things stand.
    #[expect(clippy::too_many_arguments, reason = "each is a different thing it stands on")]
    pub(in crate::agent) fn new(
        identity: Arc<Identity>,
        keys: Arc<Keyrings>,
        portals: Portals,
        directory: Arc<dyn Directory>,
        journal: Journal,
        events: EventLog,
        options: &Options,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> (Self, mpsc::Receiver<AgentError>) {
        let (failures, failed) = mpsc::channel(1);
        let patience = Patience {
            hold: options.recovery_hold,
            late_answer: options.late_answer,
            interval: options.recovery_interval,
            backoff_base: options.backoff_base,
            backoff_max: options.backoff_max,
        };
        let core = Core {
            identity,
            keys,
            portals,
            directory,
            journal,
            events,
            clock,
            random,
            patience,
            resets_per_hour: options.resets_per_hour,
            permits: Semaphore::new(options.parallel.max(1)),
            accounts: AccountLocks::default(),
            stop: CancellationToken::new(),
            askers: Askers::default(),
            lanes: Lanes::new(),
            running: TaskTracker::new(),
            stored: Notify::new(),
            failures,
        };
        (Self { core: Arc::new(core) }, failed)
    }

    /// Resolves when outcomes may lie in the journal that no session has sent, or that nobody knows to have arrived.
    pub(in crate::agent) async fn unclaimed(&self) {
        self.core.askers.unclaimed().await;
    }

    /// A session has ended: what it has sent may not have arrived.
    pub(in crate::agent) fn disclaim(&self) {
        self.core.askers.disclaim();
    }

    /// Goes on where the last process left off.
    ///
    /// # Errors
    /// If the journal can't be read.
    pub(in crate::agent) fn resume(&self) -> Result<(), AgentError> {
        for Entry { stage, trace_id, command: id, .. } in self.core.journal.unfinished()? {
            let (jws, started) = match stage {
                Stage::Received { jws } => (jws, None),
                Stage::Started { jws, account } => (jws, Some(account)),
                Stage::Concluded { .. } => continue,
            };
            let parsed = Command::parse(&jws).and_then(|parsed| parsed.unverified::<Command>());
            let command = parsed.map_err(|error| AgentError::Entry { command: id, detail: error.to_string() })?;
            let work = match started {
                Some(account) => {
                    let lock = self.core.accounts.of(account.object_guid).try_lock_owned().ok();
                    Work::FindOut(account, lock)
                }
                None => match self.verify(&jws) {
                    Ok(Verified::Trusted(_)) => Work::Execute,
                    // The portal was trusted when it came, and is not any more.
                    Ok(Verified::Distrusted(_)) => Work::Say(Answer::not_trusted(&command.iss)),
                    Err(_) if !self.core.portals.trusts(&command.iss) => Work::Say(Answer::not_trusted(&command.iss)),
                    Err(error) => Work::Say(Answer::new(Code::Internal, format!("not executed: {error}"))),
                },
            };
            self.enqueue(Job { traced: Traced { command, trace_id }, span: Span::default(), work });
        }
        Ok(())
    }

    /// Takes a delivery, and gives the frame that answers it now, if any. An outcome that comes later goes to `asker`.
    ///
    /// # Errors
    /// If the journal can't be written: then nothing more may be executed.
    pub(in crate::agent) async fn deliver(
        &self,
        delivery: v1::Deliver,
        asker: &Asker,
    ) -> Result<Option<FromAgent>, AgentError> {
        if self.core.stop.is_cancelled() {
            return Ok(None);
        }
        let trace_id = trace_id(&delivery.traceparent);
        let refuse = |about: About, why: &str| {
            self.core.events.refuse(Refused::Command, why, &about);
            Ok(None)
        };
        let (command, trusted) = match self.verify(&delivery.command_jws) {
            Ok(Verified::Trusted(command)) => (command, true),
            Ok(Verified::Distrusted(command)) => (command, false),
            Err(error) => return refuse(About { trace_id, ..About::default() }, &error.to_string()),
        };
        let (now, validity, id) = (self.core.clock.now(), command.validity, command.jti);
        let mut span = Span::start("process command", Kind::Consumer, &*delivery.traceparent);
        span.set("messaging.system", "websocket");
        span.set("messaging.operation.type", "process");
        span.set("messaging.operation.name", "Deliver");
        span.set("writeback.command.id", command.jti);
        span.set("writeback.operation", format_args!("{:?}", command.operation));
        let traced = Traced { command, trace_id };
        if now >= validity.exp.plus(JOURNAL_RETENTION) && !self.core.journal.knows(id)? {
            // Its entry may have been purged, so "never started" could be untrue.
            return refuse(traced.about(), "it expired more than a week ago");
        }
        if !trusted {
            return self.turn_away(&traced, &delivery.command_jws, asker).await;
        }
        // Before it can have an outcome.
        self.core.askers.ask(id, asker);
        let receipt =
            self.core.journal.receive(&traced.command, &delivery.command_jws, traced.trace_id.clone()).await?;
        match receipt {
            Receipt::Conflict => {
                self.core.askers.forget(id);
                refuse(traced.about(), "another command has the same id")
            }
            Receipt::Full => {
                self.core.askers.forget(id);
                let why = "the journal has too many that are open, or from the last week; the command was neither \
                           executed nor answered";
                self.core.events.refuse(Refused::Room, why, &traced.about());
                Ok(None)
            }
            Receipt::Known(entry) => Ok(Some(match entry.stage {
                Stage::Concluded { outcome, .. } => {
                    self.core.askers.forget(id);
                    outcome_frame((id, outcome))
                }
                Stage::Received { .. } | Stage::Started { .. } => received_frame(id),
            })),
            Receipt::New if validity.iat > now.plus(MAX_CLOCK_AHEAD) => {
                let skewed = "iat is more than 60 s ahead of the agent's clock: compare the clocks of both hosts";
                self.finish(&traced, Answer::new(Code::Internal, skewed)).await?;
                Ok(None)
            }
            Receipt::New if now >= validity.exp => {
                self.finish(&traced, Answer::expired()).await?;
                Ok(None)
            }
            Receipt::New => {
                self.enqueue(Job { traced, span, work: Work::Execute });
                Ok(Some(received_frame(id)))
            }
        }
    }

    /// Follows a portal's new key, and gives the agent's word for it. What does not hold is refused, and recorded.
    ///
    /// # Errors
    /// If nothing can be signed.
    pub(in crate::agent) fn follow(&self, rotation: &v1::PortalRotation) -> Result<Option<FromAgent>, AgentError> {
        let core = &self.core;
        let followed = match core.portals.follow(&rotation.jws) {
            Ok(followed) => followed,
            Err(why) => {
                core.events.refuse(Refused::PortalKey, &why.to_string(), &About::default());
                return Ok(None);
            }
        };
        let Followed { portal, seq, key, new } = followed;
        if new {
            let message = format!("portal {portal} has a new key, signed by the old one (rotation {seq}): {key}");
            let about = About { portal: Some(portal.clone()), ..About::default() };
            core.events.record(Event::KeyPairCreationSuccess, &message, &about);
        }
        let (iss, tenant, iat) = (core.identity.agent, core.identity.tenant.clone(), core.clock.now());
        let said = Acknowledgement { iss, aud: portal, tenant, seq, key, iat };
        let jws = said.sign(&core.keys.now()?.keys.signing)?;
        Ok(Some(FromAgent::Acknowledgement(v1::Acknowledgement { jws })))
    }

    /// The portals whose commands the agent takes, as it greets a relay.
    pub(in crate::agent) fn pinned(&self) -> Vec<v1::PinnedPortal> {
        let identity = self.core.portals.now().unwrap_or_else(|_| self.core.identity.clone());
        let pinned = identity.portals.iter().map(|(portal, pin)| (portal.to_string(), pin.seq));
        pinned.map(|(portal, seq)| v1::PinnedPortal { portal, seq }).collect()
    }

    fn enqueue(&self, job: Job) {
        let lane = job.traced.lane();
        let Some(first) = self.core.lanes.enter(&lane, job) else { return };
        let executor = self.clone();
        self.core.running.spawn(async move {
            let mut next = Some(first);
            while let Some(mut job) = next {
                let span = std::mem::take(&mut job.span);
                executor.guard(job.traced.command.jti, span.within(executor.run(job))).await;
                next = executor.core.lanes.next(&lane);
            }
        });
    }

    /// However badly the work for a command ends, that ends the agent, and the journal knows where to go on.
    async fn guard(&self, command: CommandId, work: impl Future<Output = Result<(), AgentError>>) {
        let failure = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => AgentError::Panicked { command },
        };
        self.core.stop.cancel();
        // If there is one already, it is as good as this.
        let _ = self.core.failures.try_send(failure);
    }

    /// The relay has an outcome.
    ///
    /// # Errors
    /// If the journal can't be written.
    pub(in crate::agent) async fn stored(&self, id: CommandId) -> Result<(), JournalError> {
        self.core.journal.stored(id).await?;
        self.core.stored.notify_waiters();
        Ok(())
    }

    /// Starts nothing more.
    pub(in crate::agent) fn stop(&self) {
        self.core.stop.cancel();
    }

    /// Returns when nothing is running, after [`Self::stop`].
    pub(in crate::agent) async fn idle(&self) {
        self.core.running.close();
        self.core.running.wait().await;
    }

    /// Returns when nothing is running and the relay has every outcome.
    pub(in crate::agent) async fn settled(&self) {
        self.idle().await;
        loop {
            let changed = self.core.stored.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            // A journal that can't be read has nothing more to wait for.
            if self.core.journal.unstored().map_or(true, |outcomes| outcomes.is_empty()) {
                return;
            }
            changed.await;
        }
    }
}

fn received_frame(id: CommandId) -> FromAgent {
    FromAgent::Received(v1::Received { command: id.to_string() })
}

pub(in crate::agent) fn outcome_frame((id, jws): Concluded) -> FromAgent {
    FromAgent::Outcome(v1::Outcome { command: id.to_string(), jws })
}

/// The trace id of a W3C `traceparent`: `version-trace_id-parent_id-flags`.
fn trace_id(traceparent: &str) -> Option<String> {
    let id = traceparent.split('-').nth(1)?;
    let valid = id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    valid.then(|| id.to_owned())
}

#[cfg(test)]
mod tests;
