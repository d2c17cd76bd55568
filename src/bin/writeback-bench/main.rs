//! The bench's command line.

mod arguments;

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use writeback_relay::bench::everything::{self, Document};
use writeback_relay::bench::measure::{self, Idle, Rate};
use writeback_relay::bench::{self, Fallible, Report, Subject};
use writeback_relay::clock::System;
use writeback_relay::host::{self, StopSignals};
use writeback_relay::relay::config::{Config, TlsFiles};
use writeback_relay::relay::lifecycle::Node;
use writeback_relay::telemetry;

use arguments::{Cli, Measure};

#[tokio::main]
async fn main() -> ExitCode {
    host::tell_panics();
    let cli = Cli::parse();
    let done = match StopSignals::catch() {
        Ok(mut stop) => tokio::select! {
            done = execute(cli.measure, cli.json) => done,
            // What was started ends with what has started it.
            () = stop.next(|| ()) => Err("stopped".into()),
        },
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            host::complain("writeback-bench", &error);
            ExitCode::FAILURE
        }
    }
}

async fn execute(measure: Measure, json: bool) -> Fallible<()> {
    let report = match measure {
        Measure::All { quick, write } => return all(quick, write, json).await,
        Measure::Idle { what, agents, warm_commands, settle_seconds } => {
            let subjects: Vec<_> =
                what.subjects().into_iter().filter(|s| matches!(s, Subject::Relay | Subject::Nats)).collect();
            if subjects.is_empty() {
                return Err("idle measures relay and nats".into());
            }
            measure::idle(&Idle { subjects, agents, warm_commands, settle: Duration::from_secs(settle_seconds) })
                .await?
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
            end_with_the_bench();
            return bench::serve(listen, TlsFiles { cert_file, key_file }, &portal_jwk).await;
        }
        Measure::Agents { orders } => {
            end_with_the_bench();
            return bench::hold(&orders).await;
        }
    };
    Ok(host::print(&if json { serde_json::to_string_pretty(&report)? + "\n" } else { report.table() })?)
}

/// Each table as soon as it is there; as JSON, all together.
async fn all(quick: bool, write: Option<PathBuf>, json: bool) -> Fallible<()> {
    let document = write.as_deref().map(Document::open).transpose()?;
    let plan = if quick { everything::Plan::quick() } else { everything::Plan::full() };
    let show = |report: &Report| if json { Ok(()) } else { Ok(host::print(&(report.table() + "\n"))?) };
    let found = everything::measure(&plan, show).await?;
    if json {
        host::print(&(serde_json::to_string_pretty(&found.all())? + "\n"))?;
    } else {
        host::print(&found.verdicts())?;
    }
    document.map_or(Ok(()), |document| document.write(&found))
}

/// As `writeback-relay run`, until it is killed.
async fn node(config: PathBuf) -> Fallible<()> {
    end_with_the_bench();
    telemetry::log_to_stderr("info");
    let node = Node::start(Config::read(&config)?, false, System::clock(), System::random()).await?;
    Err(node.failed().await.into())
}

/// Ends this process with the one that has started it, which holds the other end of its standard input.
fn end_with_the_bench() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}
