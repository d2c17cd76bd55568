//! All of it at one look: nodes, agents, versions, rotations, and what is wrong. Any node can tell.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::Ops;
use super::nodes::{NodeView, nodes};
use super::presence::{Seen, look};
use super::troubles::{Trouble, troubles};
use crate::protocol::api::AgentStatus;
use crate::protocol::ids::PortalId;
use crate::protocol::untrusted::Untrusted;
use crate::relay::http::problem::Refusal;
use crate::relay::registry::PortalRecord;

/// Everything of interest.
#[derive(Debug, Serialize, Deserialize)]
pub struct Overview {
    /// The nodes that are alive.
    pub nodes: Vec<NodeView>,
    /// How many tenants there are.
    pub tenants: usize,
    /// How many portals.
    pub portals: usize,
    /// The agents of all tenants.
    pub agents: AgentCounts,
    /// Portals' new keys that are on their way.
    pub rotations: Vec<RotationView>,
    /// What is wrong, the worst first.
    pub troubles: Vec<Trouble>,
}

/// How many agents there are.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct AgentCounts {
    /// In service.
    pub approved: usize,
    /// Of these, those that have a session.
    pub online: usize,
    /// Wait for a portal's approval.
    pub pending: usize,
    /// Stopped for good.
    pub revoked: usize,
    /// The versions of those in service; those that have never said one are left out.
    pub versions: BTreeMap<Untrusted, usize>,
}

/// How far a portal's last rotation has come.
#[derive(Debug, Serialize, Deserialize)]
pub struct RotationView {
    /// The portal.
    pub portal: PortalId,
    /// The rotation's number.
    pub seq: u64,
    /// Agents in service that have acknowledged it.
    pub acknowledged: usize,
    /// Agents in service, of its tenants.
    pub agents: usize,
}

pub(super) async fn overview(State(ops): State<Ops>) -> Result<Json<Overview>, Refusal> {
    let services = &ops.public.services;
    let (nodes, seen) = (nodes(&ops), look(&ops, None).await?);
    let (tenants, portals) = (services.registry.tenants().await?, services.registry.portals().await?);
    let agents = counts(&seen);
    let in_service: Vec<_> = seen.into_iter().filter(|seen| seen.agent.status == AgentStatus::Approved).collect();
    let rotations = portals.iter().filter_map(|portal| rotation(portal, &in_service)).collect();
    let certificate = ops.certificate.expires().0.saturating_sub(services.clock.now().0);
    let troubles = troubles(&nodes, certificate, &in_service);
    let (tenants, portals) = (tenants.len(), portals.len());
    Ok(Json(Overview { nodes, tenants, portals, agents, rotations, troubles }))
}

fn counts(seen: &[Seen]) -> AgentCounts {
    let mut counts = AgentCounts::default();
    for Seen { agent, places, .. } in seen {
        match agent.status {
            AgentStatus::Pending => counts.pending += 1,
            AgentStatus::Revoked => counts.revoked += 1,
            AgentStatus::Approved => {
                counts.approved += 1;
                counts.online += usize::from(!places.is_empty());
                if let Some(version) = &agent.version {
                    *counts.versions.entry(version.clone()).or_default() += 1;
                }
            }
        }
    }
    counts
}

/// A rotation that not every agent has acknowledged.
fn rotation(portal: &PortalRecord, agents: &[Seen]) -> Option<RotationView> {
    let seq = portal.later.seq;
    let its: Vec<_> = agents.iter().filter(|seen| portal.tenants.contains(&seen.tenant)).collect();
    let said = |seen: &&&Seen| seen.agent.later.acknowledged.get(&portal.portal).is_some_and(|said| said.seq >= seq);
    let acknowledged = its.iter().filter(said).count();
    let under_way = seq > 0 && acknowledged < its.len();
    under_way.then(|| RotationView { portal: portal.portal.clone(), seq, acknowledged, agents: its.len() })
}
