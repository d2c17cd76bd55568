//! What can be set when an agent is opened, each with its reason.

use std::path::PathBuf;
use std::time::Duration;

use super::config::{DEFAULT_PARALLEL, DEFAULT_RESETS_PER_HOUR, DEFAULT_ROTATE_EVERY, DEFAULT_SESSIONS};
use crate::net::outbound::Access;
use crate::net::proxy::Via;
use crate::protocol::limits::KEY_OVERLAP;

/// How an agent works. The defaults are right for a service; tests shorten the times.
#[derive(Clone, Debug)]
pub struct Options {
    /// A PEM file with a private CA, trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The way out to the relay.
    pub via: Via,
    /// How many sessions are held, on as many nodes of the relay: either may break without a command noticing.
    pub sessions: usize,
    /// How many accounts are written at the same time.
    pub parallel: usize,
    /// How often one account may be reset within an hour, and how often it may be unlocked.
    pub resets_per_hour: usize,
    /// How long after a command's `exp` the answer to its write is still listened to, if the domain controller keeps the
    /// connection and does not answer. Others wait for the account as long.
    pub late_answer: Duration,
    /// How long a command whose controller is silent keeps others from its account, after its `exp`.
    pub recovery_hold: Duration,
    /// Between the two questions to a domain controller after a crash: a write that was under way has arrived by then.
    pub recovery_interval: Duration,
    /// The first pause before connecting, or asking a silent controller, again; it doubles each time, with full jitter.
    pub backoff_base: Duration,
    /// The longest such pause.
    pub backoff_max: Duration,
    /// The longest pause before looking for another node again, after the way led to one where there is a session.
    pub elsewhere_max: Duration,
    /// A session that has lived this long was healthy: the next pause is the first again.
    pub healthy_after: Duration,
    /// The shortest pause when the relay does not know the agent: only people can mend that.
    pub unknown_agent_pause: Duration,
    /// How often it is looked whether the host has slept, or its clock was set.
    pub wake_check: Duration,
    /// How often it is looked whether somebody on the host has added or removed a portal.
    pub trust_check: Duration,
    /// How often the agent checks whether resets can work.
    pub preflight_interval: Duration,
    /// How old the agent's keys become before it makes new ones; it never does so by itself, if absent.
    pub rotate_every: Option<Duration>,
    /// How often it looks after its keys.
    pub key_interval: Duration,
    /// How long a sealing key that was replaced still opens what was sealed to it, at least.
    pub key_overlap: Duration,
    /// How long a stop waits for what is running and for the relay to store the last outcomes.
    pub stop_deadline: Duration,
}

impl Options {
    /// How the relay is reached.
    #[must_use]
    pub fn access(&self) -> Access {
        Access { ca_file: self.ca_file.clone(), via: self.via.clone() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ca_file: None,
            via: Via::default(),
            sessions: DEFAULT_SESSIONS,
            parallel: DEFAULT_PARALLEL,
            resets_per_hour: DEFAULT_RESETS_PER_HOUR,
            // Windows closes what is idle for so long (MaxConnIdleTime).
            late_answer: Duration::from_secs(900),
            recovery_hold: Duration::from_secs(30),
            recovery_interval: Duration::from_secs(5),
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            elsewhere_max: Duration::from_secs(300),
            healthy_after: Duration::from_secs(30),
            unknown_agent_pause: Duration::from_secs(60),
            wake_check: Duration::from_secs(5),
            trust_check: Duration::from_secs(1),
            preflight_interval: Duration::from_secs(3600),
            rotate_every: Some(DEFAULT_ROTATE_EVERY),
            key_interval: Duration::from_secs(60),
            key_overlap: KEY_OVERLAP,
            stop_deadline: Duration::from_secs(30),
        }
    }
}
