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
/// Commands that may be written to one session and have no answer yet; the same.
pub const MAX_UNANSWERED: usize = 1024;
/// Orders that may wait for a session. As many rotations as an agent can have missed: the last ones of all its portals.
const MAX_ORDERS: usize = 128;

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
        // An agent hears of a rotation that finds no room here on its next session.
        let room = waiting.len() < MAX_ORDERS || !matches!(order, Order::Carry(_));
        if room && !waiting.contains(&order) {
            waiting.push(order);
        }
        given.notify_one();
    }

    /// The next one. To close comes before everything else, and is all that is heard where there is no `room` for frames.
    pub async fn next(&self, room: bool) -> Order {
        let (waiting, given) = &*self.0;
        loop {
            {
                let mut waiting = waiting.lock();
                let close = waiting.iter().position(|order| matches!(order, Order::Close(_)));
                if let Some(first) = close.or((room && !waiting.is_empty()).then_some(0)) {
                    return waiting.remove(first);
                }
            }
            given.notified().await;
        }
    }
}

/// The commands that wait for a session. A channel would keep room for many, and most sessions are idle.
#[derive(Clone, Debug, Default)]
pub struct Deliveries(Arc<(Mutex<Waiting>, Notify)>);

#[derive(Debug, Default)]
struct Waiting {
    commands: VecDeque<Box<Entry>>,
    /// Those that were written and have no answer.
    unanswered: usize,
}

impl Deliveries {
    pub(super) fn put(&self, entry: Entry) -> Delivery {
        let (waiting, put) = &*self.0;
        let mut waiting = waiting.lock();
        if waiting.commands.len() >= MAILBOX || waiting.commands.len() + waiting.unanswered >= MAX_UNANSWERED {
            return Delivery::Busy;
        }
        waiting.commands.push_back(Box::new(entry));
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
        self.0.0.lock().commands.pop_front()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.0.lock().commands.is_empty()
    }

    /// So many were written and have no answer.
    pub fn set_unanswered(&self, unanswered: usize) {
        self.0.0.lock().unanswered = unanswered;
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
    use futures_util::FutureExt;

    use super::*;
    use crate::clock::System;
    use crate::protocol::ids::{AgentId, CommandId};
    use crate::relay::ledger::CommandKey;

    fn command() -> Entry {
        let (tenant, portal) = ("a".parse().unwrap(), "portal-1".parse().unwrap());
        let key = CommandKey { tenant, portal, command: CommandId::new(&System, &System) };
        Entry::forgotten(key, AgentId::new(&System, &System), 1)
    }

    #[tokio::test]
    async fn an_order_to_close_is_not_lost_behind_others_and_comes_first() {
        let orders = Orders::default();
        let go_away = |close_after_ms| Order::GoAway { reconnect_after_ms: 1, close_after_ms };
        for n in 0..100 {
            orders.give(Order::Reconcile(Whose::Own));
            orders.give(go_away(n));
        }
        orders.give(Order::Close(CloseReason::Revoked));
        assert_eq!(orders.next(false).await, Order::Close(CloseReason::Revoked));
        assert_eq!(orders.next(false).now_or_never(), None, "there is no room for what they say");
        assert_eq!((orders.next(true).await, orders.next(true).await), (Order::Reconcile(Whose::Own), go_away(0)));
    }

    #[test]
    fn a_session_whose_agent_answers_nothing_is_busy() {
        let deliveries = Deliveries::default();
        deliveries.set_unanswered(MAX_UNANSWERED - 1);
        assert_eq!(deliveries.put(command()), Delivery::Queued);
        assert_eq!(deliveries.put(command()), Delivery::Busy, "also what waits is unanswered");
        deliveries.set_unanswered(0);
        assert_eq!(deliveries.put(command()), Delivery::Queued);
    }

    #[test]
    fn commands_that_nobody_takes_out_are_few_however_few_are_unanswered() {
        let deliveries = Deliveries::default();
        assert!((0..MAILBOX).all(|_| deliveries.put(command()) == Delivery::Queued));
        assert_eq!(deliveries.put(command()), Delivery::Busy);
        assert!(deliveries.take().is_some());
        assert_eq!(deliveries.put(command()), Delivery::Queued, "there is room again");
        assert_eq!(deliveries.put(command()), Delivery::Busy);
    }

    #[tokio::test]
    async fn rotations_without_number_take_no_room_from_other_orders() {
        let orders = Orders::default();
        for n in 0..10_000 {
            orders.give(Order::Carry(n.to_string().into()));
        }
        orders.give(Order::Check);
        for n in 0..MAX_ORDERS {
            assert_eq!(orders.next(true).await, Order::Carry(n.to_string().into()));
        }
        assert_eq!(orders.next(true).await, Order::Check);
        assert_eq!(orders.next(true).now_or_never(), None);
    }
}
