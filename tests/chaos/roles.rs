//! What this program is when it starts itself: a node, an agent, a directory. Each is a process that can be killed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};
use tokio_util::sync::CancellationToken;
use writeback_relay::agent::home::Home;
use writeback_relay::agent::{Agent, Options};
use writeback_relay::clock::System;
use writeback_relay::host::StopSignals;
use writeback_relay::net::proxy::Via;
use writeback_relay::relay::config::Config;
use writeback_relay::relay::lifecycle::Node;
use writeback_relay::telemetry;

use crate::clock::Skewed;
use crate::directory::client::Remote;
use crate::directory::server;

/// A role, with what it needs to know.
pub(crate) enum Role {
    /// A relay node, with this configuration file.
    Node { config: PathBuf },
    /// An agent, enrolled in this folder, that writes to the directory at this address.
    Agent { home: PathBuf, ca: PathBuf, directory: SocketAddr },
    /// A tenant's directory.
    Directory { address: Ipv4Addr, log: PathBuf, accounts: usize, tenant: String, seed: u64 },
}

/// An agent that was told never to come back.
pub(crate) const STOPPED_FOR_GOOD: u8 = 3;

impl Role {
    /// As arguments of this program; [`Self::parse`] reads them.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        match self {
            Self::Node { config } => vec!["role-node".to_owned(), text(config)],
            Self::Agent { home, ca, directory } => {
                vec!["role-agent".to_owned(), text(home), text(ca), directory.to_string()]
            }
            Self::Directory { address, log, accounts, tenant, seed } => vec![
                "role-directory".to_owned(),
                address.to_string(),
                text(log),
                accounts.to_string(),
                tenant.clone(),
                seed.to_string(),
            ],
        }
    }

    pub(crate) fn parse(arguments: &[String]) -> Option<Self> {
        let path = |at: usize| PathBuf::from(&arguments[at]);
        Some(match arguments.first()?.as_str() {
            "role-node" => Self::Node { config: path(1) },
            "role-agent" => Self::Agent { home: path(1), ca: path(2), directory: arguments[3].parse().unwrap() },
            "role-directory" => Self::Directory {
                address: arguments[1].parse().unwrap(),
                log: path(2),
                accounts: arguments[3].parse().unwrap(),
                tenant: arguments[4].clone(),
                seed: arguments[5].parse().unwrap(),
            },
            _ => return None,
        })
    }

    /// Is it, until told to stop.
    pub(crate) async fn play(self) -> ExitCode {
        // Frozen or not, it does not outlive the program.
        set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
        telemetry::log_to_stderr("info");
        let clock = clock_from_stdin();
        match self {
            Self::Node { config } => node(&config, &clock).await,
            Self::Agent { home, ca, directory } => agent(home, ca, directory, &clock).await,
            Self::Directory { address, log, accounts, tenant, seed } => {
                server::serve(address, &log, &tenant, accounts, seed).await;
                ExitCode::SUCCESS
            }
        }
    }
}

/// Each line of standard input is how far the clock is off from now on, in milliseconds. The first is there already.
fn clock_from_stdin() -> Skewed {
    let mut first = String::new();
    std::io::stdin().read_line(&mut first).unwrap();
    let clock = Skewed::by(first.trim().parse().unwrap());
    let set = clock.clone();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            set.set(line.unwrap().parse().unwrap());
        }
    });
    clock
}

/// As `writeback-relay run` does it, with another clock.
async fn node(config: &Path, clock: &Skewed) -> ExitCode {
    let mut signals = StopSignals::catch().unwrap();
    let config = Config::read(config).unwrap();
    let node = match Node::start(config, true, clock.shared(), System::random()).await {
        Ok(node) => node,
        Err(error) => {
            tracing::error!(%error, "the node did not start");
            return ExitCode::FAILURE;
        }
    };
    signals.next(|| ()).await;
    node.stop().await;
    ExitCode::SUCCESS
}

/// As `writeback-agent run` does it, with another clock, another directory, and shorter pauses.
async fn agent(home: PathBuf, ca: PathBuf, directory: SocketAddr, clock: &Skewed) -> ExitCode {
    let mut signals = StopSignals::catch().unwrap();
    // The environment's is not asked for addresses of this host, as all are here.
    let via = std::env::var("HTTPS_PROXY").map_or(Via::Environment, |url| Via::Proxy(url.parse().unwrap()));
    let options = Options {
        ca_file: Some(ca),
        via,
        // Few accounts, and many commands for each.
        resets_per_hour: 1_000_000,
        // The directory is frozen for longer.
        recovery_hold: Duration::from_secs(300),
        recovery_interval: Duration::from_secs(1),
        backoff_base: Duration::from_millis(100),
        backoff_max: Duration::from_secs(1),
        elsewhere_max: Duration::from_secs(2),
        healthy_after: Duration::from_secs(3),
        unknown_agent_pause: Duration::from_millis(500),
        stop_deadline: Duration::from_secs(5),
        ..Options::default()
    };
    let directory = Arc::new(Remote::new(directory));
    let agent = Agent::open(&Home::new(home), directory, options, clock.shared(), System::random());
    let stop = CancellationToken::new();
    let ran = match agent {
        Ok(agent) => {
            let asked = stop.clone();
            tokio::spawn(async move {
                signals.next(|| ()).await;
                asked.cancel();
            });
            agent.run(stop).await
        }
        Err(error) => Err(error),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the agent has failed");
            ExitCode::from(if error.is_for_good() { STOPPED_FOR_GOOD } else { 1 })
        }
    }
}
