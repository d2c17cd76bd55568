//! A command for another node's agent: one script stores it and sends it there, where one server holds both.

use std::sync::Arc;

use async_trait::async_trait;

use super::bus::RedisBus;
use super::ledger::RedisLedger;
use crate::relay::StoreError;
use crate::relay::bus::{Bus, Notice, Place};
use crate::relay::intake::{Intake, TakenIn, TwoSteps};
use crate::relay::ledger::{Accepted, Entry, Intent, NewCommand};

/// [`Intake`] for many nodes.
pub struct RedisIntake {
    ledger: RedisLedger,
    bus: Arc<RedisBus>,
    /// A Cluster keeps a command and a node's channel in different places.
    one_server: bool,
    two_steps: TwoSteps,
}

impl RedisIntake {
    /// Over these two.
    #[must_use]
    pub fn new(ledger: RedisLedger, bus: Arc<RedisBus>) -> Self {
        let two_steps = TwoSteps { ledger: Arc::new(ledger.clone()), bus: Arc::clone(&bus) as Arc<dyn Bus> };
        Self { one_server: !ledger.is_cluster(), ledger, bus, two_steps }
    }
}

#[async_trait]
impl Intake for RedisIntake {
    async fn take_in(&self, command: NewCommand, place: Place, now_ms: u64) -> Result<TakenIn, StoreError> {
        if place.node == self.bus.node() || !self.one_server {
            return self.two_steps.take_in(command, place, now_ms).await;
        }
        let intent = Intent::Deliver(place.session);
        // What the ledger may have forgotten, it takes for a second attempt: the letter need not know.
        let (question, letter) = self.bus.question(place, Entry::new(command.clone(), intent, false, now_ms))?;
        // Whatever goes wrong, the question is forgotten.
        let (accepted, listeners) = self.ledger.accept_and_send(command, intent, now_ms, Some(&letter)).await?;
        Ok(match accepted {
            Accepted::New(entry) => {
                let delivery = self.bus.answer(question, listeners).await;
                // The letter calls it the first attempt, which a session that has written it before leaves at that.
                if entry.attempt > 1 {
                    self.bus.tell(Notice::Overdue(place)).await.map_err(StoreError::after_others)?;
                }
                TakenIn::New { entry, delivery }
            }
            Accepted::Known(entry) => TakenIn::Known(entry),
            Accepted::Conflict => TakenIn::Conflict,
            Accepted::OverQuota => TakenIn::OverQuota,
        })
    }
}
