//! One agent's socket, owned by one task. It sees a stream and a sink of frames and knows no WebSocket.

mod ended;
mod leaving;
mod open;
mod outcome;
mod pace;
mod rotation;
mod taking_over;
mod term;
mod trust;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Sink, Stream, StreamExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

use self::pace::Pace;
use self::rotation::ACKNOWLEDGEMENTS;
use self::taking_over::Walk;
use self::term::Term;
use self::trust::ANNOUNCEMENTS;
use self::wire::{Moved, Wire};

pub use self::ended::{Ended, Fault};
pub use self::pace::Rate;

use super::bus::{Bus, Departure, Presence};
use super::continuity::Continuity;
use super::ids::SessionId;
use super::ledger::{CommandKey, Entry, Ledger, Milestone, Undelivered, Whose};
use super::mailbox::{Mailbox, Order};
use super::registry::Registry;
use super::sessions::{Registered, Sessions};
use crate::clock::{Clock, Random, UnixTime};
use crate::protocol::api::{PreflightReport, PreflightState};
use crate::protocol::frame::{CloseReason, FrameError, FromAgent, FromRelay, v1};
use crate::protocol::ids::{AgentId, CommandId, JournalId, TenantId};
use crate::protocol::limits::MAX_FRAME_BYTES;
use crate::telemetry::limit::Limit;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::{Kind, Span};

/// Outcomes of one agent that may be on their way to the ledger; more are left in the socket.
const MAX_STORING: usize = 64;
/// The same in bytes: as many of the usual length.
const MAX_STORING_BYTES: usize = 4 * MAX_FRAME_BYTES;

/// When more commands than this were written and not answered, those whose time is over are no longer remembered.
const REMEMBERED: usize = 256;

/// Preflights that come quicker than this are not noted: each is written to disk.
const PREFLIGHT_PAUSE: Duration = Duration::from_secs(10);

/// What goes wrong on a socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// A text message.
    #[error("a text message; frames are binary")]
    Text,
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    Utf8,
    /// Not what a WebSocket has.
    #[error("{0}")]
    WebSocket(String),
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The connection is gone.
    #[error("the connection is lost: {0}")]
    Lost(String),
}

/// A socket, as the session sees it. What comes and is no frame, a ping, is nothing: it only costs the time to read it.
pub trait Socket:
    Stream<Item = Result<Option<FromAgent>, SocketError>> + Sink<FromRelay, Error = SocketError> + Send + Unpin
{
}
impl<T> Socket for T where
    T: Stream<Item = Result<Option<FromAgent>, SocketError>> + Sink<FromRelay, Error = SocketError> + Send + Unpin
{
}

/// What every session of a node shares.
pub struct Services {
    /// Who may do what.
    pub registry: Arc<dyn Registry>,
    /// Whether that is still the one that this node had.
    pub continuity: Arc<Continuity>,
    /// What became of each command.
    pub ledger: Arc<dyn Ledger>,
    /// Who is where.
    pub bus: Arc<dyn Bus>,
    /// This node's sessions.
    pub sessions: Arc<Sessions>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The node's name, for people.
    pub node_name: String,
    /// How often each side says that it is alive.
    pub heartbeat: Duration,
    /// How long an agent may take for its `Hello`.
    pub hello_timeout: Duration,
    /// How long it may take from there to `Welcome`, a place among those that are opened included.
    pub opening_timeout: Duration,
    /// How old a session becomes, at most, before it is asked to move.
    pub max_age: Duration,
    /// How often an agent is read on one session; what it sends beyond that waits in the socket.
    pub frames: Rate,
    /// As many as may be opened at the same time. Nobody keeps a place while he waits for an agent.
    pub openings: Semaphore,
}

type Storing = Pin<Box<dyn Future<Output = Settled> + Send>>;

/// What became of an outcome.
struct Settled {
    command: CommandId,
    bytes: usize,
    /// On disk; or the limit for which it is not.
    taken: Result<Result<(), Limit>, Ended>,
}

/// A command that was written to the socket.
struct Delivered {
    key: CommandKey,
    exp: UnixTime,
    /// Its outcome has come, and is on its way to the ledger.
    answered: bool,
    /// It is in the agent's journal.
    received: bool,
    /// From the frame that takes it to the agent to the one that brings the outcome.
    span: Span,
}

/// An open session.
struct Session<'a, S> {
    services: &'a Arc<Services>,
    presence: Presence,
    wire: Wire<S>,
    _registered: Registered,
    mailbox: Mailbox,
    /// Nothing is delivered here any more.
    left: bool,
    /// Whether the agent is approved, as far as this session has looked.
    approved: bool,
    /// What is still to be taken over.
    walks: Vec<Walk>,
    /// Commands that the agent has in its journal, until its first walk ends.
    unfinished: Vec<CommandId>,
    /// Commands that were taken over, to be delivered beside everything else.
    backlog: VecDeque<Entry>,
    /// What was written to this socket and has no stored outcome yet: an agent names commands by their id alone.
    delivered: HashMap<CommandId, Delivered>,
    /// Outcomes on their way to the ledger.
    storing: FuturesUnordered<Storing>,
    storing_bytes: usize,
    /// It was logged that an outcome was not taken.
    complained: bool,
    /// What the agent has sent so far.
    frames: Pace,
    acknowledgements: Pace,
    term: Term,
    /// When it looks again what it may have missed, because it could not.
    reconcile_at: Option<Instant>,
    /// Whether the agent says when it takes the commands of other portals than before.
    announces: bool,
    /// How often it has said so.
    announcements: Pace,
    /// Whether the agent knows of portals' rotations.
    follows: bool,
    /// When the agent's last preflight was noted.
    preflight_at: Option<Instant>,
    /// How that was.
    preflight: Option<PreflightState>,
}

/// Runs the session of an agent that has proved who it is, until it ends.
pub async fn run<S: Socket>(
    services: &Arc<Services>,
    tenant: TenantId,
    (agent, journal): (AgentId, JournalId),
    mut socket: S,
) -> Ended {
    // What opens a session is boxed, and gone when it is open: an idle session keeps only what it needs.
    let hello = match Box::pin(open::hello(services, agent, journal, &mut socket)).await {
        Ok(hello) => hello,
        Err(ended) => return ended,
    };
    let session = SessionId::new(&*services.clock, &*services.random);
    let trusts = trust::named(hello.announces, &hello.portals);
    let presence = Presence { tenant, agent, session, instance: hello.instance, trusts };
    let Some((registered, mailbox)) = services.sessions.register(session, &presence.tenant, presence.agent) else {
        return Ended::Closed(CloseReason::Drain);
    };
    let now = Instant::now();
    let mut open = Session {
        services,
        presence,
        wire: Wire::new(socket),
        _registered: registered,
        mailbox,
        left: false,
        approved: false,
        walks: Vec::new(),
        unfinished: Vec::new(),
        backlog: VecDeque::new(),
        delivered: HashMap::new(),
        storing: FuturesUnordered::new(),
        storing_bytes: 0,
        complained: false,
        frames: Pace::starting(services.frames, now),
        acknowledgements: Pace::starting(ACKNOWLEDGEMENTS, now),
        term: Term::starting(now, services.max_age, &*services.random),
        reconcile_at: None,
        announces: hello.announces,
        announcements: Pace::starting(ANNOUNCEMENTS, now),
        follows: hello.announces || !hello.portals.is_empty(),
        preflight_at: None,
        preflight: None,
    };
    let lived = AssertUnwindSafe(async {
        let opening = Box::pin(async {
            // It is never closed.
            let _place = services.openings.acquire().await;
            open.begin(hello).await
        });
        match timeout(services.opening_timeout, opening).await {
            Ok(Ok(())) => open.serve().await,
            Ok(Err(ended)) => ended,
            Err(_) => {
                // Too many are opened for what the store can do now.
                services.metrics.limit_hit(Limit::SessionOpenings);
                Ended::Closed(CloseReason::Overload)
            }
        }
    });
    // Whatever happens, nobody may believe for longer that the agent is here.
    let ended = lived.catch_unwind().await.unwrap_or(Ended::Closed(CloseReason::Internal));
    let ended = match ended {
        Ended::Lost if open.left => Ended::Left,
        Ended::Lost if open.wire.was_closed() && open.term.was_told_to_go() => Ended::Moved,
        Ended::Lost if open.wire.was_closed() => Ended::Dropped,
        ended => ended,
    };
    open.release(Departure::Lost).await;
    if let Some(state) = open.preflight.take() {
        services.metrics.preflight(&open.presence.tenant, state.as_str(), -1);
    }
    if ended == Ended::Closed(CloseReason::Drain) {
        // An agent that is told that its outcome is stored need not send it again.
        Box::pin(open.wire.finish()).await;
    }
    Box::pin(open.give_back(&ended)).await;
    ended
}

impl<S: Socket> Session<'_, S> {
    async fn serve(&mut self) -> Ended {
        let heartbeat = self.services.heartbeat;
        let mut beats_at = Instant::now() + heartbeat;
        let mut silent_at = Instant::now() + heartbeat * 5 / 2;
        let mut listened = true;
        loop {
            if std::mem::replace(&mut listened, self.wire.listens()) && !listened {
                self.services.metrics.tenant_limit_hit(&self.presence.tenant, Limit::SessionUnread);
            }
            // One timer for all that comes by itself.
            let due = self.reconcile_at.unwrap_or(silent_at).min(self.term.at()).min(silent_at).min(beats_at);
            let lingers_until = self.wire.lingers_until();
            let paused_until = self.frames.wait(Instant::now());
            let due = [lingers_until, paused_until].into_iter().flatten().fold(due, Instant::min);
            let storing = self.storing.len() < MAX_STORING && self.storing_bytes < MAX_STORING_BYTES;
            let (reading, room) = (storing && paused_until.is_none(), self.wire.has_room());
            let step = tokio::select! {
                biased;
                order = self.mailbox.orders.next(room) => Box::pin(self.obey(order)).await,
                Some(stored) = self.storing.next(), if !self.storing.is_empty() => self.stored(stored),
                entry = self.mailbox.deliveries.next(), if room => Box::pin(self.deliver(*entry)).await,
                () = std::future::ready(()), if room && !self.backlog.is_empty() => self.deliver_backlog().await,
                () = std::future::ready(()), if room && self.may_take_over() => Box::pin(self.take_over()).await,
                moved = self.wire.next(reading) => match moved {
                    Ok(Moved::Frame(frame)) => {
                        silent_at = self.has_come() + heartbeat * 5 / 2;
                        Box::pin(self.take(frame)).await
                    }
                    Ok(Moved::Noise) => {
                        self.has_come();
                        Ok(())
                    }
                    Ok(Moved::Room) => Ok(()),
                    Err(ended) => Err(ended),
                },
                () = sleep_until(due) => if lingers_until == Some(due) {
                    self.wire.hurry();
                    Ok(())
                } else if paused_until == Some(due) {
                    Ok(())
                } else if due == beats_at {
                    beats_at = Instant::now() + heartbeat;
                    self.forget_expired();
                    Box::pin(self.beat()).await;
                    if self.wire.is_stuck() { Err(Ended::Lost) } else { Ok(()) }
                } else if self.reconcile_at == Some(due) {
                    Box::pin(self.reconcile(Whose::Own)).await
                } else if self.term.at() == due {
                    self.term_has_come()
                } else {
                    Err(Ended::Closed(CloseReason::Silent))
                },
            };
            if let Err(ended) = step {
                return ended;
            }
        }
    }

    /// Something has come, now.
    fn has_come(&mut self) -> Instant {
        let now = Instant::now();
        self.frames.take(now);
        if self.frames.wait(now).is_some() {
            self.services.metrics.tenant_limit_hit(&self.presence.tenant, Limit::SessionFrames);
        }
        now
    }

    async fn obey(&mut self, order: Order) -> Result<(), Ended> {
        match order {
            Order::Reconcile(whose) => self.reconcile(whose).await,
            Order::Carry(jws) => {
                self.carry(&jws);
                Ok(())
            }
            Order::Close(reason) => {
                if reason == CloseReason::Overload {
                    self.services.metrics.limit_hit(Limit::AgentSessions);
                }
                Err(Ended::Closed(reason))
            }
            Order::Check => {
                // What comes now was asked for.
                self.preflight_at = None;
                self.wire.send(FromRelay::Check(v1::Check {}));
                Ok(())
            }
            Order::GoAway { reconnect_after_ms, close_after_ms } => {
                self.go_away(CloseReason::Drain, reconnect_after_ms, close_after_ms);
                Ok(())
            }
        }
    }

    async fn deliver_backlog(&mut self) -> Result<(), Ended> {
        match self.backlog.pop_front() {
            Some(entry) => Box::pin(self.deliver(entry)).await,
            None => Ok(()),
        }
    }

    fn written(&self, entry: &Entry) -> Option<&Delivered> {
        self.delivered.get(&entry.key.command).filter(|delivered| delivered.key == entry.key)
    }

    /// Writes a command to the socket. It is in the ledger, with this session as its owner.
    async fn deliver(&mut self, entry: Entry) -> Result<(), Ended> {
        // Word of it may come late, when the session has found it in the ledger by itself. At a later attempt the agent is
        // asked once more: its answer may have gone another way, and been lost with the ledger.
        if self.written(&entry).is_some_and(|delivered| delivered.answered || entry.attempt == 1) {
            return Ok(());
        }
        if entry.attempt == 1 && self.services.clock.now() >= entry.exp {
            self.take_back(&entry, Undelivered::Expired).await;
            return Ok(());
        }
        let Some(command_jws) = entry.jws.clone() else { return Ok(()) };
        let (ledger, now_ms) = (&self.services.ledger, self.services.clock.now_ms());
        if let Err(error) = ledger.note(&entry.key, Milestone::Delivering, now_ms).await {
            tracing::warn!(%error, "a milestone was not noted");
        }
        let mut span = Span::start("send session", Kind::Producer, &*entry.traceparent);
        span.set("messaging.system", "websocket");
        span.set("messaging.operation.type", "send");
        span.set("messaging.operation.name", "Deliver");
        span.set("messaging.destination.name", self.presence.session);
        span.set("writeback.agent.id", self.presence.agent);
        span.number("writeback.attempt", entry.attempt);
        let (traceparent, attempt) = (span.traceparent(entry.traceparent), entry.attempt);
        self.remember(entry.key, entry.exp, span);
        self.wire.send(FromRelay::Deliver(v1::Deliver { command_jws, traceparent, attempt }));
        Ok(())
    }

    async fn take(&mut self, frame: FromAgent) -> Result<(), Ended> {
        match frame {
            FromAgent::Hello(_) => Err(Fault::protocol("Hello comes once, as the first frame").into()),
            FromAgent::Heartbeat(_) => Ok(()),
            FromAgent::Received(received) => self.received(&received).await,
            FromAgent::Outcome(outcome) => self.outcome(outcome),
            FromAgent::Acknowledgement(said) => self.acknowledged(said).await,
            FromAgent::Portals(announced) => self.announced(announced).await,
            FromAgent::Preflight(preflight) => self.preflight(preflight).await,
            FromAgent::Leaving(_) => {
                // Its outcomes are still taken, until it closes the socket; it waits to hear that they are stored.
                self.wire.hurry();
                self.release(Departure::Left).await;
                self.give_back_queue(Undelivered::NoAgent).await;
                Ok(())
            }
        }
    }

    async fn preflight(&mut self, preflight: v1::Preflight) -> Result<(), Ended> {
        if self.preflight_at.is_some_and(|at| at.elapsed() < PREFLIGHT_PAUSE) {
            return Ok(());
        }
        self.preflight_at = Some(Instant::now());
        let (registry, Presence { tenant, agent, .. }) = (&self.services.registry, &self.presence);
        let report = PreflightReport::from(preflight);
        let before = self.preflight.replace(report.worst());
        if before != self.preflight {
            for (state, change) in [(before, -1), (self.preflight, 1)] {
                state.inspect(|state| self.services.metrics.preflight(tenant, state.as_str(), change));
            }
        }
        match registry.note_preflight(tenant, *agent, report).await {
            Ok(true) => {}
            Ok(false) => self.services.metrics.tenant_limit_hit(tenant, Limit::PreflightSize),
            Err(error) => tracing::warn!(%error, "a preflight was not noted"),
        }
        Ok(())
    }

    /// Keeps the keys of what was written here, as long as an answer may come by the command's id alone.
    fn remember(&mut self, key: CommandKey, exp: UnixTime, span: Span) {
        self.forget_expired();
        self.delivered.insert(key.command, Delivered { key, exp, answered: false, received: false, span });
        self.mailbox.deliveries.set_unanswered(self.delivered.len());
    }

    /// An agent that answers none is busy until their time is over, and no longer.
    fn forget_expired(&mut self) {
        if self.delivered.len() >= REMEMBERED {
            let now = self.services.clock.now();
            self.delivered.retain(|_, delivered| delivered.exp > now);
            self.mailbox.deliveries.set_unanswered(self.delivered.len());
        }
    }
}

#[cfg(test)]
mod tests;
