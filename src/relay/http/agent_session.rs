//! The upgrade to an agent's session.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::USER_AGENT;
use axum::response::Response;
use semver::Version;
use tokio::time::timeout;

use super::Public;
use super::caller::{assertion, exchange};
use super::problem::Refusal;
use super::websocket::Upgrade;
use crate::audit;
use crate::protocol::frame::CloseReason;
use crate::protocol::problem::{Problem, ProblemCode};
use crate::relay::session::{self, Ended};
use crate::telemetry::limit::Limit;

/// An upgrade may wait so long for a place: many at the same moment are no storm if they are soon served.
const OPENING_WAIT: Duration = Duration::from_secs(1);

/// Open an agent's session.
#[utoipa::path(
    get,
    operation_id = "open_agent_session",
    path = "/v1/agent/session",
    params(("Sec-WebSocket-Protocol" = String, Header, description = "writeback.v1")),
    responses(
        (status = 101, description = "A WebSocket; binary messages are frames of proto/writeback/v1/session.proto"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "invalid_assertion, assertion_used"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "agent_revoked: stop"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "unknown_agent: try again, slowly"),
        (status = 426, body = Problem, content_type = "application/problem+json", description = "upgrade_required; agent_too_old: try again, slowly"),
        (status = 429, body = Problem, content_type = "application/problem+json", description = "rate_limited: the tenant has too many sessions here; come back after Retry-After"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "draining, overloaded, registry_lost: come back, to another node, after Retry-After")
    ),
    security(("agent" = []))
)]
pub(super) async fn open(State(public): State<Arc<Public>>, request: Request) -> Result<Response, Refusal> {
    let (metrics, continuity) = (public.services.metrics.clone(), Arc::clone(&public.services.continuity));
    let opened = match upgrade(public, request).await {
        Err(refusal) => Err(refusal.weighed(&continuity).await),
        opened => opened,
    };
    metrics.handshake(opened.as_ref().map_or_else(|refusal| refusal.code.as_str(), |_| "accepted"));
    opened
}

async fn upgrade(public: Arc<Public>, request: Request) -> Result<Response, Refusal> {
    if public.is_draining() {
        return Err(Refusal::new(ProblemCode::Draining, "this node is stopping; come back"));
    }
    let (mut parts, _) = request.into_parts();
    let upgrade = Upgrade::asked(&mut parts)?;
    recent_enough(&parts.headers, public.minimum_agent_version.as_ref())?;
    let services = Arc::clone(&public.services);
    let exchange = Arc::clone(exchange(&parts)?);
    let Ok(turn) = exchange.served(timeout(OPENING_WAIT, services.openings.acquire())).await else {
        services.metrics.limit_hit(Limit::SessionOpenings);
        return Err(Refusal::new(ProblemCode::Overloaded, "too many sessions are being opened here; come back"));
    };
    let known = exchange.served(public.keys.agent(assertion(&parts)?)).await.inspect_err(|refused| {
        if exchange.is_logged(&public.limits) {
            audit!("session_refused", reason = %refused, client.address = %exchange.who());
        }
    });
    let (tenant, agent) = known?;
    let counted = public.limits.session(&tenant)?;
    exchange.is_agents();
    // `Hello` may take the agent some time; the session asks for a place again.
    drop(turn);
    let (place, sockets) = (exchange.peer().place.clone(), public.sockets.clone());
    let (agent, journal) = (agent.agent, agent.journal);
    let (response, socket) = upgrade.accept();
    public.sockets.spawn(async move {
        let Ok(mut socket) = socket.await else { return };
        // A task of its own: this one keeps room for the whole upgrade.
        sockets.spawn(async move {
            services.metrics.sessions(&tenant, 1);
            let ended = session::run(&services, tenant.clone(), (agent, journal), &mut socket).await;
            services.metrics.sessions(&tenant, -1);
            drop(counted);
            if ended == Ended::Closed(CloseReason::FrameTooLarge) {
                services.metrics.limit_hit(Limit::FrameSize);
            }
            services.metrics.session_ended(&tenant, ended.as_str());
            audit!("session_closed", agent = %agent, reason = ended.as_str(), cause = ended.cause());
            Box::pin(socket.close(&ended)).await;
            drop(place);
        });
    });
    Ok(response)
}

/// `User-Agent: writeback-agent/VERSION` (RFC 9110 §10.1.5). Agents of other makes have versions of their own.
fn recent_enough(headers: &HeaderMap, minimum: Option<&Version>) -> Result<(), Refusal> {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    let version = agent.and_then(|agent| agent.split(' ').find_map(|product| product.strip_prefix("writeback-agent/")));
    match (version.map(Version::parse), minimum) {
        (Some(Ok(version)), Some(minimum)) if version < *minimum => Err(Refusal::new(
            ProblemCode::AgentTooOld,
            format!(
                "this is writeback-agent {version}, and this relay takes {minimum} or newer: install that, and start it in the \
                 same folder; its keys and its journal stay"
            ),
        )),
        _ => Ok(()),
    }
}
