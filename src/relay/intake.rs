//! A new command is stored, and then handed to its session: in that order, and in as few steps as the stores can.

use std::sync::Arc;

use async_trait::async_trait;

use super::StoreError;
use super::bus::{Bus, Delivery, Place};
use super::ledger::{Accepted, Entry, Intent, Ledger, NewCommand};

/// What was found when a command came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakenIn {
    /// It is stored, and was handed over.
    New {
        /// As it is stored.
        entry: Entry,
        /// What became of it.
        delivery: Delivery,
    },
    /// The same command came before: this is where it stands.
    Known(Entry),
    /// Its id was used with another body.
    Conflict,
    /// Its tenant has no room left; nothing was stored.
    OverQuota,
}

/// Stores commands and hands them over.
#[async_trait]
pub trait Intake: Send + Sync + 'static {
    /// [`Ledger::accept`], with `place` as the one that is to deliver it, and if it is new, [`Bus::deliver`].
    async fn take_in(&self, command: NewCommand, place: Place, now_ms: u64) -> Result<TakenIn, StoreError>;
}

/// One after the other.
pub struct TwoSteps {
    /// Stores.
    pub ledger: Arc<dyn Ledger>,
    /// Hands over.
    pub bus: Arc<dyn Bus>,
}

#[async_trait]
impl Intake for TwoSteps {
    async fn take_in(&self, command: NewCommand, place: Place, now_ms: u64) -> Result<TakenIn, StoreError> {
        Ok(match self.ledger.accept(command, Intent::Deliver(place.session), now_ms).await? {
            Accepted::New(entry) => {
                let delivery = self.bus.deliver(place, entry.clone()).await.map_err(StoreError::after_others)?;
                TakenIn::New { entry, delivery }
            }
            Accepted::Known(entry) => TakenIn::Known(entry),
            Accepted::Conflict => TakenIn::Conflict,
            Accepted::OverQuota => TakenIn::OverQuota,
        })
    }
}
