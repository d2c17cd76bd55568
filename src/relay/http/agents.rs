//! A tenant's agents, and whether a reset is possible now.

use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::header::LINK;
use axum::http::{HeaderName, StatusCode};
use axum::response::{AppendHeaders, Response};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use super::Public;
use super::caller::PortalCall;
use super::problem::Refusal;
use super::standing::Standing;
use crate::audit;
use crate::clock::UnixTime;
use crate::protocol::api::{AgentList, AgentStatus, AgentView, Availability};
use crate::protocol::command::{Operation, Subject};
use crate::protocol::ids::{AgentId, PortalId, TenantId};
use crate::protocol::problem::{Problem, ProblemCode};
use crate::protocol::readiness::{Need, Readiness};
use crate::protocol::untrusted::Untrusted;
use crate::relay::StoreError;
use crate::relay::bus::{Notice, Sighting};
use crate::relay::registry::{AgentRecord, Part};

/// Agents in one answer.
const MAX_LISTED: usize = 1000;
/// The same in bytes: portals read answers of 8 MiB.
const MAX_LISTED_BYTES: usize = 4 * 1024 * 1024;
/// Records that are held at a time while an answer is put together: 70 KiB each at the most.
const LOOKED_AT: usize = 50;
/// Agents whose presence is asked for at a time.
const LOOKS: usize = 64;

fn view(record: AgentRecord, seen: &[Sighting], portal: &PortalId) -> AgentView {
    let (invitation, attestation) = record.vouched_to(portal);
    let (attestation, acknowledged) = (attestation.to_owned(), record.later.acknowledged.get(portal));
    AgentView {
        acknowledgement: acknowledged.map(|acknowledged| acknowledged.jws.clone()),
        trusts_portal: Sighting::trusts(seen, portal),
        invitation,
        attestation,
        rotations: record.later.rotations,
        agent: record.agent,
        name: record.name,
        status: record.status,
        online: !seen.is_empty(),
        version: record.version,
        enrolled_at: record.enrolled_at,
        signing_key: record.keys.signing,
        sealing_key: record.keys.sealing,
        preflight: record.preflight,
    }
}

/// Which part of the list.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    limit: Option<NonZeroUsize>,
    after: Option<AgentId>,
}

/// As a portal sees them. Presence is asked for those that may have a session.
async fn views(public: &Public, call: &PortalCall, records: Vec<AgentRecord>) -> Result<Vec<AgentView>, StoreError> {
    let bus = &public.services.bus;
    let looks = records.into_iter().map(async |record| {
        let seen = match record.status {
            AgentStatus::Revoked => Vec::new(),
            AgentStatus::Pending | AgentStatus::Approved => bus.sightings(&call.tenant, record.agent).await?,
        };
        Ok(view(record, &seen, &call.portal))
    });
    stream::iter(looks).buffered(LOOKS).try_collect().await
}

/// The tenant's agents, revoked ones too.
#[utoipa::path(
    get,
    operation_id = "list_agents",
    path = "/v1/tenants/{tenant}/agents",
    params(
        ("tenant" = TenantId, Path),
        ("limit" = Option<u32>, Query, description = "How many at the most; 1000, and those of 4 MiB, if nothing or more is said", minimum = 1),
        ("after" = Option<AgentId>, Query, description = "Only those behind this agent: an answer's next")
    ),
    responses((status = 200, body = AgentList, description = "The oldest first. If there are more, next says how to ask for them, and so does Link (RFC 8288)")),
    security(("portal" = []))
)]
pub(super) async fn list(
    State(public): State<Arc<Public>>,
    call: PortalCall,
    Query(page): Query<Page>,
) -> Result<(AppendHeaders<Option<(HeaderName, String)>>, Response), Refusal> {
    let turn = public.lists.turn(&call.portal).await?;
    let limit = page.limit.map_or(MAX_LISTED, NonZeroUsize::get).min(MAX_LISTED);
    let (mut agents, mut bytes, mut after) = (Vec::new(), 0, page.after);
    let next = 'pages: loop {
        let records = public.services.registry.agents_after(&call.tenant, after, LOOKED_AT).await?;
        let is_last = records.len() < LOOKED_AT;
        for view in views(&public, &call, records).await? {
            bytes += serde_json::to_vec(&view).map_or(0, |view| view.len());
            // One that is larger than a page is a page of its own.
            if agents.len() >= limit || (bytes > MAX_LISTED_BYTES && !agents.is_empty()) {
                break 'pages after;
            }
            after = Some(view.agent);
            agents.push(view);
        }
        if is_last {
            break None;
        }
    };
    if agents.is_empty() && page.after.is_none() {
        has_none(&public, &call.tenant).await?;
    }
    agents.sort_by_key(|agent: &AgentView| agent.enrolled_at);
    let next = next.map(|after| after.to_string());
    let link = next.as_ref().map(|after| {
        let (tenant, rel) = (&call.tenant, "rel=\"next\"");
        (LINK, format!("</v1/tenants/{tenant}/agents?limit={limit}&after={after}>; {rel}"))
    });
    Ok((AppendHeaders(link), turn.answer(&AgentList { agents, next }).await?))
}

/// What a portal asks about.
#[derive(Debug, Deserialize)]
pub(super) struct Question {
    account: Option<String>,
    operation: Option<Operation>,
}

/// Is a reset possible now? To be asked before the user types a password.
#[utoipa::path(
    get,
    operation_id = "get_availability",
    path = "/v1/tenants/{tenant}/availability",
    params(
        ("tenant" = TenantId, Path),
        ("account" = Option<String>, Query, description = "Only for this account: a userPrincipalName, of which what follows the last @ counts, or an objectGUID"),
        ("operation" = inline(Option<Operation>), Query, description = "Only this operation")
    ),
    responses((status = 200, body = Availability, description = "Yes, or why not")),
    security(("portal" = []))
)]
pub(super) async fn availability(
    State(public): State<Arc<Public>>,
    call: PortalCall,
    Query(question): Query<Question>,
) -> Result<Response, Refusal> {
    let account = question.account.as_deref().map(Subject::from_text).transpose();
    let account = account.map_err(|e| Refusal::new(ProblemCode::Malformed, format!("account: {e}")))?;
    let asked = Need { account: account.as_ref(), operation: question.operation };
    let turn = public.lists.turn(&call.portal).await?;
    let (mut agents, mut after) = (Vec::new(), None);
    loop {
        let records = public.services.registry.agents_after(&call.tenant, after, LOOKED_AT).await?;
        after = records.last().filter(|_| records.len() == LOOKED_AT).map(|last| last.agent);
        // Of a tenant with many agents no more than this is kept.
        let seen = views(&public, &call, records).await?.into_iter();
        agents.extend(seen.map(|agent| Seen::new(&agent, asked)));
        if after.is_none() {
            break;
        }
    }
    if agents.is_empty() {
        has_none(&public, &call.tenant).await?;
    }
    turn.answer(&sum(agents)).await
}

/// That a tenant has no agent is said only if none was lost.
async fn has_none(public: &Public, tenant: &TenantId) -> Result<(), Refusal> {
    match public.services.continuity.missing(&Part::Agents(tenant.clone())).await? {
        None => Ok(()),
        Some(loss) => Err(Refusal::lost(loss)),
    }
}

/// An agent of a tenant, as far as it matters to whoever asks what is possible.
struct Seen {
    enrolled_at: UnixTime,
    agent: AgentId,
    standing: Standing,
    /// Which operations it can do.
    operations: Vec<Operation>,
}

impl Seen {
    fn new(agent: &AgentView, asked: Need<'_>) -> Self {
        let standing = Standing::of(agent, asked);
        let is_there = matches!(standing, Standing::There(_));
        let can = |one: &Operation| {
            let is_asked = asked.operation.is_none_or(|operation| operation == *one);
            is_there && is_asked && agent.readiness(Need { operation: Some(*one), ..asked }).serves()
        };
        let operations = Operation::ALL.into_iter().filter(can).collect();
        Self { enrolled_at: agent.enrolled_at, agent: agent.agent, standing, operations }
    }

    fn serves(&self) -> bool {
        matches!(self.standing, Standing::There(readiness) if readiness.serves())
    }
}

fn sum(mut agents: Vec<Seen>) -> Availability {
    agents.sort_by_key(|seen| seen.enrolled_at);
    let standings: Vec<Standing> = agents.iter().map(|seen| seen.standing).collect();
    let able: Vec<&Seen> = agents.iter().filter(|seen| seen.serves()).collect();
    let operations = Operation::ALL.iter().filter(|one| able.iter().any(|seen| seen.operations.contains(one)));
    Availability {
        available: !able.is_empty(),
        reason: Standing::reason(&standings).map(Untrusted::from),
        agents: able.iter().map(|seen| seen.agent).collect(),
        degraded: Standing::best(&standings) == Some(Readiness::Degraded),
        operations: operations.map(|operation| operation.as_str().into()).collect(),
    }
}

pub(super) fn unknown(tenant: &TenantId, agent: AgentId) -> Refusal {
    let detail = format!("this tenant has no agent {agent}");
    Refusal::unknown(ProblemCode::UnknownAgent, detail, Part::Agents(tenant.clone()))
}

/// Approve an agent: from now on it gets commands. The portal has verified its attestation before.
#[utoipa::path(
    post,
    operation_id = "approve_agent",
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
    let record =
        public.services.registry.approve(&call.tenant, agent).await?.ok_or_else(|| unknown(&call.tenant, agent))?;
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
    operation_id = "check_agent",
    path = "/v1/tenants/{tenant}/agents/{id}/preflight",
    params(("tenant" = TenantId, Path), ("id" = AgentId, Path)),
    responses(
        (status = 202, description = "It was asked"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "unknown_agent"),
        (status = 429, body = Problem, content_type = "application/problem+json", description = "rate_limited: it was asked a moment ago"),
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
    services.registry.agent(&call.tenant, agent).await?.ok_or_else(|| unknown(&call.tenant, agent))?;
    let places = services.bus.places(&call.tenant, agent).await?;
    if places.is_empty() {
        return Err(Refusal::new(ProblemCode::NoAgent, format!("the agent {agent} is not connected")));
    }
    public.limits.check(&call.tenant, agent)?;
    // It reports on one of its sessions, and only it knows on which.
    for place in places {
        services.bus.tell(Notice::Check(place)).await?;
    }
    Ok(StatusCode::ACCEPTED)
}

/// Revoke an agent: its sockets drop at once, and it can't come back.
#[utoipa::path(
    delete,
    operation_id = "revoke_agent",
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
        return Err(unknown(&call.tenant, agent));
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
    revoking.await.map_err(|e| StoreError::Unanswered(e.to_string()))?
}
