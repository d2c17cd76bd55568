//! All of it at one look: nodes, agents, versions, rotations, and what is wrong. Any node can tell.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::Ops;
use super::nodes::{NodeView, nodes};
use super::presence::{Seen, look};
use super::troubles::{Trouble, of_agents, of_relay, worst};
use crate::protocol::api::AgentStatus;
use crate::protocol::ids::PortalId;
use crate::protocol::untrusted::Untrusted;
use crate::relay::http::json::Json;
use crate::relay::http::problem::Refusal;
use crate::relay::registry::{PortalRecord, TenantRecord};

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
    let nodes = nodes(&ops);
    let (tenants, portals) = (services.registry.tenants().await?, services.registry.portals().await?);
    let certificate = ops.certificate.expires().0.saturating_sub(services.clock.now().0);
    let mut troubles = of_relay(&nodes, certificate, ops.health.writes().cause());
    let (mut agents, mut rotations) = (AgentCounts::default(), portals.iter().map(rotation).collect::<Vec<_>>());
    // One tenant after another: no more than one tenant's agents are held at a time.
    for TenantRecord { tenant, .. } in &tenants {
        let seen = look(&ops, tenant).await?;
        count(&mut agents, &seen);
        let serving = portals.iter().filter(|portal| portal.tenants.contains(tenant));
        let serving: Vec<_> = serving.map(|portal| &portal.portal).collect();
        troubles.extend(of_agents(tenant, &seen, &serving));
        let in_service: Vec<_> = seen.into_iter().filter(|seen| seen.agent.status == AgentStatus::Approved).collect();
        let its = portals.iter().zip(&mut rotations).filter(|(portal, _)| portal.tenants.contains(tenant));
        its.for_each(|(_, rotation)| rotation.count(&in_service));
    }
    rotations.retain(|rotation| rotation.seq > 0 && rotation.acknowledged < rotation.agents);
    let (tenants, portals, troubles) = (tenants.len(), portals.len(), worst(troubles));
    Ok(Json(Overview { nodes, tenants, portals, agents, rotations, troubles }))
}

fn count(counts: &mut AgentCounts, seen: &[Seen]) {
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
}

/// A portal's last rotation, of which nobody has been asked yet.
fn rotation(portal: &PortalRecord) -> RotationView {
    RotationView { portal: portal.portal.clone(), seq: portal.later.seq, acknowledged: 0, agents: 0 }
}

impl RotationView {
    /// These agents are of its tenants, too.
    fn count(&mut self, agents: &[Seen]) {
        let said =
            |seen: &&Seen| seen.agent.later.acknowledged.get(&self.portal).is_some_and(|said| said.seq >= self.seq);
        self.acknowledged += agents.iter().filter(said).count();
        self.agents += agents.len();
    }
}
