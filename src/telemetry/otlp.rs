//! Spans go to an OpenTelemetry collector: OTLP over HTTP, in protobuf. Off unless somebody says where it is.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, TraceId, TracerProvider as _};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, SdkTracerProvider};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::trace;
use crate::clock::{Clock, Random};
use crate::net::NetError;
use crate::net::http_client::{HttpClient as Http, HttpError as Failure};
use crate::protocol::ids::ObjectId;

/// The standard's variables: where everything goes, and where traces go.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
/// The standard's variable for the service's name.
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
/// How long the collector may take. Meanwhile spans wait, and those that find no room are lost.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// What it answers is a few bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How long a process that ends waits for its last spans to be taken.
const FAREWELL: Duration = Duration::from_secs(3);
/// A collector that is away is said once in so long.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Why no spans can be sent.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The address.
    #[error("telemetry.otlp_endpoint = \"{0}\": http://HOST:PORT or https://HOST:PORT is expected, without /v1/traces")]
    Endpoint(String),
    /// The file with the private CA is no use.
    #[error("telemetry.otlp_ca_file: {0}")]
    Net(#[from] NetError),
    /// The exporter refuses.
    #[error("spans can't be sent: {0}")]
    Exporter(String),
}

/// Where spans go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Collector<'a> {
    /// Its base URL.
    pub endpoint: Option<&'a str>,
    /// PEM certificates of a private CA that is trusted beside the system's.
    pub ca_file: Option<&'a Path>,
}

/// Spans are sent until this is [`Self::finish`]ed.
#[derive(Debug)]
pub struct Exporting(Option<SdkTracerProvider>);

impl Exporting {
    /// Begins to make spans and to send them, if `collector` or the environment (`OTEL_EXPORTER_OTLP_ENDPOINT`, which
    /// wins) says where to. `service` is the program's name.
    ///
    /// # Errors
    /// If what is said can't be.
    pub fn start(
        service: &'static str,
        collector: Collector<'_>,
        clock: &dyn Clock,
        random: Arc<dyn Random>,
    ) -> Result<Self, OtlpError> {
        let from_environment = ENDPOINTS.iter().any(|name| std::env::var(name).is_ok_and(|url| !url.is_empty()));
        let client = |ca_file: Option<&Path>| {
            Ok::<_, OtlpError>(Client {
                http: Http::new(ca_file, "collector")?,
                runtime: Handle::current(),
                said: Mutex::default(),
            })
        };
        let builder = SpanExporter::builder().with_http().with_timeout(EXPORT_TIMEOUT);
        let builder = match collector.endpoint {
            _ if from_environment => builder.with_http_client(client(collector.ca_file)?),
            Some(endpoint) => {
                check(endpoint)?;
                let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
                builder.with_http_client(client(collector.ca_file)?).with_endpoint(url)
            }
            None => return Ok(Self(None)),
        };
        let exporter = builder.build().map_err(|e| OtlpError::Exporter(e.to_string()))?;
        let resource = Resource::builder().with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", ObjectId::new(clock, &*random).to_string()),
        ]);
        let resource = if std::env::var(SERVICE_NAME).is_ok() { resource } else { resource.with_service_name(service) };
        let provider = SdkTracerProvider::builder()
            .with_id_generator(Ids(random))
            .with_resource(resource.build())
            .with_batch_exporter(exporter)
            .build();
        trace::begin(provider.tracer("writeback"));
        Ok(Self(Some(provider)))
    }

    /// Sends what is left, for a while.
    pub async fn finish(self) {
        let Some(provider) = self.0 else { return };
        // It blocks while another thread sends.
        let finished = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FAREWELL)).await;
        if !matches!(finished, Ok(Ok(()))) {
            tracing::warn!("the last spans could not be sent");
        }
    }
}

/// Whether spans could be sent there.
///
/// # Errors
/// If it is no base URL.
pub fn check(endpoint: &str) -> Result<(), OtlpError> {
    let url = endpoint.parse::<http::Uri>().ok();
    let fits = url.is_some_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.host().is_some_and(|host| !host.is_empty())
            && !url.path().ends_with("/v1/traces")
            && url.query().is_none()
            && url.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    });
    if fits { Ok(()) } else { Err(OtlpError::Endpoint(endpoint.to_owned())) }
}

/// Ids of traces and spans.
struct Ids(Arc<dyn Random>);

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ids")
    }
}

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        let mut id = [0; 16];
        self.0.fill(&mut id);
        TraceId::from(u128::from_be_bytes(id).max(1))
    }

    fn new_span_id(&self) -> SpanId {
        let mut id = [0; 8];
        self.0.fill(&mut id);
        SpanId::from(u64::from_be_bytes(id).max(1))
    }
}

/// Sends on the program's own runtime: spans are collected by a thread that has none.
struct Client {
    http: Http,
    runtime: Handle,
    /// When it was last said that the collector is away.
    said: Mutex<Option<Instant>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    fn complain(&self, why: &str) {
        let mut said = self.said.lock();
        if said.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            *said = Some(Instant::now());
            tracing::warn!(error = why, "spans were not taken by the collector, and are lost");
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sending = self.runtime.spawn(async move { http.send(request, EXPORT_TIMEOUT, MAX_ANSWER_BYTES).await });
        let (status, body) = match sending.await? {
            Ok(answer) => (answer.status, answer.body),
            // What is longer is no answer of a collector's, but it has taken them or not.
            Err(Failure::TooLarge { status, .. }) => (status, Bytes::new()),
            Err(error) => {
                self.complain(&error.to_string());
                return Err(error.into());
            }
        };
        if !status.is_success() {
            self.complain(status.as_str());
        }
        let mut response = http::Response::new(body);
        *response.status_mut() = status;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collectors_address_is_a_base_url() {
        for good in ["http://collector:4318", "https://collector.example/", "http://[::1]:4318/otlp"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "collector:4318", "grpc://c:4317", "http://", "http://c/v1/traces", "http://u:p@c:4318"] {
            assert!(check(bad).unwrap_err().to_string().contains("telemetry.otlp_endpoint"), "{bad}");
        }
    }
}
