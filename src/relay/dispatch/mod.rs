//! From a verified command to its end.

mod placing;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::waiting::InFlight;
use super::StoreError;
use super::bus::{Bus, Notice, Place};
use super::intake::{Intake, TakenIn};
use super::ledger::{Accepted, CommandKey, Entry, Intent, Ledger, NewCommand, Undelivered};
use super::limits::Counted;
use super::sessions::Sessions;
use super::writes::{Cause, Writes};
use crate::clock::Clock;
use crate::telemetry::limit::Limit;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::{Kind, Span};

/// A command is written within this time, and noted so, if all is well.
const OVERDUE: Duration = Duration::from_secs(1);

/// Why a submit has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DispatchError {
    /// Its id was used with another body.
    #[error("this jti was used with another body; a jti is never used again")]
    Conflict,
    /// Nothing is known of it, and it may have been delivered.
    #[error(
        "the relay's store has lost what it was told before, perhaps this command among it: its agent may have executed \
         it, and will say so if it has"
    )]
    Forgotten,
    /// There is no room for it.
    #[error(
        "what this tenant's commands and outcomes of the last 7 days take in the relay's store is all that it may take \
         (limits.tenant_stored_mib); send the same command again later, and tell the relay's operator"
    )]
    OverQuota,
    /// The store takes no writes: it was not stored, and not sent.
    #[error("the store takes no writes: {}", .0.detail())]
    NotTaken(Cause),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What it means that a command could not be stored.
fn not_taken(error: StoreError) -> DispatchError {
    match error {
        StoreError::NotWritable(cause) => DispatchError::NotTaken(cause),
        unanswered @ StoreError::Unanswered(_) => DispatchError::Store(unanswered),
    }
}

/// Hands commands to sessions and waits for their end.
pub struct Dispatcher {
    ledger: Arc<dyn Ledger>,
    bus: Arc<dyn Bus>,
    intake: Arc<dyn Intake>,
    sessions: Arc<Sessions>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// Whether the ledger takes any.
    writes: Arc<Writes>,
    stopping: CancellationToken,
    /// Commands that were submitted here and have no end.
    in_flight: watch::Sender<usize>,
}

impl Dispatcher {
    /// Over these stores; `stopping` when the node is to stop.
    #[must_use]
    pub fn new(
        ledger: Arc<dyn Ledger>,
        bus: Arc<dyn Bus>,
        intake: Arc<dyn Intake>,
        sessions: Arc<Sessions>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        stopping: CancellationToken,
    ) -> Self {
        let writes = Arc::default();
        Self { ledger, bus, intake, sessions, clock, metrics, writes, stopping, in_flight: watch::Sender::new(0) }
    }

    /// The same, that knows whether the ledger takes anything.
    #[must_use]
    pub fn minding(self, writes: &Arc<Writes>) -> Self {
        Self { writes: Arc::clone(writes), ..self }
    }

    /// Submits a command and waits at most `wait` for its end; what is known then. `counted` is given back when the
    /// command has an end, however long the caller waits.
    ///
    /// # Errors
    /// If its id was used with another body, or the store does not answer.
    pub async fn submit(
        self: &Arc<Self>,
        command: NewCommand,
        wait: Duration,
        counted: Counted,
    ) -> Result<Entry, DispatchError> {
        let in_flight = InFlight::begin(&self.in_flight, counted);
        let until = Instant::now() + wait;
        let mut place = self.bus.nearest(&command.key.tenant, command.agent).await?;
        if place.is_none() {
            // A repeated submit does not wait for an agent that has answered.
            if let Some(known) = self.ledger.get(&command.key).await? {
                return self.repeated(known, &command, until).await;
            }
            // Nobody waits for an agent only to hear that its command can't be stored.
            place = tokio::select! {
                biased;
                refused = self.refused(&command.key.tenant) => return Err(refused),
                returned = self.return_of(&command.key.tenant, command.agent, until) => returned?,
            };
        }
        // Before it is accepted, so that no end is missed.
        let ending = self.sessions.ending(&command.key);
        let (accepted, answer) = oneshot::channel();
        // A task of its own: a caller that hangs up must not leave a command stored that nobody delivers, and a node
        // that stops waits for its end whether somebody else does or not.
        tokio::spawn(Arc::clone(self).carry(command.clone(), place, until, in_flight, accepted));
        match answer.await.map_err(|_| StoreError::Unanswered("the node failed".to_owned()))?? {
            Accepted::Conflict => self.conflict(&command.key),
            Accepted::OverQuota => self.over_quota(&command.key),
            Accepted::Known(entry) => self.repeated(entry, &command, until).await,
            Accepted::New(entry) => Ok(self.wait(entry, ending, until).await?),
        }
    }

    /// Accepts a command, says so, and stays until it has an end or its time is over.
    async fn carry(
        self: Arc<Self>,
        command: NewCommand,
        place: Option<Place>,
        patience: Instant,
        _in_flight: InFlight,
        accepted: oneshot::Sender<Result<Accepted, DispatchError>>,
    ) {
        let ending = self.sessions.ending(&command.key);
        let until = Instant::now() + self.clock.now().until(command.exp);
        let result = self.accept(command, place, patience).await;
        let new = match &result {
            Ok(Accepted::New(entry)) => Some(entry.clone()),
            _ => None,
        };
        // The caller may have gone.
        let _ = accepted.send(result);
        if let Some(entry) = new {
            self.stay(entry, ending, until).await;
        }
    }

    /// Stores the command with what is to happen to it, and has that happen.
    async fn accept(
        &self,
        mut command: NewCommand,
        place: Option<Place>,
        patience: Instant,
    ) -> Result<Accepted, DispatchError> {
        let now_ms = self.clock.now_ms();
        let mut span = Span::start("dispatch command", Kind::Internal, &*command.traceparent);
        span.set("writeback.tenant", &command.key.tenant);
        span.set("writeback.command.id", command.key.command);
        span.set("writeback.agent.id", command.agent);
        command.traceparent = span.traceparent(command.traceparent);
        let Some(place) = place else {
            let reason = Undelivered::NoAgent;
            let accepted = self.ledger.accept(command, Intent::GiveUp(reason), now_ms).await.map_err(not_taken)?;
            if let Accepted::New(entry) = &accepted {
                self.metrics.submitted(&entry.key.tenant, "new");
                // Without an end it may have been delivered before: its agent gets it when it is back.
                if entry.end.is_some() {
                    self.metrics.ended(&entry.key.tenant, reason.as_str());
                }
            }
            return Ok(accepted);
        };
        Ok(match self.intake.take_in(command, place, now_ms).await.map_err(not_taken)? {
            TakenIn::New { entry, delivery } => {
                self.metrics.submitted(&entry.key.tenant, "new");
                self.see_delivered(place, entry.clone(), delivery, patience).await?;
                Accepted::New(entry)
            }
            TakenIn::Known(entry) => Accepted::Known(entry),
            TakenIn::Conflict => Accepted::Conflict,
            TakenIn::OverQuota => Accepted::OverQuota,
        })
    }

    /// Waits at most `wait`, and not longer than the node stays, for the end of a command that was submitted before;
    /// `None` if there is no such command.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn follow(&self, key: &CommandKey, wait: Duration) -> Result<Option<Entry>, StoreError> {
        match self.stopping.run_until_cancelled(self.end_of(key, Instant::now() + wait)).await {
            Some(found) => found,
            None => self.ledger.get(key).await,
        }
    }

    /// What is known of a command that was submitted before, whatever has changed since; `None` if it was not.
    ///
    /// # Errors
    /// If its id was used with another body, it may have been forgotten, or the store does not answer.
    pub async fn known(&self, command: &NewCommand) -> Result<Option<Entry>, DispatchError> {
        match self.ledger.get(&command.key).await? {
            Some(known) if !known.is_same(command) => self.conflict(&command.key),
            Some(known) => Ok(Some(known)),
            None => {
                let since = self.ledger.complete_since(&command.key.tenant, self.clock.now()).await?;
                if command.may_be_forgotten(since) { Err(DispatchError::Forgotten) } else { Ok(None) }
            }
        }
    }

    /// Refuses a command on behalf of every node, for good: the same bytes may be on their way to a node that would take
    /// them, and whoever is refused may send a new command. What is known of it, if it came before.
    ///
    /// # Errors
    /// If its id was used with another body, or the store does not answer: then it may still be taken.
    pub async fn refuse(&self, command: NewCommand, reason: Undelivered) -> Result<Option<Entry>, DispatchError> {
        let key = command.key.clone();
        let given_up = self.ledger.accept(command, Intent::GiveUp(reason), self.clock.now_ms()).await;
        match given_up.map_err(not_taken)? {
            Accepted::New(refused) if refused.end.is_some() => Ok(None),
            Accepted::New(known) | Accepted::Known(known) => Ok(Some(known)),
            Accepted::Conflict => self.conflict(&key),
            Accepted::OverQuota => self.over_quota(&key),
        }
    }

    fn over_quota<T>(&self, key: &CommandKey) -> Result<T, DispatchError> {
        self.metrics.tenant_limit_hit(&key.tenant, Limit::TenantStored);
        Err(DispatchError::OverQuota)
    }

    fn conflict<T>(&self, key: &CommandKey) -> Result<T, DispatchError> {
        self.metrics.submitted(&key.tenant, "conflict");
        Err(DispatchError::Conflict)
    }

    async fn repeated(&self, known: Entry, command: &NewCommand, until: Instant) -> Result<Entry, DispatchError> {
        if !known.is_same(command) {
            return self.conflict(&known.key);
        }
        self.metrics.submitted(&known.key.tenant, "known");
        let soon = until.min(Instant::now() + OVERDUE);
        let entry = self.end_of(&known.key, soon).await?.unwrap_or(known);
        if entry.end.is_some() {
            return Ok(entry);
        }
        if entry.delivering_ms.is_none() {
            self.remind(&entry).await?;
        }
        Ok(self.end_of(&entry.key, until).await?.unwrap_or(entry))
    }

    /// Whoever submits again may have got no answer, because this node got none from its store: then nobody has told the
    /// session.
    async fn remind(&self, entry: &Entry) -> Result<(), StoreError> {
        let places = self.bus.places(&entry.key.tenant, entry.agent).await?;
        match places.into_iter().find(|place| Some(place.session) == entry.owner) {
            Some(place) => self.bus.tell(Notice::Overdue(place)).await,
            None => Ok(()),
        }
    }

    /// Resolves when every command that was submitted here has an end, or its time is over.
    pub async fn idle(&self) {
        // It fails only if there is no sender, and this is one.
        let _ = self.in_flight.subscribe().wait_for(|n| *n == 0).await;
    }

    /// How many have none.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        *self.in_flight.borrow()
    }
}
