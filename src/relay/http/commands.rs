//! Commands: submit one, and ask what became of it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};

use super::Public;
use super::agents::unknown;
use super::body::CompactJws;
use super::caller::Sender;
use super::exchange::Exchange;
use super::json::Json;
use super::prefer::Wait;
use super::problem::{Refusal, of_command};
use crate::audit;
use crate::clock::UnixTime;
use crate::protocol::api::{AgentStatus, CommandState, CommandView};
use crate::protocol::command::Command;
use crate::protocol::ids::{CommandId, TenantId};
use crate::protocol::jose::sha256;
use crate::protocol::limits::MAX_CLOCK_AHEAD;
use crate::protocol::problem::{Problem, ProblemCode};
use crate::protocol::untrusted::Untrusted;
use crate::relay::ledger::{CommandKey, Entry, NewCommand, Undelivered};
use crate::relay::limits::Counted;
use crate::relay::registry::Part;
use crate::telemetry::trace_context::TraceContext;

/// Submit a command. The same command may be submitted again and is answered the same.
#[utoipa::path(
    post,
    operation_id = "submit_command",
    path = "/v1/tenants/{tenant}/commands",
    params(
        ("tenant" = TenantId, Path),
        ("Prefer" = Option<String>, Header, description = "wait=N: how many seconds to wait for the end; 30 by default. respond-async without it: 0. The first wait counts")
    ),
    request_body(content = String, content_type = "application/jose", description = "The command: JWS compact, typ writeback-command+jwt, at most 8192 bytes"),
    responses(
        (status = 200, body = CommandView, description = "Ended: concluded, with an outcome to be verified, or expired, without one"),
        (status = 202, body = CommandView, description = "Still going; Location says where to ask"),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "malformed: nothing was taken by this request"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "invalid_assertion: the same again with a new assertion. unknown_key, wrong_algorithm, bad_signature: of the command. Nothing was taken by this request"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "tenant_not_granted: nothing was taken by this request. agent_revoked: not delivered; a new command for the next agent"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "unknown_agent: not delivered; a new command for the next agent"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "agent_pending: not delivered; approve the agent, then a new command. command_conflict: this jti came before with another body, which may have been delivered; ask what became of it"),
        (status = 413, body = Problem, content_type = "application/problem+json", description = "too_large: nothing was taken by this request"),
        (status = 415, body = Problem, content_type = "application/problem+json", description = "unsupported_media_type: application/jose is expected"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "expired: not delivered; compare the clocks, then a new command. unprocessable: nothing was taken by this request"),
        (status = 429, body = Problem, content_type = "application/problem+json", description = "rate_limited: too many commands of this tenant; send the same again after Retry-After"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "no_agent, agent_busy: nothing was written to any socket; send a new command to the next agent. draining: the same, and this agent will do, on a new connection. store_not_writable: nothing was stored or sent. store_unavailable: send the same again"),
        (status = 504, body = Problem, content_type = "application/problem+json", description = "outcome_unknown: exp has passed without an answer; Location says where to ask")
    ),
    security(("portal" = []))
)]
pub(super) async fn submit(
    State(public): State<Arc<Public>>,
    Sender(call): Sender,
    prefer: Wait,
    Extension(trace): Extension<TraceContext>,
    Extension(exchange): Extension<Arc<Exchange>>,
    CompactJws(jws): CompactJws,
) -> Result<Response, Refusal> {
    let command = public.keys.command(&jws, &call.portal, &call.tenant).await.inspect_err(|refused| {
        if exchange.is_logged(&public.limits) {
            audit!("command_refused", tenant = %call.tenant, portal = %call.portal, reason = %refused,
                trace_id = trace.trace_id(), client.address = %exchange.who());
        }
    })?;
    let agent = public.keys.standing(&command.tenant, command.aud).await?;
    let signed = UnixTime(command.validity.iat.0.saturating_sub_unsigned(MAX_CLOCK_AHEAD.as_secs()));
    let new = NewCommand {
        key: CommandKey { tenant: call.tenant, portal: call.portal, command: command.jti },
        agent: command.aud,
        body_sha256: sha256(jws.as_bytes()),
        jws,
        exp: command.validity.exp,
        // An agent that the registry does not know may be one that it has lost, together with the ledger.
        earliest: agent.as_ref().map_or(signed, |agent| signed.max(agent.enrolled_at)),
        traceparent: trace.to_string(),
        origin: public.services.bus.node(),
    };
    let entry = match admit(&public, &command, agent.map(|agent| agent.status)) {
        Ok(counted) => {
            audit!("command_submitted", tenant = %new.key.tenant, portal = %new.key.portal, agent = %new.agent,
                command = %new.key.command, operation = ?command.operation, trace_id = trace.trace_id());
            let wait = prefer.duration().min(public.services.clock.now().until(new.exp));
            public.dispatcher.submit(new, wait, counted).await?
        }
        Err(refusal) => {
            // What is refused as unknown is undeliverable for ever: not if its agent may have been lost.
            let mut refusal = refusal.weighed(&public.services.continuity).await;
            let (tenant, portal) = (new.key.tenant.clone(), new.key.portal.clone());
            let known = match undelivered(refusal.code).map(|reason| (reason, public.limits.command(&tenant))) {
                // It is stored, and counts as one that is taken.
                Some((reason, Ok(_counted))) => public.dispatcher.refuse(new, reason).await?,
                Some((_, Err(exceeded))) => {
                    refusal = exceeded.into();
                    public.dispatcher.known(&new).await?
                }
                None => public.dispatcher.known(&new).await?,
            };
            match known {
                Some(known) => known,
                None => {
                    if exchange.is_logged(&public.limits) {
                        audit!("command_refused", %tenant, %portal, reason = refusal.detail,
                            trace_id = trace.trace_id(), client.address = %exchange.who());
                    }
                    return Err(refusal);
                }
            }
        }
    };
    let answered = answer(&public, &entry)?;
    Ok((AppendHeaders(prefer.applied()), answered).into_response())
}

/// Whether a command that was never seen may be taken: in force now, for an agent in service, by a node that stays.
fn admit(public: &Public, command: &Command, agent: Option<AgentStatus>) -> Result<Counted, Refusal> {
    let now = public.services.clock.now();
    command.validity.check_now(now).map_err(|e| Refusal::new(of_command(&e), e.to_string()))?;
    match agent {
        None => Err(unknown(&command.tenant, command.aud)),
        Some(AgentStatus::Pending) => Err(Refusal::unknown(
            ProblemCode::AgentPending,
            "the agent is enrolled and not approved yet",
            Part::Agents(command.tenant.clone()),
        )),
        Some(AgentStatus::Revoked) => {
            Err(Refusal::new(ProblemCode::AgentRevoked, "the agent was revoked; seal to another one"))
        }
        Some(AgentStatus::Approved) if public.is_draining() => Err(Refusal::new(
            ProblemCode::Draining,
            "this node is stopping and has not taken the command: make a new one",
        )),
        Some(AgentStatus::Approved) => Ok(public.limits.command(&command.tenant)?),
    }
}

/// What a refusal that portals take for leave to send a new command is called in the ledger.
fn undelivered(code: ProblemCode) -> Option<Undelivered> {
    match code {
        ProblemCode::UnknownAgent | ProblemCode::AgentPending | ProblemCode::AgentRevoked => Some(Undelivered::NoAgent),
        ProblemCode::Draining => Some(Undelivered::Draining),
        ProblemCode::Expired => Some(Undelivered::Expired),
        _ => None,
    }
}

fn answer(public: &Public, entry: &Entry) -> Result<Response, Refusal> {
    let view = entry.view(public.services.clock.now());
    let location = format!("/v1/tenants/{}/commands/{}", entry.key.tenant, entry.key.command);
    match view.state {
        CommandState::Concluded | CommandState::Expired => Ok(Json(view).into_response()),
        CommandState::Accepted | CommandState::Delivering | CommandState::Received => {
            Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(view)).into_response())
        }
        CommandState::Undeliverable => {
            let code = match view.reason.as_ref().map(Untrusted::as_data) {
                Some("agent_busy") => ProblemCode::AgentBusy,
                Some("draining") => ProblemCode::Draining,
                _ => ProblemCode::NoAgent,
            };
            let why = match code {
                ProblemCode::NoAgent => "when it was first submitted, the agent had no session or was not in service; ",
                _ => "",
            };
            let detail = "nothing was written to any socket, and nothing will be: make a new command";
            Err(Refusal::new(code, format!("{why}{detail}")))
        }
        CommandState::Unknown => Err(Refusal {
            location: Some(location),
            ..Refusal::new(
                ProblemCode::OutcomeUnknown,
                "exp has passed without an answer, and the command may have been delivered; ask again where Location \
                 says, and send no new command before",
            )
        }),
    }
}

/// What became of a command.
#[utoipa::path(
    get,
    operation_id = "get_command",
    path = "/v1/tenants/{tenant}/commands/{id}",
    params(
        ("tenant" = TenantId, Path),
        ("id" = CommandId, Path),
        ("Prefer" = Option<String>, Header, description = "wait=N: how many seconds to wait for the end; 30 by default. respond-async without it: 0. The first wait counts")
    ),
    responses(
        (status = 200, body = CommandView, description = "As far as it is known"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "This portal submitted no such command")
    ),
    security(("portal" = []))
)]
pub(super) async fn follow(
    State(public): State<Arc<Public>>,
    Sender(call): Sender,
    Path((_tenant, command)): Path<(TenantId, CommandId)>,
    prefer: Wait,
) -> Result<(AppendHeaders<Option<(HeaderName, HeaderValue)>>, Json<CommandView>), Refusal> {
    let key = CommandKey { tenant: call.tenant, portal: call.portal, command };
    let entry = public.dispatcher.follow(&key, prefer.duration()).await?;
    let entry = entry.ok_or_else(|| {
        Refusal::new(ProblemCode::NotFound, "this portal submitted no such command, or it was more than 7 days ago")
    })?;
    Ok((AppendHeaders(prefer.applied()), Json(entry.view(public.services.clock.now()))))
}
