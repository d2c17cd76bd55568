//! How a session leaves: nobody delivers to it any more, and what it has not finished goes on elsewhere or is given back.

use futures_util::StreamExt;

use super::super::bus::{Departure, Notice, Place, Presence};
use super::super::ledger::{Entry, Undelivered};
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

    pub(super) async fn take_back(&mut self, entry: &Entry, reason: Undelivered) {
        let (ledger, now_ms) = (&self.services.ledger, self.services.clock.now_ms());
        match ledger.take_back(&entry.key, self.presence.session, reason, now_ms).await {
            Ok(Some(ended)) => {
                self.services.metrics.ended(&entry.key.tenant, reason.as_str());
                let _ = self.services.bus.tell(Notice::Ended(Box::new(ended))).await;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a command that was not written could not be taken back"),
        }
    }

    /// What is left in the queue was never written: it is said at once, so that nobody waits for it.
    pub(super) async fn give_back_queue(&mut self, reason: Undelivered) {
        while let Some(entry) = self.mailbox.deliveries.take() {
            // One that came twice may have been written the first time.
            if self.written(&entry).is_none() {
                self.take_back(&entry, reason).await;
            }
        }
    }

    /// Another session of the agent, if this one leaves commands without an end.
    async fn successor(&mut self, ended: &Ended) -> Option<Place> {
        let nothing = self.mailbox.deliveries.is_empty() && self.backlog.is_empty() && self.delivered.is_empty();
        let nothing = nothing && self.walks.is_empty();
        if nothing || *ended == Ended::Closed(CloseReason::Revoked) {
            return None;
        }
        let Presence { tenant, agent, session, .. } = &self.presence;
        let places = self.services.bus.places(tenant, *agent).await.unwrap_or_default();
        places.into_iter().find(|place| place.session != *session)
    }

    pub(super) async fn give_back(mut self, ended: &Ended) {
        match self.successor(ended).await {
            Some(place) => {
                if let Err(error) = self.services.bus.tell(Notice::Left(place)).await {
                    tracing::warn!(%error, "another session could not be told; whoever waits will find out");
                }
            }
            None => {
                let draining = *ended == Ended::Closed(CloseReason::Drain);
                let reason = if draining { Undelivered::Draining } else { Undelivered::NoAgent };
                self.give_back_queue(reason).await;
            }
        }
        // An outcome that has come is stored, even if the socket is gone by now.
        while self.storing.next().await.is_some() {}
    }
}
