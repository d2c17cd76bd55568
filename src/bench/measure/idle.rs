//! The memory of one session.

use std::ops::Range;
use std::time::Duration;

use super::{present, scene};
use crate::bench::Fallible;
use crate::bench::limits;
use crate::bench::load::closed;
use crate::bench::report::Report;
use crate::bench::stage::Stage;
use crate::bench::subject::Subject;

/// Row: memory of a session that has just been opened.
pub(in crate::bench) const FRESH: &str = "one idle agent, fresh, KiB";
/// Row: memory of a session that has been used.
pub(in crate::bench) const USED: &str = "… after one command and a heartbeat, KiB";

/// Commands at the same time: fewer than would make buffers grow.
const IN_FLIGHT: usize = 32;
const PORTALS: usize = 4;
/// What a server has beside its sessions goes up and down by a MiB or two: where that is much, it is measured this often.
const ROUNDS: usize = 3;
/// With fewer agents it is much.
const FEW: usize = 5_000;

/// What the column is called.
pub(in crate::bench) fn column(subject: Subject, agents: usize) -> String {
    format!("{subject} {agents}")
}

/// Idle sessions.
#[derive(Clone, Debug)]
pub struct Idle {
    /// What is measured.
    pub subjects: Vec<Subject>,
    /// How many agents, one column for each; two at least.
    pub agents: Vec<usize>,
    /// Commands before, so that what the store keeps in memory does not grow any more: that is not the sessions'.
    pub warm_commands: usize,
    /// How long to wait for heartbeats after the command.
    pub settle: Duration,
}

/// The server's resident memory for one agent.
///
/// # Errors
/// If this machine can't carry it, or an agent can't connect.
pub async fn idle(plan: &Idle) -> Fallible<Report> {
    let (subjects, notes) = present(&plan.subjects);
    let cases: Vec<_> = subjects.iter().flat_map(|s| plan.agents.iter().map(|n| (*s, *n))).collect();
    let columns = cases.iter().map(|(subject, agents)| column(*subject, *agents));
    for (subject, agents) in &cases {
        limits::check(&[scene(*subject, *agents, PORTALS)], IN_FLIGHT)?;
    }
    let mut report = Report::new("Memory of one idle agent over TLS".to_owned(), columns);
    let (mut fresh, mut used) = (Vec::new(), Vec::new());
    for (subject, agents) in cases {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for _ in 0..(if agents < FEW { ROUNDS } else { 1 }) {
            let measured = of(subject, agents, plan).await?;
            before.push(measured.0);
            after.push(measured.1);
        }
        fresh.push(median(before));
        used.push(median(after));
    }
    report.row(FRESH, fresh);
    report.row(USED, used);
    report.notes.extend(notes);
    Ok(report)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

async fn of(subject: Subject, agents: usize, plan: &Idle) -> Fallible<(f64, f64)> {
    let mut stage = Stage::new(scene(subject, agents, PORTALS)).await?;
    // The first sessions and commands pay for what all share: pools, tables, the store's caches, the allocator's arenas.
    let warm = (agents / 10).clamp(1, 500);
    stage.connect(0..warm, IN_FLIGHT, false).await?;
    serve(&stage, plan.warm_commands, 0..warm).await?;
    let before = settled(&stage, plan).await?;
    stage.connect(warm..agents, IN_FLIGHT, false).await?;
    let fresh = settled(&stage, plan).await?;
    serve(&stage, agents - warm, warm..agents).await?;
    let used = settled(&stage, plan).await?;
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let each = |mib: f64| (mib - before) * 1024.0 / (agents - warm) as f64;
    Ok((each(fresh), each(used)))
}

/// What the server has when its allocator has given back what a burst of work has left.
async fn settled(stage: &Stage, plan: &Idle) -> Fallible<f64> {
    tokio::time::sleep(plan.settle).await;
    stage.largest()
}

async fn serve(stage: &Stage, commands: usize, agents: Range<usize>) -> Fallible<()> {
    let requests = stage.everybody.requests(commands, agents).await?;
    let mut callers = stage.callers(IN_FLIGHT).await?;
    stage.explained(closed(&mut callers, requests).await).await.map(drop)
}
