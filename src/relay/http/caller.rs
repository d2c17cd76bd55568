//! Who calls: a handler can't run without naming what it needs.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use super::Public;
use super::problem::Refusal;
use crate::protocol::ids::TenantId;
use crate::protocol::problem::ProblemCode;
use crate::relay::registry::PortalRecord;

/// A portal that calls for a tenant it was granted.
pub(super) struct PortalCall {
    pub(super) tenant: TenantId,
    pub(super) portal: PortalRecord,
}

/// The bearer token of a request.
pub(in crate::relay) fn bearer(parts: &Parts) -> Result<&str, Refusal> {
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    header.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(|| {
        Refusal::new(
            ProblemCode::InvalidAssertion,
            "an Authorization header with \"Bearer\" and an assertion is expected",
        )
    })
}

impl FromRequestParts<Public> for PortalCall {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, public: &Public) -> Result<Self, Refusal> {
        let not_found = || Refusal::new(ProblemCode::NotFound, "the path names no tenant");
        let params = RawPathParams::from_request_parts(parts, public).await.map_err(|_| not_found())?;
        let tenant = params.iter().find(|(name, _)| *name == "tenant").map(|(_, value)| value.to_owned());
        let tenant: TenantId = tenant
            .ok_or_else(not_found)?
            .try_into()
            .map_err(|e: crate::protocol::ids::InvalidId| Refusal::new(ProblemCode::Malformed, e.to_string()))?;
        let portal = public.keys.portal(bearer(parts)?, &tenant).await?;
        Ok(Self { tenant, portal })
    }
}
