//! Who calls: a handler can't run without naming what it needs.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use super::Public;
use super::exchange::Exchange;
use super::problem::Refusal;
use crate::protocol::ids::{InvalidId, PortalId, TenantId};
use crate::protocol::problem::ProblemCode;
use crate::relay::keys::Refused;

/// A portal that calls for a tenant it was granted.
pub(super) struct PortalCall {
    pub(super) tenant: TenantId,
    pub(super) portal: PortalId,
}

/// A portal that sends commands, or asks for them: for a tenant that it was granted, now or a moment ago.
pub(super) struct Sender(pub(super) PortalCall);

/// The bearer token of a request, if it has one. The scheme's name has no case, and spaces may follow it (RFC 9110 §11.1,
/// §11.4).
pub(in crate::relay) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
}

/// The assertion that a portal or an agent shows.
pub(super) fn assertion(parts: &Parts) -> Result<&str, Refusal> {
    bearer(&parts.headers).ok_or_else(|| {
        Refusal::new(
            ProblemCode::InvalidAssertion,
            "an Authorization header with \"Bearer\" and an assertion is expected",
        )
    })
}

/// What a request is a part of.
pub(super) fn exchange(parts: &Parts) -> Result<&Arc<Exchange>, Refusal> {
    parts.extensions.get().ok_or_else(|| Refusal::new(ProblemCode::Internal, "the request came over no connection"))
}

/// Whether nobody registered has signed it.
pub(super) fn is_unproven<T>(judged: &Result<T, Refused>) -> bool {
    matches!(judged, Err(Refused::Unproven))
}

/// The tenant in the path.
async fn tenant(parts: &mut Parts, public: &Arc<Public>) -> Result<TenantId, Refusal> {
    let not_found = || Refusal::new(ProblemCode::NotFound, "the path names no tenant");
    let params = RawPathParams::from_request_parts(parts, public).await.map_err(|_| not_found())?;
    let tenant = params.iter().find(|(name, _)| *name == "tenant").map(|(_, value)| value.to_owned());
    tenant.ok_or_else(not_found)?.try_into().map_err(|e: InvalidId| Refusal::new(ProblemCode::Malformed, e.to_string()))
}

impl FromRequestParts<Arc<Public>> for PortalCall {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, public: &Arc<Public>) -> Result<Self, Refusal> {
        let tenant = tenant(parts, public).await?;
        let (exchange, assertion) = (exchange(parts)?, assertion(parts)?);
        let portal = exchange.judged(public.keys.portal(assertion, &tenant), is_unproven).await?;
        exchange.is_portals(&portal, &public.limits)?;
        Ok(Self { tenant, portal })
    }
}

impl FromRequestParts<Arc<Public>> for Sender {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, public: &Arc<Public>) -> Result<Self, Refusal> {
        let tenant = tenant(parts, public).await?;
        let (exchange, assertion) = (exchange(parts)?, assertion(parts)?);
        let portal = exchange.judged(public.keys.sender(assertion, &tenant), is_unproven).await?;
        exchange.is_portals(&portal, &public.limits)?;
        Ok(Self(PortalCall { tenant, portal }))
    }
}
