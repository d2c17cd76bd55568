//! An OpenTelemetry collector of the tests' own: it takes OTLP over HTTP, and remembers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::own_address;

/// A span, as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// Of the program that it is from.
    pub(crate) service: String,
    /// Of the process.
    pub(crate) instance: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty: it is the first of its trace.
    pub(crate) parent: String,
    pub(crate) name: String,
    /// As in the standard: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub(crate) kind: i32,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) began: u64,
    pub(crate) ended: u64,
}

#[derive(Default)]
struct Taken {
    bodies: Vec<Vec<u8>>,
    spans: Vec<Span>,
}

/// A running collector.
pub(crate) struct Collector {
    address: String,
    taken: Arc<Mutex<Taken>>,
    _running: JoinSet<()>,
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let value = |pair: &KeyValue| text(pair.value.as_ref().and_then(|value| value.value.as_ref()));
    pairs.iter().map(|pair| (pair.key.clone(), value(pair))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn take(State(taken): State<Arc<Mutex<Taken>>>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(&*body).unwrap();
    let mut taken = taken.lock().unwrap();
    taken.bodies.push(body.to_vec());
    for of in request.resource_spans {
        let mut resource = attributes(&of.resource.unwrap().attributes);
        let (service, instance) =
            (resource.remove("service.name").unwrap(), resource.remove("service.instance.id").unwrap());
        for span in of.scope_spans.into_iter().flat_map(|of| of.spans) {
            taken.spans.push(Span {
                service: service.clone(),
                instance: instance.clone(),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                name: span.name,
                kind: span.kind,
                attributes: attributes(&span.attributes),
                began: span.start_time_unix_nano,
                ended: span.end_time_unix_nano,
            });
        }
    }
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((own_address(), 4318)).await.unwrap();
        let (address, taken) = (format!("http://{}", listener.local_addr().unwrap()), Arc::default());
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&taken));
        let mut running = JoinSet::new();
        running.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, taken, _running: running }
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> &str {
        &self.address
    }

    /// The spans of this trace that have come, the first that began first.
    pub(crate) fn trace(&self, id: &str) -> Vec<Span> {
        let mut spans: Vec<_> = self.spans().into_iter().filter(|span| span.trace == id).collect();
        spans.sort_by_key(|span| span.began);
        spans
    }

    /// All spans that have come.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.taken.lock().unwrap().spans.clone()
    }

    /// Every byte that has come.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.taken.lock().unwrap().bodies.concat()
    }
}
