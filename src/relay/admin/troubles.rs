//! What is wrong, and what to do about it.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::nodes::NodeView;
use super::presence::Seen;
use crate::protocol::api::{PreflightReport, PreflightState};
use crate::protocol::ids::{AgentId, TenantId};
use crate::relay::writes::Cause;

const DAY_SECONDS: i64 = 86_400;

/// More things are not listed: an agent that says it has them may say it of all it likes.
const MAX_TROUBLES: usize = 1000;

/// Nor more rows of one agent.
const MAX_ROWS: usize = 16;

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

/// What is wrong with the relay itself: its store, its nodes, and its certificate, which ends in so many seconds.
pub(super) fn of_relay(nodes: &[NodeView], certificate: i64, refused: Option<Cause>) -> Vec<Trouble> {
    let of_store = refused.map(|cause| Trouble {
        state: PreflightState::Failed,
        tenant: None,
        agent: None,
        detail: format!("the store takes no writes: {}", cause.detail()),
        remedy: cause.remedy().to_owned(),
    });
    of_store.into_iter().chain(nodes.iter().filter_map(of_node)).chain(of_certificate(certificate)).collect()
}

/// What is wrong with a tenant's agents that are in service.
pub(super) fn of_agents(tenant: &TenantId, agents: &[Seen]) -> Vec<Trouble> {
    if agents.is_empty() {
        return Vec::new();
    }
    of_tenant(tenant, agents).into_iter().chain(agents.iter().flat_map(of_agent)).collect()
}

/// The worst first, and of very many only those.
pub(super) fn worst(mut troubles: Vec<Trouble>) -> Vec<Trouble> {
    troubles.sort_by_key(|trouble| Reverse(trouble.state));
    let more = troubles.len().saturating_sub(MAX_TROUBLES);
    if more > 0 {
        troubles.truncate(MAX_TROUBLES);
        troubles.push(Trouble {
            state: PreflightState::Warning,
            tenant: None,
            agent: None,
            detail: format!("{more} more things are wrong"),
            remedy: "mend these first".to_owned(),
        });
    }
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
    let is_there = agents.iter().any(|seen| !seen.places.is_empty());
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
    let red = rows.filter(|row| row.state != PreflightState::Ok).take(MAX_ROWS).map(|row| {
        let detail = format!("{} at {}: {}", row.check, row.target, row.detail);
        trouble(row.state, detail, row.remedy.clone())
    });
    away.into_iter().chain(red).collect()
}
