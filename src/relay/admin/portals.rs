//! Portals: what is added takes nothing away, and whatever takes away says what.

use axum::extract::{Query, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::Ops;
use super::page::Page;
use crate::audit;
use crate::protocol::ids::{PortalId, TenantId};
use crate::protocol::jose::PublicKey;
use crate::protocol::problem::ProblemCode;
use crate::relay::bus::Notice;
use crate::relay::http::json::{Json, OperatorJson};
use crate::relay::http::problem::Refusal;
use crate::relay::registry::{Grant, MAX_PORTAL_KEYS, PortalAdded, PortalRecord};

/// Which portal.
#[derive(Debug, Deserialize)]
pub(super) struct WhichPortal {
    portal: PortalId,
}

/// Which portal, and which tenant of it.
#[derive(Debug, Deserialize)]
pub(super) struct WhichGrant {
    portal: PortalId,
    tenant: TenantId,
}

/// What a change of a portal came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct PortalChanged {
    /// Whether there was none by this name.
    pub new: bool,
    /// As it is now, or was before it was removed.
    pub portal: PortalRecord,
    /// Tenants that it may serve from now on.
    pub granted: Vec<TenantId>,
    /// Tenants that it may not serve any more.
    pub withdrawn: Vec<TenantId>,
    /// Thumbprints of keys that are taken from now on.
    pub keys_added: Vec<String>,
    /// Thumbprints of keys that are not taken any more.
    pub keys_dropped: Vec<String>,
}

impl PortalChanged {
    fn between(before: Option<&PortalRecord>, now: Option<&PortalRecord>) -> Option<Self> {
        let tenants = |of: Option<&PortalRecord>| of.map(|of| of.tenants.clone()).unwrap_or_default();
        let keys = |of: Option<&PortalRecord>| -> Vec<String> {
            let keys = of.map(|of| of.keys.as_slice()).unwrap_or_default();
            keys.iter().map(|key: &PublicKey| key.thumbprint().to_string()).collect()
        };
        Some(Self {
            new: before.is_none(),
            portal: now.or(before)?.clone(),
            granted: but(tenants(now), &tenants(before)),
            withdrawn: but(tenants(before), &tenants(now)),
            keys_added: but(keys(now), &keys(before)),
            keys_dropped: but(keys(before), &keys(now)),
        })
    }
}

fn but<T: PartialEq>(all: Vec<T>, without: &[T]) -> Vec<T> {
    all.into_iter().filter(|one| !without.contains(one)).collect()
}

fn unknown(portal: &PortalId) -> Refusal {
    Refusal::new(ProblemCode::NotFound, format!("there is no portal {portal}"))
}

pub(super) async fn list(State(ops): State<Ops>, Query(page): Query<Page>) -> Result<Response, Refusal> {
    let portals = ops.public.services.registry.portals().await?;
    Ok(page.answer("/portals", portals, |record| record.portal.to_string()))
}

/// Whether it can be stored.
async fn check(ops: &Ops, portal: &PortalRecord) -> Result<(), Refusal> {
    portal.check().map_err(|error| Refusal::new(ProblemCode::Malformed, error.to_string()))?;
    if portal.keys.is_empty() {
        return Err(Refusal::new(ProblemCode::Unprocessable, "a portal needs at least one key"));
    }
    for tenant in &portal.tenants {
        is_there(ops, tenant).await?;
    }
    Ok(())
}

async fn is_there(ops: &Ops, tenant: &TenantId) -> Result<(), Refusal> {
    if ops.public.services.registry.tenant(tenant).await?.is_some() {
        return Ok(());
    }
    let detail = format!("there is no tenant {tenant}; run: writeback-relay tenant add {tenant}");
    Err(Refusal::new(ProblemCode::Unprocessable, detail))
}

/// Has every node look at the portal's record again, and says what was changed.
async fn changed(
    ops: &Ops,
    before: Option<&PortalRecord>,
    now: Option<&PortalRecord>,
) -> Result<Json<PortalChanged>, Refusal> {
    let nothing = || Refusal::new(ProblemCode::Internal, "a portal was changed from nothing to nothing");
    let change = PortalChanged::between(before, now).ok_or_else(nothing)?;
    // Nobody is told of what is as it was.
    if before == now {
        return Ok(Json(change));
    }
    let portal = &change.portal.portal;
    // One that does not hear it looks by itself, soon.
    if let Err(error) = ops.public.services.bus.tell(Notice::PortalChanged(portal.clone())).await {
        tracing::warn!(%error, %portal, "not every node was told of the portal's change; they find it within seconds");
    }
    let PortalChanged { granted, withdrawn, keys_added, keys_dropped, .. } = &change;
    if now.is_some() {
        audit!("portal_put", %portal, tenants = ?change.portal.tenants, ?granted, ?withdrawn, ?keys_added, ?keys_dropped);
    } else {
        audit!("portal_removed", %portal, ?withdrawn);
    }
    Ok(Json(change))
}

/// Adds a portal, or to one that is there what it does not have.
pub(super) async fn add(
    State(ops): State<Ops>,
    OperatorJson(portal): OperatorJson<PortalRecord>,
) -> Result<Json<PortalChanged>, Refusal> {
    check(&ops, &portal).await?;
    let name = portal.portal.clone();
    let portal = PortalRecord { later: Default::default(), ..portal };
    match ops.public.services.registry.add_portal(portal).await? {
        PortalAdded::New(now) => changed(&ops, None, Some(&now)).await,
        PortalAdded::Known { before, now } => changed(&ops, Some(&before), Some(&now)).await,
        PortalAdded::OtherKeys(known) => {
            let keys: Vec<_> = known.keys.iter().map(|key| key.thumbprint().to_string()).collect();
            let tenants: Vec<_> = known.tenants.iter().map(TenantId::as_str).collect();
            let detail = format!(
                "there is a portal {name} with another key ({}), for {}; nothing was changed. If this is another portal, give \
                 it another name. If it has lost its key, run: writeback-relay portal replace-keys {name} --key FILE",
                keys.join(" "),
                tenants.join(" ")
            );
            Err(Refusal::new(ProblemCode::AlreadyExists, detail))
        }
        PortalAdded::TooManyKeys => {
            let detail = format!("a portal has at most {MAX_PORTAL_KEYS} keys; nothing was changed");
            Err(Refusal::new(ProblemCode::Unprocessable, detail))
        }
    }
}

/// Stores a portal in place of what was there: for programs that know all of it.
pub(super) async fn put(
    State(ops): State<Ops>,
    OperatorJson(mut portal): OperatorJson<PortalRecord>,
) -> Result<Json<PortalChanged>, Refusal> {
    check(&ops, &portal).await?;
    let before = ops.public.services.registry.portal(&portal.portal).await?;
    if let Some(before) = &before {
        portal = portal.put_over(before);
    }
    ops.public.services.registry.put_portal(portal.clone()).await?;
    changed(&ops, before.as_ref(), Some(&portal)).await
}

pub(super) async fn remove(
    State(ops): State<Ops>,
    Query(WhichPortal { portal }): Query<WhichPortal>,
) -> Result<Json<PortalChanged>, Refusal> {
    let registry = &ops.public.services.registry;
    let before = registry.portal(&portal).await?;
    if !registry.remove_portal(&portal).await? {
        return Err(unknown(&portal));
    }
    let before = before.ok_or_else(|| unknown(&portal))?;
    changed(&ops, Some(&before), None).await
}

pub(super) async fn grant(
    State(ops): State<Ops>,
    Query(WhichGrant { portal, tenant }): Query<WhichGrant>,
) -> Result<Json<PortalChanged>, Refusal> {
    is_there(&ops, &tenant).await?;
    settle(&ops, &portal, Grant::Give(tenant)).await
}

pub(super) async fn withdraw(
    State(ops): State<Ops>,
    Query(WhichGrant { portal, tenant }): Query<WhichGrant>,
) -> Result<Json<PortalChanged>, Refusal> {
    let Json(change) = settle(&ops, &portal, Grant::Withdraw(tenant.clone())).await?;
    if change.withdrawn.is_empty() {
        let detail = format!("portal {portal} was not granted tenant {tenant}; nothing was changed");
        return Err(Refusal::new(ProblemCode::NotFound, detail));
    }
    Ok(Json(change))
}

async fn settle(ops: &Ops, portal: &PortalId, grant: Grant) -> Result<Json<PortalChanged>, Refusal> {
    let settled = ops.public.services.registry.settle_grant(portal, grant.clone()).await?;
    let (now, is_other) = settled.ok_or_else(|| unknown(portal))?;
    let mut before = now.clone();
    if is_other {
        // As it was a moment ago: one tenant makes the difference.
        let (Grant::Give(tenant) | Grant::Withdraw(tenant)) = &grant;
        let back = if matches!(grant, Grant::Give(_)) { Grant::Withdraw } else { Grant::Give };
        before.settle(&back(tenant.clone()));
    }
    changed(ops, Some(&before), Some(&now)).await
}
