//! One session: from `Hello` to its end. It sees a stream and a sink of frames, never a socket.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, Stream, StreamExt};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use crate::agent::control::Noted;
use crate::agent::error::AgentError;
use crate::agent::execution::{Asker, Concluded, Executor, outcome_frame};
use crate::agent::link::approval::Approval;
use crate::agent::link::lost::Lost;
use crate::agent::link::outbox::{Outbox, Outgoing};
use crate::agent::preflight::Preflight;
use crate::protocol::frame::{FrameError, FromAgent, FromRelay, v1};
use crate::protocol::ids::{CommandId, InstanceId, PortalId};
use crate::protocol::untrusted::Untrusted;

/// For each step that opens a session, and for each frame to be written.
pub(super) const STEP: Duration = Duration::from_secs(10);
/// How long the relay may take to answer a close.
const FAREWELL: Duration = Duration::from_secs(1);
/// As many ids as fit into a frame with the rest of `Hello`. The relay asks about the others by delivering them.
const MAX_UNFINISHED: usize = 400;
/// How many outcomes may wait for a slow session; it finds more of them in the journal.
const OUTCOMES: usize = 64;
/// An outcome that comes within this time says that the command was received, too.
const RECEIVED_AFTER: Duration = Duration::from_millis(50);
/// A relay does not note a report that comes sooner after another one, unless it has asked for it: 10 s, and the way.
const REPORTS_INTERVAL: Duration = Duration::from_secs(11);
/// A heartbeat interval below this is a mistake.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(20);

/// Where frames come from.
type Incoming = Pin<Box<dyn Stream<Item = Result<FromRelay, Lost>> + Send>>;

/// Frames, both ways.
pub(super) struct Frames {
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
}

/// Why a session stopped working.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// The session alone.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The whole agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// How [`Session::serve`] ended, with the session still open.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// What it was to serve until has happened.
    Until,
    /// The relay asks for another session in place of this one, after a pause.
    GoAway { reason: Untrusted, reconnect_after: Duration },
}

/// What an agent's sessions share.
#[derive(Clone)]
pub(in crate::agent) struct Shared {
    pub(in crate::agent) executor: Executor,
    pub(in crate::agent) preflight: Preflight,
    pub(in crate::agent) instance: InstanceId,
    /// How many commands are executed at the same time.
    pub(in crate::agent) capacity: u32,
    /// Held by the session that speaks for the agent as a whole: of its directory, and of outcomes that no other session
    /// has asked for.
    pub(in crate::agent) lead: Arc<Mutex<()>>,
    /// How many nodes the relay has, as far as it has said.
    pub(in crate::agent) nodes: watch::Sender<u32>,
    /// What others on this host are told.
    pub(in crate::agent) noted: Arc<Noted>,
    /// Whether a portal has approved the agent, as far as the relay has said.
    pub(in crate::agent) approval: Approval,
}

/// An open session.
pub(super) struct Session {
    incoming: Incoming,
    outbox: Outbox,
    shared: Shared,
    /// If it leads.
    lead: Option<OwnedMutexGuard<()>>,
    /// The portals whose commands are taken, if the relay wants to know when that changes.
    trusted: Option<watch::Receiver<BTreeSet<PortalId>>>,
    /// What is found when it is checked whether resets can work.
    reports: watch::Receiver<Option<v1::Preflight>>,
    /// When the relay notes another report that it has not asked for.
    report_at: Instant,
    /// It has asked for one, and none has been looked at since.
    asked: bool,
    /// The last one was not sent: it was older than the question.
    left_out: bool,
    asker: Asker,
    /// Commands whose receipt is not confirmed yet, and when it will be.
    received: VecDeque<(Instant, v1::Received)>,
    concluded: mpsc::Receiver<Concluded>,
    heartbeat: Duration,
    /// The relay node's name.
    pub(super) node: Untrusted,
    /// Its id.
    pub(super) node_id: String,
    /// Whether a portal has approved the agent.
    pub(super) approved: bool,
}

impl Session {
    /// Says `Hello` and waits for `Welcome`.
    pub(super) async fn open(mut frames: Frames, shared: Shared) -> Result<Self, SessionError> {
        let core = &shared.executor.core;
        let mut trusted = core.portals.changes();
        trusted.mark_unchanged();
        let unfinished = core.journal.unfinished().map_err(AgentError::from)?;
        let hello = v1::Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: shared.instance.to_string(),
            journal: core.identity.journal.to_string(),
            unfinished: unfinished.iter().take(MAX_UNFINISHED).map(|entry| entry.command.to_string()).collect(),
            capacity: shared.capacity,
            portals: shared.executor.pinned(),
            announces_portals: true,
        };
        timeout(STEP, frames.outgoing.send(FromAgent::Hello(hello))).await.map_err(|_| Lost::Stuck)??;
        let first = timeout(STEP, frames.incoming.next()).await.map_err(|_| Lost::NoWelcome)?;
        let FromRelay::Welcome(welcome) = first.ok_or_else(ended)?? else {
            return Err(Lost::Frame(FrameError::UnknownKind).into());
        };
        shared.note_nodes(welcome.nodes);
        shared.approval.note(welcome.approved);
        let (asker, concluded) = mpsc::channel(OUTCOMES);
        let heartbeat = Duration::from_millis(welcome.heartbeat_interval_ms.into()).max(SHORTEST_HEARTBEAT);
        Ok(Self {
            incoming: frames.incoming,
            outbox: Outbox::new(frames.outgoing, STEP),
            reports: shared.preflight.reports(),
            report_at: Instant::now(),
            asked: false,
            left_out: false,
            trusted: welcome.takes_portals.then_some(trusted),
            shared,
            lead: None,
            asker,
            received: VecDeque::new(),
            concluded,
            heartbeat,
            node: welcome.node.into(),
            node_id: welcome.node_id,
            approved: welcome.approved,
        })
    }

    /// Serves until something happens. It may be called again on a session that is still open.
    pub(super) async fn serve(&mut self, until: impl Future<Output = ()> + Send) -> Result<End, SessionError> {
        let mut until = pin!(until);
        // Earlier than promised, for the way takes time.
        let often = self.heartbeat.mul_f64(0.75);
        let mut beat = interval_at(Instant::now() + often, often);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let silence = self.heartbeat.mul_f64(2.5);
        let mut silent = pin!(sleep_until(Instant::now() + silence));
        loop {
            tokio::select! {
                biased;
                // First, so that what is to be said is said before the end, as far as the relay takes it.
                written = self.outbox.write(), if !self.outbox.is_empty() => written?,
                () = &mut until => return Ok(End::Until),
                () = &mut silent => return Err(Lost::Silent.into()),
                _ = beat.tick() => self.outbox.push(FromAgent::Heartbeat(v1::Heartbeat::default())),
                lead = Arc::clone(&self.shared.lead).lock_owned(), if self.lead.is_none() => {
                    self.lead = Some(lead);
                    self.queue_unstored()?;
                }
                () = self.shared.executor.unclaimed(), if self.lead.is_some() => self.queue_unstored()?,
                Some((command, jws)) = self.concluded.recv() => {
                    self.received.retain(|(_, received)| received.command != command.to_string());
                    self.outbox.push(outcome_frame((command, jws)));
                }
                () = wait_until(self.received.front().map(|(at, _)| *at)) => {
                    self.outbox.extend(self.received.pop_front().map(|(_, received)| FromAgent::Received(received)));
                }
                frame = self.incoming.next(), if self.outbox.has_room() => {
                    let frame = frame.ok_or_else(ended)??;
                    silent.as_mut().reset(Instant::now() + silence);
                    if let Some(end) = self.take(frame).await? {
                        return Ok(end);
                    }
                }
                Some(found) = next_report(&mut self.reports, self.report_at), if self.lead.is_some() => {
                    // Whoever has asked takes the first report for the answer. No two are left out one after the other.
                    let asked = std::mem::take(&mut self.asked);
                    self.left_out = asked && !self.left_out && self.shared.preflight.is_stale(&found);
                    if !self.left_out {
                        self.outbox.push(FromAgent::Preflight(found));
                        self.report_at = Instant::now() + REPORTS_INTERVAL;
                    }
                }
                () = changed(self.trusted.as_mut()) => {
                    let portals = self.shared.executor.pinned();
                    self.outbox.push(FromAgent::Portals(v1::Portals { portals }));
                }
            }
        }
    }

    async fn take(&mut self, frame: FromRelay) -> Result<Option<End>, SessionError> {
        match frame {
            FromRelay::Deliver(delivery) => match self.shared.executor.deliver(delivery, &self.asker).await? {
                Some(FromAgent::Received(received)) => {
                    self.received.push_back((Instant::now() + RECEIVED_AFTER, received));
                }
                answer => self.outbox.extend(answer),
            },
            FromRelay::OutcomeStored(stored) => {
                let id: CommandId = stored.command.parse().map_err(|_| Lost::Frame(FrameError::Malformed))?;
                self.shared.executor.stored(id).await.map_err(AgentError::from)?;
            }
            FromRelay::PortalRotation(rotation) => {
                self.outbox.extend(self.shared.executor.follow(&rotation)?);
            }
            FromRelay::Heartbeat(heartbeat) => {
                self.shared.note_nodes(heartbeat.nodes);
                // An older relay does not say it here.
                if heartbeat.approved {
                    self.shared.approval.note(true);
                }
            }
            FromRelay::GoAway(advice) => {
                let reconnect_after = Duration::from_millis(advice.reconnect_after_ms.into());
                return Ok(Some(End::GoAway { reason: advice.reason.into(), reconnect_after }));
            }
            FromRelay::Check(_) => {
                (self.asked, self.report_at) = (true, Instant::now());
                self.shared.preflight.want();
            }
            FromRelay::Welcome(_) => return Err(Lost::Frame(FrameError::UnknownKind).into()),
        }
        Ok(None)
    }

    /// Lets what runs finish and the relay store the outcomes, within `deadline`; takes no new command.
    pub(super) async fn leave(mut self, deadline: Duration) {
        self.shared.executor.stop();
        let leaving = v1::Leaving { reason: "the agent stops".to_owned() };
        let executor = self.shared.executor.clone();
        let settled = async {
            self.outbox.push(FromAgent::Leaving(leaving));
            // The relay may say GoAway meanwhile; that changes nothing.
            while self.serve(executor.settled()).await? != End::Until {}
            Ok::<_, SessionError>(())
        };
        let left = async {
            if let Err(error) = settled.await {
                tracing::warn!(%error, "the session ended before the agent could leave it");
                executor.idle().await;
            }
        };
        if timeout(deadline, left).await.is_err() {
            tracing::warn!("stopping before everything is answered; the journal knows where to go on");
        }
        self.close().await;
    }

    /// Closes it, and waits a moment for the relay to see that.
    pub(super) async fn close(mut self) {
        let closed = async {
            self.outbox.close().await?;
            while self.incoming.next().await.transpose()?.is_some() {}
            Ok::<_, Lost>(())
        };
        // It is over, one way or the other.
        let _ = timeout(FAREWELL, closed).await;
    }

    fn queue_unstored(&mut self) -> Result<(), AgentError> {
        self.outbox.set_unstored(self.shared.executor.core.journal.unstored()?);
        Ok(())
    }
}

impl Shared {
    /// A relay that says nothing of its nodes has one.
    fn note_nodes(&self, nodes: u32) {
        let nodes = nodes.max(1);
        self.nodes.send_if_modified(|known| std::mem::replace(known, nodes) != nodes);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closed first: what is concluded from now on finds nobody here.
        self.concluded.close();
        self.shared.executor.disclaim();
    }
}

/// The last report that was not sent, and not before `at`.
async fn next_report(reports: &mut watch::Receiver<Option<v1::Preflight>>, at: Instant) -> Option<v1::Preflight> {
    sleep_until(at).await;
    loop {
        reports.changed().await.ok()?;
        // There is none before the first check has ended.
        if let Some(found) = reports.borrow_and_update().clone() {
            return Some(found);
        }
    }
}

/// Resolves when the portals have changed whose commands are taken, if anybody wants to know.
async fn changed(trusted: Option<&mut watch::Receiver<BTreeSet<PortalId>>>) {
    if let Some(trusted) = trusted
        && trusted.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn ended() -> Lost {
    Lost::Broken("it ended without a word".to_owned())
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
