//! An open loop: so many commands a second, whatever comes back.

use super::{P50, P99, milliseconds, place, present, scene};
use crate::bench::Fallible;
use crate::bench::limits;
use crate::bench::load::{closed, open};
use crate::bench::report::Report;
use crate::bench::stage::{Scene, Stage};
use crate::bench::subject::Subject;

/// A fixed rate.
#[derive(Clone, Debug)]
pub struct Rate {
    /// What is measured.
    pub subjects: Vec<Subject>,
    /// How many agents.
    pub agents: usize,
    /// How many connections of portals: as many commands are in flight at most.
    pub connections: usize,
    /// Commands a second, one column for each.
    pub rates: Vec<f64>,
    /// For how long, in seconds.
    pub seconds: f64,
    /// Stores on a file system in memory, so that no commit waits for a disk.
    pub in_memory: bool,
}

/// What the column is called.
pub(in crate::bench) fn column(subject: Subject, rate: f64) -> String {
    format!("{subject} {rate:.0}/s")
}

/// Latency at fixed rates.
///
/// # Errors
/// If this machine can't carry it, or a command fails.
pub async fn rate(plan: &Rate) -> Fallible<Report> {
    let (subjects, notes) = present(&plan.subjects);
    let columns = subjects.iter().flat_map(|subject| plan.rates.iter().map(|rate| column(*subject, *rate)));
    let (agents, seconds) = (plan.agents, plan.seconds);
    let title = format!("Open loop, {agents} agents, {seconds} s at each rate{}", place(plan.in_memory));
    let mut report = Report::new(title, columns);
    let (mut p50, mut p99, mut p999) = (Vec::new(), Vec::new(), Vec::new());
    let scene = |subject| Scene {
        in_memory: plan.in_memory,
        ..scene(subject, plan.agents, if subject == Subject::Floor { 1 } else { 4 })
    };
    for subject in &subjects {
        limits::check(&[scene(*subject)], plan.connections)?;
    }
    for subject in subjects {
        let scene = scene(subject);
        let mut stage = Stage::new(scene).await?;
        stage.agents().await?;
        for rate in &plan.rates {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            let count = (rate * plan.seconds).max(1.0) as usize;
            let requests = stage.everybody.requests(count, 0..plan.agents).await?;
            let warm = stage.everybody.requests(plan.connections * 4, 0..plan.agents).await?;
            let mut callers = stage.callers(plan.connections).await?;
            stage.explained(closed(&mut callers, warm).await).await?;
            let seen = stage.explained(open(&mut callers, requests, *rate).await).await?;
            for (row, quantile) in [(&mut p50, 0.5), (&mut p99, 0.99), (&mut p999, 0.999)] {
                row.push(milliseconds(seen.latency.value_at_quantile(quantile)));
            }
        }
    }
    report.row(P50, p50);
    report.row(P99, p99);
    report.row("latency p99.9, ms", p999);
    report.notes.extend(notes);
    Ok(report)
}
