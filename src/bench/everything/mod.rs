//! All measurements in one run, beside their targets.

mod document;
mod machine;
mod plan;
mod plots;
mod targets;

pub use document::Document;
pub use plan::Plan;

use serde::Serialize;

use self::machine::Machine;
use self::targets::Verdict;
use super::Fallible;
use super::measure::cluster::column as on_redis;
use super::measure::{self, Idle, PER_SECOND, Rate, redis};
use super::report::Report;
use super::subject::Subject::{Floor, JetStream, Nats, Relay};

/// Parts of the rate at which the relay is saturated, at which latency is measured.
const LOADS: [f64; 4] = [0.125, 0.25, HALF, 0.75];
/// The one of them that is judged.
const HALF: f64 = 0.5;

/// What was found.
pub struct Findings {
    plan: Plan,
    machine: Machine,
    idle: Report,
    storm: Report,
    /// Many commands in flight.
    busy: Report,
    busy_in_memory: Report,
    /// One command in flight.
    alone: Report,
    alone_in_memory: Report,
    few: Report,
    many: Report,
    open_in_memory: Report,
    open: Report,
    /// Commands a second at which the relay is saturated.
    saturating: f64,
    nodes: Report,
    large: Report,
}

/// All of it, for programs.
#[derive(Serialize)]
pub struct All<'a> {
    machine: &'a Machine,
    reports: Vec<&'a Report>,
    targets: Vec<Verdict>,
}

/// Runs everything; `show` is given each report when it is done.
///
/// # Errors
/// If this machine can't carry it, which is said before anything begins, or something fails.
pub async fn measure(plan: &Plan, show: impl Fn(&Report) -> Fallible<()>) -> Fallible<Findings> {
    plan.check()?;
    redis()?;
    let shown = async |measured: Fallible<Report>| {
        let report = measured?;
        show(&report)?;
        Fallible::Ok(report)
    };
    let busy = |agents, subjects: &[_]| plan.commands(agents, subjects);
    let alone = plan.alone(&[Relay, Floor, Nats]);
    let in_memory = |commands| measure::Commands { in_memory: true, ..commands };

    let idle = Idle {
        subjects: vec![Relay, Nats],
        agents: vec![plan.few_agents, plan.many_agents],
        warm_commands: plan.warm_commands,
        settle: plan.settle,
    };
    let idle = shown(measure::idle(&idle).await).await?;
    let storm = measure::storm(&[Relay, Floor, Nats], plan.storm_agents, plan.rounds).await;
    let storm = shown(storm).await?;
    let durable = busy(plan.agents, &[Relay, Floor, Nats, JetStream]);
    let found_busy = shown(measure::commands(&durable).await).await?;
    let busy_in_memory = in_memory(busy(plan.agents, &[Relay]));
    let busy_in_memory = shown(measure::commands(&busy_in_memory).await).await?;
    let found_alone = shown(measure::commands(&alone).await).await?;
    let alone_in_memory = shown(measure::commands(&in_memory(alone)).await).await?;
    let few = shown(measure::commands(&busy(plan.few_agents, &[Relay])).await).await?;
    let many = shown(measure::commands(&busy(plan.many_agents, &[Relay])).await).await?;

    let saturating = busy_in_memory.value(PER_SECOND, Relay.as_str()).ok_or("the relay was not measured")?;
    let open = Rate {
        subjects: vec![Relay, Nats],
        agents: plan.agents,
        connections: plan.in_flight,
        rates: LOADS.iter().map(|load| rate(saturating, *load)).collect(),
        seconds: plan.seconds,
        in_memory: true,
    };
    let open_in_memory = shown(measure::rate(&open).await).await?;
    let open = Rate { subjects: vec![Relay], in_memory: false, ..open };
    let open = shown(measure::rate(&open).await).await?;

    let nodes = shown(measure::cluster(&[1, 2], &busy(plan.agents, &[Relay])).await).await?;
    let large = busy(plan.nodes * plan.agents_of_node, &[Relay]);
    let large = measure::Commands { rounds: 1, ..large };
    let large = shown(measure::cluster(&[plan.nodes], &large).await).await?;
    Ok(Findings {
        plan: plan.clone(),
        machine: Machine::here()?,
        idle,
        storm,
        busy: found_busy,
        busy_in_memory,
        alone: found_alone,
        alone_in_memory,
        few,
        many,
        open_in_memory,
        open,
        saturating,
        nodes,
        large,
    })
}

/// Whole commands a second.
fn rate(saturating: f64, load: f64) -> f64 {
    (saturating * load).round().max(1.0)
}

impl Findings {
    /// A figure of the large cluster.
    fn large(&self, what: &str) -> Option<f64> {
        self.large.value(what, &on_redis(self.plan.nodes))
    }

    fn reports(&self) -> Vec<&Report> {
        let Self { idle, storm, busy, busy_in_memory, alone, alone_in_memory, few, many, .. } = self;
        let Self { open_in_memory, open, nodes, large, .. } = self;
        vec![idle, storm, busy, busy_in_memory, alone, alone_in_memory, few, many, open_in_memory, open, nodes, large]
    }

    /// All of it, for programs.
    #[must_use]
    pub fn all(&self) -> All<'_> {
        All { machine: &self.machine, reports: self.reports(), targets: targets::judge(self) }
    }

    /// The table of targets.
    #[must_use]
    pub fn verdicts(&self) -> String {
        format!("Targets\n\n{}", targets::table(self))
    }
}
