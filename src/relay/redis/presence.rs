//! Who is where. A session's entry is worth as much as its node's lease: agents and heartbeats cost no writes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, Pipeline};
use serde::{Deserialize, Serialize};

use super::link::Link;
use super::{keys, millis};
use crate::protocol::ids::{AgentId, InstanceId, TenantId};
use crate::relay::StoreError;
use crate::relay::bus::{Claim, Departure, Place, Presence, RETURN_WINDOW};
use crate::relay::ids::{NodeId, SessionId};

/// A session, as other nodes see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    node: NodeId,
    instance: InstanceId,
}

/// What a renewal has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// The lease was there.
    Kept,
    /// It was not.
    New,
}

/// The presence of agents, in Redis.
#[derive(Clone)]
pub(super) struct PresenceTable {
    link: Link,
    node: NodeId,
    /// Nodes that held a lease when this node last looked.
    alive: Arc<Mutex<HashSet<NodeId>>>,
}

impl PresenceTable {
    pub(super) fn new(link: Link, node: NodeId) -> Self {
        Self { link, node, alive: Arc::new(Mutex::new(HashSet::from([node]))) }
    }

    /// Renews this node's lease, and looks who else is alive.
    pub(super) async fn renew(&self, name: &str) -> Result<Lease, StoreError> {
        let mut lease = Cmd::set(keys::node(self.node), name);
        lease.arg("PX").arg(millis(keys::NODE_LEASE)).arg("GET");
        let before: Option<String> = self.link.command(&lease).await?;
        self.link.command::<()>(&Cmd::hset(keys::NODES, self.node.0.to_string(), name)).await?;
        let known: HashMap<String, String> = self.link.command(&Cmd::hgetall(keys::NODES)).await?;
        let mut alive = HashSet::from([self.node]);
        for id in known.keys() {
            let Ok(id) = id.parse().map(NodeId) else { continue };
            if self.holds_lease(id).await? {
                alive.insert(id);
            } else {
                self.link.command::<()>(&Cmd::hdel(keys::NODES, id.0.to_string())).await?;
            }
        }
        *self.alive.lock() = alive;
        Ok(if before.is_some() { Lease::Kept } else { Lease::New })
    }

    /// Gives the lease back: the others need not wait for it to run out.
    pub(super) async fn retire(&self) -> Result<(), StoreError> {
        self.link.command::<()>(&Cmd::del(keys::node(self.node))).await?;
        self.link.command(&Cmd::hdel(keys::NODES, self.node.0.to_string())).await
    }

    async fn holds_lease(&self, node: NodeId) -> Result<bool, StoreError> {
        self.link.command(&Cmd::exists(keys::node(node))).await
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

    fn is_known_alive(&self, node: NodeId) -> bool {
        self.alive.lock().contains(&node)
    }

    /// A node that did not answer is looked at again before it is believed.
    pub(super) fn doubt(&self, node: NodeId) {
        if node != self.node {
            self.alive.lock().remove(&node);
        }
    }

    /// The agent's sessions on nodes that are alive, the newest first.
    async fn sessions(&self, tenant: &TenantId, agent: AgentId) -> Result<Vec<(SessionId, Seen)>, StoreError> {
        let fields: HashMap<String, String> = self.link.command(&Cmd::hgetall(keys::sessions(tenant, agent))).await?;
        let mut sessions = Vec::new();
        for (session, seen) in fields {
            let (Ok(session), Ok(seen)) = (session.parse().map(SessionId), serde_json::from_str::<Seen>(&seen)) else {
                continue;
            };
            // A node that has just come up is not in our list yet.
            if self.is_known_alive(seen.node) || self.holds_lease(seen.node).await? {
                sessions.push((session, seen));
            }
        }
        // UUIDv7: the newest sorts last.
        sessions.sort_by_key(|(session, _)| std::cmp::Reverse(*session));
        Ok(sessions)
    }

    pub(super) async fn places(&self, tenant: &TenantId, agent: AgentId) -> Result<Vec<Place>, StoreError> {
        let sessions = self.sessions(tenant, agent).await?.into_iter();
        Ok(sessions.map(|(session, seen)| Place { node: seen.node, session }).collect())
    }

    pub(super) async fn claim(&self, presence: &Presence) -> Result<Claim, StoreError> {
        let sessions = self.sessions(&presence.tenant, presence.agent).await?.into_iter();
        // A session that was known before makes itself known again.
        let others = sessions.filter(|(session, _)| *session != presence.session);
        let present = others.map(|(session, seen)| (Place { node: seen.node, session }, seen.instance));
        let displaced = match Claim::judge(presence.instance, present) {
            Claim::Newer => return Ok(Claim::Newer),
            Claim::Held { displaced } => displaced,
        };
        let seen = Seen { node: self.node, instance: presence.instance };
        let seen = serde_json::to_string(&seen).map_err(|e| StoreError(e.to_string()))?;
        let key = keys::sessions(&presence.tenant, presence.agent);
        let mut claim = Pipeline::new();
        claim.hset(&key, presence.session.to_string(), seen).ignore();
        for place in &displaced {
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
        Ok(Claim::Held { displaced })
    }

    pub(super) async fn release(&self, presence: &Presence, departure: Departure) -> Result<(), StoreError> {
        let key = keys::sessions(&presence.tenant, presence.agent);
        let mut release = Pipeline::new();
        release.hdel(&key, presence.session.to_string()).ignore();
        let lost = keys::lost(&presence.tenant, presence.agent);
        match departure {
            Departure::Lost => release.pset_ex(lost, 1, millis(RETURN_WINDOW)).ignore(),
            Departure::Left => release.del(lost).ignore(),
        };
        self.link.pipeline(&release).await
    }

    pub(super) async fn may_return(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<Duration>, StoreError> {
        let left: i64 = self.link.command(&Cmd::pttl(keys::lost(tenant, agent))).await?;
        Ok(u64::try_from(left).ok().filter(|ms| *ms > 0).map(Duration::from_millis))
    }
}
