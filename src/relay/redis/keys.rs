//! Every key: one place.
//!
//! | key | type | holds | lives |
//! |---|---|---|---|
//! | `wb:tenants` | hash | tenant → [`TenantRecord`](crate::relay::registry::TenantRecord) | for ever |
//! | `wb:portals` | hash | portal → [`PortalRecord`](crate::relay::registry::PortalRecord) | for ever |
//! | `wb:{wb:tenants}:mark`, `wb:{wb:portals}:mark`, `wb:{TENANT}:mark` | hash | which registry the tenants, the portals, the tenant's agents are of: `id`, `revision`, `head` and `head:N` at revision N; `follows`, `missing`: others' ids | for ever |
//! | `wb:{TENANT}:invitations` | hash | invitation → its record | a day after its end |
//! | `wb:{TENANT}:agents` | hash | agent → its record; tombstones too | for ever |
//! | `wb:{TENANT}:unapproved` | hash | agent that nobody has approved → when it is forgotten, in seconds | until then, or its approval |
//! | `wb:{TENANT}:used:AGENT:JTI` | string | an assertion that opened a session | until its `exp` |
//! | `wb:{TENANT}:command:PORTAL:COMMAND` | hash | `entry`: the command as JSON, `jws` until it has an end, `owner`, `attempt`, `delivering`, `received`, `end`; `bytes` and `forgotten`: how it is counted below | 7 days, from its end |
//! | `wb:{TENANT}:open:AGENT` | set | keys of the agent's commands that have no end | 8 days, from the last one |
//! | `wb:{TENANT}:bytes` | hash | period of six hours → what of the tenant's commands, in bytes, will be forgotten in it | half a day longer than they |
//! | `wb:{TENANT}:forgotten:AGENT` | hash | the same of the agent's outcomes whose command was not known, as a number | the same |
//! | `wb:{TENANT}:life` | hash | `id` of the server's life, and `since` when the tenant's commands are complete in it | 8 days, from the last command |
//! | `wb:{TENANT}:sessions:AGENT` | hash | session → node, instance, since | a day, from the last change |
//! | `wb:{TENANT}:lost:AGENT` | string | the agent lost its last session a moment ago | 30 s |
//! | `wb:node:NODE` | string | the node's lease: it is alive; its name, a mark of its cluster key, how many sessions it has | 10 s, renewed every 3 s |
//! | `wb:nodes` | hash | node → its name, for people | for ever; dead ones are removed by the living |
//! | `wb:bus:NODE` | shard channel | messages for one node | – |
//! | `wb:{probe}:hash`, `set`, `mark`, `channel` | | whether we may, tried at the start | a moment |
//!
//! Braces make all of a tenant's keys share a slot, so that one script may touch several of them in a Cluster.

use std::time::Duration;

use crate::protocol::ids::{AgentId, ObjectId, TenantId};
use crate::relay::ids::NodeId;
use crate::relay::ledger::CommandKey;
use crate::relay::registry::Part;

/// A node that has not renewed its lease for so long is dead to the others.
pub const NODE_LEASE: Duration = Duration::from_secs(10);

/// Three attempts fit into a lease.
pub const NODE_RENEWAL: Duration = Duration::from_secs(3);

/// After a renewal that failed.
pub const NODE_RETRY: Duration = Duration::from_secs(1);

/// Sessions of nodes that died are cleaned up when the agent comes back; if it never does, by this.
pub const SESSIONS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Longer than any command is kept.
pub const OPEN_KEPT: Duration = Duration::from_secs(8 * 24 * 3600);

/// All tenants.
pub const TENANTS: &str = "wb:tenants";
/// All portals.
pub const PORTALS: &str = "wb:portals";
/// All nodes.
pub const NODES: &str = "wb:nodes";

/// The rights that a relay needs, as Redis is told.
pub const ACL: &str = "ACL SETUSER NAME ~wb:* &wb:* +@all -@admin -@dangerous +info";

/// A name to try our rights on.
#[must_use]
pub fn probe(what: &str) -> String {
    format!("wb:{{probe}}:{what}")
}

/// A tenant's invitations.
#[must_use]
pub fn invitations(tenant: &TenantId) -> String {
    format!("wb:{{{tenant}}}:invitations")
}

/// A tenant's agents.
#[must_use]
pub fn agents(tenant: &TenantId) -> String {
    format!("wb:{{{tenant}}}:agents")
}

/// The records of a part of the registry.
#[must_use]
pub fn records(part: &Part) -> String {
    match part {
        Part::Tenants => TENANTS.to_owned(),
        Part::Portals => PORTALS.to_owned(),
        Part::Agents(tenant) => agents(tenant),
    }
}

/// A part's mark, in the slot of its records.
#[must_use]
pub fn mark(part: &Part) -> String {
    match part {
        Part::Tenants => format!("wb:{{{TENANTS}}}:mark"),
        Part::Portals => format!("wb:{{{PORTALS}}}:mark"),
        Part::Agents(tenant) => format!("wb:{{{tenant}}}:mark"),
    }
}

/// A tenant's agents that nobody has approved.
#[must_use]
pub fn unapproved(tenant: &TenantId) -> String {
    format!("wb:{{{tenant}}}:unapproved")
}

/// An assertion that opened a session.
#[must_use]
pub fn used(tenant: &TenantId, agent: AgentId, jti: ObjectId) -> String {
    format!("wb:{{{tenant}}}:used:{agent}:{jti}")
}

/// A command.
#[must_use]
pub fn command(key: &CommandKey) -> String {
    format!("wb:{{{}}}:command:{}:{}", key.tenant, key.portal, key.command)
}

/// An agent's commands that have no end.
#[must_use]
pub fn open(tenant: &TenantId, agent: AgentId) -> String {
    format!("wb:{{{tenant}}}:open:{agent}")
}

/// What a tenant keeps, in bytes.
#[must_use]
pub fn bytes(tenant: &TenantId) -> String {
    format!("wb:{{{tenant}}}:bytes")
}

/// How many outcomes of an agent are kept whose command was not known.
#[must_use]
pub fn forgotten(tenant: &TenantId, agent: AgentId) -> String {
    format!("wb:{{{tenant}}}:forgotten:{agent}")
}

/// The mark of the server's life.
#[must_use]
pub fn life(tenant: &TenantId) -> String {
    format!("wb:{{{tenant}}}:life")
}

/// An agent's sessions.
#[must_use]
pub fn sessions(tenant: &TenantId, agent: AgentId) -> String {
    format!("wb:{{{tenant}}}:sessions:{agent}")
}

/// The mark of an agent that lost its last session a moment ago.
#[must_use]
pub fn lost(tenant: &TenantId, agent: AgentId) -> String {
    format!("wb:{{{tenant}}}:lost:{agent}")
}

/// A node's lease.
#[must_use]
pub fn node(node: NodeId) -> String {
    format!("wb:node:{}", node.0)
}

/// A node's channel.
#[must_use]
pub fn bus(node: NodeId) -> String {
    format!("wb:bus:{}", node.0)
}
