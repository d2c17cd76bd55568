//! Keeps sessions open: serves each in a task of its own, and opens another one in place of any that ends. There are two
//! if the relay has two nodes, each on another node, so that either may go without a command noticing.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Link;
use super::lost::Lost;
use super::patience::{NoSession, Patience};
use super::session::{End, Session, SessionError};
use super::wake::Wake;
use crate::agent::control::OpenSession;
use crate::agent::error::AgentError;
use crate::agent::events::About;
use crate::host::service_manager;
use crate::protocol::event::Event;

/// An open session, served by a task.
struct Held {
    task: Id,
    /// The node's id.
    node: String,
    /// Where it was opened.
    address: SocketAddr,
    /// As others on this host are told of it.
    told: OpenSession,
    since: Instant,
    /// The relay wants it to end: it is served until another one is open, if none is.
    going: bool,
    replaced: CancellationToken,
}

/// The relay has asked this task's session to go, and says when to come back.
type Advice = (Id, Duration);

type Served = Result<(), SessionError>;

type Opened = Result<(Session, SocketAddr), NoSession>;

type Opening<'a> = Pin<Box<dyn Future<Output = Opened> + Send + 'a>>;

pub(super) struct Keeper<'a> {
    link: &'a Link,
    stop: &'a CancellationToken,
    patience: Patience,
    held: Vec<Held>,
    serving: JoinSet<Served>,
    /// At most one at a time.
    opening: Option<Opening<'a>>,
    advise: mpsc::Sender<Advice>,
    advice: mpsc::Receiver<Advice>,
    /// What the service manager knows.
    told: String,
    wake: Wake,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(link: &'a Link, stop: &'a CancellationToken) -> Self {
        let patience =
            Patience::new(&link.options, link.events.clone(), link.shared.noted.clone(), link.random.clone());
        let (advise, advice) = mpsc::channel(8);
        let wake = Wake::new(link.clock.clone(), link.options.wake_check);
        let (held, serving) = (Vec::new(), JoinSet::new());
        Self { link, stop, patience, held, serving, opening: None, advise, advice, told: String::new(), wake }
    }

    /// Until the agent stops; then all sessions leave.
    pub(super) async fn keep(mut self) -> Result<(), AgentError> {
        let mut nodes = self.link.shared.nodes.subscribe();
        loop {
            let nodes_now = *nodes.borrow_and_update();
            self.open_another(nodes_now);
            self.tell_state();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some((task, reconnect_after)) = self.advice.recv() => self.told_to_go(task, reconnect_after),
                Some(ended) = self.serving.join_next_with_id() => self.ended(ended)?,
                opened = opened(&mut self.opening) => self.opened(opened)?,
                jump = self.wake.jumped() => self.awake(jump),
                // Another number of sessions may be right now.
                _ = nodes.changed() => {}
            }
        }
        self.opening = None;
        if self.held.is_empty() {
            self.link.finish().await;
        }
        // They leave by themselves, within the same deadline.
        while self.serving.join_next().await.is_some() {}
        Ok(())
    }

    /// Begins to open a session, if there should be one more.
    fn open_another(&mut self, nodes: u32) {
        let staying = self.held.iter().filter(|session| !session.going).count();
        let wanted = self.link.options.sessions.min(usize::try_from(nodes).unwrap_or(usize::MAX)).max(1);
        if staying >= wanted {
            self.opening = None;
        } else if self.opening.is_none() {
            // Another address may lead to another node.
            let taken = self.held.iter().map(|session| session.address).collect();
            self.opening = Some(Box::pin(self.link.open_at(self.patience.next(), taken)));
        }
    }

    /// As `systemctl status` shows it.
    fn tell_state(&mut self) {
        self.link.events.metrics().sessions(self.held.len());
        self.link.shared.noted.sessions(self.held.iter().map(|session| session.told.clone()).collect());
        let state = match self.held.len() {
            0 => "no session; trying to open one".to_owned(),
            n => format!("{n} of {} sessions", self.link.options.sessions),
        };
        if state != self.told {
            service_manager::status(&state);
            self.told = state;
        }
    }

    fn opened(&mut self, opened: Opened) -> Result<(), AgentError> {
        self.opening = None;
        let (session, address) = match opened {
            Ok(opened) => opened,
            Err(why) => return self.patience.failed(why),
        };
        if self.held.iter().any(|other| !other.going && other.node == session.node_id) {
            tracing::debug!(node = ?session.node, "the way has led to a node where there is a session already");
            self.patience.same_node();
            self.serving.spawn(async {
                session.close().await;
                Ok(())
            });
            return Ok(());
        }
        self.patience.opened();
        self.link.shared.noted.opened();
        let approved = if session.approved { "a portal has" } else { "no portal has" };
        let message = format!("a session is open at {}; {approved} approved this agent", session.node.cell());
        self.link.events.record(Event::AuthTokenSuccess, &message, &About::default());
        self.held.iter().filter(|old| old.going).for_each(|old| old.replaced.cancel());
        let (node, replaced) = (session.node_id.clone(), CancellationToken::new());
        let told = OpenSession { node: session.node.clone(), since: self.link.clock.now() };
        let (stop, advise, deadline) = (self.stop.clone(), self.advise.clone(), self.link.options.stop_deadline);
        let task = self.serving.spawn(serve(session, replaced.clone(), stop, deadline, advise)).id();
        self.held.push(Held { task, node, address, told, since: Instant::now(), going: false, replaced });
        Ok(())
    }

    fn told_to_go(&mut self, task: Id, reconnect_after: Duration) {
        let another = self.held.iter().any(|session| session.task != task && !session.going);
        if let Some(session) = self.held.iter_mut().find(|session| session.task == task) {
            session.going = true;
            // The agent is reached over the other one: a node that stops need not wait until there are two again.
            if another {
                session.replaced.cancel();
            }
            self.patience.told_to_go(session.since.elapsed(), reconnect_after);
            self.opening = None;
        }
    }

    /// Sockets may be dead without a word, so each session gives way to a new one; one that lives serves until then.
    fn awake(&mut self, jump: Duration) {
        tracing::info!(?jump, "the host has slept, or its clock was set; opening new sessions");
        self.held.iter_mut().for_each(|session| session.going = true);
        self.patience.awake();
        self.opening = None;
    }

    fn ended(&mut self, ended: Result<(Id, Served), JoinError>) -> Result<(), AgentError> {
        let fault = |error: JoinError| (error.id(), Err(Lost::Broken(error.to_string()).into()));
        let (task, result) = ended.unwrap_or_else(fault);
        let Some(at) = self.held.iter().position(|session| session.task == task) else { return Ok(()) };
        let session = self.held.swap_remove(at);
        match result {
            Ok(()) => Ok(()),
            // It was announced, unless the whole agent can't go on.
            Err(SessionError::Lost(lost)) if session.going => {
                tracing::info!(%lost, "the old session has ended");
                Ok(())
            }
            Err(error) => {
                self.opening = None;
                self.link.dialer.doubt(session.address);
                self.patience.ended(session.since.elapsed(), error)
            }
        }
    }
}

/// The session that is being opened; never, if none is.
async fn opened(opening: &mut Option<Opening<'_>>) -> Opened {
    match opening {
        Some(opening) => opening.await,
        None => pending().await,
    }
}

/// Serves a session until it is lost, replaced by another one, or the agent stops.
async fn serve(
    mut session: Session,
    replaced: CancellationToken,
    stop: CancellationToken,
    deadline: Duration,
    advise: mpsc::Sender<Advice>,
) -> Served {
    let mut told = false;
    loop {
        let until = async {
            tokio::select! { () = replaced.cancelled() => {}, () = stop.cancelled() => {} }
        };
        match session.serve(until).await? {
            End::GoAway { reason, reconnect_after } => {
                // A relay may say it in every frame.
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(?reason, ?reconnect_after, "the relay asks for another session");
                }
                // Who keeps the sessions is gone only if the agent stops.
                let _ = advise.send((tokio::task::id(), reconnect_after)).await;
            }
            End::Until if stop.is_cancelled() => {
                session.leave(deadline).await;
                return Ok(());
            }
            End::Until => {
                session.close().await;
                return Ok(());
            }
        }
    }
}
