//! All of it at one look: nodes, agents, versions, rotations, and what is wrong. Any node can tell.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::Ops;
use crate::protocol::api::{AgentStatus, PreflightReport, PreflightState};
use crate::protocol::ids::{AgentId, ObjectId, PortalId, TenantId};
use crate::relay::StoreError;
use crate::relay::bus::{Member, Place};
use crate::relay::http::problem::Refusal;
use crate::relay::registry::{AgentRecord, PortalRecord};

/// Agents that are looked for at a time.
const LOOKS: usize = 64;

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

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// One start of its process.
    pub node: ObjectId,
    /// Its name.
    pub name: String,
    /// Its program's version; empty if it is too old to say.
    pub version: String,
    /// How many sessions it has.
    pub sessions: u32,
    /// It lets its agents move and stops.
    pub draining: bool,
    /// Whether it has the cluster key of the node that tells this.
    pub same_cluster_key: bool,
    /// Whether it is the node that tells this.
    pub answers: bool,
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
    pub versions: BTreeMap<String, usize>,
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

/// Something that is wrong.
#[derive(Debug, Serialize, Deserialize)]
pub struct Trouble {
    /// `failed`: resets fail. `warning`: something to look at.
    pub state: PreflightState,
    /// The tenant it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// The agent it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// What is wrong, for people.
    pub detail: String,
    /// What to do, for people.
    pub remedy: String,
}

/// An agent, and its sessions on all nodes.
pub(super) struct Seen {
    pub(super) tenant: TenantId,
    pub(super) agent: AgentRecord,
    pub(super) places: Vec<Place>,
}

/// Every agent that was not revoked, and where it is; and how many were.
pub(super) async fn look(ops: &Ops, only: Option<&TenantId>) -> Result<(Vec<Seen>, usize), StoreError> {
    let services = &ops.public.services;
    let (mut living, mut revoked) = (Vec::new(), 0);
    for tenant in services.registry.tenants().await?.into_iter().map(|record| record.tenant) {
        if only.is_some_and(|only| *only != tenant) {
            continue;
        }
        for agent in services.registry.agents(&tenant).await? {
            match agent.status {
                AgentStatus::Revoked => revoked += 1,
                AgentStatus::Pending | AgentStatus::Approved => living.push((tenant.clone(), agent)),
            }
        }
    }
    let looks = living.into_iter().map(async |(tenant, agent)| {
        let places = services.bus.places(&tenant, agent.agent).await?;
        Ok::<_, StoreError>(Seen { tenant, agent, places })
    });
    Ok((stream::iter(looks).buffered(LOOKS).try_collect().await?, revoked))
}

/// The nodes that are alive, by name.
pub(super) fn nodes(ops: &Ops) -> Vec<NodeView> {
    let (bus, own) = (&ops.public.services.bus, ops.public.services.bus.node());
    let view = |Member { node, name, version, load, is_kin }| NodeView {
        node: node.0,
        name,
        version,
        sessions: load.sessions,
        draining: load.draining,
        same_cluster_key: is_kin,
        answers: node == own,
    };
    let mut nodes: Vec<_> = bus.members().into_iter().map(view).collect();
    nodes.sort_by(|one, other| (&one.name, one.node).cmp(&(&other.name, other.node)));
    nodes
}

pub(super) async fn overview(State(ops): State<Ops>) -> Result<Json<Overview>, Refusal> {
    let services = &ops.public.services;
    let (nodes, (seen, revoked)) = (nodes(&ops), look(&ops, None).await?);
    let (tenants, portals) = (services.registry.tenants().await?, services.registry.portals().await?);
    let mut agents = AgentCounts { revoked, ..AgentCounts::default() };
    for Seen { agent, places, .. } in &seen {
        if agent.status == AgentStatus::Pending {
            agents.pending += 1;
            continue;
        }
        agents.approved += 1;
        agents.online += usize::from(!places.is_empty());
        if let Some(version) = &agent.version {
            *agents.versions.entry(version.clone()).or_default() += 1;
        }
    }
    let in_service: Vec<_> = seen.into_iter().filter(|seen| seen.agent.status == AgentStatus::Approved).collect();
    let rotations = portals.iter().filter_map(|portal| rotation(portal, &in_service)).collect();
    let mut troubles: Vec<_> = nodes.iter().filter_map(of_node).collect();
    troubles.extend(tenants.iter().filter_map(|tenant| of_tenant(&tenant.tenant, &in_service)));
    troubles.extend(in_service.iter().flat_map(of_agent));
    troubles.sort_by_key(|trouble| std::cmp::Reverse(trouble.state));
    let (tenants, portals) = (tenants.len(), portals.len());
    Ok(Json(Overview { nodes, tenants, portals, agents, rotations, troubles }))
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

fn of_node(node: &NodeView) -> Option<Trouble> {
    (!node.same_cluster_key).then(|| Trouble {
        state: PreflightState::Failed,
        tenant: None,
        agent: None,
        detail: format!(
            "node {} ({}) has another cluster key: its agents are reached from no other node",
            node.name, node.node
        ),
        remedy: "give all nodes the same redis.cluster_key_file; stop all, then start all".to_owned(),
    })
}

fn of_tenant(tenant: &TenantId, agents: &[Seen]) -> Option<Trouble> {
    let mut its = agents.iter().filter(|seen| seen.tenant == *tenant).peekable();
    (its.peek().is_some() && its.all(|seen| seen.places.is_empty())).then(|| Trouble {
        state: PreflightState::Failed,
        tenant: Some(tenant.clone()),
        agent: None,
        detail: "no agent of this tenant is connected: no reset is possible".to_owned(),
        remedy: "look at the agents' hosts: writeback-agent events, writeback-agent check".to_owned(),
    })
}

fn of_agent(seen: &Seen) -> Vec<Trouble> {
    let trouble = |state, detail, remedy| {
        let (tenant, agent) = (Some(seen.tenant.clone()), Some(seen.agent.agent));
        Trouble { state, tenant, agent, detail: format!("{}: {detail}", seen.agent.name), remedy }
    };
    let away = seen.places.is_empty().then(|| {
        let remedy = "on its host: writeback-agent events, writeback-agent check".to_owned();
        trouble(PreflightState::Warning, "is not connected".to_owned(), remedy)
    });
    let rows = seen.agent.preflight.iter().flat_map(|report: &PreflightReport| &report.rows);
    let red = rows.filter(|row| row.state != PreflightState::Ok).map(|row| {
        let detail = format!("{} at {}: {}", row.check, row.target, row.detail);
        trouble(row.state, detail, row.remedy.clone())
    });
    away.into_iter().chain(red).collect()
}
