//! What is to be reached, and whether it was.

use serde::Serialize;

use super::{Findings, HALF, rate};
use crate::bench::measure::cluster::column as on_redis;
use crate::bench::measure::idle::{FRESH, USED, column as agents};
use crate::bench::measure::rate::column as at_rate;
use crate::bench::measure::storm::CONNECTION_CPU;
use crate::bench::measure::{CPU, CPU_WITHOUT, MEMORY, P50, P99, PER_SECOND};
use crate::bench::report::{Report, cell, grid};
use crate::bench::subject::Subject::{Nats, Relay};

/// Something that is to be reached, or only to be known.
struct Target {
    /// With the plan's sizes in braces.
    what: &'static str,
    at_most: Option<f64>,
    of: fn(&Findings) -> Option<f64>,
}

const fn target(what: &'static str, at_most: f64, of: fn(&Findings) -> Option<f64>) -> Target {
    Target { what, at_most: Some(at_most), of }
}

const fn known(what: &'static str, of: fn(&Findings) -> Option<f64>) -> Target {
    Target { what, at_most: None, of }
}

const TARGETS: &[Target] = &[
    target("memory of an idle agent of {few}, fresh, KiB", 12.0, |f| {
        f.idle.value(FRESH, &agents(Relay, f.plan.few_agents))
    }),
    target("memory of an idle agent of {few}, used, KiB", 16.0, |f| {
        f.idle.value(USED, &agents(Relay, f.plan.few_agents))
    }),
    target("memory of an idle agent of {many}, fresh, KiB", 12.0, |f| {
        f.idle.value(FRESH, &agents(Relay, f.plan.many_agents))
    }),
    target("memory of an idle agent of {many}, used, KiB", 16.0, |f| {
        f.idle.value(USED, &agents(Relay, f.plan.many_agents))
    }),
    target("CPU, {flight} in flight: relay / floor", 1.3, |f| {
        ratio(of(&f.busy, CPU, "relay"), of(&f.busy, CPU, "floor"))
    }),
    target("CPU, {flight} in flight: floor / (nats + one verification)", 1.0, |f| {
        let floor = of(&f.busy, CPU, "floor")?;
        let verification = floor - of(&f.busy, CPU_WITHOUT, "floor")?;
        ratio(Some(floor), Some(of(&f.busy, CPU, "nats")? + verification))
    }),
    target("CPU, {flight} in flight: relay without one verification / nats", 0.8, |f| {
        ratio(of(&f.busy, CPU_WITHOUT, "relay"), of(&f.busy, CPU, "nats"))
    }),
    target("CPU, {flight} in flight: relay / jetstream", 1.2, |f| {
        ratio(of(&f.busy, CPU, "relay"), of(&f.busy, CPU, "jetstream"))
    }),
    target("CPU, 1 in flight: relay without one verification / nats", 1.0, |f| {
        ratio(of(&f.alone, CPU_WITHOUT, "relay"), of(&f.alone, CPU, "nats"))
    }),
    target("the same in memory", 1.0, |f| {
        ratio(of(&f.alone_in_memory, CPU_WITHOUT, "relay"), of(&f.alone_in_memory, CPU, "nats"))
    }),
    target("latency p50, 1 in flight, in memory: relay / nats", 1.5, |f| {
        ratio(of(&f.alone_in_memory, P50, "relay"), of(&f.alone_in_memory, P50, "nats"))
    }),
    target("latency p99 at half the saturating rate, in memory: relay / nats", 1.5, |f| {
        let at = |subject| f.open_in_memory.value(P99, &at_rate(subject, rate(f.saturating, HALF)));
        ratio(at(Relay), at(Nats))
    }),
    target("CPU: {many} agents / {few} agents", 1.2, |f| ratio(of(&f.many, CPU, "relay"), of(&f.few, CPU, "relay"))),
    target("CPU of one connection in a storm: relay / floor", 1.5, |f| {
        ratio(of(&f.storm, CONNECTION_CPU, "relay"), of(&f.storm, CONNECTION_CPU, "floor"))
    }),
    target("CPU with Redis: two nodes / one", 2.0, |f| {
        ratio(f.nodes.value(CPU, &on_redis(2)), f.nodes.value(CPU, &on_redis(1)))
    }),
    // The first command that fails ends the run.
    target("{nodes} nodes of {each} agents: commands that failed", 0.0, |f| f.large(PER_SECOND).map(|_| 0.0)),
    known("{nodes} nodes of {each} agents: memory of the largest, MiB", |f| f.large(MEMORY)),
    known("{nodes} nodes of {each} agents: commands a second", |f| f.large(PER_SECOND)),
];

/// A column that is named after its subject.
fn of(report: &Report, what: &str, subject: &str) -> Option<f64> {
    report.value(what, subject)
}

/// None if one of them was not measured, or there is nothing to compare with.
fn ratio(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.zip(other).filter(|(_, other)| *other > 0.0).map(|(one, other)| one / other)
}

/// A target, and what was measured.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    what: String,
    measured: Option<f64>,
    at_most: Option<f64>,
    verdict: &'static str,
}

pub(super) fn judge(found: &Findings) -> Vec<Verdict> {
    let plan = &found.plan;
    let sizes = [
        ("{few}", plan.few_agents),
        ("{many}", plan.many_agents),
        ("{flight}", plan.in_flight),
        ("{nodes}", plan.nodes),
        ("{each}", plan.agents_of_node),
    ];
    let judged = |target: &Target| {
        let measured = (target.of)(found);
        let verdict = match (target.at_most, measured) {
            (None, _) => "–",
            _ if !plan.judged => "not judged",
            (Some(_), None) => "not measured",
            (Some(most), Some(measured)) if measured <= most => "met",
            _ => "not met",
        };
        let what =
            sizes.iter().fold(target.what.to_owned(), |what, (name, size)| what.replace(name, &size.to_string()));
        Verdict { what, measured, at_most: target.at_most, verdict }
    };
    TARGETS.iter().map(judged).collect()
}

pub(super) fn table(found: &Findings) -> String {
    let row = |it: Verdict| (it.what, vec![cell(it.measured), cell(it.at_most), it.verdict.to_owned()]);
    grid(&["measured", "at most", ""], &judge(found).into_iter().map(row).collect::<Vec<_>>())
}
