//! The relay's command line: runs a node, and manages a running one.

mod operator;
mod portals;
mod status;

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::runtime::{self, Runtime};
use writeback_relay::clock::System;
use writeback_relay::host::{self, StopSignals};
use writeback_relay::relay::config::Config;
use writeback_relay::relay::lifecycle::Node;
use writeback_relay::telemetry::metrics::instruments;
use writeback_relay::telemetry::otlp::Exporting;
use writeback_relay::telemetry::{self, log};

/// A tenth less CPU for each command than with the system's, and the same memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Carries password resets from cloud portals to on-premises agents.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node.
    Run(Run),
    /// Show a reset from end to end: relay, agent and portal in one process, over real TLS on loopback.
    Demo {
        /// Keep relay and agent running afterwards, and print what to try from a second terminal.
        #[arg(long)]
        serve: bool,
    },
    /// Manage tenants.
    #[command(subcommand)]
    Tenant(operator::Tenant),
    /// Manage portals.
    #[command(subcommand)]
    Portal(portals::Portal),
    /// Manage agents.
    #[command(subcommand)]
    Agent(operator::Agent),
    /// Show nodes, agents, versions, key rotations, and what is wrong. The exit status is 1 if something fails resets.
    Status(status::Status),
    /// List the agents' sessions on all nodes.
    Sessions(status::Sessions),
    /// Ask a node to let its agents move, finish what is in flight, and stop.
    Drain {
        /// Its name or id, as `status` shows them; the node that is asked, if there is none.
        node: Option<String>,
        #[command(flatten)]
        admin: operator::Admin,
    },
    /// Ask a node whether it serves: exit status 0 if so; if not, it says why. A probe for images without a shell: it needs no
    /// token, and ends within two seconds.
    Ready(operator::Ops),
    /// Say what a node logs, or change it until the node stops: error, warn, info, debug, or directives like
    /// info,writeback_relay::relay::session=debug.
    LogLevel {
        level: Option<String>,
        #[command(flatten)]
        admin: operator::Admin,
    },
    /// Save or restore the registry.
    #[command(subcommand)]
    Registry(operator::Registry),
    /// Print the public API as OpenAPI 3.1.
    Openapi,
    /// Print what a node's metrics are, in Markdown.
    Metrics,
}

#[derive(Args)]
struct Run {
    /// The configuration file.
    #[arg(long, conflicts_with = "data_dir", required_unless_present = "data_dir")]
    config: Option<PathBuf>,
    /// Make a self-signed certificate in the data directory; clients trust its dev-ca.pem. To try it out.
    #[arg(long)]
    dev_tls: bool,
    /// Without a configuration file: where the store is kept.
    #[arg(long, requires = "dev_tls")]
    data_dir: Option<PathBuf>,
    /// Without a configuration file: where agents and portals connect.
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Without a configuration file: where the operator connects.
    #[arg(long, default_value = "127.0.0.1:9443")]
    ops_listen: SocketAddr,
    /// Without a configuration file: the URL agents and portals use; https://localhost and the port if absent.
    #[arg(long)]
    public_url: Option<String>,
    /// How a line of the log looks: json or text. The configuration's telemetry.log_format if absent; without that, text at a
    /// terminal and json elsewhere.
    #[arg(long)]
    log_format: Option<log::Format>,
}

type Outcome = Result<(), Box<dyn Error>>;

/// As clap has it.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    host::tell_panics();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help, which has colours at a terminal.
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        // An argument stands in it, and somebody else may have chosen that.
        Err(error) => {
            host::complain_of_usage("writeback-relay", &error.render());
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let ended = cli.command.runtime().map_err(Into::into).and_then(|runtime| runtime.block_on(execute(cli.command)));
    match ended {
        Ok(status) => status,
        Err(error) => {
            host::complain_of("writeback-relay", &*error);
            ExitCode::FAILURE
        }
    }
}

impl Command {
    /// A node has a thread for each core. A call has one and is done: a probe runs every few seconds.
    fn runtime(&self) -> std::io::Result<Runtime> {
        let mut builder = match self {
            Self::Run(_) | Self::Demo { .. } => runtime::Builder::new_multi_thread(),
            _ => runtime::Builder::new_current_thread(),
        };
        builder.enable_all().build()
    }
}

async fn execute(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Run(run) => serve(run).await?,
        Command::Demo { serve } => {
            telemetry::log_to_stderr("error");
            writeback_relay::demo::run(serve).await?;
        }
        Command::Tenant(command) => operator::tenant(command).await?,
        Command::Portal(command) => portals::portal(command).await?,
        Command::Agent(command) => operator::agent(command).await?,
        Command::Status(status) => return status::status(status).await,
        Command::Sessions(sessions) => status::sessions(sessions).await?,
        Command::Drain { node, admin } => operator::drain(node, &admin).await?,
        Command::Ready(ops) => operator::ready(&ops).await?,
        Command::LogLevel { level, admin } => operator::log_level(level, &admin).await?,
        Command::Registry(command) => operator::registry(command).await?,
        Command::Metrics => host::print(&instruments::document())?,
        Command::Openapi => host::print(&writeback_relay::relay::http::openapi()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(run: Run) -> Outcome {
    host::forbid_core_dumps()?;
    let config = match (&run.config, run.data_dir) {
        (Some(file), _) => Config::read(file)?,
        (None, Some(data_dir)) => {
            let url = run.public_url.unwrap_or_else(|| format!("https://localhost:{}", run.listen.port()));
            Config::development(url, run.listen, run.ops_listen, data_dir)
        }
        (None, None) => return Err("--config FILE, or --dev-tls --data-dir FOLDER, is expected".into()),
    };
    log::start("info", run.log_format.or(config.telemetry.log_format));
    let mut signals = StopSignals::catch()?;
    let exporting = Exporting::start("writeback-relay", config.telemetry.collector(), &System, System::random())?;
    let file = run.config.as_deref();
    let starting = Node::start(config, run.dev_tls, System::clock(), System::random());
    let node = tokio::select! {
        node = starting => Some(node?),
        // It waits for its store, and has nothing to finish.
        () = signals.next(|| look_at(file)) => None,
    };
    let ended = match node {
        Some(node) => until_stopped(node, file, &mut signals).await,
        None => Ok(()),
    };
    exporting.finish().await;
    ended
}

async fn until_stopped(node: Node, config: Option<&Path>, signals: &mut StopSignals) -> Outcome {
    // By a signal, and not by an operator's drain: whoever ends the process after that has asked once.
    let by_signal = tokio::select! {
        () = signals.next(|| reload(&node, config)) => true,
        () = node.drain_requested() => false,
        // Whoever runs it starts it again; a node that can't write must not look healthy.
        error = node.failed() => return Err(error.into()),
    };
    let asked_twice = async {
        if !by_signal {
            signals.next(|| ()).await;
        }
        signals.next(|| ()).await;
    };
    tokio::select! {
        () = node.stop() => Ok(()),
        // Who asks twice does not want to wait.
        () = asked_twice => Err("stopped at once, at the second signal".into()),
    }
}

/// What can be read again is; of the rest it is said whether a node could start with it.
fn reload(node: &Node, config: Option<&Path>) {
    node.reload_certificate();
    look_at(config);
}

fn look_at(config: Option<&Path>) {
    match config.map(Config::read).transpose() {
        Ok(_) => tracing::info!(
            "asked to read again (SIGHUP): the certificate was looked at; changes of the configuration take effect when the \
             node is started again"
        ),
        Err(error) => tracing::error!(
            %error,
            "asked to read again (SIGHUP): the configuration is no use any more, and the node could not be started with it; it \
             goes on with the old one"
        ),
    }
}
