//! The relay's metrics: every name, unit and label in one place. No label has unbounded values.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, MeterProvider, UpDownCounter};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, TextEncoder};

/// Counters and histograms of one node, and their text form for Prometheus.
pub struct Metrics {
    registry: prometheus::Registry,
    // The instruments stop counting when it is dropped.
    _provider: SdkMeterProvider,
    sessions: UpDownCounter<i64>,
    tls_handshakes: Counter<u64>,
    handshakes: Counter<u64>,
    session_ends: Counter<u64>,
    submits: Counter<u64>,
    ends: Counter<u64>,
    duration: Histogram<f64>,
    problems: Counter<u64>,
    redis_round_trips: Counter<u64>,
    messages_refused: Counter<u64>,
    messages_dropped: Counter<u64>,
}

/// From a quick answer to the longest a command may live, in seconds.
const DURATION_BOUNDARIES: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];

/// The exporter could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("metrics can't be set up: {0}")]
pub struct MetricsError(String);

impl Metrics {
    /// With all counters at zero.
    ///
    /// # Errors
    /// If the exporter refuses.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .map_err(|e| MetricsError(e.to_string()))?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("writeback-relay");
        let metrics = Self {
            sessions: meter
                .i64_up_down_counter("writeback.sessions")
                .with_description("Agent sessions open on this node")
                .build(),
            tls_handshakes: meter
                .u64_counter("writeback.tls.handshakes")
                .with_description("TLS handshakes on the public listener, by result")
                .build(),
            handshakes: meter
                .u64_counter("writeback.handshakes")
                .with_description("Attempts to open an agent session, by result")
                .build(),
            session_ends: meter
                .u64_counter("writeback.session.ends")
                .with_description("Agent sessions that ended, by reason")
                .build(),
            submits: meter
                .u64_counter("writeback.commands")
                .with_description("Commands submitted, by what was found")
                .build(),
            ends: meter
                .u64_counter("writeback.command.ends")
                .with_description("Commands that ended on this node, by state")
                .build(),
            duration: meter
                .f64_histogram("writeback.command.duration")
                .with_unit("s")
                .with_description("From a command's acceptance to its signed outcome")
                .with_boundaries(DURATION_BOUNDARIES.to_vec())
                .build(),
            problems: meter
                .u64_counter("writeback.problems")
                .with_description("Requests refused, by problem code")
                .build(),
            redis_round_trips: meter
                .u64_counter("writeback.redis.round_trips")
                .with_description("Commands, pipelines and scripts sent to Redis, by what they are for")
                .build(),
            messages_refused: meter
                .u64_counter("writeback.bus.messages.refused")
                .with_description("Messages between nodes that were not acted on, by reason")
                .build(),
            messages_dropped: meter
                .u64_counter("writeback.bus.messages.dropped")
                .with_description("Messages between nodes that came faster than they could be taken")
                .build(),
            registry,
            _provider: provider,
        };
        // They count what must never happen: an alert sees the first one only if there was a zero before it.
        metrics.messages_dropped.add(0, &[]);
        metrics.problems.add(0, &[KeyValue::new("code", "internal")]);
        for reason in ["malformed", "signature", "stale", "replayed"] {
            metrics.messages_refused.add(0, &[KeyValue::new("reason", reason)]);
        }
        Ok(metrics)
    }

    /// A session is open (`1`) or closed (`-1`).
    pub fn sessions(&self, change: i64) {
        self.sessions.add(change, &[]);
    }

    /// A TLS handshake ended. `result` is `done`, `failed`, `timeout`, or `overloaded`: it got no place.
    pub fn tls_handshake(&self, result: &'static str) {
        self.tls_handshakes.add(1, &[KeyValue::new("result", result)]);
    }

    /// An agent tried to open a session. `result` is `accepted` or a problem code.
    pub fn handshake(&self, result: &'static str) {
        self.handshakes.add(1, &[KeyValue::new("result", result)]);
    }

    /// A session ended. `reason` is a close reason, `left` or `lost`.
    pub fn session_ended(&self, reason: &'static str) {
        self.session_ends.add(1, &[KeyValue::new("reason", reason)]);
    }

    /// A verified command was submitted. `result` is `new`, `known` or `conflict`.
    pub fn submitted(&self, result: &'static str) {
        self.submits.add(1, &[KeyValue::new("result", result)]);
    }

    /// A command ended here. `state` is `concluded` or why it was not delivered.
    pub fn ended(&self, state: &'static str) {
        self.ends.add(1, &[KeyValue::new("state", state)]);
    }

    /// A signed outcome came this long after the command, in seconds.
    pub fn concluded_after(&self, seconds: f64) {
        self.duration.record(seconds, &[]);
    }

    /// A request was refused.
    pub fn problem(&self, code: &'static str) {
        self.problems.add(1, &[KeyValue::new("code", code)]);
    }

    /// Something was sent to Redis. `purpose` is a contract's name, or what the node does for itself.
    pub fn redis_round_trip(&self, purpose: &'static str) {
        self.redis_round_trips.add(1, &[KeyValue::new("purpose", purpose)]);
    }

    /// A message between nodes was not acted on. `reason` is `malformed`, `signature`, `stale` or `replayed`.
    pub fn message_refused(&self, reason: &'static str) {
        self.messages_refused.add(1, &[KeyValue::new("reason", reason)]);
    }

    /// A message between nodes was dropped: too many were waiting.
    pub fn message_dropped(&self) {
        self.messages_dropped.add(1, &[]);
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

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}
