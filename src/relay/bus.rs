//! Which node holds which agent, and a way to ask that node.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::ids::{NodeId, SessionId};
use super::ledger::Entry;
use crate::protocol::ids::{AgentId, InstanceId, PortalId, TenantId};
use crate::protocol::untrusted::Untrusted;

/// A session, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The node.
    pub node: NodeId,
    /// The session there.
    pub session: SessionId,
}

/// A session that makes itself known.
#[derive(Clone, Debug)]
pub struct Presence {
    /// The organisation.
    pub tenant: TenantId,
    /// The agent.
    pub agent: AgentId,
    /// The session.
    pub session: SessionId,
    /// The agent's process.
    pub instance: InstanceId,
    /// The portals whose commands the agent takes, all of them; `None` of an agent that does not announce them.
    pub trusts: Option<Vec<PortalId>>,
}

/// A session, as it has made itself known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Where it is.
    pub place: Place,
    /// The portals whose commands its agent takes, if it says so.
    pub trusts: Option<Vec<PortalId>>,
}

impl Sighting {
    /// Whether an agent with these sessions takes the portal's commands: its newest session has said it last. `None` if it
    /// does not say, or is not connected.
    #[must_use]
    pub fn trusts(sightings: &[Self], portal: &PortalId) -> Option<bool> {
        Self::trusted(sightings).map(|trusted| trusted.contains(portal))
    }

    /// The portals whose commands an agent with these sessions takes, as its newest session has said.
    #[must_use]
    pub fn trusted(sightings: &[Self]) -> Option<&[PortalId]> {
        sightings.iter().max_by_key(|sighting| sighting.place.session)?.trusts.as_deref()
    }
}

/// Whether a session may stand for its agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It does now; these sessions are to be closed.
    Held {
        /// Of older processes, which must not come back.
        displaced: Vec<Place>,
        /// Of its own process, which has more than it needs: most likely they are dead. It may come back.
        surplus: Vec<Place>,
    },
    /// A newer process holds the agent.
    Newer,
}

/// How many sessions one agent may have: two, and one more of each while it moves. The oldest give way.
const MAX_SESSIONS: usize = 4;

impl Claim {
    /// Judges a process that opens a session, by the sessions that its agent has.
    #[must_use]
    pub fn judge(instance: InstanceId, present: impl IntoIterator<Item = (Place, InstanceId)>) -> Self {
        let (mut same, mut displaced) = (Vec::new(), Vec::new());
        for (place, of) in present {
            match of.cmp(&instance) {
                Ordering::Greater => return Self::Newer,
                Ordering::Equal => same.push(place),
                Ordering::Less => displaced.push(place),
            }
        }
        // UUIDv7: the oldest sorts first.
        same.sort_by_key(|place| place.session);
        let surplus = (same.len() + 1).saturating_sub(MAX_SESSIONS);
        same.truncate(surplus);
        Self::Held { displaced, surplus: same }
    }
}

/// An agent that lost its last session may be on its way back for so long.
pub const RETURN_WINDOW: Duration = Duration::from_secs(30);

/// How a session went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The agent said so: it is not on its way back.
    Left,
    /// The connection is gone, or the relay closed it: the agent comes back, most likely.
    Lost,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// The session has it in its queue, and will write it or take it back.
    Queued,
    /// The session's queue is full. Nothing was written.
    Busy,
    /// No such session. Nothing was written.
    Gone,
    /// The node's answer did not come in time; it may be written.
    NoAnswer,
}

/// Something every node should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// The command has an end.
    Ended(Box<Entry>),
    /// The agent was revoked: close its sessions.
    Revoked(TenantId, AgentId),
    /// The operator has changed or removed the portal: what is remembered of it may be wrong.
    PortalChanged(PortalId),
    /// A portal has a new key: agents of these tenants are to be told.
    PortalRotated {
        /// The tenants it serves.
        tenants: Vec<TenantId>,
        /// The rotation.
        jws: String,
    },
    /// A newer process has taken over: close this session.
    Displaced(Place),
    /// A command of this session is not written yet: word of it may have been lost.
    Overdue(Place),
    /// The agent has a session.
    Arrived(TenantId, AgentId),
    /// Its process has newer sessions enough: close this one.
    Surplus(Place),
    /// Somebody wants to know how this session's agent finds its directory.
    Check(Place),
    /// Another session of the same agent is gone: this one goes on with the commands that it has left.
    Left(Place),
    /// The operator wants this node to stop.
    Drain(NodeId),
}

impl Notice {
    /// The only node that is to hear it, if it is for one.
    #[must_use]
    pub fn to(&self) -> Option<NodeId> {
        match self {
            Self::Displaced(place)
            | Self::Surplus(place)
            | Self::Overdue(place)
            | Self::Left(place)
            | Self::Check(place) => Some(place.node),
            Self::Drain(node) => Some(*node),
            Self::Ended(_)
            | Self::Revoked(..)
            | Self::PortalChanged(_)
            | Self::PortalRotated { .. }
            | Self::Arrived(..) => None,
        }
    }
}

/// What a node has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Its sessions: of two nodes that hold an agent, the less busy one is asked.
    pub sessions: u32,
    /// It takes nothing new.
    pub draining: bool,
}

/// A node, as it shows itself to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// One start of its process.
    pub node: NodeId,
    /// Its name, for people.
    pub name: Untrusted,
    /// Its program's version; empty if it is too old to say.
    pub version: Untrusted,
    /// What it has to do.
    pub load: Load,
    /// Whether it has this node's cluster key. They do not hear each other otherwise.
    pub is_kin: bool,
    /// What keeps it from its work, as codes.
    pub faults: Vec<Untrusted>,
}

/// What the bus asks of the node it runs on. It never waits.
pub trait Inbox: Send + Sync + 'static {
    /// Hands a command to a session of this node.
    fn deliver(&self, session: SessionId, entry: Entry) -> Delivery;
    /// Takes note.
    fn notice(&self, notice: Notice);
    /// Messages may have been lost: every session of this node looks into the ledger and the registry.
    fn reconcile(&self);
    /// What this node has to do.
    fn load(&self) -> Load;
}

/// Judges again, by this node's own look at the registry, what another node hands over.
#[async_trait]
pub trait Guard: Send + Sync + 'static {
    /// Whether a portal that is registered here signed this very command, for this agent.
    async fn is_genuine(&self, entry: &Entry) -> Result<bool, StoreError>;
}

/// Presence, and messages between nodes.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Where messages for this node go. Called once, before anything else.
    fn attach(&self, inbox: Arc<dyn Inbox>);
    /// This node.
    fn node(&self) -> NodeId;
    /// How many nodes there are, this one too, as far as this one knows.
    fn nodes(&self) -> u32;

    /// The nodes that are alive, this one too, as they have said within the last seconds.
    fn members(&self) -> Vec<Member>;

    /// Whether that is so, and not how it was when the store last answered.
    fn knows_members(&self) -> bool {
        true
    }

    /// Makes a session known, and what it says of its agent, unless a newer process holds the agent. Once more, it is known
    /// as it says now.
    async fn claim(&self, presence: &Presence) -> Result<Claim, StoreError>;
    /// Forgets a session. Only this very session: a newer one stays.
    async fn release(&self, presence: &Presence, departure: Departure) -> Result<(), StoreError>;
    /// Where to deliver first, as far as is known without asking anybody. It may be out of date: whoever finds it so
    /// asks [`Self::places`].
    async fn nearest(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<Place>, StoreError> {
        Ok(self.places(tenant, agent).await?.into_iter().next())
    }
    /// The agent's sessions, the best to deliver to first, and what each has said of its agent.
    async fn sightings(&self, tenant: &TenantId, agent: AgentId) -> Result<Vec<Sighting>, StoreError>;
    /// The agent's sessions, the best to deliver to first.
    async fn places(&self, tenant: &TenantId, agent: AgentId) -> Result<Vec<Place>, StoreError> {
        Ok(self.sightings(tenant, agent).await?.into_iter().map(|sighting| sighting.place).collect())
    }
    /// How long the agent may still be on its way back: for [`RETURN_WINDOW`] after its last session was lost.
    async fn may_return(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<Duration>, StoreError>;

    /// Hands a command to the session at `place`, wherever it is. Has a deadline of its own.
    async fn deliver(&self, place: Place, entry: Entry) -> Result<Delivery, StoreError>;
    /// Tells every node that is to hear it, this one too.
    async fn tell(&self, notice: Notice) -> Result<(), StoreError>;
}
