//! Invitations.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use super::Public;
use super::caller::PortalCall;
use super::json::Json;
use super::problem::Refusal;
use crate::audit;
use crate::protocol::api::NewInvitation;
use crate::protocol::ids::TenantId;
use crate::protocol::jose::from_base64url;
use crate::protocol::limits::{INVITATION_LIFETIME, MAX_CLOCK_AHEAD};
use crate::protocol::problem::{Problem, ProblemCode};
use crate::relay::registry::{Added, Full, InvitationRecord};

/// Invite one agent to enrol.
#[utoipa::path(
    post,
    operation_id = "create_invitation",
    path = "/v1/tenants/{tenant}/invitations",
    params(("tenant" = TenantId, Path)),
    request_body = NewInvitation,
    responses(
        (status = 201, body = NewInvitation, description = "Stored, now or by the same request before"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "Another invitation has this id"),
        (status = 429, body = Problem, content_type = "application/problem+json", description = "rate_limited: the tenant has as many invitations as it may; those that have ended count for a day"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "expires_at has passed, or is more than 24 hours ahead")
    ),
    security(("portal" = []))
)]
pub(super) async fn create(
    State(public): State<Arc<Public>>,
    call: PortalCall,
    Json(new): Json<NewInvitation>,
) -> Result<(StatusCode, Json<NewInvitation>), Refusal> {
    let now = public.services.clock.now();
    if new.expires_at <= now || new.expires_at > now.plus(INVITATION_LIFETIME + MAX_CLOCK_AHEAD) {
        return Err(Refusal::new(ProblemCode::Unprocessable, "expires_at has to lie ahead, at most 24 hours"));
    }
    if from_base64url(&new.token_sha256).map(|hash| hash.len()) != Ok(32) {
        return Err(Refusal::new(ProblemCode::Unprocessable, "token_sha256 has to be 32 bytes as base64url"));
    }
    let record = InvitationRecord {
        invitation: new.id,
        portal: call.portal,
        token_sha256: new.token_sha256.clone(),
        expires_at: new.expires_at,
        redeemed_by: None,
    };
    match public.services.registry.add_invitation(&call.tenant, record.clone()).await? {
        Added::New => {
            audit!("invitation_created", tenant = %call.tenant, portal = %record.portal, invitation = %new.id);
            Ok((StatusCode::CREATED, Json(new)))
        }
        Added::Same => Ok((StatusCode::CREATED, Json(new))),
        Added::Full => Err(public.limits.kept(&call.tenant, Full::Invitations).into()),
        Added::Other => Err(Refusal::new(ProblemCode::AlreadyExists, "another invitation has this id")),
    }
}
