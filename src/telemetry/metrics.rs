//! The relay's metrics. Every name, unit and label stands in [`instruments`].

pub mod instruments;
pub(super) mod process;
mod zeros;

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, TextEncoder};

use self::instruments::Instruments;
pub use self::zeros::status;
use super::limit::Limit;
use crate::protocol::ids::TenantId;

/// Counters and histograms of one node, and their text form for Prometheus.
pub struct Metrics {
    registry: prometheus::Registry,
    // The instruments stop counting when it is dropped.
    _provider: SdkMeterProvider,
    with: Instruments,
    /// Whether series are told apart by their tenant.
    tenant_label: bool,
}

/// The exporter could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("metrics can't be set up: {0}")]
pub struct MetricsError(String);

/// How a node is now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Whether it serves.
    pub ready: bool,
    /// Whether the store takes writes.
    pub writable: bool,
    /// Whether the registry came back empty, or older than it was.
    pub registry_lost: bool,
    /// How many tenants it had when it was last looked.
    pub registry_tenants: u64,
    /// Commands without an end.
    pub in_flight: usize,
    /// Since it last heard itself; none if it has no bus to hear.
    pub probe_age: Option<Duration>,
    /// How far its host's clock is ahead of Redis', in milliseconds; none if that is not known.
    pub clock_offset_ms: Option<i64>,
    /// Until its certificate expires, in seconds; below zero if it has.
    pub certificate_remaining: Option<i64>,
    /// How much of what it had is gone, from 0 to 1, if it is stopping.
    pub drained: Option<f64>,
}

impl Metrics {
    /// With all counters at zero, and no tenant named.
    ///
    /// # Errors
    /// If the exporter refuses.
    pub fn new() -> Result<Self, MetricsError> {
        Self::labelled(false)
    }

    /// The same; `tenant_label` if series are to be told apart by their tenant.
    ///
    /// # Errors
    /// If the exporter refuses.
    pub fn labelled(tenant_label: bool) -> Result<Self, MetricsError> {
        let registry = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .map_err(|e| MetricsError(e.to_string()))?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("writeback-relay");
        process::observe(&meter);
        let with = Instruments::new(&meter);
        with.build_info.record(1.0, &build());
        with.begin(tenant_label);
        Ok(Self { registry, _provider: provider, with, tenant_label })
    }

    /// Gives `record` the labels of a series: these, and the tenant if that is one.
    fn of<const N: usize>(&self, tenant: &TenantId, labels: [KeyValue; N], record: impl FnOnce(&[KeyValue])) {
        if !self.tenant_label {
            return record(&labels);
        }
        let mut labels = Vec::from(labels);
        labels.push(KeyValue::new("tenant", tenant.to_string()));
        record(&labels);
    }

    /// A session is open (`1`) or closed (`-1`).
    pub fn sessions(&self, tenant: &TenantId, change: i64) {
        self.of(tenant, [], |labels| self.with.sessions.add(change, labels));
    }

    /// A TLS handshake ended. `result` is `done`, `failed`, `timeout`, or `overloaded`: it got no place.
    pub fn tls_handshake(&self, result: &'static str) {
        self.with.tls_handshakes.add(1, &[KeyValue::new("result", result)]);
    }

    /// An agent tried to open a session. `result` is `accepted` or a problem code.
    pub fn handshake(&self, result: &'static str) {
        self.with.handshakes.add(1, &[KeyValue::new("result", result)]);
    }

    /// A session ended. `reason` is a close reason, `left` or `lost`.
    pub fn session_ended(&self, tenant: &TenantId, reason: &'static str) {
        self.of(tenant, [KeyValue::new("reason", reason)], |labels| self.with.session_ends.add(1, labels));
    }

    /// The last preflight of one more session (`1`), or of one less, has this state: `ok`, `warning` or `failed`.
    pub fn preflight(&self, tenant: &TenantId, state: &'static str, change: i64) {
        self.of(tenant, [KeyValue::new("state", state)], |labels| self.with.preflights.add(change, labels));
    }

    /// A verified command was submitted. `result` is `new`, `known` or `conflict`.
    pub fn submitted(&self, tenant: &TenantId, result: &'static str) {
        self.of(tenant, [KeyValue::new("result", result)], |labels| self.with.submits.add(1, labels));
    }

    /// A submit was answered by this problem, of those that say that no reset was done.
    pub fn submit_failed(&self, code: &'static str) {
        self.with.submit_failures.add(1, &[KeyValue::new("code", code)]);
    }

    /// A command ended here. `state` is `concluded` or why it was not delivered.
    pub fn ended(&self, tenant: &TenantId, state: &'static str) {
        self.of(tenant, [KeyValue::new("state", state)], |labels| self.with.ends.add(1, labels));
    }

    /// An outcome was stored that says this.
    pub fn outcome(&self, tenant: &TenantId, status: &'static str, code: &'static str) {
        let labels = [KeyValue::new("status", status), KeyValue::new("code", code)];
        self.of(tenant, labels, |labels| self.with.outcomes.add(1, labels));
    }

    /// A signed outcome came this long after the command, in milliseconds.
    pub fn concluded_after(&self, tenant: &TenantId, ms: u64) {
        self.of(tenant, [], |labels| self.with.duration.record(seconds(ms), labels));
    }

    /// A command that has a signed outcome stood in a state for so many milliseconds: `accepted`, `delivering` or
    /// `received`.
    pub fn stood(&self, state: &'static str, ms: u64) {
        self.with.states.record(seconds(ms), &[KeyValue::new("state", state)]);
    }

    /// A request was refused.
    pub fn problem(&self, code: &'static str) {
        self.with.problems.add(1, &[KeyValue::new("code", code)]);
    }

    /// A credential was refused. `kind` is `portal`, `agent`, `enrollment` or `admin`; `reason` is a problem code, or for
    /// `admin` what is wrong with a token.
    pub fn credential_rejected(&self, kind: &'static str, reason: &'static str) {
        self.with.rejected.add(1, &[KeyValue::new("kind", kind), KeyValue::new("reason", reason)]);
    }

    /// There was too much of something.
    pub fn limit_hit(&self, limit: Limit) {
        self.with.limits.add(1, &[KeyValue::new("limit", limit.as_str())]);
    }

    /// A tenant had too much of something.
    pub fn tenant_limit_hit(&self, tenant: &TenantId, limit: Limit) {
        self.of(tenant, [KeyValue::new("limit", limit.as_str())], |labels| self.with.limits.add(1, labels));
    }

    /// The store, `embedded` or `redis`, took so long to answer what it was asked for.
    pub fn stored(&self, store: &'static str, purpose: &'static str, took: Duration, answered: bool) {
        let labels = [KeyValue::new("store", store), KeyValue::new("purpose", purpose)];
        self.with.stored.record(took.as_secs_f64(), &labels);
        if !answered {
            self.with.store_errors.add(1, &labels);
        }
    }

    /// The store will be asked for this: its failures are seen to be none before there is one.
    pub fn store_used(&self, store: &'static str, purpose: &'static str) {
        self.with.store_errors.add(0, &[KeyValue::new("store", store), KeyValue::new("purpose", purpose)]);
    }

    /// Something was sent to Redis. `purpose` is a contract's name, or what the node does for itself.
    pub fn redis_round_trip(&self, purpose: &'static str) {
        self.with.redis_round_trips.add(1, &[KeyValue::new("purpose", purpose)]);
    }

    /// This node has heard itself, so long after it spoke.
    pub fn bus_round_trip(&self, took: Duration) {
        self.with.bus_round_trip.record(took.as_secs_f64(), &[]);
    }

    /// A message between nodes was not acted on. `reason` is `malformed`, `signature`, `stale` or `replayed`.
    pub fn message_refused(&self, reason: &'static str) {
        self.with.messages_refused.add(1, &[KeyValue::new("reason", reason)]);
    }

    /// A message between nodes was dropped: too many were waiting.
    pub fn message_dropped(&self) {
        self.with.messages_dropped.add(1, &[]);
    }

    /// How the node is, for whoever looks now.
    #[expect(clippy::cast_precision_loss, reason = "counts and seconds fit 53 bits")]
    pub fn observe(&self, now: &Now) {
        let flag = |set: bool| if set { 1.0 } else { 0.0 };
        self.with.ready.record(flag(now.ready), &[]);
        self.with.writable.record(flag(now.writable), &[]);
        self.with.registry_lost.record(flag(now.registry_lost), &[]);
        self.with.registry_tenants.record(now.registry_tenants as f64, &[]);
        self.with.in_flight.record(now.in_flight as f64, &[]);
        self.with.draining.record(flag(now.drained.is_some()), &[]);
        self.with.drained.record(now.drained.unwrap_or(0.0), &[]);
        if let Some(age) = now.probe_age {
            self.with.probe_age.record(age.as_secs_f64(), &[]);
        }
        if let Some(ms) = now.clock_offset_ms {
            self.with.clock_offset.record(ms as f64 / 1000.0, &[]);
        }
        if let Some(remaining) = now.certificate_remaining {
            self.with.certificate.record(remaining as f64, &[]);
        }
    }

    /// The Prometheus text format.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn render(&self) -> Result<String, MetricsError> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).map_err(|e| MetricsError(e.to_string()))?;
        String::from_utf8(text).map_err(|e| MetricsError(e.to_string()))
    }
}

/// Which program this is: its version, and the commit that it was built of, if that is known.
pub(super) fn build() -> [KeyValue; 2] {
    [KeyValue::new("version", env!("CARGO_PKG_VERSION")), KeyValue::new("revision", env!("REVISION"))]
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of some minutes")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Everything that a node can count, counted.
    fn everything(tenant_label: bool) -> String {
        let (metrics, tenant) = (Metrics::labelled(tenant_label).unwrap(), "contoso".parse().unwrap());
        metrics.sessions(&tenant, 1);
        metrics.tls_handshake("done");
        metrics.handshake("accepted");
        metrics.session_ended(&tenant, "left");
        metrics.preflight(&tenant, "ok", 1);
        metrics.submitted(&tenant, "new");
        metrics.submit_failed("no_agent");
        metrics.ended(&tenant, "concluded");
        metrics.outcome(&tenant, "succeeded", "password_reset");
        metrics.concluded_after(&tenant, 12);
        metrics.stood("accepted", 1);
        metrics.problem("malformed");
        metrics.credential_rejected("portal", "bad_signature");
        metrics.limit_hit(Limit::AddressHandshakes);
        metrics.tenant_limit_hit(&tenant, Limit::TenantRate);
        metrics.stored("redis", "ledger", Duration::from_millis(2), false);
        metrics.redis_round_trip("ledger");
        metrics.bus_round_trip(Duration::from_millis(1));
        metrics.message_refused("stale");
        metrics.message_dropped();
        let now = Now {
            probe_age: Some(Duration::ZERO),
            clock_offset_ms: Some(-1),
            certificate_remaining: Some(-1),
            ..Now::default()
        };
        metrics.observe(&now);
        metrics.render().unwrap()
    }

    /// What is exported: each name, its kind, and its labels.
    fn exported(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
        let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let mut found: BTreeMap<String, (String, BTreeSet<String>)> =
            kinds.map(|(name, kind)| (name.to_owned(), (kind.to_owned(), BTreeSet::new()))).collect();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let ends = ["", "_bucket", "_sum", "_count"];
            let (_, labels_of) = ends
                .iter()
                .find_map(|end| Some(name.strip_suffix(end)?.to_owned()).filter(|name| found.contains_key(name)))
                .and_then(|name| found.get_mut(&name))
                .unwrap();
            let names = labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once('='));
            labels_of.extend(names.map(|(name, _)| name.to_owned()).filter(|name| name != "le"));
        }
        found
    }

    #[test]
    fn what_is_exported_is_what_is_described_and_a_tenant_is_named_only_if_that_is_wanted() {
        for tenant_label in [false, true] {
            let found = exported(&everything(tenant_label));
            let described = instruments::all().map(|metric| {
                let kind = match metric.kind {
                    instruments::Kind::Counter => "counter",
                    instruments::Kind::Gauge => "gauge",
                    instruments::Kind::Histogram => "histogram",
                };
                let tenant = (tenant_label && metric.by_tenant).then_some("tenant");
                let labels = metric.labels.iter().copied().chain(tenant).map(str::to_owned).collect();
                (metric.exported(), (kind.to_owned(), labels))
            });
            assert_eq!(found, described.collect());
        }
    }
}
