//! Agents, and their sessions on all nodes.

use axum::Json;
use axum::extract::{Query, State};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::Ops;
use super::nodes::nodes;
use crate::protocol::api::AgentStatus;
use crate::protocol::ids::{AgentId, ObjectId, TenantId};
use crate::protocol::untrusted::Untrusted;
use crate::relay::StoreError;
use crate::relay::bus::Place;
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
}

/// Every agent, and where it is; a revoked one is nowhere.
pub(super) async fn look(ops: &Ops, only: Option<&TenantId>) -> Result<Vec<Seen>, StoreError> {
    let services = &ops.public.services;
    let mut agents = Vec::new();
    for TenantRecord { tenant, .. } in services.registry.tenants().await? {
        if only.is_none_or(|only| *only == tenant) {
            let its = services.registry.agents(&tenant).await?;
            agents.extend(its.into_iter().map(|agent| (tenant.clone(), agent)));
        }
    }
    let looks = agents.into_iter().map(async |(tenant, agent)| {
        let places = match agent.status {
            AgentStatus::Revoked => Vec::new(),
            AgentStatus::Pending | AgentStatus::Approved => services.bus.places(&tenant, agent.agent).await?,
        };
        Ok(Seen { tenant, agent, places })
    });
    stream::iter(looks).buffered(LOOKS).try_collect().await
}

pub(super) async fn presence(
    State(ops): State<Ops>,
    Query(WhichTenant { tenant }): Query<WhichTenant>,
) -> Result<Json<Vec<SeenSession>>, Refusal> {
    let (nodes, seen) = (nodes(&ops), look(&ops, tenant.as_ref()).await?);
    let name = |place: &Place| {
        let node = nodes.iter().find(|node| node.node == place.node.0);
        node.map_or_else(|| place.node.0.to_string().into(), |node| node.name.clone())
    };
    let sessions = seen.iter().flat_map(|seen| {
        seen.places.iter().map(|place| SeenSession {
            node: name(place),
            tenant: seen.tenant.clone(),
            agent: seen.agent.agent,
            name: seen.agent.name.clone(),
            version: seen.agent.version.clone(),
            session: place.session.0,
        })
    });
    Ok(Json(sessions.collect()))
}
