//! An agent's metrics: every name and label in one place, and a listener for this host alone.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::metrics::{build, process};

/// How long a client may take to send its request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at a time: one Prometheus, and somebody who looks.
const MAX_CONNECTIONS: usize = 16;
/// After a failed accept: long enough not to spin, short enough not to be missed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What an agent counts.
pub struct AgentMetrics {
    registry: prometheus::Registry,
    // The instruments stop counting when it is dropped.
    _provider: SdkMeterProvider,
    sessions: Gauge<u64>,
    events: Counter<u64>,
    refused: Counter<u64>,
}

impl AgentMetrics {
    /// With nothing counted. If the exporter refuses, nothing ever is.
    #[must_use]
    pub fn new() -> Self {
        let registry = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build();
        let provider = match exporter {
            Ok(exporter) => SdkMeterProvider::builder().with_reader(exporter).build(),
            Err(_) => SdkMeterProvider::default(),
        };
        let meter = provider.meter("writeback-agent");
        process::observe(&meter);
        let info = meter.u64_gauge("writeback.agent.build_info");
        let info = info.with_description("Always 1; the labels say which version runs, and of which commit").build();
        info.record(1, &build());
        let sessions =
            meter.u64_gauge("writeback.agent.sessions").with_description("Sessions that are open to the relay").build();
        sessions.record(0, &[]);
        let events = meter
            .u64_counter("writeback.agent.events")
            .with_description("Lines of the event log, by their number")
            .build();
        let refused = meter
            .u64_counter("writeback.agent.refused")
            .with_description("What relays and portals sent and the agent refused, by kind")
            .build();
        Self { registry, _provider: provider, sessions, events, refused }
    }

    /// So many sessions are open.
    pub fn sessions(&self, open: usize) {
        self.sessions.record(u64::try_from(open).unwrap_or(u64::MAX), &[]);
    }

    /// A line of the event log.
    pub fn event(&self, id: u32, name: &'static str) {
        self.events.add(1, &[KeyValue::new("event_id", i64::from(id)), KeyValue::new("event", name)]);
    }

    /// Something that a peer has sent is refused.
    pub fn refused(&self, kind: &'static str) {
        self.refused.add(1, &[KeyValue::new("kind", kind)]);
    }

    /// The Prometheus text format.
    fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<String> {
        let answer = |status, text: String| {
            let mut response = Response::new(text);
            *response.status_mut() = status;
            response
        };
        if request.uri().path() != "/metrics" {
            return answer(StatusCode::NOT_FOUND, "metrics are at /metrics\n".to_owned());
        }
        match self.render() {
            Ok(text) => {
                let mut response = answer(StatusCode::OK, String::from_utf8_lossy(&text).into_owned());
                let kind = http::HeaderValue::from_static("text/plain; version=0.0.4");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

impl Default for AgentMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the metrics are to be found; nothing is answered yet.
///
/// # Errors
/// If the address is in use or not this host's.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let named = |e: io::Error| {
        io::Error::new(e.kind(), format!("[telemetry] metrics_listen = \"{address}\" can't be listened on: {e}"))
    };
    TcpListener::bind(address).await.map_err(named)
}

/// Answers `GET /metrics` for ever.
pub async fn serve(listener: TcpListener, metrics: Arc<AgentMetrics>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Whoever comes then is dropped: what is here can be asked for again.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let metrics = Arc::clone(&metrics);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = metrics.answer(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(false);
            // Whoever hangs up has what he wanted.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}
