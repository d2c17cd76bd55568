//! What waits for a session: commands to deliver, and orders.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::bus::Delivery;
use super::ledger::{Entry, Whose};
use crate::protocol::frame::CloseReason;

/// Commands that may wait for one session's socket; more are answered `agent_busy`.
const MAILBOX: usize = 64;

/// What a session is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Say `GoAway`: come back after this many milliseconds; the session closes after that many.
    GoAway {
        /// When the agent may connect again.
        reconnect_after_ms: u32,
        /// When this session closes.
        close_after_ms: u32,
    },
    /// Look what may have been missed, or what other sessions of the agent have left.
    Reconcile(Whose),
    /// Ask the agent to check its directory.
    Check,
    /// Tell the agent that a portal has a new key: its rotation.
    Carry(Arc<str>),
    /// Close now.
    Close(CloseReason),
}

/// The orders that a session has not obeyed yet: one of each kind, so that none is ever lost behind others.
#[derive(Clone, Debug, Default)]
pub struct Orders(Arc<(Mutex<Vec<Order>>, Notify)>);

impl Orders {
    pub(super) fn give(&self, order: Order) {
        let (waiting, given) = &*self.0;
        let mut waiting = waiting.lock();
        if !waiting.contains(&order) {
            waiting.push(order);
        }
        given.notify_one();
    }

    /// The next one. To close comes before everything else.
    pub async fn next(&self) -> Order {
        let (waiting, given) = &*self.0;
        loop {
            {
                let mut waiting = waiting.lock();
                let close = waiting.iter().position(|order| matches!(order, Order::Close(_)));
                if let Some(first) = close.or((!waiting.is_empty()).then_some(0)) {
                    return waiting.remove(first);
                }
            }
            given.notified().await;
        }
    }
}

/// The commands that wait for a session. A channel would keep room for many, and most sessions are idle.
#[derive(Clone, Debug, Default)]
pub struct Deliveries(Arc<(Mutex<VecDeque<Box<Entry>>>, Notify)>);

impl Deliveries {
    pub(super) fn put(&self, entry: Entry) -> Delivery {
        let (waiting, put) = &*self.0;
        let mut waiting = waiting.lock();
        if waiting.len() >= MAILBOX {
            return Delivery::Busy;
        }
        waiting.push_back(Box::new(entry));
        put.notify_one();
        Delivery::Queued
    }

    /// The next one, when it is there. Can be dropped and called again.
    pub async fn next(&self) -> Box<Entry> {
        loop {
            if let Some(entry) = self.take() {
                return entry;
            }
            self.0.1.notified().await;
        }
    }

    /// The next one, if any.
    #[must_use]
    pub fn take(&self) -> Option<Box<Entry>> {
        self.0.0.lock().pop_front()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.0.lock().is_empty()
    }
}

/// What comes to a session: its task takes it out, and others put it in.
#[derive(Clone, Debug, Default)]
pub struct Mailbox {
    /// Commands to deliver.
    pub deliveries: Deliveries,
    /// What else to do.
    pub orders: Orders,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_order_to_close_is_not_lost_behind_others_and_comes_first() {
        let orders = Orders::default();
        let go_away = |close_after_ms| Order::GoAway { reconnect_after_ms: 1, close_after_ms };
        for n in 0..100 {
            orders.give(Order::Reconcile(Whose::Own));
            orders.give(go_away(n));
        }
        orders.give(Order::Close(CloseReason::Revoked));
        assert_eq!(orders.next().await, Order::Close(CloseReason::Revoked));
        assert_eq!((orders.next().await, orders.next().await), (Order::Reconcile(Whose::Own), go_away(0)));
    }
}
