//! The public listener: portals and agents.

mod agent_session;
pub(super) mod agents;
pub(super) mod body;
pub(super) mod caller;
pub(super) mod client_address;
mod commands;
pub(super) mod conformance;
mod connection;
mod connections;
mod document;
mod enrollments;
pub(super) mod exchange;
mod frame_lengths;
pub mod handshake;
mod invitations;
pub(super) mod json;
pub mod listener;
pub(super) mod lists;
mod prefer;
pub(super) mod problem;
mod rotations;
mod standing;
mod websocket;

use std::sync::{Arc, OnceLock};

use axum::{Router, middleware};
use semver::Version;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::body::Bodies;
use self::document::Bearer;
pub use self::document::{DocumentError, openapi};
use self::lists::Lists;
use super::dispatch::Dispatcher;
use super::keys::Keys;
use super::limits::Limits;
use super::session::Services;

/// What the handlers share.
pub struct Public {
    /// Stores, bus, sessions, metrics.
    pub services: Arc<Services>,
    /// Who may do what.
    pub keys: Keys,
    /// How much a tenant and an address may have.
    pub limits: Arc<Limits>,
    /// Turns for those who send bodies.
    pub bodies: Bodies,
    /// Turns for those who ask for lists of agents.
    pub lists: Lists,
    /// Commands.
    pub dispatcher: Arc<Dispatcher>,
    /// The oldest `writeback-agent` that may open a session.
    pub minimum_agent_version: Option<Version>,
    /// Sockets that outlive their HTTP request.
    pub sockets: TaskTracker,
    /// Cancelled when load balancers are to take the node out. It works on until it is to stop.
    pub leaving: CancellationToken,
    /// Cancelled when the node is to stop.
    pub stopping: CancellationToken,
    /// How many sessions and commands it had then.
    pub stopping_with: OnceLock<usize>,
}

impl Public {
    fn is_draining(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Sessions and commands.
    pub(super) fn burden(&self) -> usize {
        self.dispatcher.in_flight() + self.services.sessions.list().len()
    }

    /// How much of what it had is gone, from 0 to 1, if it is stopping.
    #[expect(clippy::cast_precision_loss, reason = "no node has as many sessions")]
    pub(super) fn drained(&self) -> Option<f64> {
        match (self.is_draining(), self.stopping_with.get().copied().unwrap_or(0)) {
            (false, _) => self.leaving.is_cancelled().then_some(0.0),
            (true, 0) => Some(1.0),
            (true, had) => Some((1.0 - self.burden() as f64 / had as f64).max(0.0)),
        }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "writeback-relay",
        description = "Carries a password reset from a cloud portal to an on-premises Active Directory, and a truthful \
                       answer back. Objects and rules: docs/protocol.md.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    modifiers(&Bearer)
)]
struct Document;

fn routes() -> OpenApiRouter<Arc<Public>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(commands::submit))
        .routes(routes!(commands::follow))
        .routes(routes!(agents::list))
        .routes(routes!(agents::availability))
        .routes(routes!(agents::approve))
        .routes(routes!(agents::revoke))
        .routes(routes!(agents::check))
        .routes(routes!(invitations::create))
        .routes(routes!(enrollments::redeem))
        .routes(routes!(rotations::agent))
        .routes(routes!(rotations::portal))
        .routes(routes!(rotations::retire))
        .routes(routes!(agent_session::open))
}

/// The public API.
pub fn router(public: Arc<Public>) -> Router {
    let metrics = Arc::clone(&public.services.metrics);
    let random = Arc::clone(&public.services.random);
    let outside = Some(problem::Outside {
        limits: Arc::clone(&public.limits),
        continuity: Arc::clone(&public.services.continuity),
    });
    let (router, _) = routes().split_for_parts();
    router
        .with_state(public)
        .layer(CatchPanicLayer::new())
        .layer(middleware::from_fn(conformance::check))
        .layer(middleware::from_fn_with_state(problem::Render { metrics, random, outside }, problem::render))
}
