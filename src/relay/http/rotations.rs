//! New keys of agents and portals. A rotation proves itself: whoever carries it here needs no other credential.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::Public;
use super::body::AnonymousJws;
use super::caller::{assertion, exchange, is_unproven};
use super::exchange::Exchange;
use super::problem::{Refusal, of_command};
use crate::audit;
use crate::clock::UnixTime;
use crate::protocol::jose::{JoseError, Thumbprint};
use crate::protocol::limits::MAX_CLOCK_AHEAD;
use crate::protocol::problem::{Problem, ProblemCode};
use crate::protocol::rotation::{AgentRotation, PortalRotation};
use crate::relay::bus::Notice;
use crate::relay::registry::{Part, Rotated};

/// Whoever has rotated too often may do so again after this.
const ROTATION_PAUSE: Duration = Duration::from_secs(60);

fn refused(error: &JoseError) -> Refusal {
    Refusal::new(of_command(error), format!("the rotation does not hold: {error}"))
}

/// One from the future would win over every later one by its time, for people who look at it.
fn made_by(iat: UnixTime, now: UnixTime) -> Result<(), Refusal> {
    if iat > now.plus(MAX_CLOCK_AHEAD) { Err(refused(&JoseError::NotYet)) } else { Ok(()) }
}

fn leads_nowhere(error: &JoseError) -> Refusal {
    Refusal::new(ProblemCode::RotationRefused, format!("it does not lead on from the known keys: {error}"))
}

/// Whether a rotation would change a record. Only such a one counts: nobody uses up another one's by what does not hold.
fn changes<R: Clone + PartialEq>(known: Option<R>, rotate: impl FnOnce(&mut R) -> Rotated) -> bool {
    let Some(known) = known else { return false };
    let mut becomes = known.clone();
    rotate(&mut becomes) == Rotated::Done && becomes != known
}

fn too_often() -> Refusal {
    let detail = "its keys have changed too often within an hour (60 times); send the same again later";
    Refusal { retry_after: Some(ROTATION_PAUSE), ..Refusal::new(ProblemCode::RateLimited, detail) }
}

fn answer(rotated: Rotated, unknown: Refusal) -> Result<StatusCode, Refusal> {
    match rotated {
        Rotated::Done | Rotated::Passed => Ok(StatusCode::NO_CONTENT),
        Rotated::Unknown => Err(unknown),
        Rotated::Revoked => Err(Refusal::new(ProblemCode::AgentRevoked, "a revoked agent has no new keys")),
        Rotated::Refused(error) => Err(leads_nowhere(&error)),
    }
}

/// Follow an agent's rotation: its new keys take the place of the old. The last one may be sent again.
#[utoipa::path(
    post,
    operation_id = "rotate_agent_keys",
    path = "/v1/agent/rotations",
    request_body(content = String, content_type = "application/jose", description = "JWS compact, typ writeback-agent-rotation+jwt, by the agent's key until now"),
    responses(
        (status = 204, description = "The new keys are known, now or before"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "A signature does not fit"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "agent_revoked"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "unknown_agent"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "rotation_refused: an old seq, or other previous keys"),
        (status = 415, body = Problem, content_type = "application/problem+json", description = "Content-Type is not application/jose"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "It contradicts itself, or the new sealing key is not of P-256")
    )
)]
pub(super) async fn agent(
    State(public): State<Arc<Public>>,
    Extension(exchange): Extension<Arc<Exchange>>,
    AnonymousJws(jws): AnonymousJws,
) -> Result<StatusCode, Refusal> {
    let rotation = AgentRotation::read(&jws).map_err(|error| refused(&error))?;
    made_by(rotation.iat, public.services.clock.now())?;
    let tenant =
        rotation.tenant.clone().ok_or_else(|| refused(&JoseError::mismatch("tenant", "an agent's rotation has it")))?;
    let relay = public.keys.public_url();
    let known = public.services.registry.agent(&tenant, rotation.iss).await?;
    if changes(known, |record| record.rotate(&tenant, relay, &rotation, &jws))
        && !public.limits.agent_rotation(&tenant, rotation.iss)
    {
        return Err(too_often());
    }
    let rotated = public.services.registry.rotate_agent(&tenant, relay, &rotation, &jws).await?;
    match &rotated {
        Rotated::Done => audit!("agent_rotated", %tenant, agent = %rotation.iss, seq = rotation.seq),
        Rotated::Passed => {}
        other if exchange.is_logged(&public.limits) => {
            audit!("rotation_refused", %tenant, agent = %rotation.iss, seq = rotation.seq, reason = ?other,
                client.address = %exchange.who());
        }
        _ => {}
    }
    let unknown = Refusal::new(ProblemCode::UnknownAgent, "this relay knows no such agent in this tenant");
    answer(rotated, unknown).map_err(|refusal| match refusal.code {
        // That it was revoked was not forgotten.
        ProblemCode::AgentRevoked => refusal,
        _ => refusal.for_lack_of(Part::Agents(tenant)),
    })
}

/// Follow a portal's rotation: from now on both keys are taken, and every agent of its tenants is told. The last one may
/// be sent again.
#[utoipa::path(
    post,
    operation_id = "rotate_portal_key",
    path = "/v1/portal/rotations",
    request_body(content = String, content_type = "application/jose", description = "JWS compact, typ writeback-portal-rotation+jwt, by the portal's key until now"),
    responses(
        (status = 204, description = "The new key is known, now or before"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "A signature does not fit"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "rotation_refused: an old seq, another previous key, or a portal that is not registered"),
        (status = 415, body = Problem, content_type = "application/problem+json", description = "Content-Type is not application/jose"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "It contradicts itself")
    )
)]
pub(super) async fn portal(
    State(public): State<Arc<Public>>,
    Extension(exchange): Extension<Arc<Exchange>>,
    AnonymousJws(jws): AnonymousJws,
) -> Result<StatusCode, Refusal> {
    let rotation = PortalRotation::read(&jws).map_err(|error| refused(&error))?;
    made_by(rotation.iat, public.services.clock.now())?;
    let (services, id) = (&public.services, &rotation.iss);
    let rotated = async {
        let known = services.registry.portal(id).await?;
        if changes(known, |record| record.rotate(public.keys.public_url(), &rotation, &jws))
            && !public.limits.portal_rotation(id)
        {
            return Err(too_often());
        }
        Ok(services.registry.rotate_portal(public.keys.public_url(), &rotation, &jws).await?)
    };
    let tells = |rotated: &Result<Rotated, Refusal>| !matches!(rotated, Ok(Rotated::Done | Rotated::Passed));
    let rotated = exchange.judged(rotated, tells).await?;
    match &rotated {
        Rotated::Done => {
            audit!("portal_rotated", portal = %id, seq = rotation.seq);
            let tenants = services.registry.portal(id).await?.map(|record| record.tenants).unwrap_or_default();
            services.bus.tell(Notice::PortalChanged(id.clone())).await?;
            // Agents of a node that does not hear it are told when their next session opens.
            services.bus.tell(Notice::PortalRotated { tenants, jws }).await?;
        }
        // Its agents have followed it, or are told when their sessions open.
        Rotated::Passed => {}
        other if exchange.is_logged(&public.limits) => {
            audit!("rotation_refused", portal = %id, seq = rotation.seq, reason = ?other,
                client.address = %exchange.who());
        }
        _ => {}
    }
    // As when it does not follow the known key: a stranger learns nothing of who is registered.
    let unknown = leads_nowhere(&JoseError::mismatch("previous", "the key that is known now is expected"));
    answer(rotated, unknown).map_err(|refusal| refusal.for_lack_of(Part::Portals))
}

/// Let a portal's old key go: it is taken for one more hour, for whatever it signs. The caller's assertion is by another
/// of its keys.
#[utoipa::path(
    delete,
    operation_id = "retire_portal_key",
    path = "/v1/portal/keys/{kid}",
    params(("kid" = String, Path, description = "The old key's thumbprint")),
    responses(
        (status = 204, description = "It is gone, or going"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "It is the portal's only key, or the one that signed the assertion")
    ),
    security(("portal" = []))
)]
pub(super) async fn retire(
    State(public): State<Arc<Public>>,
    Path(kid): Path<Thumbprint>,
    parts: Parts,
) -> Result<StatusCode, Refusal> {
    let exchange = exchange(&parts)?;
    let (portal, by) = exchange.judged(public.keys.portal_alone(assertion(&parts)?), is_unproven).await?;
    exchange.is_portals(&portal, &public.limits)?;
    let refused = |why| Err(Refusal::new(ProblemCode::RotationRefused, why));
    let (services, now) = (&public.services, public.services.clock.now());
    let keys = services.registry.portal(&portal).await?.map(|record| record.keys).unwrap_or_default();
    let only = "this is the portal's only key: it stays until a rotation has brought the next one";
    if keys.iter().all(|key| key.thumbprint() == kid) {
        return refused(only);
    }
    if by.thumbprint() == kid {
        return refused("this key has signed the assertion: sign the assertion with the key that is to stay");
    }
    if !services.registry.retire_portal_key(&portal, &kid, now).await? {
        return refused(only);
    }
    services.bus.tell(Notice::PortalChanged(portal.clone())).await?;
    audit!("portal_key_retired", %portal, %kid);
    Ok(StatusCode::NO_CONTENT)
}
