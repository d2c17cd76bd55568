//! The operator's listener: probes, metrics, and the admin API. Never public.

mod api;
pub mod client;
mod credentials;
mod nodes;
mod oidc;
mod operator;
mod overview;
mod page;
mod portals;
mod presence;
mod token;
mod troubles;
mod waiting;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use axum::{Router, middleware};
use tower_http::catch_panic::CatchPanicLayer;

pub use credentials::{CredentialError, Credentials};
use waiting::rendered;
pub use waiting::{Front, Waiting};

use super::http::Public;
use super::http::problem::{self, Refusal};
use super::http::{body, conformance};
use crate::protocol::problem::ProblemCode;
use crate::relay::faults::Fault;
use crate::relay::store::Health;
use crate::relay::tls::Certificate;
use crate::telemetry::metrics::Now;

/// An exported registry can be large.
const MAX_IMPORT_BYTES: usize = 256 * 1024 * 1024;

/// What the operator's handlers share.
#[derive(Clone)]
pub struct Ops {
    /// What the public side works with.
    pub public: Arc<Public>,
    /// How the stores are.
    pub health: Health,
    /// Of the public listener.
    pub certificate: Certificate,
    /// Who may use the admin API.
    pub credentials: Arc<Credentials>,
}

impl Ops {
    /// What keeps this node from having resets done.
    fn faults(&self) -> Vec<Fault> {
        let lost = self.public.services.continuity.lost().map(|_| Fault::RegistryLost);
        self.health.faults().into_iter().chain(lost).collect()
    }

    /// What is wrong, though this node may serve.
    pub(in crate::relay) fn remark(&self) -> Option<String> {
        let lost = self
            .public
            .services
            .continuity
            .complaint()
            .map(|said| format!("{said}; {}", Fault::RegistryLost.remedy().text()));
        let remarks: Vec<_> = lost.into_iter().chain(self.health.remark()).collect();
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }
}

/// The operator's API.
pub fn router(ops: Ops) -> Router {
    let admin = Router::new()
        .route("/tenants", get(api::tenants).post(api::add_tenant))
        .route("/tenants/{tenant}/agents", get(api::agents))
        .route("/tenants/{tenant}/agents/{id}", delete(api::revoke_agent))
        .route("/tenants/{tenant}/tombstones/{id}", delete(api::forget_agent))
        .route("/portals", get(portals::list).post(portals::add).put(portals::put).delete(portals::remove))
        .route("/portals/tenants", put(portals::grant).delete(portals::withdraw))
        .route("/overview", get(overview::overview))
        .route("/presence", get(presence::presence))
        .route("/sessions", get(api::sessions))
        .route("/drain", post(nodes::drain))
        .route("/log-level", get(api::log_level).put(api::set_log_level))
        .route("/registry", get(api::export).put(api::import))
        .route("/registry/acceptance", post(api::accept))
        .layer(middleware::from_fn_with_state(ops.clone(), name_the_cause))
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(MAX_IMPORT_BYTES, body::whole))
        .layer(middleware::from_fn_with_state(ops.clone(), credentials::require));
    let render = problem::Render {
        metrics: Arc::clone(&ops.public.services.metrics),
        random: Arc::clone(&ops.public.services.random),
        outside: None,
    };
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .nest("/admin/v1", admin)
        .with_state(ops)
        .layer(CatchPanicLayer::new())
        .layer(middleware::from_fn(conformance::check))
        .layer(middleware::from_fn_with_state(render, problem::render))
}

/// An operator is told why the store refused, and what to do; nobody else is.
async fn name_the_cause(State(ops): State<Ops>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(cause) = ops.health.writes().cause()
        && let Some(refusal) = response.extensions_mut().get_mut::<Refusal>()
        && matches!(refusal.code, ProblemCode::StoreUnavailable | ProblemCode::StoreNotWritable)
    {
        refusal.detail = format!("the store takes no writes: {}; {}", cause.detail(), cause.remedy().text());
    }
    response
}

/// Whether this node serves. What is wrong with others stands in the text, and takes this one out of no service.
async fn ready(State(ops): State<Ops>) -> Result<String, Refusal> {
    if ops.public.leaving.is_cancelled() {
        return Err(Refusal::new(ProblemCode::Draining, "this node is stopping"));
    }
    if !ops.health.is_ready() {
        let why = ops.remark().map(|remark| format!("; {remark}")).unwrap_or_default();
        return Err(Refusal::new(
            ProblemCode::StoreUnavailable,
            format!("this node's own messages do not reach it{why}"),
        ));
    }
    Ok(ops.remark().map_or_else(|| "ok".to_owned(), |remark| format!("ok; {remark}")))
}

async fn metrics(State(ops): State<Ops>) -> Response {
    let services = &ops.public.services;
    let drained = ops.public.drained();
    services.metrics.observe(&Now {
        ready: drained.is_none() && ops.health.is_ready(),
        writable: ops.health.writes().cause().is_none(),
        registry_lost: ops.public.services.continuity.lost().is_some(),
        registry_tenants: ops.public.services.continuity.tenants(),
        in_flight: ops.public.dispatcher.in_flight(),
        probe_age: ops.health.probe_age(),
        clock_offset_ms: ops.health.clock_offset_ms(),
        certificate_remaining: Some(ops.certificate.expires().0.saturating_sub(services.clock.now().0)),
        drained,
    });
    rendered(&services.metrics)
}
