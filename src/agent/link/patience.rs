//! How long to wait before the next attempt, and what the event log already knows.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::DialError;
use super::session::SessionError;
use crate::agent::backoff::Backoff;
use crate::agent::control::Noted;
use crate::agent::error::AgentError;
use crate::agent::events::{About, EventLog};
use crate::agent::options::Options;
use crate::clock::Random;
use crate::protocol::event::Event;
use crate::protocol::problem::ProblemCode;

/// Why there is no session.
pub(super) enum NoSession {
    Dial(DialError),
    Session(SessionError),
}

pub(super) struct Patience {
    /// After trouble.
    trouble: Backoff,
    /// After the way has led to a node where there is a session already.
    elsewhere: Backoff,
    /// Not before this is another session to be opened.
    next: Instant,
    reported: Option<String>,
    events: EventLog,
    noted: Arc<Noted>,
    healthy_after: Duration,
    unknown_agent_pause: Duration,
    random: Arc<dyn Random>,
}

impl Patience {
    pub(super) fn new(options: &Options, events: EventLog, noted: Arc<Noted>, random: Arc<dyn Random>) -> Self {
        Self {
            trouble: Backoff::new(options.backoff_base, options.backoff_max, random.clone()),
            elsewhere: Backoff::new(options.backoff_base, options.elsewhere_max, random.clone()),
            next: Instant::now(),
            reported: None,
            events,
            noted,
            healthy_after: options.healthy_after,
            unknown_agent_pause: options.unknown_agent_pause,
            random,
        }
    }

    /// When the next session may be opened.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// A session is open, on a node of its own.
    pub(super) fn opened(&mut self) {
        self.reported = None;
        self.elsewhere.reset();
        self.next = Instant::now();
    }

    /// The way has led to a node where there is a session already.
    pub(super) fn same_node(&mut self) {
        self.next = Instant::now() + self.elsewhere.pause();
    }

    /// The host has slept: whatever was waited for is over, and it is not the only one that wakes.
    pub(super) fn awake(&mut self) {
        self.trouble.reset();
        self.elsewhere.reset();
        self.next = Instant::now() + self.trouble.pause();
    }

    /// The relay asks for another session in place of one that has lived so long.
    pub(super) fn told_to_go(&mut self, lived: Duration, reconnect_after: Duration) {
        // One that is told so again and again does not run in circles.
        let hasty = if self.was_healthy(lived) { Duration::ZERO } else { self.trouble.pause() };
        self.next = Instant::now() + reconnect_after.max(hasty);
    }

    /// A session that has lived so long has ended.
    ///
    /// # Errors
    /// If the agent must not come back, or can't go on.
    pub(super) fn ended(&mut self, lived: Duration, error: SessionError) -> Result<(), AgentError> {
        self.was_healthy(lived);
        self.failed(NoSession::Session(error))
    }

    fn was_healthy(&mut self, lived: Duration) -> bool {
        let healthy = lived >= self.healthy_after;
        if healthy {
            self.trouble.reset();
        }
        healthy
    }

    /// Records why there is no session, once for each reason, and sets the time of the next attempt.
    ///
    /// # Errors
    /// If the agent must not come back, or can't go on.
    pub(super) fn failed(&mut self, why: NoSession) -> Result<(), AgentError> {
        let mut pause = self.trouble.pause();
        match why {
            NoSession::Session(SessionError::Agent(error)) => return Err(error),
            NoSession::Dial(DialError::Signing(error)) => return Err(error.into()),
            NoSession::Session(SessionError::Lost(lost)) => match lost.for_good() {
                Some(error) => return Err(self.stop_for_good(error)),
                None => self.report(Event::ServiceBusError, lost.to_string()),
            },
            NoSession::Dial(DialError::Unreachable(why)) => self.report(Event::ServiceBusListenerError, why),
            NoSession::Dial(DialError::Refused { status, code, message, retry_after }) => {
                // It is in whole seconds, and agents must not come back on the second.
                pause += retry_after.unwrap_or_default();
                if code == *ProblemCode::AgentRevoked.as_str() {
                    return Err(self.stop_for_good(AgentError::Revoked));
                }
                let message = format!("the relay answered {status}: {message}");
                if [ProblemCode::UnknownAgent, ProblemCode::AgentTooOld].iter().any(|slow| code == *slow.as_str()) {
                    // Its registry may be an older copy; this program is one. Only people can mend that, so it is said every time.
                    let slowly = self.unknown_agent_pause;
                    pause = pause.max(slowly + self.random.within(slowly));
                    self.reported = None;
                    self.report(Event::AuthTokenError, format!("{message}; trying again, slowly"));
                } else if status == 401 || status == 403 {
                    self.report(Event::AuthTokenError, message);
                } else {
                    self.report(Event::ServiceBusListenerError, message);
                }
            }
        }
        self.next = Instant::now() + pause;
        Ok(())
    }

    fn stop_for_good(&self, error: AgentError) -> AgentError {
        let revoked = matches!(error, AgentError::Revoked);
        let event = if revoked { Event::OffboardingEventSuccess } else { Event::ServiceBusError };
        self.events.record(event, &error.to_string(), &About::default());
        error
    }

    fn report(&mut self, event: Event, why: String) {
        self.noted.trouble(&why);
        if self.reported.as_ref() != Some(&why) {
            self.events.record(event, &why, &About::default());
            self.reported = Some(why);
        }
    }
}
