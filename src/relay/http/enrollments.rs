//! An agent redeems its invitation.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;

use super::Public;
use super::exchange::Exchange;
use super::json::{AnonymousJson, Json};
use super::problem::Refusal;
use crate::audit;
use crate::protocol::api::{AgentStatus, Enrolled, Enrollment};
use crate::protocol::enrollment::{AgentKeys, Attestation, Proof};
use crate::protocol::ids::{AgentId, TenantId};
use crate::protocol::jose::JoseError;
use crate::protocol::limits::MAX_NAME_CHARS;
use crate::protocol::problem::{Problem, ProblemCode};
use crate::relay::registry::{AgentLater, AgentRecord, Part, Redeemed};

/// An attestation is some 400 bytes.
const MAX_ATTESTATION_BYTES: usize = 2048;

/// Enrol: redeem an invitation. The same request may be sent again and is answered the same.
#[utoipa::path(
    post,
    operation_id = "enroll_agent",
    path = "/v1/enrollments",
    request_body = Enrollment,
    responses(
        (status = 201, body = Enrolled, description = "Enrolled, now or by the same request before"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "No such invitation, a token that is not its, or a proof that does not hold"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "Another agent has redeemed it"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "It has expired, or the keys are of the wrong kind"),
        (status = 429, body = Problem, content_type = "application/problem+json", description = "rate_limited: the tenant has as many agents as it may; the code stays good")
    )
)]
pub(super) async fn redeem(
    State(public): State<Arc<Public>>,
    Extension(exchange): Extension<Arc<Exchange>>,
    AnonymousJson(enrollment): AnonymousJson<Enrollment>,
) -> Result<(StatusCode, Json<Enrolled>), Refusal> {
    let now = public.services.clock.now();
    let keys = AgentKeys { signing: enrollment.signing_key, sealing: enrollment.sealing_key };
    keys.check().map_err(|error| Refusal::new(ProblemCode::Unprocessable, error.to_string()))?;
    let refused = |tenant: &TenantId, agent: AgentId, reason: &str| {
        if exchange.is_logged(&public.limits) {
            audit!("enrollment_refused", %tenant, %agent, reason, client.address = %exchange.who());
        }
    };
    let invalid = |error: JoseError| {
        refused(&enrollment.tenant, enrollment.agent, &error.to_string());
        Refusal::new(ProblemCode::InvalidEnrollment, format!("the proof does not hold: {error}"))
    };
    let proof = Proof::verify(&enrollment.proof, &keys, public.keys.public_url(), now).map_err(invalid)?;
    for (fits, claim) in [
        (proof.iss == enrollment.agent, "iss"),
        (proof.tenant == enrollment.tenant, "tenant"),
        (proof.invitation == enrollment.invitation, "invitation"),
        (proof.journal == enrollment.journal, "journal"),
    ] {
        if !fits {
            return Err(invalid(JoseError::mismatch(claim, "what stands in the request is expected")));
        }
    }
    // Only the portal can verify it; here it only has to be one.
    if enrollment.attestation.len() > MAX_ATTESTATION_BYTES || Attestation::parse(&enrollment.attestation).is_err() {
        return Err(Refusal::new(ProblemCode::Malformed, "attestation is not a JWS of its type, with its claims"));
    }
    let record = AgentRecord {
        agent: enrollment.agent,
        name: enrollment
            .name
            .as_data()
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_NAME_CHARS)
            .collect::<String>()
            .into(),
        status: AgentStatus::Pending,
        keys,
        journal: enrollment.journal,
        invitation: enrollment.invitation,
        attestation: enrollment.attestation,
        enrolled_at: now,
        version: None,
        preflight: None,
        later: AgentLater::default(),
    };
    let (tenant, token) = (enrollment.tenant, enrollment.token.hash());
    let redeemed = exchange.served(public.services.registry.redeem(&tenant, &token, record, now)).await?;
    let (code, detail) = match redeemed {
        Redeemed::Enrolled { agent, portal } => {
            audit!("agent_enrolled", %tenant, agent = %agent.agent, invitation = %agent.invitation);
            let record = public.services.registry.portal(&portal).await?;
            let (portal_keys, portal_rotations) = record.map(|r| (r.keys, r.later.rotations)).unwrap_or_default();
            let enrolled = Enrolled { agent: agent.agent, status: agent.status, portal, portal_keys, portal_rotations };
            return Ok((StatusCode::CREATED, Json(enrolled)));
        }
        Redeemed::Unknown => (ProblemCode::InvalidEnrollment, "there is no such invitation, or the token is not its"),
        Redeemed::Expired => (ProblemCode::InvitationExpired, "ask the portal's administrator for a new code"),
        Redeemed::Taken => (ProblemCode::AlreadyExists, "there is an agent by this id already; make a new id"),
        Redeemed::Full(full) => {
            audit!("enrollment_refused", %tenant, agent = %enrollment.agent, reason = "rate_limited");
            return Err(public.limits.kept(&tenant, full).into());
        }
        Redeemed::Used => {
            (ProblemCode::InvitationUsed, "a code enrols one agent; if it was not you, have that agent revoked")
        }
    };
    refused(&tenant, enrollment.agent, code.as_str());
    if code == ProblemCode::InvalidEnrollment {
        return Err(Refusal::unknown(code, detail, Part::Agents(tenant)));
    }
    Err(Refusal::new(code, detail))
}
