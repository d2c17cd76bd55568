//! What is drawn.

mod plot;

use std::path::Path;

use plotters::style::RGBColor;

use self::plot::{Line, Plot};

use super::{Findings, LOADS, rate};
use crate::bench::Fallible;
use crate::bench::measure::cluster::column as on_redis;
use crate::bench::measure::idle::{FRESH, USED, column as agents};
use crate::bench::measure::rate::column as at_rate;
use crate::bench::measure::{CPU, P50, P99};
use crate::bench::subject::Subject::{Nats, Relay};

/// Each plot's file, without its ending, and its title.
pub(super) const TITLES: [(&str, &str); 4] = [MEMORY, CPU_BY_AGENTS, LATENCY, NODES];

const MEMORY: (&str, &str) = ("memory", "Memory of one idle agent, by how many there are");
const CPU_BY_AGENTS: (&str, &str) = ("cpu", "Server CPU for one command, by how many agents there are");
const LATENCY: (&str, &str) = ("latency", "Latency by rate, open loop");
const NODES: (&str, &str) = ("nodes", "CPU of all nodes and Redis for one command");

const RELAY: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const DURABLE: RGBColor = RGBColor(0xd6, 0x27, 0x28);
const NATS: RGBColor = RGBColor(0x2c, 0x8a, 0x2c);

/// Draws all of them into `folder`.
pub(super) fn draw(found: &Findings, folder: &Path) -> Fallible<()> {
    let line = |name, color, dashed, points| Line { name, color, dashed, points };
    let sizes = [found.plan.few_agents, found.plan.many_agents];
    let memory =
        |what: &str, subject| sizes.iter().map(|n| (count(*n), found.idle.value(what, &agents(subject, *n)))).collect();
    let idle = vec![
        line("relay, fresh", RELAY, false, memory(FRESH, Relay)),
        line("relay, used", RELAY, true, memory(USED, Relay)),
        line("nats-server, fresh", NATS, false, memory(FRESH, Nats)),
        line("nats-server, used", NATS, true, memory(USED, Nats)),
    ];
    let (x, at) = ("agents", sizes.map(count).to_vec());
    Plot { about: MEMORY, x, y: "KiB", tenfold: false, at, lines: idle }.draw(folder)?;

    let plan = &found.plan;
    let sizes = [(plan.agents, &found.busy), (plan.few_agents, &found.few), (plan.many_agents, &found.many)];
    let points = sizes.iter().map(|(n, report)| (count(*n), report.value(CPU, Relay.as_str()))).collect();
    let cpu = vec![line("relay", RELAY, false, points)];
    // The first two are too near to each other to be marked.
    let at = sizes.iter().skip(1).map(|(n, _)| count(*n)).collect();
    Plot { about: CPU_BY_AGENTS, x, y: "µs", tenfold: false, at, lines: cpu }.draw(folder)?;

    let rates = LOADS.map(|load| rate(found.saturating, load));
    let memory = |what: &str, subject| {
        rates.iter().map(|n| (*n, found.open_in_memory.value(what, &at_rate(subject, *n)))).collect()
    };
    let durable = |what: &str| rates.iter().map(|n| (*n, found.open.value(what, &at_rate(Relay, *n)))).collect();
    let latency = vec![
        line("relay in memory, p50", RELAY, false, memory(P50, Relay)),
        line("relay in memory, p99", RELAY, true, memory(P99, Relay)),
        line("relay durable, p50", DURABLE, false, durable(P50)),
        line("relay durable, p99", DURABLE, true, durable(P99)),
        line("nats-server, p50", NATS, false, memory(P50, Nats)),
        line("nats-server, p99", NATS, true, memory(P99, Nats)),
    ];
    let (x, y) = ("commands a second", "ms");
    Plot { about: LATENCY, x, y, tenfold: true, at: rates.to_vec(), lines: latency }.draw(folder)?;

    let nodes = [1, 2];
    let points = nodes.iter().map(|n| (count(*n), found.nodes.value(CPU, &on_redis(*n)))).collect();
    let lines = vec![line("relay", RELAY, false, points)];
    Plot { about: NODES, x: "nodes", y: "µs", tenfold: false, at: nodes.map(count).to_vec(), lines }.draw(folder)
}

#[expect(clippy::cast_precision_loss, reason = "a count")]
fn count(number: usize) -> f64 {
    number as f64
}
