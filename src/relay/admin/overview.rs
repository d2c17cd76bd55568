//! All of it at one look: nodes, agents, versions, rotations, and what is wrong. Any node can tell.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::Ops;
use super::nodes::{NodeView, nodes_with};
use super::presence::{Seen, look};
use super::troubles::{Own, Trouble, of_agents, of_relay, unasked, worst};
use crate::protocol::api::AgentStatus;
use crate::protocol::ids::PortalId;
use crate::protocol::untrusted::Untrusted;
use crate::relay::StoreError;
use crate::relay::faults::Fault;
use crate::relay::http::json::Json;
use crate::relay::registry::{Part, PortalRecord, TenantRecord};
use crate::relay::writes::Cause;

/// The store is asked for so long whether it does what is needed: some questions, one after the other, of a slow one.
const LOOK_TIMEOUT: Duration = Duration::from_secs(15);

/// And for so long what it has: a hundred thousand agents take some seconds. Whoever asks waits no longer than a minute.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything of interest.
#[derive(Debug, Serialize, Deserialize)]
pub struct Overview {
    /// The nodes that are alive.
    pub nodes: Vec<NodeView>,
    /// How many tenants there are; absent, as the next two, if the store does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<usize>,
    /// How many portals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portals: Option<usize>,
    /// The agents of all tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<AgentCounts>,
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

/// What the registry has, and what is wrong with that.
struct Registered {
    tenants: usize,
    portals: usize,
    agents: AgentCounts,
    rotations: Vec<RotationView>,
    troubles: Vec<Trouble>,
}

/// Never fails: a store that is away is what an operator asks about.
pub(super) async fn overview(State(ops): State<Ops>) -> Json<Overview> {
    let looked = timeout(LOOK_TIMEOUT, async {
        let hears = ops.health.look().await;
        if !ops.faults().contains(&Fault::Store(Cause::Away)) {
            // What it finds is known after that.
            let _ = ops.public.services.continuity.missing(&Part::Tenants).await;
        }
        hears
    });
    let away = Fault::Store(Cause::Away);
    let mut faults = match looked.await {
        Ok(hears) => {
            let mut known = ops.faults();
            // Of a store that does not answer nobody can say more.
            if !hears && !known.contains(&away) && !known.contains(&Fault::Deaf) {
                known.push(Fault::Deaf);
            }
            known
        }
        Err(_) => vec![away],
    };
    // If it is away, it would not answer this either.
    let registered = if faults.contains(&away) { None } else { timeout(ASK_TIMEOUT, registered(&ops)).await.ok() };
    if let Some(Err(StoreError::Unanswered(_))) = &registered
        && !faults.iter().any(|fault| matches!(fault, Fault::Store(_)))
    {
        // It has gone away just now.
        faults.push(away);
    }
    let nodes = nodes_with(&ops, &faults);
    let own = Own {
        forbidden: ops.health.forbidden(),
        lost: ops.public.services.continuity.complaint(),
        slow: ops.health.slow(),
        certificate: ops.certificate.expires().0.saturating_sub(ops.public.services.clock.now().0),
        faults,
    };
    let mut troubles = of_relay(&nodes, &own);
    let (tenants, portals, agents, rotations) = match registered {
        Some(Ok(found)) => {
            troubles.extend(found.troubles);
            (Some(found.tenants), Some(found.portals), Some(found.agents), found.rotations)
        }
        unanswered => {
            let why = unanswered.and_then(Result::err);
            troubles.push(unasked(why.as_ref(), &own));
            (None, None, None, Vec::new())
        }
    };
    Json(Overview { nodes, tenants, portals, agents, rotations, troubles: worst(troubles) })
}

async fn registered(ops: &Ops) -> Result<Registered, StoreError> {
    let registry = &ops.public.services.registry;
    let (tenants, portals) = (registry.tenants().await?, registry.portals().await?);
    let (mut agents, mut rotations) = (AgentCounts::default(), portals.iter().map(rotation).collect::<Vec<_>>());
    let mut troubles = Vec::new();
    // One tenant after another: no more than one tenant's agents are held at a time.
    for TenantRecord { tenant, .. } in &tenants {
        let seen = look(ops, tenant).await?;
        count(&mut agents, &seen);
        let serving = portals.iter().filter(|portal| portal.tenants.contains(tenant));
        let serving: Vec<_> = serving.map(|portal| &portal.portal).collect();
        troubles.extend(of_agents(tenant, &seen, &serving));
        let in_service: Vec<_> = seen.into_iter().filter(|seen| seen.agent.status == AgentStatus::Approved).collect();
        let its = portals.iter().zip(&mut rotations).filter(|(portal, _)| portal.tenants.contains(tenant));
        its.for_each(|(_, rotation)| rotation.count(&in_service));
    }
    rotations.retain(|rotation| rotation.seq > 0 && rotation.acknowledged < rotation.agents);
    Ok(Registered { tenants: tenants.len(), portals: portals.len(), agents, rotations, troubles })
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
