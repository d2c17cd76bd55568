//! What is wrong, and what to do about it.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::nodes::NodeView;
use super::presence::Seen;
use crate::protocol::api::{PreflightReport, PreflightState};
use crate::protocol::ids::{AgentId, TenantId};
use crate::protocol::remedy::{Advice, Remedy};
use crate::protocol::untrusted::Untrusted;

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
    /// What is wrong, for people: the node's words, with an agent's between quotation marks.
    pub detail: Untrusted,
    /// What to do, for people: the node's words, if there is a code, else an agent's own.
    pub remedy: Untrusted,
    /// The same as a code, for which the reader has words of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy_code: Option<Untrusted>,
}

impl Trouble {
    fn new(state: PreflightState, detail: String, remedy: Remedy) -> Self {
        let (detail, remedy, remedy_code) = (detail.into(), remedy.text().into(), Some(remedy.as_str().into()));
        Self { state, tenant: None, agent: None, detail, remedy, remedy_code }
    }

    fn of(self, tenant: &TenantId, agent: Option<AgentId>) -> Self {
        Self { tenant: Some(tenant.clone()), agent, ..self }
    }

    /// What to do, as far as anybody knows.
    #[must_use]
    pub fn advice(&self) -> Option<Advice<'_>> {
        let of = if self.agent.is_some() { Advice::of_agent } else { Advice::of_node };
        of(self.remedy_code.as_ref(), &self.remedy)
    }
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
    let (name, id) = (node.name.cell(), node.node);
    let detail = format!("node {name} ({id}) has another cluster key: its agents are reached from no other node");
    (!node.same_cluster_key).then(|| Trouble::new(PreflightState::Failed, detail, Remedy::SameClusterKey))
}

fn of_certificate(seconds: i64) -> Option<Trouble> {
    let (state, ends) = match seconds {
        ..=0 => (PreflightState::Failed, "has ended".to_owned()),
        1..CERTIFICATE_SECONDS => (PreflightState::Warning, format!("ends in {} days", seconds / DAY_SECONDS)),
        _ => return None,
    };
    let detail = format!("the certificate of the node that tells this {ends}");
    Some(Trouble::new(state, detail, Remedy::ReplaceCertificate))
}

/// A tenant that has agents, none of which is there.
fn of_tenant(tenant: &TenantId, agents: &[Seen]) -> Option<Trouble> {
    let is_there = agents.iter().any(|seen| seen.tenant == *tenant && !seen.places.is_empty());
    let detail = "no agent of this tenant is connected: no reset is possible".to_owned();
    (!is_there).then(|| Trouble::new(PreflightState::Failed, detail, Remedy::LookAtAgent).of(tenant, None))
}

fn of_agent(seen: &Seen) -> Vec<Trouble> {
    let (name, agent) = (seen.agent.name.cell(), Some(seen.agent.agent));
    let away = seen.places.is_empty().then(|| {
        let detail = format!("{name}: is not connected");
        Trouble::new(PreflightState::Warning, detail, Remedy::LookAtAgent).of(&seen.tenant, agent)
    });
    let rows = seen.agent.preflight.iter().flat_map(|report: &PreflightReport| &report.rows);
    let red = rows.filter(|row| row.state != PreflightState::Ok).map(|row| Trouble {
        state: row.state,
        tenant: Some(seen.tenant.clone()),
        agent,
        detail: format!("{name}: {} at {}: {}", row.check.cell(), row.target.cell(), row.detail.quoted()).into(),
        remedy: match row.advice() {
            Some(Advice::Ours(known)) => known.text().into(),
            Some(Advice::Theirs(_)) | None => row.remedy.clone(),
        },
        remedy_code: row.remedy_code.clone(),
    });
    away.into_iter().chain(red).collect()
}
