//! What is wrong, and what to do about it.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::nodes::NodeView;
use super::presence::Seen;
use crate::protocol::api::{PreflightReport, PreflightState};
use crate::protocol::ids::{AgentId, TenantId};

const DAY_SECONDS: i64 = 86_400;

/// A certificate that ends sooner is told of, as by the alert `CertificateEnds`.
const CERTIFICATE_SECONDS: i64 = 14 * DAY_SECONDS;

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

/// All of it, the worst first. `certificate` ends in so many seconds; `agents` are those in service.
pub(super) fn troubles(nodes: &[NodeView], certificate: i64, agents: &[Seen]) -> Vec<Trouble> {
    let mut troubles: Vec<_> = nodes.iter().filter_map(of_node).chain(of_certificate(certificate)).collect();
    let tenants: BTreeSet<_> = agents.iter().map(|seen| &seen.tenant).collect();
    troubles.extend(tenants.into_iter().filter_map(|tenant| of_tenant(tenant, agents)));
    troubles.extend(agents.iter().flat_map(of_agent));
    troubles.sort_by_key(|trouble| Reverse(trouble.state));
    troubles
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
        remedy: "give all nodes the same cluster key, with all of them stopped".to_owned(),
    })
}

fn of_certificate(seconds: i64) -> Option<Trouble> {
    let (state, ends) = match seconds {
        ..=0 => (PreflightState::Failed, "has ended".to_owned()),
        1..CERTIFICATE_SECONDS => (PreflightState::Warning, format!("ends in {} days", seconds / DAY_SECONDS)),
        _ => return None,
    };
    Some(Trouble {
        state,
        tenant: None,
        agent: None,
        detail: format!("the certificate of the node that tells this {ends}"),
        remedy: "put a new one into its file; nothing has to be restarted".to_owned(),
    })
}

/// A tenant that has agents, none of which is there.
fn of_tenant(tenant: &TenantId, agents: &[Seen]) -> Option<Trouble> {
    let is_there = agents.iter().any(|seen| seen.tenant == *tenant && !seen.places.is_empty());
    (!is_there).then(|| Trouble {
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
