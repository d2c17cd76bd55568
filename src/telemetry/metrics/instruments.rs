//! Every metric of a relay node: its name, unit and labels, after OpenMetrics and the OpenTelemetry semantic conventions.
//! A name that is exported stays: dashboards and alerts stand on it.

use std::fmt::Write;

use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};

use super::process;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It is what it is now.
    Gauge,
    /// How often which sizes came.
    Histogram,
}

/// A metric, as it is described.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// As OpenTelemetry has it.
    pub(super) name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// In the Unified Code for Units of Measure: `s`, `By`, or nothing for things that are counted.
    pub(super) unit: &'static str,
    /// What tells its series apart: few values each, that are known beforehand.
    pub labels: &'static [&'static str],
    /// Whether the tenant is one more, with `telemetry.tenant_label`.
    pub by_tenant: bool,
    /// For people.
    pub help: &'static str,
}

impl Described {
    /// As Prometheus has it.
    #[must_use]
    pub fn exported(&self) -> String {
        let unit = match self.unit {
            "s" => "_seconds",
            "By" => "_bytes",
            "1" => "_ratio",
            _ => "",
        };
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{}{unit}{total}", self.name.replace('.', "_"))
    }
}

/// From what is done in memory to what waits for a disk far away.
const SHORT: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5];
/// From a quick answer to the longest a command may live.
const LONG: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];

macro_rules! build {
    ($meter:ident Counter $name:literal $unit:literal $help:literal) => {
        $meter.u64_counter($name).with_unit($unit).with_description($help).build()
    };
    ($meter:ident UpDown $name:literal $unit:literal $help:literal) => {
        $meter.i64_up_down_counter($name).with_unit($unit).with_description($help).build()
    };
    ($meter:ident Gauge $name:literal $unit:literal $help:literal) => {
        $meter.f64_gauge($name).with_unit($unit).with_description($help).build()
    };
    ($meter:ident Short $name:literal $unit:literal $help:literal) => {
        $meter.f64_histogram($name).with_unit($unit).with_description($help).with_boundaries(SHORT.to_vec()).build()
    };
    ($meter:ident Long $name:literal $unit:literal $help:literal) => {
        $meter.f64_histogram($name).with_unit($unit).with_description($help).with_boundaries(LONG.to_vec()).build()
    };
}

macro_rules! kind {
    (Counter) => {
        Kind::Counter
    };
    (UpDown) => {
        Kind::Gauge
    };
    (Gauge) => {
        Kind::Gauge
    };
    (Short) => {
        Kind::Histogram
    };
    (Long) => {
        Kind::Histogram
    };
}

macro_rules! instrument {
    (Counter) => { Counter<u64> };
    (UpDown) => { UpDownCounter<i64> };
    (Gauge) => { Gauge<f64> };
    (Short) => { Histogram<f64> };
    (Long) => { Histogram<f64> };
}

macro_rules! instruments {
    ($($field:ident, $kind:ident, $name:literal, $unit:literal, [$($label:literal),*], $by_tenant:literal, $help:literal;)*) => {
        /// The instruments behind [`NODE`].
        pub(super) struct Instruments { $(pub(super) $field: instrument!($kind),)* }

        impl Instruments {
            pub(super) fn new(meter: &Meter) -> Self {
                Self { $($field: build!(meter $kind $name $unit $help),)* }
            }
        }

        /// Every metric of the relay's own.
        const NODE: &[Described] = &[$(Described {
            name: $name,
            kind: kind!($kind),
            unit: $unit,
            labels: &[$($label),*],
            by_tenant: $by_tenant,
            help: $help,
        },)*];
    };
}

instruments! {
    build_info, Gauge, "writeback.build_info", "", ["version", "revision"], false, "Always 1; the labels say which version runs, and of which commit";
    ready, Gauge, "writeback.ready", "", [], false, "1 if this node serves, as /readyz says";
    sessions, UpDown, "writeback.sessions", "", [], true, "Agent sessions open on this node";
    session_ends, Counter, "writeback.session.ends", "", ["reason"], true, "Agent sessions that ended, by reason: one of the close codes, or `left` (the agent stops), `moved` (it was told to go, and has closed), `dropped` (it has closed by itself, and goes on in another session), `lost`";
    preflights, UpDown, "writeback.session.preflights", "", ["state"], true, "Agent sessions on this node, by the state of the last preflight that came over them";
    tls_handshakes, Counter, "writeback.tls.handshakes", "", ["result"], false, "TLS handshakes on the public listener, by result";
    handshakes, Counter, "writeback.handshakes", "", ["result"], false, "Attempts to open an agent session, by result";
    submits, Counter, "writeback.commands", "", ["result"], true, "Commands submitted, by what was found";
    submit_failures, Counter, "writeback.submit.failures", "", ["code"], false, "Submits that were answered by a 5xx, by problem code: that reset was not done, as far as this answer knows";
    in_flight, Gauge, "writeback.commands.in_flight", "", [], false, "Commands that were submitted to this node and have no end yet";
    ends, Counter, "writeback.command.ends", "", ["state"], true, "Commands that ended on this node, by state";
    outcomes, Counter, "writeback.outcomes", "", ["status", "code"], true, "Outcomes that agents signed and this node stored, by what they say";
    duration, Long, "writeback.command.duration", "s", [], true, "From a command's acceptance to its signed outcome";
    states, Long, "writeback.command.state.duration", "s", ["state"], false, "How long commands with a signed outcome stood in each state before it";
    problems, Counter, "writeback.problems", "", ["code"], false, "Requests refused, by problem code";
    rejected, Counter, "writeback.credentials.rejected", "", ["kind", "reason"], false, "Credentials that were refused, by who showed them and why";
    limits, Counter, "writeback.limits.hits", "", ["limit"], true, "What was refused because there was too much of it, by limit";
    stored, Short, "writeback.store.duration", "s", ["store", "purpose"], false, "How long the store took to answer, by what it was asked for";
    store_errors, Counter, "writeback.store.errors", "", ["store", "purpose"], false, "Questions to the store that were not answered, or with an error";
    writable, Gauge, "writeback.store.writable", "", [], false, "1 if the store takes writes, as far as this node knows; /readyz and status say why not";
    registry_lost, Gauge, "writeback.registry.lost", "", [], false, "1 if the registry, or a part of it, came back empty or older than this node has seen it; /readyz and status say more";
    registry_tenants, Gauge, "writeback.registry.tenants", "", [], false, "Tenants in the registry, as this node last saw it";
    redis_round_trips, Counter, "writeback.redis.round_trips", "", ["purpose"], false, "Commands, pipelines and scripts sent to Redis, by what they are for";
    bus_round_trip, Short, "writeback.bus.round_trip.duration", "s", [], false, "From this node through Redis back to this node, once a second";
    probe_age, Gauge, "writeback.bus.probe.age", "s", [], false, "Since this node last heard itself through Redis";
    clock_offset, Gauge, "writeback.clock.offset", "s", [], false, "How far this host's clock is ahead of Redis'; below zero, behind it";
    messages_refused, Counter, "writeback.bus.messages.refused", "", ["reason"], false, "Messages between nodes that were not acted on, by reason";
    messages_dropped, Counter, "writeback.bus.messages.dropped", "", [], false, "Messages between nodes that came faster than they could be taken";
    certificate, Gauge, "writeback.tls.certificate.remaining", "s", [], false, "Until the public listener's certificate, or one in its chain, expires";
    draining, Gauge, "writeback.draining", "", [], false, "1 from when this node was told to stop";
    drained, Gauge, "writeback.drain.progress", "1", [], false, "How much of what a draining node had, sessions and commands, is gone: from 0 to 1";
}

/// Every metric.
pub fn all() -> impl Iterator<Item = &'static Described> {
    NODE.iter().chain(process::ALL)
}

/// All metrics, for people: `docs/metrics.md`.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(
        "# Metrics of a relay node\n\nAs `/metrics` on the ops listener exports them; made from \
         `src/telemetry/metrics/instruments.rs` by `writeback-relay metrics`.\nNo label has unbounded values. With \
         `telemetry.tenant_label = true` those marked with \u{2020} have the label `tenant` too.\n\n\
         | name | kind | labels | what it is |\n|---|---|---|---|\n",
    );
    for metric in all() {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let tenant = if metric.by_tenant { " \u{2020}" } else { "" };
        // Writing to a text never fails.
        let _ = writeln!(text, "| `{}`{tenant} | {kind} | {} | {} |", metric.exported(), labels.join(" "), metric.help);
    }
    text
}
