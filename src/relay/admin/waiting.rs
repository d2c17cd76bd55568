//! What the operator's listener answers before a node has its store: it lives, it is not ready, and why.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;

use crate::clock::{Clock, Random};
use crate::host::service_manager;
use crate::protocol::problem::ProblemCode;
use crate::relay::http::conformance;
use crate::relay::http::problem::{self, Refusal};
use crate::relay::tls::Certificate;
use crate::telemetry::metrics::{Metrics, Now};

/// How often the log has the same reason.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// What the listener answers now. The same listener, and the connections on it, go from one thing to the next: nobody who asks
/// meanwhile is refused.
#[derive(Clone)]
pub struct Front(Arc<ArcSwap<Router>>);

impl Front {
    /// Begins with this.
    #[must_use]
    pub fn new(first: Router) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    /// From now on, this.
    pub fn show(&self, next: Router) {
        self.0.store(Arc::new(next));
    }

    /// For the listener.
    pub fn router(&self) -> Router {
        let front = Arc::clone(&self.0);
        Router::new().fallback(move |request: Request| {
            let shown = Router::clone(&front.load());
            async move { shown.oneshot(request).await }
        })
    }
}

/// A node that has no store yet.
pub struct Waiting {
    why: Mutex<Why>,
    metrics: Arc<Metrics>,
    certificate: Certificate,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Why {
    /// Nothing, if the store is only being opened.
    reason: Option<String>,
    /// When the log had it last.
    told: Option<Instant>,
}

impl Waiting {
    /// The store is being opened.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, certificate: Certificate, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { why: Mutex::default(), metrics, certificate, clock })
    }

    /// It could not be, for now. The log has each new reason, and the same one from time to time.
    pub fn because(&self, reason: &dyn Display) {
        let (mut why, reason) = (self.why.lock(), reason.to_string());
        let known = why.reason.as_deref() == Some(&reason);
        if !known || why.told.is_none_or(|told| told.elapsed() >= SAY_AGAIN) {
            tracing::warn!("the node waits for its store, and is not ready: {reason}");
            why.told = Some(Instant::now());
            service_manager::status(&format!("waits for its store: {reason}"));
        }
        why.reason = Some(reason);
    }

    /// It is open.
    pub fn over(&self) {
        if self.why.lock().reason.take().is_some() {
            tracing::info!("the node has its store");
        }
    }

    fn refusal(&self) -> Refusal {
        let why = self.why.lock();
        let reason = why.reason.as_deref().unwrap_or("it is being opened");
        Refusal::new(ProblemCode::StoreUnavailable, format!("the node waits for its store: {reason}"))
    }

    /// Probes and metrics; everything else has to wait, too.
    pub fn router(self: &Arc<Self>, random: Arc<dyn Random>) -> Router {
        let render = problem::Render { metrics: Arc::clone(&self.metrics), random, outside: None };
        Router::new()
            .route("/livez", get(|| async { "ok" }))
            .route("/metrics", get(metrics))
            .fallback(async |State(waiting): State<Arc<Self>>| waiting.refusal())
            .with_state(Arc::clone(self))
            .layer(CatchPanicLayer::new())
            .layer(middleware::from_fn(conformance::check))
            .layer(middleware::from_fn_with_state(render, problem::render))
    }
}

async fn metrics(State(waiting): State<Arc<Waiting>>) -> Response {
    waiting.metrics.observe(&Now {
        certificate_remaining: Some(waiting.certificate.expires().0.saturating_sub(waiting.clock.now().0)),
        ..Now::default()
    });
    rendered(&waiting.metrics)
}

/// In Prometheus' text format.
pub(super) fn rendered(metrics: &Metrics) -> Response {
    match metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
