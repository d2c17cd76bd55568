//! What can be measured, each as one report.

pub(super) mod cluster;
mod commands;
pub(super) mod idle;
pub(super) mod rate;
pub(super) mod storm;

pub use cluster::cluster;
pub use commands::{Commands, commands};
pub use idle::{Idle, idle};
pub use rate::{Rate, rate};
pub use storm::storm;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Fallible;
use super::population::Population;
use super::stage::Scene;
use super::subject::Subject;
use crate::protocol::command::Command as Claims;

/// Row: server CPU for one command, in microseconds.
pub const CPU: &str = "server CPU for one command, µs";
/// Row: the same without the one verification of its signature.
pub const CPU_WITHOUT: &str = "… without one Ed25519 verification, µs";
/// Row: median latency, in milliseconds.
pub const P50: &str = "latency p50, ms";
/// Row: 99th percentile of the latency, in milliseconds.
pub const P99: &str = "latency p99, ms";
/// Row: commands a second.
pub const PER_SECOND: &str = "commands a second";

/// Row: resident memory of the largest server, in MiB.
pub const MEMORY: &str = "memory of the largest server, MiB";

/// What of these subjects can be measured here, and what is to be said of the others.
fn present(subjects: &[Subject]) -> (Vec<Subject>, Vec<String>) {
    let missing =
        |subject: &&Subject| matches!(subject, Subject::Nats | Subject::JetStream) && !is_installed("nats-server");
    let (missing, present): (Vec<Subject>, Vec<Subject>) = subjects.iter().partition(missing);
    let note = |subject: &Subject| format!("{subject}: nats-server is not installed, and was not measured.");
    (present, missing.iter().map(note).collect())
}

/// Nodes need one Redis.
pub(super) fn redis() -> Fallible<()> {
    if is_installed("redis-server") { Ok(()) } else { Err("redis-server is not installed".into()) }
}

fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

pub(super) fn scene(subject: Subject, agents: usize, portals: usize) -> Scene {
    Scene { subject, agents, portals, redis_nodes: 0, in_memory: false }
}

/// What a title says of where stores are.
fn place(in_memory: bool) -> &'static str {
    if in_memory { ", no commit waits for a disk" } else { "" }
}

fn milliseconds(micros: u64) -> Option<f64> {
    u32::try_from(micros).ok().map(|micros| f64::from(micros) / 1000.0)
}

#[expect(clippy::cast_precision_loss, reason = "a count")]
fn each(total: Duration, count: usize) -> f64 {
    total.as_secs_f64() * 1e6 / count as f64
}

/// What one verification of a command costs in this very run, in microseconds.
async fn verification(times: usize) -> Fallible<f64> {
    let everybody = std::sync::Arc::new(Population::new(1, 1)?);
    let requests = everybody.requests(times, 0..1).await?;
    let key = everybody.portal_key().ok_or("no portals")?;
    let mut best = f64::MAX;
    // The machine may be busy with something else: the quickest of some is what it costs.
    for some in requests.chunks(times.div_ceil(10).max(1)) {
        let begun = Instant::now();
        for request in some {
            let _: Claims = Claims::parse(&request.body)?.verify([key])?;
        }
        best = best.min(each(begun.elapsed(), some.len()));
    }
    Ok(best)
}
