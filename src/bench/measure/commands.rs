//! A closed loop: so many commands in flight, each followed by the next.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{CPU, CPU_WITHOUT, MEMORY, P50, P99, PER_SECOND, each, milliseconds, place, present, scene, verification};
use crate::bench::Fallible;
use crate::bench::limits;
use crate::bench::load::closed;
use crate::bench::report::Report;
use crate::bench::stage::{Scene, Stage};
use crate::bench::subject::Subject;

/// A closed loop.
#[derive(Clone, Debug)]
pub struct Commands {
    /// What is measured, side by side.
    pub subjects: Vec<Subject>,
    /// How many agents.
    pub agents: usize,
    /// How many portals, each with a key of its own.
    pub portals: usize,
    /// How many commands at the same time.
    pub in_flight: usize,
    /// How many in one round.
    pub commands: usize,
    /// Rounds: in each, every subject has its turn, so that whatever else the machine does hits all alike.
    pub rounds: usize,
    /// Stores on a file system in memory, so that no commit waits for a disk.
    pub in_memory: bool,
}

struct Running {
    stage: Stage,
    in_flight: usize,
    cpu: Duration,
    elapsed: Duration,
    latency: Histogram<u64>,
}

impl Running {
    async fn new(scene: Scene, in_flight: usize) -> Fallible<Self> {
        let mut stage = Stage::new(scene).await?;
        stage.agents().await?;
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        Ok(Self { stage, in_flight, cpu: Duration::ZERO, elapsed: Duration::ZERO, latency })
    }

    async fn round(&mut self, commands: usize) -> Fallible<()> {
        let requests = self.stage.everybody.requests(commands, 0..self.stage.scene.agents).await?;
        // Anew each time: servers don't keep connections on which nobody asks.
        let mut callers = self.stage.callers(self.in_flight).await?;
        let before = self.stage.cpu()?;
        let seen = self.stage.explained(closed(&mut callers, requests).await).await?;
        self.cpu += self.stage.cpu()?.saturating_sub(before);
        self.elapsed += seen.elapsed;
        self.latency.add(seen.latency)?;
        Ok(())
    }
}

/// Server CPU for one command, and how long it took.
///
/// # Errors
/// If this machine can't carry it, or a command fails.
pub async fn commands(plan: &Commands) -> Fallible<Report> {
    let (subjects, notes) = present(&plan.subjects);
    let scenes = subjects.iter().map(|subject| Scene {
        in_memory: plan.in_memory,
        ..scene(*subject, plan.agents, if *subject == Subject::Floor { 1 } else { plan.portals })
    });
    let title = format!(
        "{} agents, {} commands in flight, {} commands each{}",
        plan.agents,
        plan.in_flight,
        plan.rounds * plan.commands,
        place(plan.in_memory)
    );
    let mut report =
        side_by_side(title, &subjects.iter().map(|s| s.as_str()).collect::<Vec<_>>(), scenes.collect(), plan).await?;
    report.notes.extend(notes);
    Ok(report)
}

/// Each scene is a column.
pub(super) async fn side_by_side(
    title: String,
    columns: &[&str],
    scenes: Vec<Scene>,
    plan: &Commands,
) -> Fallible<Report> {
    limits::check(&scenes, plan.in_flight)?;
    let mut running = Vec::new();
    for scene in scenes {
        let mut begun = Running::new(scene, plan.in_flight).await?;
        // The first commands pay for what all share.
        begun.round(plan.commands.div_ceil(10)).await?;
        running.push(Running {
            cpu: Duration::ZERO,
            elapsed: Duration::ZERO,
            latency: Histogram::new_from(&begun.latency),
            ..begun
        });
    }
    for _ in 0..plan.rounds {
        for one in &mut running {
            one.round(plan.commands).await?;
        }
    }
    let total = plan.rounds * plan.commands;
    let verification = verification(total.min(2_000)).await?;
    let mut report = Report::new(title, columns.iter().copied());
    let cpu: Vec<f64> = running.iter().map(|one| each(one.cpu, total)).collect();
    report.row(CPU, cpu.iter().copied().map(Some));
    report.row(
        CPU_WITHOUT,
        running.iter().zip(&cpu).map(|(one, cpu)| one.stage.scene.subject.is_http().then(|| cpu - verification)),
    );
    report.row(P50, running.iter().map(|one| milliseconds(one.latency.value_at_quantile(0.5))));
    report.row(P99, running.iter().map(|one| milliseconds(one.latency.value_at_quantile(0.99))));
    report.row(PER_SECOND, running.iter().map(|one| Some(1e6 / each(one.elapsed, total))));
    report.row(MEMORY, running.iter().map(|one| one.stage.largest().ok()));
    report.notes.push(format!("One Ed25519 verification took {verification:.0} µs in this run."));
    Ok(report)
}
