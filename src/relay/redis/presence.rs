//! Who is where. A session's entry is worth as much as its node's lease: agents and heartbeats cost no writes.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, Pipeline};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::link::Link;
use super::scripts::{ENTER, LEASE, RELEASE};
use super::{keys, millis};
use crate::protocol::ids::{AgentId, InstanceId, PortalId, TenantId};
use crate::protocol::untrusted::Untrusted;
use crate::relay::StoreError;
use crate::relay::bus::{Claim, Departure, Load, Place, Presence, RETURN_WINDOW, Sighting};
use crate::relay::faults::Fault;
use crate::relay::ids::{NodeId, SessionId};

/// Sessions that could not be released: more are left to the day after which the store forgets them by itself.
const MAX_UNRELEASED: usize = 65_536;

/// A session, as other nodes see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    node: NodeId,
    instance: InstanceId,
    /// Absent from nodes and agents that know nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trusts: Option<Vec<PortalId>>,
}

/// What a node says about itself in its lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Lease {
    /// Its name, for people.
    pub(super) name: Untrusted,
    /// Shows which cluster key it has; see [`Envelopes::mark`](super::envelope::Envelopes::mark).
    pub(super) mark: String,
    /// How many sessions it has.
    #[serde(default)]
    pub(super) sessions: u32,
    /// Its program's version.
    #[serde(default)]
    pub(super) version: Untrusted,
    /// It takes nothing new.
    #[serde(default)]
    pub(super) draining: bool,
    /// What keeps it from its work, as codes; absent from nodes that know none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) faults: Vec<Untrusted>,
}

impl Lease {
    /// Of a node that has just come up.
    pub(super) fn new(name: String, mark: String) -> Self {
        let version = env!("CARGO_PKG_VERSION").into();
        Self { name: name.into(), mark, sessions: 0, version, draining: false, faults: Vec::new() }
    }

    /// What the node has to do.
    pub(super) fn load(&self) -> Load {
        Load { sessions: self.sessions, draining: self.draining }
    }
}

/// What a renewal has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// The lease was there.
    Kept,
    /// It was not.
    New,
}

/// The presence of nodes and agents, in Redis.
pub(super) struct PresenceTable {
    link: Link,
    /// The same, for the nodes' leases.
    leases: Link,
    node: NodeId,
    lease: Lease,
    /// Nodes that held a lease when this node last looked, this one too.
    alive: Mutex<HashMap<NodeId, Lease>>,
    /// When it last looked.
    renewed: Mutex<Option<Instant>>,
    /// Nodes that have not answered lately, lease or not.
    doubted: Mutex<HashSet<NodeId>>,
    /// Sessions whose claim was not answered: it may still arrive.
    unclaimed: Mutex<HashSet<SessionId>>,
    /// Sessions that are gone and may be known all the same.
    unreleased: Mutex<Vec<(Presence, Departure)>>,
}

impl PresenceTable {
    pub(super) fn new(link: &Link, node: NodeId, lease: Lease) -> Self {
        let alive = Mutex::new(HashMap::from([(node, lease.clone())]));
        let (link, leases) = (link.used_for("presence"), link.used_for("lease"));
        let (unclaimed, unreleased) = (Mutex::default(), Mutex::default());
        let (renewed, doubted) = (Mutex::default(), Mutex::default());
        Self { link, leases, node, lease, alive, renewed, doubted, unclaimed, unreleased }
    }

    /// Renews this node's lease, and looks who else is alive.
    pub(super) async fn renew(&self, load: Load, faults: Vec<Fault>) -> Result<Renewal, StoreError> {
        let faults = faults.into_iter().map(|fault| fault.as_str().into()).collect();
        let own = Lease { sessions: load.sessions, draining: load.draining, faults, ..self.lease.clone() };
        let text = serde_json::to_string(&own).map_err(|e| StoreError::Unanswered(e.to_string()))?;
        let mut lease = LEASE.key(keys::node(self.node));
        lease.arg(text).arg(millis(keys::NODE_LEASE));
        let before: Option<String> = self.leases.script(&lease).await?;
        let known = self.known(own.name.as_data()).await?;
        let mut alive = HashMap::from([(self.node, own)]);
        for id in known.keys() {
            let Ok(id) = id.parse().map(NodeId) else { continue };
            match self.lease_of(&self.leases, id).await? {
                Some(lease) => drop(alive.insert(id, lease)),
                None => self.leases.command::<()>(&Cmd::hdel(keys::NODES, id.0.to_string())).await?,
            }
        }
        *self.alive.lock() = alive;
        *self.renewed.lock() = Some(Instant::now());
        self.doubted.lock().clear();
        Ok(if before.is_some() { Renewal::Kept } else { Renewal::New })
    }

    /// All nodes, this one too, and what they are called.
    async fn known(&self, name: &str) -> Result<HashMap<String, String>, StoreError> {
        let (all, id) = (Cmd::hgetall(keys::NODES), self.node.0.to_string());
        let known: HashMap<String, String> = self.leases.command(&all).await?;
        if known.get(&id).is_some_and(|known| known == name) {
            return Ok(known);
        }
        // Whoever comes at the same moment is seen after this node can be.
        self.leases.script::<()>(ENTER.key(keys::NODES).arg(id).arg(name)).await?;
        self.leases.command(&all).await
    }

    /// Whether it has looked lately who is alive.
    pub(super) fn is_current(&self) -> bool {
        self.renewed.lock().is_some_and(|renewed| renewed.elapsed() < keys::NODE_LEASE)
    }

    /// Gives the lease back: the others need not wait for it to run out.
    pub(super) async fn retire(&self) -> Result<(), StoreError> {
        self.leases.command::<()>(&Cmd::del(keys::node(self.node))).await?;
        self.leases.command(&Cmd::hdel(keys::NODES, self.node.0.to_string())).await
    }

    async fn lease_of(&self, link: &Link, node: NodeId) -> Result<Option<Lease>, StoreError> {
        let text: Option<String> = link.command(&Cmd::get(keys::node(node))).await?;
        // Whatever stands there: somebody holds it.
        let unreadable = || Lease { version: Untrusted::default(), ..Lease::new("unknown".to_owned(), String::new()) };
        Ok(text.map(|text| serde_json::from_str(&text).unwrap_or_else(|_| unreadable())))
    }

    /// What this node says about itself.
    pub(super) fn own(&self) -> &Lease {
        &self.lease
    }

    /// All other nodes, those that came up a moment ago too.
    pub(super) async fn others(&self) -> Result<Vec<NodeId>, StoreError> {
        let known: Vec<String> = self.link.command(&Cmd::hkeys(keys::NODES)).await?;
        let known = known.iter().filter_map(|id| id.parse().map(NodeId).ok());
        Ok(known.filter(|node| *node != self.node).collect())
    }

    /// How many nodes are alive, this one too.
    pub(super) fn alive(&self) -> u32 {
        u32::try_from(self.alive.lock().len()).unwrap_or(u32::MAX)
    }

    /// What the node says about itself, if it held a lease when this node last looked.
    pub(super) fn lease(&self, node: NodeId) -> Option<Lease> {
        self.alive.lock().get(&node).cloned()
    }

    /// The other nodes that are alive, and what they say about themselves.
    pub(super) fn others_alive(&self) -> Vec<(NodeId, Lease)> {
        let alive = self.alive.lock();
        alive.iter().filter(|(node, _)| **node != self.node).map(|(node, lease)| (*node, lease.clone())).collect()
    }

    /// Whether the node held a lease lately, and nothing speaks against it.
    pub(super) fn is_known_alive(&self, node: NodeId) -> bool {
        self.alive.lock().contains_key(&node) && !self.is_doubted(node)
    }

    /// A node that did not answer is looked at again before it is believed, and others are asked first for a while.
    pub(super) fn doubt(&self, node: NodeId) {
        if node != self.node {
            self.doubted.lock().insert(node);
        }
    }

    /// Whether the node did not answer lately.
    pub(super) fn is_doubted(&self, node: NodeId) -> bool {
        self.doubted.lock().contains(&node)
    }

    /// Who is asked first, of nodes that hold the same agent: those that answer, and of them the less busy.
    pub(super) fn order(&self, node: NodeId) -> (bool, u32) {
        (self.is_doubted(node), self.alive.lock().get(&node).map_or(0, |lease| lease.sessions))
    }

    /// The agent's sessions on nodes that are alive, the newest first.
    async fn sessions(&self, tenant: &TenantId, agent: AgentId) -> Result<Vec<(SessionId, Seen)>, StoreError> {
        let fields: HashMap<String, String> = self.link.command(&Cmd::hgetall(keys::sessions(tenant, agent))).await?;
        let mut sessions = Vec::new();
        for (session, seen) in fields {
            let (Ok(session), Ok(seen)) = (session.parse().map(SessionId), serde_json::from_str::<Seen>(&seen)) else {
                continue;
            };
            if !self.is_known_alive(seen.node) {
                // It may have come up since this node last looked, or have gone.
                let Some(lease) = self.lease_of(&self.link, seen.node).await? else { continue };
                self.alive.lock().insert(seen.node, lease);
            }
            sessions.push((session, seen));
        }
        // UUIDv7: the newest sorts last.
        sessions.sort_by_key(|(session, _)| std::cmp::Reverse(*session));
        Ok(sessions)
    }

    pub(super) async fn sightings(&self, tenant: &TenantId, agent: AgentId) -> Result<Vec<Sighting>, StoreError> {
        let sessions = self.sessions(tenant, agent).await?.into_iter();
        let sighting = |(session, Seen { node, trusts, .. })| Sighting { place: Place { node, session }, trusts };
        Ok(sessions.map(sighting).collect())
    }

    pub(super) async fn claim(&self, presence: &Presence) -> Result<Claim, StoreError> {
        self.unclaimed.lock().insert(presence.session);
        let claim = self.try_claim(presence).await?;
        self.unclaimed.lock().remove(&presence.session);
        Ok(claim)
    }

    async fn try_claim(&self, presence: &Presence) -> Result<Claim, StoreError> {
        let sessions = self.sessions(&presence.tenant, presence.agent).await?.into_iter();
        // A session that was known before makes itself known again.
        let others = sessions.filter(|(session, _)| *session != presence.session);
        let present = others.map(|(session, seen)| (Place { node: seen.node, session }, seen.instance));
        let (displaced, surplus) = match Claim::judge(presence.instance, present) {
            Claim::Newer => return Ok(Claim::Newer),
            Claim::Held { displaced, surplus } => (displaced, surplus),
        };
        let seen = Seen { node: self.node, instance: presence.instance, trusts: presence.trusts.clone() };
        let seen = serde_json::to_string(&seen).map_err(|e| StoreError::Unanswered(e.to_string()))?;
        let key = keys::sessions(&presence.tenant, presence.agent);
        let mut claim = Pipeline::new();
        claim.hset(&key, presence.session.to_string(), seen).ignore();
        for place in displaced.iter().chain(&surplus) {
            claim.hdel(&key, place.session.to_string()).ignore();
        }
        claim.pexpire(&key, i64::try_from(millis(keys::SESSIONS_KEPT)).unwrap_or(i64::MAX)).ignore();
        claim.del(keys::lost(&presence.tenant, presence.agent)).ignore();
        self.link.pipeline::<()>(&claim).await?;
        // Another process may have come at the same moment: of two, the newer stays.
        let now = self.sessions(&presence.tenant, presence.agent).await?;
        if now.iter().any(|(_, seen)| seen.instance > presence.instance) {
            self.link.command::<()>(&Cmd::hdel(&key, presence.session.to_string())).await?;
            return Ok(Claim::Newer);
        }
        Ok(Claim::Held { displaced, surplus })
    }

    /// Forgets a session: now, and if Redis does not answer, with [`Self::release_again`].
    pub(super) async fn release(&self, presence: &Presence, departure: Departure) -> Result<(), StoreError> {
        let unclaimed = self.unclaimed.lock().remove(&presence.session);
        let released = self.try_release(presence, departure).await;
        if unclaimed || released.is_err() {
            let mut unreleased = self.unreleased.lock();
            let surplus = (unreleased.len() + 1).saturating_sub(MAX_UNRELEASED);
            unreleased.drain(..surplus);
            unreleased.push((presence.clone(), departure));
        }
        released
    }

    /// Releases what could not be released when its session ended.
    pub(super) async fn release_again(&self) {
        let unreleased = std::mem::take(&mut *self.unreleased.lock());
        let mut left = unreleased.into_iter();
        while let Some((presence, departure)) = left.next() {
            if self.try_release(&presence, departure).await.is_err() {
                // The next one would not do better, and the lease is not to wait for all of them.
                self.unreleased.lock().extend([(presence, departure)].into_iter().chain(left));
                return;
            }
        }
    }

    async fn try_release(&self, presence: &Presence, departure: Departure) -> Result<(), StoreError> {
        let mut release = RELEASE.key(keys::sessions(&presence.tenant, presence.agent));
        release.key(keys::lost(&presence.tenant, presence.agent)).arg(presence.session.to_string());
        release.arg(match departure {
            Departure::Lost => millis(RETURN_WINDOW),
            Departure::Left => 0,
        });
        self.link.script(&release).await
    }

    pub(super) async fn may_return(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<Duration>, StoreError> {
        let left: i64 = self.link.command(&Cmd::pttl(keys::lost(tenant, agent))).await?;
        Ok(u64::try_from(left).ok().filter(|ms| *ms > 0).map(Duration::from_millis))
    }
}
