//! What the bench can be told.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use writeback_relay::bench::Subject;
use writeback_relay::bench::measure::Commands;

/// A tenth less CPU for each command than with the system's, and the same memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a relay beside nats-server, and beside the least that any such server has to do.
#[derive(Parser)]
#[command(version, about)]
pub(crate) struct Cli {
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) measure: Measure,
}

#[derive(Subcommand)]
pub(crate) enum Measure {
    /// Everything, beside its targets.
    All {
        /// Tiny sizes, to see that all of it works: no figure means anything.
        #[arg(long)]
        quick: bool,
        /// The document whose generated part is written, with its plots in a folder of its name.
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
    /// The memory of one idle agent.
    Idle {
        #[command(flatten)]
        what: What,
        /// How many agents; more than one number, one after the other.
        #[arg(long, value_delimiter = ',', default_value = "1000,19000", value_parser = from(2))]
        agents: Vec<usize>,
        /// Commands before, so that what the store keeps in memory does not grow any more.
        #[arg(long, default_value_t = 15_000)]
        warm_commands: usize,
        /// How long to wait for heartbeats after the command.
        #[arg(long, default_value_t = 18, value_parser = value_parser!(u64).range(..=600))]
        settle_seconds: u64,
    },
    /// All agents connect at once.
    Storm {
        #[command(flatten)]
        what: What,
        /// How many agents.
        #[arg(long, default_value_t = 2_000, value_parser = from(1))]
        agents: usize,
        /// How often.
        #[arg(long, default_value_t = 3, value_parser = from(1))]
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
        #[arg(long, default_value_t = 200, value_parser = from(1))]
        agents: usize,
        /// Connections of portals.
        #[arg(long, default_value_t = 64, value_parser = from(1))]
        connections: usize,
        /// Commands a second; more than one number, one after the other.
        #[arg(long, value_delimiter = ',', default_value = "250,500,1000", value_parser = rate)]
        rates: Vec<f64>,
        /// For how long, in seconds.
        #[arg(long, default_value_t = 5.0, value_parser = seconds)]
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
        #[arg(long, value_delimiter = ',', default_value = "1,2", value_parser = from(1))]
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

/// A number that is not too small; nor so large that sums of some are none.
fn from(least: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..=1_000_000)
}

fn rate(text: &str) -> Result<f64, String> {
    between(text, 0.1, 100_000.0)
}

/// All commands are signed before the first is sent, and they expire.
fn seconds(text: &str) -> Result<f64, String> {
    between(text, 0.1, 120.0)
}

fn between(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse().map_err(|_| "no number")?;
    if (least..=most).contains(&number) { Ok(number) } else { Err(format!("not from {least} to {most}")) }
}

#[derive(Args)]
pub(crate) struct What {
    /// What is measured, side by side.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "relay,floor,nats,jetstream")]
    subjects: Vec<Name>,
}

impl What {
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        self.subjects.iter().map(|name| Subject::from(*name)).collect()
    }
}

#[derive(Args)]
pub(crate) struct Size {
    /// How many agents.
    #[arg(long, default_value_t = 200, value_parser = from(1))]
    agents: usize,
    /// How many portals, each with a key of its own.
    #[arg(long, default_value_t = 4, value_parser = from(1))]
    portals: usize,
    /// Commands at the same time.
    #[arg(long, default_value_t = 64, value_parser = from(1))]
    in_flight: usize,
    /// Commands in one round.
    #[arg(long, default_value_t = 5_000, value_parser = from(1))]
    commands: usize,
    /// Rounds.
    #[arg(long, default_value_t = 3, value_parser = from(1))]
    rounds: usize,
}

impl Size {
    pub(crate) fn plan(&self, subjects: Vec<Subject>, in_memory: bool) -> Commands {
        let Self { agents, portals, in_flight, commands, rounds } = *self;
        Commands { subjects, agents, portals, in_flight, commands, rounds, in_memory }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Name {
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
