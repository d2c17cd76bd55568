//! Keeps a session open: dials, serves, and comes back after a while when a session ends.

mod connection;
mod outbox;
mod session;

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::connection::DialError;
pub(in crate::agent) use self::connection::Dialer;
use self::session::{End, Session, SessionError};
use crate::agent::backoff::{Backoff, jitter};
use crate::agent::error::AgentError;
use crate::agent::events::{About, EventLog};
use crate::agent::execution::Executor;
use crate::agent::options::Options;
use crate::agent::preflight::Preflight;
use crate::clock::Random;
use crate::protocol::event::Event;
use crate::protocol::ids::InstanceId;
use crate::protocol::problem::ProblemCode;

/// What sessions are made of.
pub(in crate::agent) struct Link {
    pub(in crate::agent) dialer: Dialer,
    pub(in crate::agent) executor: Executor,
    pub(in crate::agent) preflight: Preflight,
    pub(in crate::agent) events: EventLog,
    pub(in crate::agent) options: Options,
    pub(in crate::agent) instance: InstanceId,
    pub(in crate::agent) random: std::sync::Arc<dyn Random>,
}

/// Why there is no session.
enum NoSession {
    Dial(DialError),
    Session(SessionError),
}

/// How long to wait, and what the event log already knows.
struct Patience {
    backoff: Backoff,
    pause: Duration,
    reported: Option<String>,
}

/// A session that the relay wants to end, served until another is open.
struct Retiring {
    replaced: CancellationToken,
    serving: JoinHandle<()>,
}

impl Link {
    /// Until `stop`; then leaves in good order.
    ///
    /// # Errors
    /// If the relay says that this agent must not come back, or the agent itself can't go on.
    pub(in crate::agent) async fn keep(&self, stop: &CancellationToken) -> Result<(), AgentError> {
        let backoff = Backoff::new(self.options.backoff_base, self.options.backoff_max, self.random.clone());
        let mut patience = Patience { backoff, pause: Duration::ZERO, reported: None };
        let mut old: Option<Retiring> = None;
        loop {
            let opening = async {
                sleep(patience.pause).await;
                self.open().await
            };
            let opened = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                opened = opening => opened,
            };
            let mut session = match opened {
                Ok(session) => session,
                Err(error) => {
                    self.judge(error, &mut patience)?;
                    continue;
                }
            };
            if let Some(old) = old.take() {
                old.replaced.cancel();
            }
            patience.reported = None;
            let approved = if session.approved { "" } else { "; no portal has approved this agent yet" };
            let message = format!("a session is open at {}{approved}", session.node);
            self.events.record(Event::AuthTokenSuccess, &message, &About::default());
            let since = Instant::now();
            let end = session.serve(stop.cancelled()).await;
            if since.elapsed() >= self.options.healthy_after {
                patience.backoff.reset();
            }
            match end {
                Ok(End::Until) => {
                    session.leave(self.options.stop_deadline).await;
                    return Ok(());
                }
                Ok(End::GoAway { reason, reconnect_after }) => {
                    tracing::info!(reason, ?reconnect_after, "the relay asks for another session");
                    let hasty = since.elapsed() < self.options.healthy_after;
                    patience.pause =
                        if hasty { reconnect_after.max(patience.backoff.pause()) } else { reconnect_after };
                    old = Some(self.retire(session, stop.clone()));
                }
                Err(error) => self.judge(NoSession::Session(error), &mut patience)?,
            }
        }
        match old {
            // It leaves by itself, within the same deadline; it fails only if it panicked.
            Some(old) => drop(old.serving.await),
            None => self.finish().await,
        }
        Ok(())
    }

    /// Lets what runs finish, without a session to tell.
    pub(in crate::agent) async fn finish(&self) {
        self.executor.stop();
        if timeout(self.options.stop_deadline, self.executor.idle()).await.is_err() {
            tracing::warn!("stopping before everything has ended; the journal knows where to go on");
        }
    }

    async fn open(&self) -> Result<Session, NoSession> {
        let frames = self.dialer.dial().await.map_err(NoSession::Dial)?;
        let capacity = u32::try_from(self.options.parallel).unwrap_or(u32::MAX);
        let (executor, preflight) = (self.executor.clone(), self.preflight.clone());
        let interval = self.options.preflight_interval;
        Session::open(frames, self.instance, capacity, executor, preflight, interval).await.map_err(NoSession::Session)
    }

    fn retire(&self, mut session: Session, stop: CancellationToken) -> Retiring {
        let replaced = CancellationToken::new();
        let (told, deadline) = (replaced.clone(), self.options.stop_deadline);
        let serving = tokio::spawn(async move {
            loop {
                let until = async {
                    tokio::select! { () = told.cancelled() => {}, () = stop.cancelled() => {} }
                };
                match session.serve(until).await {
                    Ok(End::GoAway { .. }) => {}
                    Ok(End::Until) if stop.is_cancelled() => return session.leave(deadline).await,
                    Ok(End::Until) => return session.close().await,
                    // Its end was announced.
                    Err(error) => return tracing::info!(%error, "the old session has ended"),
                }
            }
        });
        Retiring { replaced, serving }
    }

    /// Records why there is no session, once for each reason, and sets the pause before the next attempt.
    fn judge(&self, error: NoSession, patience: &mut Patience) -> Result<(), AgentError> {
        patience.pause = patience.backoff.pause();
        match error {
            NoSession::Session(SessionError::Agent(error)) => Err(error),
            NoSession::Dial(DialError::Signing(error)) => Err(error.into()),
            NoSession::Session(SessionError::Lost(lost)) => match lost.for_good() {
                Some(error) => Err(self.stop_for_good(error)),
                None => {
                    self.report(Event::ServiceBusError, lost.to_string(), patience);
                    Ok(())
                }
            },
            NoSession::Dial(DialError::Unreachable(why)) => {
                self.report(Event::ServiceBusListenerError, why, patience);
                Ok(())
            }
            NoSession::Dial(DialError::Refused { status, code, message, retry_after }) => {
                patience.pause = patience.pause.max(retry_after.unwrap_or_default());
                if code == ProblemCode::AgentRevoked.as_str() {
                    return Err(self.stop_for_good(AgentError::Revoked));
                }
                let message = format!("the relay answered {status}: {message}");
                if code == ProblemCode::UnknownAgent.as_str() {
                    // Its registry may be an older copy. Only people can mend that, so it is said every time.
                    let pause = self.options.unknown_agent_pause;
                    patience.pause = patience.pause.max(pause + jitter(pause, &*self.random));
                    patience.reported = None;
                    let message = format!("{message}; trying again, slowly");
                    self.report(Event::AuthTokenError, message, patience);
                } else if status == 401 || status == 403 {
                    self.report(Event::AuthTokenError, message, patience);
                } else {
                    self.report(Event::ServiceBusListenerError, message, patience);
                }
                Ok(())
            }
        }
    }

    fn stop_for_good(&self, error: AgentError) -> AgentError {
        let revoked = matches!(error, AgentError::Revoked);
        let event = if revoked { Event::OffboardingEventSuccess } else { Event::ServiceBusError };
        self.events.record(event, &error.to_string(), &About::default());
        error
    }

    fn report(&self, event: Event, why: String, patience: &mut Patience) {
        if patience.reported.as_ref() != Some(&why) {
            self.events.record(event, &why, &About::default());
            patience.reported = Some(why);
        }
    }
}
