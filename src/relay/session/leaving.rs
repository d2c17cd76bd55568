//! What a session that ends leaves behind: what its agent can still get over another session goes there.

use super::super::bus::{Delivery, Departure, Notice, Place};
use super::super::ids::SessionId;
use super::super::ledger::{Entry, Undelivered, Written};
use super::{Ended, Session, Socket};
use crate::protocol::frame::CloseReason;

impl<S: Socket> Session<'_, S> {
    /// Nobody delivers to this session any more.
    pub(super) async fn release(&mut self, departure: Departure) {
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        self.services.sessions.leave(self.presence.session);
        if let Err(error) = self.services.bus.release(&self.presence, departure).await {
            tracing::warn!(%error, "a session's presence could not be released; its lease will run out");
        }
    }

    /// Says that nothing was written and nothing will be, for the session that owns the command.
    pub(super) async fn take_back(&mut self, entry: &Entry, owner: SessionId, reason: Undelivered) {
        let (ledger, now_ms) = (&self.services.ledger, self.services.clock.now_ms());
        match ledger.take_back(&entry.key, owner, reason, now_ms).await {
            Ok(Some(ended)) => {
                self.services.metrics.ended(reason.as_str());
                let _ = self.services.bus.tell(Notice::Ended(Box::new(ended))).await;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a command that was not written could not be taken back"),
        }
    }

    /// What is left in the queue was never written: another session gets it, or it is said at once, so that nobody
    /// waits for it.
    pub(super) async fn give_back_queue(&mut self, reason: Undelivered) {
        self.mailbox.deliveries.close();
        while let Some(entry) = self.mailbox.deliveries.recv().await {
            self.pass_on(*entry, reason).await;
        }
    }

    pub(super) async fn give_back(mut self, ended: Ended) {
        self.give_back_queue(match ended {
            Ended::Closed(CloseReason::Drain) => Undelivered::Draining,
            _ => Undelivered::NoAgent,
        })
        .await;
        // An outcome that has come is stored, even if the socket is gone by now.
        while let Some(stored) = futures_util::StreamExt::next(&mut self.storing).await {
            if let Ok(command) = stored {
                self.delivered.remove(&command);
            }
        }
        // What was written may not have been read: an agent that moves closes this session while commands still come.
        if !self.delivered.is_empty()
            && let Some(other) = self.other().await
            && let Err(error) = self.services.bus.tell(Notice::Left(other)).await
        {
            tracing::warn!(%error, "another session could not be told what this one leaves");
        }
    }

    async fn pass_on(&mut self, entry: Entry, reason: Undelivered) {
        let (own, services) = (self.presence.session, self.services);
        let Some(other) = self.other().await else { return self.take_back(&entry, own, reason).await };
        let entry = Entry { owner: Some(own), ..entry };
        let handed = match services.ledger.hand_over(entry, other.session, Written::No).await {
            Ok(Some(handed)) => handed,
            Ok(None) => return,
            Err(error) => return tracing::warn!(%error, "a command that was not written could not be handed over"),
        };
        if let Ok(Delivery::Gone | Delivery::Busy) = services.bus.deliver(other, handed.clone()).await {
            self.take_back(&handed, other.session, reason).await;
        }
    }

    /// Another session of the agent.
    async fn other(&mut self) -> Option<Place> {
        let places = self.services.bus.places(&self.presence.tenant, self.presence.agent).await;
        let mut places = places.unwrap_or_default().into_iter();
        places.find(|place| place.session != self.presence.session)
    }
}
