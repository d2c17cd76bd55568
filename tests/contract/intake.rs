//! A command is stored before it is handed over, and handed over once.

use std::sync::Arc;

use writeback_relay::clock::System;
use writeback_relay::protocol::ids::InstanceId;
use writeback_relay::relay::bus::{Bus, Delivery, Place, Presence};
use writeback_relay::relay::intake::{Intake, TakenIn, TwoSteps};
use writeback_relay::relay::ledger::{Ledger, NewCommand, Undelivered};
use writeback_relay::relay::redis::intake::RedisIntake;
use writeback_relay::relay::redis::ledger::RedisLedger;

use super::ledger::{T, command, session};
use super::nodes::{Node, new_node};
use super::stores::{Ground, link, on_every_backend, on_every_redis};
use super::{agent, tenant};

on_every_backend! {
    a_new_command_is_handed_to_a_session_of_this_node_once
}

mod between_nodes {
    use super::*;

    on_every_redis! {
        a_new_command_is_handed_to_a_session_of_another_node_once
        a_command_for_a_node_that_is_gone_is_stored_and_not_delivered
    }

    use super::{
        a_command_for_a_node_that_is_gone_is_stored_and_not_delivered,
        a_new_command_is_handed_to_a_session_of_another_node_once,
    };
}

struct Stage {
    node: Node,
    ledger: Arc<dyn Ledger>,
    intake: Box<dyn Intake>,
}

impl Stage {
    async fn on(ground: &Ground) -> Self {
        let (node, ledger) = (Node::on(ground).await, ground.ledger().await);
        let intake: Box<dyn Intake> = match (&node.redis, ground.redis()) {
            (Some(bus), Some(redis)) => {
                Box::new(RedisIntake::new(RedisLedger::new(link(redis).await), Arc::clone(bus)))
            }
            _ => Box::new(TwoSteps { ledger: Arc::clone(&ledger), bus: Arc::clone(&node.bus) }),
        };
        Self { node, ledger, intake }
    }

    async fn claimed(bus: &dyn Bus) -> (Presence, Place) {
        let (session, instance) = (session(), InstanceId::new(&System, &System));
        let presence = Presence { tenant: tenant("a"), agent: agent(), session, instance, trusts: None };
        bus.claim(&presence).await.unwrap();
        (presence, Place { node: bus.node(), session })
    }

    /// The same command, again and with another body, to a session of `holding`.
    async fn takes_in_once(&self, holding: &Node) {
        let (presence, place) = Self::claimed(&*holding.bus).await;
        let new = command(&presence.tenant, presence.agent);
        let TakenIn::New { entry, delivery } = self.intake.take_in(new.clone(), place, T).await.unwrap() else {
            panic!("it is new")
        };
        assert_eq!((delivery, entry.owner), (Delivery::Queued, Some(place.session)));
        assert_eq!(self.ledger.get(&new.key).await.unwrap(), Some(entry.clone()));
        let again = self.intake.take_in(new.clone(), place, T + 1).await.unwrap();
        assert_eq!(again, TakenIn::Known(entry.clone()));
        let other_body = NewCommand { body_sha256: [2; 32], ..new };
        assert_eq!(self.intake.take_in(other_body, place, T + 1).await.unwrap(), TakenIn::Conflict);
        // One more: whatever was sent before has come by now.
        let next = command(&presence.tenant, presence.agent);
        self.intake.take_in(next.clone(), place, T).await.unwrap();
        let delivered = holding.told.delivered.lock().unwrap();
        let delivered: Vec<_> = delivered.iter().map(|(_, entry)| entry.key.clone()).collect();
        assert_eq!(delivered, [entry.key, next.key]);
    }
}

async fn a_new_command_is_handed_to_a_session_of_this_node_once(ground: Ground) {
    let stage = Stage::on(&ground).await;
    stage.takes_in_once(&stage.node).await;
}

async fn a_new_command_is_handed_to_a_session_of_another_node_once(ground: Ground) {
    let (stage, holding) = (Stage::on(&ground).await, Node::on(&ground).await);
    stage.takes_in_once(&holding).await;
}

async fn a_command_for_a_node_that_is_gone_is_stored_and_not_delivered(ground: Ground) {
    let stage = Stage::on(&ground).await;
    let place = Place { node: new_node(), session: session() };
    let new = command(&tenant("a"), agent());
    let taken = stage.intake.take_in(new.clone(), place, T).await.unwrap();
    assert!(matches!(taken, TakenIn::New { delivery: Delivery::Gone, .. }), "{taken:?}");
    let ended = stage.ledger.take_back(&new.key, place.session, Undelivered::NoAgent, T).await.unwrap();
    assert!(ended.is_some(), "nobody has it, so it can be said");
}
