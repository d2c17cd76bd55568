//! Which connections a node holds. Each begins without a credential, as one of few; for a newcomer one of those is closed
//! that keep the node waiting. Whoever has shown a valid one is counted as what he is, and agents find half of all places
//! free of others.

mod newcomers;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use self::newcomers::{AT_ONCE, Newcomer, Unauthenticated};
use crate::protocol::ids::PortalId;
use crate::relay::limits::{Exceeded, holder};
use crate::telemetry::limit::Limit;
use crate::telemetry::metrics::Metrics;

/// So much memory one connection without a credential may cost: TLS, HTTP/2, its windows, and its first requests.
const UNAUTHENTICATED_BYTES: u64 = 64 * 1024;
/// What they may cost together, as a part of the process's memory.
const UNAUTHENTICATED_PART: u64 = 8;
/// What one with a credential costs, at the least: an idle session.
const AUTHENTICATED_BYTES: u64 = 16 * 1024;
/// This part of all places may be without a credential, and the same part may be portals'.
const PART: usize = 4;
/// Requests of the whole node that wait for a credential on their connection: 8 KiB each, and mostly 2.
const WAITING: usize = 1024;
/// They wait for so long.
const WAIT: Duration = Duration::from_secs(1);
/// A newcomer waits for so long, in the operating system's queue, until the node has looked at those before him.
const QUEUED: Duration = Duration::from_millis(100);

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    all: usize,
    unauthenticated: usize,
    portals: usize,
    /// Without a credential, of one address.
    address: usize,
    /// Of one portal.
    portal: usize,
}

impl Bounds {
    /// For a process that may have so many connections, and so many bytes of memory if that is known.
    pub(super) fn new(connections: usize, memory: Option<u64>, address: u32, portal: u32) -> Self {
        let fits = |part: u64, bytes: u64| {
            let number =
                memory.map_or(usize::MAX, |memory| usize::try_from(memory / part / bytes).unwrap_or(usize::MAX));
            number.max(1)
        };
        let all = connections.min(fits(1, AUTHENTICATED_BYTES)).max(PART);
        let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            all,
            unauthenticated: (all / PART).min(fits(UNAUTHENTICATED_PART, UNAUTHENTICATED_BYTES)),
            portals: all / PART,
            address: number(address),
            portal: number(portal),
        }
    }
}

/// All connections of the public listener.
pub(super) struct Connections {
    bounds: Bounds,
    metrics: Arc<Metrics>,
    table: Mutex<Table>,
    /// Requests that wait until another one on their connection has shown a credential.
    waiting: Semaphore,
    /// Somebody may have to make room from now on.
    room: Notify,
}

#[derive(Default)]
struct Table {
    all: usize,
    portals: HashMap<PortalId, usize>,
    /// Of all portals.
    of_portals: usize,
    unauthenticated: Unauthenticated,
}

/// Whose a connection is.
enum Standing {
    /// Nobody has shown a credential on it.
    Unauthenticated {
        address: Option<IpAddr>,
        number: u64,
    },
    /// Nobody's any more.
    Closed,
    Portal(PortalId),
    Agent,
    /// A proxy's that ends TLS: its requests are of many.
    Proxy,
}

/// One connection, until this is dropped. An agent's session keeps it.
pub(super) struct Place {
    connections: Arc<Connections>,
    standing: Mutex<Standing>,
}

/// Why a request is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// While this lives, the connection is not closed for a newcomer.
pub(super) struct Served<'a>(&'a Place);
impl Connections {
    pub(super) fn new(bounds: Bounds, metrics: Arc<Metrics>) -> Arc<Self> {
        let (waiting, room) = (Semaphore::new(WAITING), Notify::new());
        Arc::new(Self { bounds, metrics, table: Mutex::default(), waiting, room })
    }

    /// A place for one more connection, and what tells it to make room; the limit that is in the way if there is none.
    /// While the node has not looked at those who came before, this waits: what comes in a burst is looked at in turn.
    pub(super) async fn admit(self: &Arc<Self>) -> Result<(Place, CancellationToken), Limit> {
        let give_up = Instant::now() + QUEUED;
        loop {
            let room = self.room.notified();
            let no_room = match self.admit_now() {
                Err(Limit::UnauthenticatedConnections) if Instant::now() < give_up => room,
                admitted => return admitted.map_err(|limit| self.hit(limit)),
            };
            // Whoever was looked at and said nothing makes room without a word.
            let _ = timeout_at(give_up.min(Instant::now() + AT_ONCE), no_room).await;
        }
    }

    fn admit_now(self: &Arc<Self>) -> Result<(Place, CancellationToken), Limit> {
        let mut table = self.table.lock();
        if table.all >= self.bounds.all {
            // The next one may find a place.
            table.unauthenticated.evict_any();
            return Err(Limit::Connections);
        }
        if table.unauthenticated.len() >= self.bounds.unauthenticated {
            if !table.unauthenticated.evict_any() {
                return Err(Limit::UnauthenticatedConnections);
            }
            self.hit(Limit::UnauthenticatedConnections);
        }
        let (newcomer, evicted) = Newcomer::arrive();
        let number = table.unauthenticated.add(None, newcomer);
        table.all += 1;
        let standing = Mutex::new(Standing::Unauthenticated { address: None, number });
        Ok((Place { connections: Arc::clone(self), standing }, evicted))
    }

    fn hit(&self, limit: Limit) -> Limit {
        self.metrics.limit_hit(limit);
        limit
    }
}

impl Place {
    /// It is this address's; the limit that is in the way if that has too many.
    pub(super) fn identify(&self, client: IpAddr) -> Result<(), Limit> {
        let (connections, to) = (&self.connections, Some(holder(client)));
        let (mut table, mut standing) = (connections.table.lock(), self.standing.lock());
        let Standing::Unauthenticated { address, number } = &mut *standing else { return Ok(()) };
        let unauthenticated = &mut table.unauthenticated;
        if unauthenticated.of_address(to) >= connections.bounds.address {
            connections.hit(Limit::AddressConnections);
            if !unauthenticated.evict(to) {
                return Err(Limit::AddressConnections);
            }
        }
        if let Some(newcomer) = unauthenticated.remove(*address, *number) {
            (*address, *number) = (to, unauthenticated.add(to, newcomer));
        }
        Ok(())
    }

    /// The node looks at it now: what it has to say by itself is there, or soon.
    pub(super) fn is_looked_at(&self) {
        self.update(Newcomer::wait);
    }

    /// Something of its is worked on, until what comes back is dropped.
    pub(super) fn served(&self) -> Served<'_> {
        self.update(Newcomer::serve);
        Served(self)
    }

    fn update(&self, change: impl FnOnce(&mut Newcomer)) {
        let mut table = self.connections.table.lock();
        if let Standing::Unauthenticated { address, number } = &*self.standing.lock() {
            table.unauthenticated.get_mut(*address, *number).map(change);
        }
    }

    /// Waits until `authenticated`, unless too many wait on this node, and not for long.
    pub(super) async fn wait_for(&self, authenticated: impl Future<Output = ()>) -> Result<(), TooMany> {
        let Ok(_waits) = self.connections.waiting.try_acquire() else { return Err(self.refused()) };
        timeout(WAIT, authenticated).await.map_err(|_| self.refused())
    }

    /// A request without a credential is one too many.
    pub(super) fn refused(&self) -> TooMany {
        self.connections.hit(Limit::UnauthenticatedRequests);
        TooMany
    }

    pub(super) fn is_authenticated(&self) -> bool {
        !matches!(*self.standing.lock(), Standing::Unauthenticated { .. } | Standing::Closed)
    }

    /// Whoever is on it is an agent.
    pub(super) fn is_agents(&self) {
        self.authenticate(Standing::Agent);
    }

    /// Whoever is on it speaks for others.
    pub(super) fn is_proxys(&self) {
        self.authenticate(Standing::Proxy);
    }

    /// Whoever is on it is this portal.
    pub(super) fn is_portals(&self, portal: &PortalId) -> Result<(), Exceeded> {
        if self.is_authenticated() {
            return Ok(());
        }
        let connections = &self.connections;
        {
            let mut table = connections.table.lock();
            let of_this = table.portals.get(portal).copied().unwrap_or(0);
            if of_this >= connections.bounds.portal || table.of_portals >= connections.bounds.portals {
                connections.hit(Limit::PortalConnections);
                return Err(Exceeded::PortalConnections);
            }
            table.portals.insert(portal.clone(), of_this + 1);
            table.of_portals += 1;
        }
        self.authenticate(Standing::Portal(portal.clone()));
        Ok(())
    }

    fn authenticate(&self, now: Standing) {
        let mut table = self.connections.table.lock();
        let before = std::mem::replace(&mut *self.standing.lock(), now);
        table.forget(before);
        self.connections.room.notify_one();
    }
}

impl Table {
    fn forget(&mut self, standing: Standing) {
        match standing {
            Standing::Unauthenticated { address, number } => {
                self.unauthenticated.remove(address, number);
            }
            Standing::Portal(portal) => {
                self.of_portals -= 1;
                if let Some(count) = self.portals.get_mut(&portal) {
                    *count -= 1;
                    if *count == 0 {
                        self.portals.remove(&portal);
                    }
                }
            }
            Standing::Closed | Standing::Agent | Standing::Proxy => {}
        }
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.0.update(Newcomer::wait);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.connections.table.lock();
        table.all -= 1;
        let standing = std::mem::replace(self.standing.get_mut(), Standing::Closed);
        table.forget(standing);
        self.connections.room.notify_one();
    }
}

#[cfg(test)]
mod tests;
