//! The sessions of this node, and those who wait for a command's end.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::bus::{Delivery, Inbox, Load, Notice};
use super::ids::SessionId;
use super::ledger::{CommandKey, Entry, Whose};
use super::mailbox::{Deliveries, Mailbox, Order, Orders};
use crate::protocol::frame::CloseReason;
use crate::protocol::ids::{AgentId, TenantId};

struct Handle {
    tenant: TenantId,
    agent: AgentId,
    /// Gone when the agent is leaving.
    deliveries: Option<Deliveries>,
    orders: Orders,
}

#[derive(Default)]
struct Open {
    handles: HashMap<SessionId, Handle>,
    /// The node is about to stop: sessions are asked to go.
    draining: bool,
    /// No session opens any more.
    closing: bool,
}

/// All sessions of this node, by id.
#[derive(Default)]
pub struct Sessions {
    open: Mutex<Open>,
    ending: Mutex<HashMap<CommandKey, watch::Sender<Option<Entry>>>>,
    arrived: Notify,
    emptied: Notify,
    drain: Notify,
}

/// Keeps a session registered; when dropped, it is gone.
pub struct Registered {
    sessions: Arc<Sessions>,
    session: SessionId,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut open = self.sessions.open.lock();
        open.handles.remove(&self.session);
        if open.handles.is_empty() {
            self.sessions.emptied.notify_waiters();
        }
    }
}

/// Told how a command ends. The subscription lasts as long as this.
pub struct Ending {
    sessions: Arc<Sessions>,
    key: CommandKey,
    end: Option<watch::Receiver<Option<Entry>>>,
}

impl Ending {
    /// Resolves with the command as it ended, if this node hears of that after the subscription was made.
    pub async fn ended(&mut self) -> Entry {
        let found = match &mut self.end {
            Some(end) => end.wait_for(Option::is_some).await.ok().and_then(|entry| entry.clone()),
            None => None,
        };
        match found {
            Some(entry) => entry,
            // Its sender goes only after its last receiver.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut ending = self.sessions.ending.lock();
        // Under the lock, so that of two that go together the second sees that it is the last.
        drop(self.end.take());
        if ending.get(&self.key).is_some_and(|end| end.receiver_count() == 0) {
            ending.remove(&self.key);
        }
    }
}

impl Sessions {
    /// Registers a session, and gives its task the receiving ends; nothing after [`Self::close_all`].
    #[must_use]
    pub fn register(
        self: &Arc<Self>,
        session: SessionId,
        tenant: &TenantId,
        agent: AgentId,
    ) -> Option<(Registered, Mailbox)> {
        let mailbox = Mailbox::default();
        let (deliveries, orders) = (Some(mailbox.deliveries.clone()), mailbox.orders.clone());
        let handle = Handle { tenant: tenant.clone(), agent, deliveries, orders };
        let mut open = self.open.lock();
        if open.closing {
            return None;
        }
        open.handles.insert(session, handle);
        let registered = Registered { sessions: Arc::clone(self), session };
        Some((registered, mailbox))
    }

    /// Subscribes to the end of a command: what ends after this call is not missed.
    #[must_use]
    pub fn ending(self: &Arc<Self>, key: &CommandKey) -> Ending {
        let end = self.ending.lock().entry(key.clone()).or_insert_with(|| watch::Sender::new(None)).subscribe();
        Ending { sessions: Arc::clone(self), key: key.clone(), end: Some(end) }
    }

    /// Resolves when some agent has opened a session, at some time after the future was made.
    pub fn arrival(&self) -> impl Future<Output = ()> + '_ {
        self.arrived.notified()
    }

    /// Every session of this node: its id, its tenant, its agent.
    #[must_use]
    pub fn list(&self) -> Vec<(SessionId, TenantId, AgentId)> {
        self.open.lock().handles.iter().map(|(id, handle)| (*id, handle.tenant.clone(), handle.agent)).collect()
    }

    /// Resolves when no session is open.
    pub async fn empty(&self) {
        loop {
            // Before it is looked, so that nothing is missed.
            let emptied = self.emptied.notified();
            if self.open.lock().handles.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Resolves when the operator has asked that this node stops.
    pub async fn drain_requested(&self) {
        self.drain.notified().await;
    }

    /// The node is about to stop: the other nodes are told so.
    pub fn announce_drain(&self) {
        self.open.lock().draining = true;
    }

    /// The node stops. Every session that is to be asked to go.
    #[must_use]
    pub fn begin_drain(&self) -> Vec<SessionId> {
        self.announce_drain();
        self.open.lock().handles.keys().copied().collect()
    }

    /// Takes no more commands for this session; orders still reach it.
    pub fn leave(&self, session: SessionId) {
        if let Some(handle) = self.open.lock().handles.get_mut(&session) {
            handle.deliveries = None;
        }
    }

    /// Closes every session, and lets none open any more.
    pub fn close_all(&self, reason: CloseReason) {
        let mut open = self.open.lock();
        open.closing = true;
        for handle in open.handles.values() {
            handle.orders.give(Order::Close(reason));
        }
    }

    /// Tells one session; whether it is here.
    pub fn order(&self, session: SessionId, order: Order) -> bool {
        self.open.lock().handles.get(&session).is_some_and(|handle| {
            handle.orders.give(order);
            true
        })
    }
}

impl Inbox for Sessions {
    fn deliver(&self, session: SessionId, entry: Entry) -> Delivery {
        let open = self.open.lock();
        let deliveries = open.handles.get(&session).and_then(|handle| handle.deliveries.as_ref());
        deliveries.map_or(Delivery::Gone, |deliveries| deliveries.put(entry))
    }

    fn notice(&self, notice: Notice) {
        match notice {
            Notice::Ended(entry) => {
                if let Some(ending) = self.ending.lock().get(&entry.key) {
                    ending.send_replace(Some(*entry));
                }
            }
            Notice::Revoked(tenant, agent) => {
                for (session, of, who) in self.list() {
                    if of == tenant && who == agent {
                        self.order(session, Order::Close(CloseReason::Revoked));
                    }
                }
            }
            Notice::Displaced(place) => {
                self.order(place.session, Order::Close(CloseReason::Displaced));
            }
            Notice::Surplus(place) => {
                self.order(place.session, Order::Close(CloseReason::Overload));
            }
            // No session hangs on a portal.
            Notice::PortalChanged(_) => {}
            Notice::PortalRotated { tenants, jws } => {
                let jws: Arc<str> = jws.into();
                for handle in self.open.lock().handles.values().filter(|handle| tenants.contains(&handle.tenant)) {
                    handle.orders.give(Order::Carry(Arc::clone(&jws)));
                }
            }
            Notice::Overdue(place) => {
                self.order(place.session, Order::Reconcile(Whose::Own));
            }
            Notice::Check(place) => {
                self.order(place.session, Order::Check);
            }
            Notice::Arrived(..) => self.arrived.notify_waiters(),
            Notice::Drain(_) => self.drain.notify_one(),
            Notice::Left(place) => {
                self.order(place.session, Order::Reconcile(Whose::Others));
            }
        }
    }

    fn reconcile(&self) {
        for (session, ..) in self.list() {
            self.order(session, Order::Reconcile(Whose::Own));
        }
        self.arrived.notify_waiters();
    }

    fn load(&self) -> Load {
        let open = self.open.lock();
        Load { sessions: u32::try_from(open.handles.len()).unwrap_or(u32::MAX), draining: open.draining }
    }
}
