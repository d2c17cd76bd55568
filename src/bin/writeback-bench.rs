//! The bench's command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use writeback_relay::bench::measure::{self, Commands, Idle, Rate};
use writeback_relay::bench::{self, Fallible, Report, Subject};
use writeback_relay::clock::System;
use writeback_relay::host;
use writeback_relay::relay::config::{Config, TlsFiles};
use writeback_relay::relay::lifecycle::Node;
use writeback_relay::telemetry;

/// A tenth less CPU for each command than with the system's, and the same memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a relay beside nats-server, and beside the least that any such server has to do.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Subcommand)]
enum Measure {
    /// The memory of one idle agent.
    Idle {
        #[command(flatten)]
        what: What,
        /// How many agents; more than one number, one after the other.
        #[arg(long, value_delimiter = ',', default_value = "1000,19000")]
        agents: Vec<usize>,
        /// How long to wait for heartbeats after the command.
        #[arg(long, default_value_t = 31)]
        settle_seconds: u64,
    },
    /// All agents connect at once.
    Storm {
        #[command(flatten)]
        what: What,
        /// How many agents.
        #[arg(long, default_value_t = 2_000)]
        agents: usize,
        /// How often.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// A closed loop: server CPU and latency of one command.
    Commands {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        size: Size,
        /// Stores in memory: no commit waits for a disk.
        #[arg(long)]
        in_memory: bool,
    },
    /// An open loop at fixed rates: latency, counted from when a command was due.
    Rate {
        #[command(flatten)]
        what: What,
        /// How many agents.
        #[arg(long, default_value_t = 200)]
        agents: usize,
        /// Connections of portals.
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// Commands a second; more than one number, one after the other.
        #[arg(long, value_delimiter = ',', default_value = "250,500,1000")]
        rates: Vec<f64>,
        /// For how long, in seconds.
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        /// Stores in memory: no commit waits for a disk.
        #[arg(long)]
        in_memory: bool,
    },
    /// Nodes on one Redis.
    Cluster {
        #[command(flatten)]
        size: Size,
        /// How many nodes; more than one number, side by side.
        #[arg(long, value_delimiter = ',', default_value = "1,2")]
        nodes: Vec<usize>,
    },
    /// As a relay node.
    #[command(hide = true)]
    Node { config: PathBuf },
    /// As the floor.
    #[command(hide = true)]
    Floor { listen: SocketAddr, cert_file: PathBuf, key_file: PathBuf, portal_jwk: PathBuf },
    /// As agents.
    #[command(hide = true)]
    Agents { orders: PathBuf },
}

#[derive(Args)]
struct What {
    /// What is measured, side by side.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "relay,floor,nats,jetstream")]
    subjects: Vec<Name>,
}

impl What {
    fn subjects(&self) -> Vec<Subject> {
        self.subjects.iter().map(|name| Subject::from(*name)).collect()
    }
}

#[derive(Args)]
struct Size {
    /// How many agents.
    #[arg(long, default_value_t = 200)]
    agents: usize,
    /// How many portals, each with a key of its own.
    #[arg(long, default_value_t = 4)]
    portals: usize,
    /// Commands at the same time.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Commands in one round.
    #[arg(long, default_value_t = 5_000)]
    commands: usize,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

impl Size {
    fn plan(&self, subjects: Vec<Subject>, in_memory: bool) -> Commands {
        let Self { agents, portals, in_flight, commands, rounds } = *self;
        Commands { subjects, agents, portals, in_flight, commands, rounds, in_memory }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    Relay,
    Floor,
    Nats,
    Jetstream,
}

impl From<Name> for Subject {
    fn from(name: Name) -> Self {
        match name {
            Name::Relay => Self::Relay,
            Name::Floor => Self::Floor,
            Name::Nats => Self::Nats,
            Name::Jetstream => Self::JetStream,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli.measure, cli.json).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("writeback-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn execute(measure: Measure, json: bool) -> Fallible<()> {
    let report = match measure {
        Measure::Idle { what, agents, settle_seconds } => {
            let subjects =
                what.subjects().into_iter().filter(|s| matches!(s, Subject::Relay | Subject::Nats)).collect();
            measure::idle(&Idle { subjects, agents, settle: Duration::from_secs(settle_seconds) }).await?
        }
        Measure::Storm { what, agents, rounds } => measure::storm(&what.subjects(), agents, rounds).await?,
        Measure::Commands { what, size, in_memory } => {
            measure::commands(&size.plan(what.subjects(), in_memory)).await?
        }
        Measure::Rate { what, agents, connections, rates, seconds, in_memory } => {
            measure::rate(&Rate { subjects: what.subjects(), agents, connections, rates, seconds, in_memory }).await?
        }
        Measure::Cluster { size, nodes } => measure::cluster(&nodes, &size.plan(vec![Subject::Relay], false)).await?,
        Measure::Node { config } => return node(config).await,
        Measure::Floor { listen, cert_file, key_file, portal_jwk } => {
            return bench::serve(listen, TlsFiles { cert_file, key_file }, &portal_jwk).await;
        }
        Measure::Agents { orders } => return bench::hold(&orders).await,
    };
    show(&report, json)
}

fn show(report: &Report, json: bool) -> Fallible<()> {
    Ok(host::print(&if json { serde_json::to_string_pretty(report)? + "\n" } else { report.table() })?)
}

/// As `writeback-relay run`, until it is killed.
async fn node(config: PathBuf) -> Fallible<()> {
    telemetry::log_to_stderr("info");
    let node = Node::start(Config::read(&config)?, false, System::clock(), System::random()).await?;
    Err(node.failed().await.into())
}
