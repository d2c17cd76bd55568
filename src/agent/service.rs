//! The running agent.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;

use super::control::Control;
use super::directory::Directory;
use super::error::AgentError;
use super::events::{About, EventLog};
use super::execution::Executor;
use super::home::{Home, Identity};
use super::instance::next_instance;
use super::journal::{Journal, JournalError};
use super::key_care::KeyCare;
use super::keyring::Keyrings;
use super::link::{Approval, Dialer, Link, Shared};
use super::options::Options;
use super::portals::Portals;
use super::preflight::Preflight;
use super::rotation::Rotator;
use super::watched::hold_journal;
use crate::clock::{Clock, Random};
use crate::host::service_manager;
use crate::net::outbound::Outbound;
use crate::protocol::event::Event;
use crate::telemetry::agent_metrics::AgentMetrics;

/// How often the journal forgets what is old enough.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);
/// How often it is told what was refused.
const REFUSALS_INTERVAL: Duration = Duration::from_secs(60);

/// How often commands that failed can have the directory checked again.
const DOUBTS_INTERVAL: Duration = Duration::from_secs(15);

/// An enrolled agent, opened and not yet connected.
pub struct Agent {
    identity: Arc<Identity>,
    link: Link,
    control: Control,
    failed: mpsc::Receiver<AgentError>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Agent({})", self.identity.agent)
    }
}

impl Agent {
    /// Opens the agent of a folder: identity, keys and journal are read and checked. Nothing is executed yet.
    ///
    /// # Errors
    /// If it is not enrolled, or a file is missing, damaged, open to others, or of another enrolment.
    pub fn open(
        home: &Home,
        directory: Arc<dyn Directory>,
        options: Options,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, AgentError> {
        if !home.identity_file().exists() {
            return Err(not_enrolled(home));
        }
        let events = EventLog::open(&home.events(), clock.clone())?;
        let opened = Self::assemble(home, directory, options, clock, random, events.clone());
        opened.inspect_err(|error| events.record(Event::ConfigurationError, &error.to_string(), &About::default()))
    }

    fn assemble(
        home: &Home,
        directory: Arc<dyn Directory>,
        options: Options,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        events: EventLog,
    ) -> Result<Self, AgentError> {
        let identity = Arc::new(home.identity()?.ok_or_else(|| not_enrolled(home))?);
        let keys = Arc::new(Keyrings::open(home)?);
        let portals = Portals::open(home, clock.clone())?;
        let journal = {
            // Whoever asks for the status of an agent that does not run has it open for a moment.
            let _held = hold_journal(home);
            Journal::open(&home.journal(), identity.journal)?
        };
        let dialer = Dialer::new(&options, identity.clone(), keys.clone(), clock.clone(), random.clone())?;
        let interval = options.preflight_interval;
        let preflight = Preflight::new(home, directory.clone(), events.clone(), interval, clock.clone());
        let (executor, failed) = Executor::new(
            identity.clone(),
            keys.clone(),
            portals,
            directory,
            journal,
            events.clone(),
            &options,
            clock.clone(),
            random.clone(),
        );
        let shared = Shared {
            executor,
            preflight,
            instance: next_instance(home, &*clock, &*random)?,
            capacity: u32::try_from(options.parallel).unwrap_or(u32::MAX),
            lead: Arc::default(),
            nodes: watch::Sender::new(1),
            noted: Arc::default(),
            approval: Approval::new(events.clone()),
        };
        let outbound = Outbound::new(&options.access())?;
        let proxy = identity.relay.parse().ok().and_then(|relay| Some(outbound.proxy_to(&relay)?.to_string()));
        let control = Control::open(home, proxy, shared.clone(), events.clone(), &*clock);
        let rotator = Arc::new(Rotator {
            identity: identity.clone(),
            rings: keys,
            events: events.clone(),
            outbound,
            clock: clock.clone(),
            random: random.clone(),
        });
        let link = Link { dialer, shared, events, options, clock: clock.clone(), random, rotator };
        Ok(Self { identity, link, control, failed, clock })
    }

    /// What the agent counts.
    #[must_use]
    pub fn metrics(&self) -> Arc<AgentMetrics> {
        Arc::clone(self.link.events.metrics())
    }

    /// Who the agent is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Runs until `stop`, then finishes what it has begun.
    ///
    /// # Errors
    /// If the relay says that this agent must not come back, or the journal fails. Whatever was going on, the journal
    /// knows where the next process has to go on.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), AgentError> {
        let (events, executor) = (self.link.events.clone(), self.link.shared.executor.clone());
        let preflight = self.link.shared.preflight.clone();
        let message = format!("the agent {} has started", self.identity.agent);
        events.record(Event::WriteBackServiceStarted, &message, &About::default());
        executor.resume()?;
        let portals_watched = executor.core.portals.watch(self.link.options.trust_check);
        let care = KeyCare::new(self.link.rotator.clone(), executor.clone(), &self.link.options);
        care.go_on().await;
        service_manager::ready();
        let ended = tokio::select! {
            biased;
            Some(failure) = self.failed.recv() => Err(failure),
            error = purge(&executor, &*self.clock) => Err(error.into()),
            error = care.keep() => Err(error.into()),
            never = stay_alive(&stop) => match never {},
            never = portals_watched => match never {},
            never = preflight.run() => match never {},
            never = look_after(&executor, &preflight) => match never {},
            never = tell_refusals(&events) => match never {},
            never = self.control.serve() => match never {},
            ended = self.link.keep(&stop) => ended,
        };
        if let Err(error) = &ended {
            match error {
                // It was recorded when the relay said so.
                error if error.is_for_good() => {}
                AgentError::Journal(_) => {
                    events.record(Event::ConfigurationError, &error.to_string(), &About::default())
                }
                _ => events.record(Event::UnknownError, &error.to_string(), &About::default()),
            }
            self.link.finish().await;
        }
        events.tell_last_refusals();
        events.record(Event::WriteBackServiceStopped, "the agent has stopped", &About::default());
        ended
    }
}

fn not_enrolled(home: &Home) -> AgentError {
    AgentError::NotEnrolled { folder: home.folder().display().to_string() }
}

/// Tells the service manager so, as long as this agent's own loop turns.
async fn stay_alive(stop: &CancellationToken) -> Infallible {
    let mut often = interval(service_manager::alive_every());
    let mut told = false;
    loop {
        tokio::select! {
            _ = often.tick() => service_manager::alive(),
            () = stop.cancelled(), if !told => {
                service_manager::stopping();
                told = true;
            }
        }
    }
}

/// A command has failed as it does when the directory is not as it was checked: the next check is due, but not one for each
/// of many such commands.
async fn look_after(executor: &Executor, preflight: &Preflight) -> Infallible {
    loop {
        executor.in_doubt().await;
        preflight.want();
        sleep(DOUBTS_INTERVAL).await;
    }
}

/// Once a minute, what peers had refused so often that it was counted.
async fn tell_refusals(events: &EventLog) -> Infallible {
    let mut often = interval(REFUSALS_INTERVAL);
    loop {
        often.tick().await;
        events.tell_refusals();
    }
}

/// Now and then, until the journal fails.
async fn purge(executor: &Executor, clock: &dyn Clock) -> JournalError {
    let mut often = interval(PURGE_INTERVAL);
    loop {
        often.tick().await;
        match executor.core.journal.purge(clock.now()).await {
            Ok(0) => {}
            Ok(purged) => tracing::info!(purged, "the journal has forgotten old commands"),
            Err(error) => return error,
        }
    }
}
