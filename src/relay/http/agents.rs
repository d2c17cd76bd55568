//! A tenant's agents, and whether a reset is possible now.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use futures_util::future::try_join_all;

use super::Public;
use super::caller::PortalCall;
use super::problem::Refusal;
use crate::audit;
use crate::protocol::api::{AgentList, AgentStatus, AgentView, Availability};
use crate::protocol::ids::{AgentId, PortalId, TenantId};
use crate::protocol::problem::{Problem, ProblemCode};
use crate::relay::StoreError;
use crate::relay::bus::Notice;
use crate::relay::registry::AgentRecord;

fn view(record: AgentRecord, online: bool, portal: &PortalId) -> AgentView {
    let (invitation, attestation) = record.vouched_to(portal);
    let (attestation, acknowledged) = (attestation.to_owned(), record.later.acknowledged.get(portal));
    AgentView {
        acknowledgement: acknowledged.map(|acknowledged| acknowledged.jws.clone()),
        invitation,
        attestation,
        rotations: record.later.rotations,
        agent: record.agent,
        name: record.name,
        status: record.status,
        online,
        version: record.version,
        enrolled_at: record.enrolled_at,
        signing_key: record.keys.signing,
        sealing_key: record.keys.sealing,
        preflight: record.preflight,
    }
}

async fn views(public: &Public, PortalCall { tenant, portal }: &PortalCall) -> Result<Vec<AgentView>, Refusal> {
    let bus = &public.services.bus;
    let looked = public.services.registry.agents(tenant).await?.into_iter().map(async |record| {
        let places = bus.places(tenant, record.agent).await?;
        Ok::<_, StoreError>(view(record, !places.is_empty(), portal))
    });
    let mut views = try_join_all(looked).await?;
    views.sort_by_key(|agent| agent.enrolled_at);
    Ok(views)
}

/// The tenant's agents, revoked ones too.
#[utoipa::path(
    get,
    path = "/v1/tenants/{tenant}/agents",
    params(("tenant" = TenantId, Path)),
    responses((status = 200, body = AgentList, description = "All of them, the oldest first")),
    security(("portal" = []))
)]
pub(super) async fn list(State(public): State<Arc<Public>>, call: PortalCall) -> Result<Json<AgentList>, Refusal> {
    Ok(Json(AgentList { agents: views(&public, &call).await? }))
}

/// Is a reset possible now? To be asked before the user types a password.
#[utoipa::path(
    get,
    path = "/v1/tenants/{tenant}/availability",
    params(("tenant" = TenantId, Path)),
    responses((status = 200, body = Availability, description = "Yes, or why not")),
    security(("portal" = []))
)]
pub(super) async fn availability(
    State(public): State<Arc<Public>>,
    call: PortalCall,
) -> Result<Json<Availability>, Refusal> {
    let agents = views(&public, &call).await?;
    let in_service = |agent: &&AgentView| agent.online && agent.status == AgentStatus::Approved;
    let able = agents.iter().filter(in_service).filter(|agent| !agent.preflight_failed());
    let able: Vec<AgentId> = able.map(|agent| agent.agent).collect();
    let reason = match agents.iter().find(in_service) {
        _ if !able.is_empty() => None,
        Some(_) => Some("preflight_failed".into()),
        None => Some("no_agent".into()),
    };
    Ok(Json(Availability { available: !able.is_empty(), reason, agents: able }))
}

fn unknown(agent: AgentId) -> Refusal {
    Refusal::new(ProblemCode::UnknownAgent, format!("this tenant has no agent {agent}"))
}

/// Approve an agent: from now on it gets commands. The portal has verified its attestation before.
#[utoipa::path(
    post,
    path = "/v1/tenants/{tenant}/agents/{id}/approval",
    params(("tenant" = TenantId, Path), ("id" = AgentId, Path)),
    responses(
        (status = 204, description = "Approved, now or before"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "It was revoked; a tombstone stays"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "unknown_agent")
    ),
    security(("portal" = []))
)]
pub(super) async fn approve(
    State(public): State<Arc<Public>>,
    call: PortalCall,
    Path((_tenant, agent)): Path<(TenantId, AgentId)>,
) -> Result<StatusCode, Refusal> {
    let record = public.services.registry.approve(&call.tenant, agent).await?.ok_or_else(|| unknown(agent))?;
    if record.status == AgentStatus::Revoked {
        return Err(Refusal::new(ProblemCode::AgentRevoked, "a revoked agent stays revoked; enrol it anew"));
    }
    audit!("agent_approved", tenant = %call.tenant, portal = %call.portal, %agent);
    Ok(StatusCode::NO_CONTENT)
}

/// Have an agent check its directory now. Its report shows in the list of agents when it is made, with another
/// `checked_at`.
#[utoipa::path(
    post,
    path = "/v1/tenants/{tenant}/agents/{id}/preflight",
    params(("tenant" = TenantId, Path), ("id" = AgentId, Path)),
    responses(
        (status = 202, description = "It was asked"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "unknown_agent"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "It is not connected")
    ),
    security(("portal" = []))
)]
pub(super) async fn check(
    State(public): State<Arc<Public>>,
    call: PortalCall,
    Path((_tenant, agent)): Path<(TenantId, AgentId)>,
) -> Result<StatusCode, Refusal> {
    let services = &public.services;
    services.registry.agent(&call.tenant, agent).await?.ok_or_else(|| unknown(agent))?;
    let places = services.bus.places(&call.tenant, agent).await?;
    if places.is_empty() {
        return Err(Refusal::new(ProblemCode::NoAgent, format!("the agent {agent} is not connected")));
    }
    // It reports on one of its sessions, and only it knows on which.
    for place in places {
        services.bus.tell(Notice::Check(place)).await?;
    }
    Ok(StatusCode::ACCEPTED)
}

/// Revoke an agent: its sockets drop at once, and it can't come back.
#[utoipa::path(
    delete,
    path = "/v1/tenants/{tenant}/agents/{id}",
    params(("tenant" = TenantId, Path), ("id" = AgentId, Path)),
    responses(
        (status = 204, description = "Revoked, now or before"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "unknown_agent")
    ),
    security(("portal" = []))
)]
pub(super) async fn revoke(
    State(public): State<Arc<Public>>,
    call: PortalCall,
    Path((_tenant, agent)): Path<(TenantId, AgentId)>,
) -> Result<StatusCode, Refusal> {
    if !revoke_at(&public, call.tenant.clone(), agent).await? {
        return Err(unknown(agent));
    }
    audit!("agent_revoked", tenant = %call.tenant, portal = %call.portal, %agent);
    Ok(StatusCode::NO_CONTENT)
}

/// Stores the tombstone and drops the sockets, even if the caller hangs up in between; whether there is such an agent.
pub(in crate::relay) async fn revoke_at(public: &Public, tenant: TenantId, agent: AgentId) -> Result<bool, StoreError> {
    let services = public.services.clone();
    let revoking = tokio::spawn(async move {
        let revoked = services.registry.revoke(&tenant, agent).await;
        // A tombstone that no replica has confirmed stands all the same. Only a tombstone may stop an agent for good.
        let found = services.registry.agent(&tenant, agent).await?;
        if found.is_some_and(|found| found.status == AgentStatus::Revoked) {
            services.bus.tell(Notice::Revoked(tenant, agent)).await?;
        }
        Ok(revoked?.is_some())
    });
    revoking.await.map_err(|e| StoreError(e.to_string()))?
}
