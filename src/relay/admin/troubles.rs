//! What is wrong, and what to do about it.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::nodes::NodeView;
use super::presence::Seen;
use crate::protocol::api::{AgentStatus, PreflightReport, PreflightState};
use crate::protocol::ids::{AgentId, PortalId, TenantId};
use crate::protocol::remedy::{Advice, Remedy};
use crate::protocol::untrusted::Untrusted;
use crate::relay::StoreError;
use crate::relay::faults::Fault;
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

/// What the node that tells this knows of itself and its store.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// What keeps it from having resets done.
    pub(super) faults: Vec<Fault>,
    /// What the store refuses to it, in its words.
    pub(super) forbidden: Option<String>,
    /// What is wrong with the registry.
    pub(super) lost: Option<String>,
    /// That the store is slow.
    pub(super) slow: Option<String>,
    /// For so many seconds its certificate holds.
    pub(super) certificate: i64,
}

/// What is wrong with the relay itself: its store, its registry, its nodes, and its certificate.
pub(super) fn of_relay(nodes: &[NodeView], own: &Own) -> Vec<Trouble> {
    let of_store = own.faults.iter().filter_map(|fault| {
        let detail = match fault {
            Fault::Store(Cause::Rights) => {
                let words = own.forbidden.as_ref().map(|words| format!(": {words}")).unwrap_or_default();
                format!("{}{words}", fault.detail())
            }
            Fault::Store(_) => format!("the store takes no writes: {}", fault.detail()),
            Fault::RegistryLost => own.lost.clone().unwrap_or_else(|| fault.detail().to_owned()),
            Fault::Deaf | Fault::ClockOff => return None,
        };
        Some(Trouble::new(PreflightState::Failed, detail, fault.remedy()))
    });
    let nodes_troubles = nodes.iter().filter_map(of_node).chain(nodes.iter().flat_map(|node| of_faults(node, own)));
    let slow = own.slow.iter().map(|slow| Trouble::new(PreflightState::Warning, slow.clone(), Remedy::RedisSlow));
    of_store
        .chain(slow)
        .chain(nodes_troubles)
        .chain(of_unknown(nodes, own))
        .chain(of_certificate(own.certificate))
        .collect()
}

/// What a node has besides what the store has.
fn of_faults<'a>(node: &'a NodeView, own: &'a Own) -> impl Iterator<Item = Trouble> + 'a {
    let (name, id) = (node.name.cell(), node.node);
    node.faults.iter().filter_map(move |code| {
        let fault = Fault::from_code(code);
        if fault.is_some_and(|fault| !fault.is_of_one_node() && own.faults.contains(&fault)) {
            return None;
        }
        let (detail, remedy) = match fault {
            Some(fault) => (fault.detail().to_owned(), fault.remedy()),
            None => (format!("it says {}", code.quoted()), Remedy::AskEachNode),
        };
        let was = if node.known { "" } else { " (when it was last heard of)" };
        Some(Trouble::new(PreflightState::Failed, format!("node {name} ({id}): {detail}{was}"), remedy))
    })
}

/// That nobody knows how the others are.
fn of_unknown(nodes: &[NodeView], own: &Own) -> Option<Trouble> {
    let unknown: Vec<_> = nodes.iter().filter(|node| !node.known).map(|node| node.name.cell()).collect();
    if unknown.is_empty() && !own.faults.contains(&Fault::Store(Cause::Away)) {
        return None;
    }
    let which =
        if unknown.is_empty() { String::new() } else { format!(", as far as there were some: {}", unknown.join(", ")) };
    let detail = format!("how the other nodes are is not known while the store does not answer this one{which}");
    Some(Trouble::new(PreflightState::Warning, detail, Remedy::AskEachNode))
}

/// That nobody knows what the registry has.
pub(super) fn unasked(why: Option<&StoreError>, own: &Own) -> Trouble {
    let detail = "tenants, portals and agents are not shown: the store has not said in time what there is";
    let known = own.faults.iter().any(|fault| matches!(fault, Fault::Store(_)));
    let state = if known { PreflightState::Warning } else { PreflightState::Failed };
    let detail = match why.filter(|_| !known) {
        Some(why) => format!("{detail} ({why})"),
        None => detail.to_owned(),
    };
    Trouble::new(state, detail, Remedy::AskAgain)
}

/// What is wrong with a tenant's agents, and with it if it has none in service.
pub(super) fn of_agents(tenant: &TenantId, all: &[Seen], portals: &[&PortalId]) -> Vec<Trouble> {
    let agents: Vec<&Seen> = all.iter().filter(|seen| seen.agent.status == AgentStatus::Approved).collect();
    if agents.is_empty() {
        return vec![without_agents(tenant, all)];
    }
    let distrusting = agents.iter().filter_map(|seen| of_trust(seen, portals));
    of_tenant(tenant, &agents)
        .into_iter()
        .chain(distrusting)
        .chain(agents.iter().flat_map(|seen| of_agent(seen)))
        .collect()
}

/// A tenant without an agent in service. One that was just added has none yet, so nothing has failed.
fn without_agents(tenant: &TenantId, all: &[Seen]) -> Trouble {
    let (detail, remedy) = match all.iter().filter(|seen| seen.agent.status == AgentStatus::Pending).count() {
        0 => ("this tenant has no agent: no reset is possible".to_owned(), Remedy::InviteAgent),
        1 => ("its only agent waits for approval: no reset is possible".to_owned(), Remedy::ApproveAgent),
        n => (format!("its {n} agents wait for approval: no reset is possible"), Remedy::ApproveAgent),
    };
    Trouble::new(PreflightState::Warning, detail, remedy).of(tenant, None)
}

/// An agent that takes the commands of nobody who may send any.
fn of_trust(seen: &Seen, portals: &[&PortalId]) -> Option<Trouble> {
    let trusted = seen.trusts.as_ref()?;
    let is_of_use = portals.is_empty() || portals.iter().any(|portal| trusted.contains(portal));
    let detail = format!("{}: takes commands of no portal that serves this tenant", seen.agent.name.cell());
    let trouble = Trouble::new(PreflightState::Warning, detail, Remedy::TrustPortal);
    (!is_of_use).then(|| trouble.of(&seen.tenant, Some(seen.agent.agent)))
}

/// The worst first, and of very many only those.
pub(super) fn worst(mut troubles: Vec<Trouble>) -> Vec<Trouble> {
    troubles.sort_by_key(|trouble| Reverse(trouble.state));
    let more = troubles.len().saturating_sub(MAX_TROUBLES);
    if more > 0 {
        troubles.truncate(MAX_TROUBLES);
        let detail = format!("{more} more things are wrong");
        troubles.push(Trouble::new(PreflightState::Warning, detail, Remedy::TheseFirst));
    }
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
fn of_tenant(tenant: &TenantId, agents: &[&Seen]) -> Option<Trouble> {
    let is_there = agents.iter().any(|seen| !seen.places.is_empty());
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
    let red = rows.filter(|row| row.state != PreflightState::Ok).take(MAX_ROWS).map(|row| Trouble {
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
