//! Agents, and their sessions on all nodes.

use axum::extract::{Query, State};
use axum::response::Response;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::Ops;
use super::nodes::nodes;
use super::page::Page;
use crate::protocol::api::AgentStatus;
use crate::protocol::ids::{AgentId, ObjectId, PortalId, TenantId};
use crate::protocol::untrusted::Untrusted;
use crate::relay::StoreError;
use crate::relay::bus::{Place, Sighting};
use crate::relay::http::problem::Refusal;
use crate::relay::registry::{AgentRecord, TenantRecord};

/// Agents that are looked for at a time.
const LOOKS: usize = 64;

/// A session on any node.
#[derive(Debug, Serialize, Deserialize)]
pub struct SeenSession {
    /// The node's name; its id, if it has just gone.
    pub node: Untrusted,
    /// The organisation.
    pub tenant: TenantId,
    /// The agent.
    pub agent: AgentId,
    /// The name of its host, for people.
    pub name: Untrusted,
    /// The version it said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Untrusted>,
    /// The session.
    pub session: ObjectId,
}

/// Whose sessions.
#[derive(Debug, Deserialize)]
pub(super) struct WhichTenant {
    tenant: Option<TenantId>,
}

/// An agent, and its sessions on all nodes.
pub(super) struct Seen {
    pub(super) tenant: TenantId,
    pub(super) agent: AgentRecord,
    pub(super) places: Vec<Place>,
    /// The portals whose commands it takes, if it says so.
    pub(super) trusts: Option<Vec<PortalId>>,
}

/// A tenant's agents, and where each is; a revoked one is nowhere.
pub(super) async fn look(ops: &Ops, tenant: &TenantId) -> Result<Vec<Seen>, StoreError> {
    let services = &ops.public.services;
    let looks = services.registry.agents(tenant).await?.into_iter().map(async |agent| {
        let seen = match agent.status {
            AgentStatus::Revoked => Vec::new(),
            AgentStatus::Pending | AgentStatus::Approved => services.bus.sightings(tenant, agent.agent).await?,
        };
        let trusts = Sighting::trusted(&seen).map(<[PortalId]>::to_vec);
        let places = seen.into_iter().map(|sighting| sighting.place).collect();
        Ok(Seen { tenant: tenant.clone(), agent, places, trusts })
    });
    stream::iter(looks).buffered(LOOKS).try_collect().await
}

/// In this order they come: a space sorts before what names are made of, so it is the order of the tenants.
fn key(view: &SeenSession) -> String {
    format!("{} {} {}", view.tenant, view.agent, view.session)
}

pub(super) async fn presence(
    State(ops): State<Ops>,
    Query(WhichTenant { tenant }): Query<WhichTenant>,
    Query(page): Query<Page>,
) -> Result<Response, Refusal> {
    let nodes = nodes(&ops);
    let name = |place: &Place| {
        let node = nodes.iter().find(|node| node.node == place.node.0);
        node.map_or_else(|| place.node.0.to_string().into(), |node| node.name.clone())
    };
    let mut sessions = Vec::new();
    for TenantRecord { tenant: its, .. } in ops.public.services.registry.tenants().await? {
        let is_before =
            page.after().and_then(|after| after.split_once(' ')).is_some_and(|(after, _)| its.as_str() < after);
        if is_before || tenant.as_ref().is_some_and(|tenant| *tenant != its) {
            continue;
        }
        for seen in look(&ops, &its).await? {
            sessions.extend(seen.places.iter().map(|place| SeenSession {
                node: name(place),
                tenant: its.clone(),
                agent: seen.agent.agent,
                name: seen.agent.name.clone(),
                version: seen.agent.version.clone(),
                session: place.session.0,
            }));
        }
        let behind = sessions.iter().filter(|view| page.after().is_none_or(|after| *key(view) > *after));
        if behind.count() >= page.rows() {
            break;
        }
    }
    let only = tenant.map(|tenant| format!("?tenant={tenant}")).unwrap_or_default();
    Ok(page.answer(&format!("/presence{only}"), sessions, key))
}
