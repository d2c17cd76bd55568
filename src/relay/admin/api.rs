//! Tenants, agents, this node's sessions and log level, and the registry as a whole.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::Ops;
use super::page::Page;
use crate::audit;
use crate::protocol::ids::{AgentId, InvalidId, ObjectId, TenantId};
use crate::protocol::problem::ProblemCode;
use crate::relay::bus::Notice;
use crate::relay::http::agents::revoke_at;
use crate::relay::http::json::{Json, JsonWithNulls, OperatorJson};
use crate::relay::http::problem::Refusal;
use crate::relay::registry::{Added, Forgotten, Part, Snapshot, TenantRecord};
use crate::telemetry::log;

/// A tenant to be made.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTenant {
    /// Its name.
    pub tenant: TenantId,
}

/// A session on this node.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionView {
    /// The session.
    pub session: ObjectId,
    /// The organisation.
    pub tenant: TenantId,
    /// The agent.
    pub agent: AgentId,
}

/// What an import has taken away.
#[derive(Debug, Serialize, Deserialize)]
pub struct Imported {
    /// The agents that were in service here, and are revoked in what was imported.
    pub revoked: Vec<RevokedByImport>,
}

/// What an operator's word has changed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// So many parts of the registry were lost until now: its tenants, its portals, and each tenant's agents are a part.
    pub accepted: usize,
}

/// An agent that was revoked by an import.
#[derive(Debug, Serialize, Deserialize)]
pub struct RevokedByImport {
    /// The organisation.
    pub tenant: TenantId,
    /// The agent.
    pub agent: AgentId,
}

/// What a node logs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLevel {
    /// `error`, `warn`, `info`, `debug`, or directives as in `RUST_LOG`.
    pub level: String,
}

pub(super) async fn tenants(State(ops): State<Ops>, Query(page): Query<Page>) -> Result<Response, Refusal> {
    let tenants = ops.public.services.registry.tenants().await?;
    Ok(page.answer("/tenants", tenants, |record| record.tenant.to_string()))
}

pub(super) async fn add_tenant(
    State(ops): State<Ops>,
    OperatorJson(NewTenant { tenant }): OperatorJson<NewTenant>,
) -> Result<StatusCode, Refusal> {
    let record = TenantRecord { tenant: tenant.clone(), created_at: ops.public.services.clock.now() };
    if ops.public.services.registry.add_tenant(record).await? == Added::New {
        audit!("tenant_added", %tenant);
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn agents(
    State(ops): State<Ops>,
    Path(tenant): Path<TenantId>,
    Query(page): Query<Page>,
) -> Result<Response, Refusal> {
    let after = page.after().map(str::parse).transpose();
    let after = after.map_err(|e: InvalidId| Refusal::new(ProblemCode::Malformed, format!("after: {e}")))?;
    let agents = ops.public.services.registry.agents_after(&tenant, after, page.rows()).await?;
    Ok(page.answer(&format!("/tenants/{tenant}/agents"), agents, |record| record.agent.to_string()))
}

pub(super) async fn revoke_agent(
    State(ops): State<Ops>,
    Path((tenant, agent)): Path<(TenantId, AgentId)>,
) -> Result<StatusCode, Refusal> {
    if revoke_at(&ops.public, tenant.clone(), agent).await? {
        audit!("agent_revoked", %tenant, %agent, by = "operator");
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Refusal::new(ProblemCode::UnknownAgent, format!("this tenant has no agent {agent}")))
    }
}

/// Forgets a tombstone: an older copy of the registry, if it is imported later, brings the agent back.
pub(super) async fn forget_agent(
    State(ops): State<Ops>,
    Path((tenant, agent)): Path<(TenantId, AgentId)>,
) -> Result<StatusCode, Refusal> {
    match ops.public.services.registry.forget(&tenant, agent).await? {
        Forgotten::Gone => {
            audit!("agent_forgotten", %tenant, %agent);
            Ok(StatusCode::NO_CONTENT)
        }
        Forgotten::Unknown => Err(Refusal::new(ProblemCode::UnknownAgent, format!("this tenant has no agent {agent}"))),
        Forgotten::NotRevoked => Err(Refusal::new(
            ProblemCode::Unprocessable,
            format!("it is not revoked, and stays; run: writeback-relay agent revoke {tenant} {agent}"),
        )),
    }
}

pub(super) async fn sessions(State(ops): State<Ops>, Query(page): Query<Page>) -> Response {
    let sessions = ops.public.services.sessions.list().into_iter();
    let sessions = sessions.map(|(session, tenant, agent)| SessionView { session: session.0, tenant, agent });
    page.answer("/sessions", sessions.collect(), |view| view.session.to_string())
}

pub(super) async fn log_level() -> Result<Json<LogLevel>, Refusal> {
    let level = log::filter().map_err(|e| Refusal::new(ProblemCode::Internal, e.to_string()))?;
    Ok(Json(LogLevel { level }))
}

pub(super) async fn set_log_level(
    OperatorJson(LogLevel { level }): OperatorJson<LogLevel>,
) -> Result<StatusCode, Refusal> {
    log::set_filter(&level).map_err(|e| Refusal::new(ProblemCode::Unprocessable, e.to_string()))?;
    audit!("log_level_set", level);
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn export(State(ops): State<Ops>) -> Result<Json<Snapshot>, Refusal> {
    audit!("registry_exported",);
    Ok(Json(ops.public.services.registry.export().await?))
}

/// The registry is to be as it is now, whatever it was.
pub(super) async fn accept(State(ops): State<Ops>) -> Result<Json<Accepted>, Refusal> {
    let accepted = ops.public.services.continuity.accept().await?;
    if accepted > 0 {
        audit!("registry_accepted", parts = accepted, by = "operator");
    }
    Ok(Json(Accepted { accepted }))
}

pub(super) async fn import(
    State(ops): State<Ops>,
    JsonWithNulls(snapshot): JsonWithNulls<Snapshot>,
) -> Result<Json<Imported>, Refusal> {
    if snapshot.version != 1 {
        return Err(Refusal::new(ProblemCode::Unprocessable, "only version 1 of an exported registry is known"));
    }
    snapshot.check().map_err(|error| Refusal::new(ProblemCode::Unprocessable, error.to_string()))?;
    // What was lost is known before the first record of it is back.
    ops.public.services.continuity.missing(&Part::Tenants).await?;
    let (tenants, portals) = (snapshot.tenants.len(), snapshot.portals.len());
    let mut revoked = Vec::new();
    for (tenant, agent) in ops.public.services.registry.import(snapshot).await? {
        audit!("agent_revoked", %tenant, %agent, by = "import");
        ops.public.services.bus.tell(Notice::Revoked(tenant.clone(), agent)).await?;
        revoked.push(RevokedByImport { tenant, agent });
    }
    audit!("registry_imported", tenants, portals);
    // Whoever restores it has said which one it is to be. With nothing in it, nothing was restored.
    if tenants > 0 {
        let accepted = ops.public.services.continuity.accept().await?;
        if accepted > 0 {
            audit!("registry_accepted", parts = accepted, by = "import");
        }
    }
    Ok(Json(Imported { revoked }))
}
