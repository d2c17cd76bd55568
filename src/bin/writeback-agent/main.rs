//! The agent: arguments, configuration, signals; nothing else.

mod inspect;
mod keys;
mod rights;
mod setup;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use writeback_relay::agent::config::Config;
use writeback_relay::agent::events::Filter;
use writeback_relay::agent::home::{DEFAULT_HOME, Home};
use writeback_relay::agent::{Agent, AgentError, Options, enroll, status};
use writeback_relay::clock::System;
use writeback_relay::host::{self, StopSignals};
use writeback_relay::protocol::api::AgentStatus;
use writeback_relay::telemetry::otlp::Exporting;
use writeback_relay::telemetry::{agent_metrics, log};

/// As clap has it.
const WRONG_USAGE: u8 = 2;
/// For a service manager: starting again is no use.
const STOPPED_FOR_GOOD: u8 = 3;

/// Takes password resets from the relay to the directory.
#[derive(Parser)]
#[command(name = "writeback-agent", version)]
struct Arguments {
    /// The agent's folder.
    #[arg(long, default_value = DEFAULT_HOME, env = "WRITEBACK_AGENT_HOME", global = true)]
    home: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Redeem an enrolment code that the portal printed.
    Enroll {
        /// The code, or "-" to read it from standard input, where no other user of this host sees it.
        code: String,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Run until SIGTERM or SIGINT, or until the terminal is closed.
    Run,
    /// Show whether the agent runs, is connected and approved, what its last check found, who it is, and what it did last.
    Status,
    /// Show what the event log tells, oldest first.
    Events {
        /// Only events with this id; may be given several times.
        #[arg(long = "id", value_name = "EVENT_ID")]
        ids: Vec<u16>,
        /// At most so many of the last ones.
        #[arg(long, short = 'n', default_value_t = 50)]
        lines: usize,
        /// Go on with what comes, until it is stopped.
        #[arg(long, short)]
        follow: bool,
        /// Print the lines as they are in the file: JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Write what whoever helps you needs to know into one text file that holds no key and no password.
    SupportBundle {
        /// The file; standard output if it is "-".
        #[arg(default_value = "writeback-agent-support.txt")]
        file: PathBuf,
    },
    /// Check whether resets can work: files, the relay, each domain controller, each right on each unit. The exit status is
    /// 0 if all is well, 1 with a warning, 2 with a failure, 3 if nothing could be checked.
    Check {
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Print the commands that give the service account its rights, or give them.
    Grant(rights::GrantArguments),
    /// Set the agent up: asks for the relay, the directory, the service account and the units, tries each answer, checks, and
    /// enrols. What is given is not asked for.
    Setup(Box<setup::SetupArguments>),
    /// Make new keys and tell the relay; the agent may be running. It does so by itself every half year.
    RotateKeys {
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Take commands from a further portal, or from one less. The agent may be running.
    Trust {
        #[command(flatten)]
        what: keys::TrustArguments,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
}

impl Action {
    /// Whether it may make files in the agent's folder.
    fn writes(&self) -> bool {
        match self {
            Self::Enroll { .. } | Self::Run | Self::Setup(_) | Self::RotateKeys { .. } => true,
            Self::Trust { what, .. } => what.changes(),
            Self::Status | Self::Events { .. } | Self::SupportBundle { .. } | Self::Check { .. } | Self::Grant(_) => {
                false
            }
        }
    }
}

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    host::tell_panics();
    let Arguments { home, action } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help, which has colours at a terminal.
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        // An argument stands in it, and somebody else may have chosen that.
        Err(error) => {
            host::complain_of_usage("writeback-agent", &error.render());
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let home = Home::new(home);
    // A configuration that is no use is told by whoever needs it.
    let format = Config::load(&home.config()).ok().and_then(|config| config.telemetry.log_format);
    log::start(if matches!(action, Action::Run) { "info" } else { "error" }, format);
    match uninterrupted(&home, action).await {
        Ok(status) => status,
        Err(error) => {
            host::complain_of("writeback-agent", &*error);
            match error.downcast_ref::<AgentError>() {
                Some(error) if error.is_for_good() => ExitCode::from(STOPPED_FOR_GOOD),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// No closed terminal ends what was begun in the middle; what goes on for ever ends with it.
async fn uninterrupted(home: &Home, action: Action) -> Result<ExitCode, Failure> {
    match action {
        Action::Run => act(home, action).await,
        Action::Events { follow: true, .. } => {
            let closed = host::closed_terminal()?;
            tokio::select! {
                ended = act(home, action) => ended,
                () = closed => Ok(ExitCode::SUCCESS),
            }
        }
        _ => {
            let _closed = host::closed_terminal()?;
            act(home, action).await
        }
    }
}

/// What is watched, or read each time it is needed, needs no word; of the rest it is said whether the agent could start with it.
fn reload(path: &Path) {
    match Config::load(path) {
        Ok(_) => tracing::info!(
            "asked to read again (SIGHUP): passwords, portals and keys are read whenever they are needed; changes of agent.toml \
             take effect when the agent is started again"
        ),
        Err(error) => tracing::error!(
            %error,
            "asked to read again (SIGHUP): agent.toml is no use any more, and the agent could not be started with it; it goes on \
             with the old one"
        ),
    }
}

async fn act(home: &Home, action: Action) -> Result<ExitCode, Failure> {
    host::forbid_core_dumps()?;
    if action.writes() {
        home.may_be_written()?
    } else {
        home.may_be_read()?
    }
    match action {
        Action::Enroll { code, json } => enrol(home, code, json).await?,
        Action::Run => run(home).await?,
        Action::Status => host::print(&status(home, &System).await?)?,
        Action::Check { json } => return rights::check(home, json).await,
        Action::Grant(arguments) => rights::grant(home, arguments).await?,
        Action::Setup(arguments) => setup::set_up(home, *arguments).await?,
        Action::Events { ids, lines, follow, json } => {
            inspect::events(home, &Filter { ids }, lines, follow, json).await?
        }
        Action::SupportBundle { file } => inspect::support_bundle(home, &file).await?,
        Action::RotateKeys { json } => keys::rotate(home, json).await?,
        Action::Trust { what, json } => keys::change_trust(home, what, json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn enrol(home: &Home, code: String, json: bool) -> Result<(), Failure> {
    let code = keys::read_code(code)?;
    let config = Config::load(&home.config())?;
    let enrolled = enroll(home, &code, config.relay.access()?, System::clock(), System::random()).await?;
    if json {
        return print_json(&enrolled);
    }
    let mut said = format!("enrolled as agent {}\nfingerprint       {}\n", enrolled.agent, enrolled.fingerprint);
    if enrolled.status == AgentStatus::Pending {
        said.push_str(&format!(
            "\nBefore it gets commands, somebody at the portal compares the fingerprint and approves the agent:\n  \
             writeback-portal approve {} {}\n",
            code.tenant, enrolled.agent
        ));
    }
    said.push_str(&format!("\nThen start it:\n  writeback-agent --home {} run\n", home.folder().display()));
    Ok(host::print(&said)?)
}

fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    Ok(host::print(&format!("{}\n", serde_json::to_string_pretty(value)?))?)
}

async fn run(home: &Home) -> Result<(), Failure> {
    let path = home.config();
    let config = Config::load(&path)?;
    let directory = config.directory(&path)?.open(System::clock(), System::random())?;
    let access = config.relay.access()?;
    let options = Options {
        ca_file: access.ca_file,
        via: access.via,
        sessions: config.relay.sessions,
        parallel: config.execution.parallel,
        resets_per_hour: config.execution.resets_per_hour,
        rotate_every: config.keys.rotate_every(),
        ..Options::default()
    };
    let mut signals = StopSignals::catch()?;
    let agent = Agent::open(home, directory, options, System::clock(), System::random())?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        signals.next(|| reload(&path)).await;
        asked.cancel();
        // Whoever asks twice does not want to wait; the journal knows where to go on.
        signals.next(|| ()).await;
        std::process::exit(1);
    });
    if let Some(address) = config.telemetry.metrics_listen {
        let listener = agent_metrics::bind(address).await?;
        tokio::spawn(agent_metrics::serve(listener, agent.metrics()));
    }
    let exporting = Exporting::start("writeback-agent", config.telemetry.collector(), &System, System::random())?;
    let ended = agent.run(stop).await;
    exporting.finish().await;
    Ok(ended?)
}
