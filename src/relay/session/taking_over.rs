//! What others have left, and what this session may have missed, is taken over piece by piece: it stands in the ledger, and a
//! session has room for a piece.

use std::time::Duration;

use tokio::time::Instant;

use super::super::StoreError;
use super::super::ledger::{Cursor, TAKEN_OVER_AT_ONCE, Whose};
use super::super::mailbox::MAX_UNANSWERED;
use super::{Ended, Session, Socket};
use crate::telemetry::trace::Span;

/// A store that does not answer is asked again after this.
pub(super) const RECONCILE_PAUSE: Duration = Duration::from_secs(1);

/// A way through an agent's commands, oldest first.
pub(super) struct Walk {
    whose: Whose,
    /// How far it has come.
    after: Option<Cursor>,
}

impl<S: Socket> Session<'_, S> {
    /// Begins to take over these.
    pub(super) fn walk(&mut self, whose: Whose) {
        // What others leave may be older than where the walk is. What is its own it meets on its way.
        if whose == Whose::Others {
            self.walks.retain(|walk| walk.whose != whose);
        }
        if self.walks.iter().all(|walk| walk.whose != whose) {
            self.walks.push(Walk { whose, after: None });
        }
    }

    /// Whether there is more to take over, and room for it.
    pub(super) fn may_take_over(&self) -> bool {
        !self.left && !self.walks.is_empty() && self.backlog.is_empty() && self.delivered.len() < MAX_UNANSWERED
    }

    /// Takes over the next piece.
    pub(super) async fn take_over(&mut self) -> Result<(), Ended> {
        let Some(Walk { whose, after }) = self.walks.pop() else { return Ok(()) };
        if let Err(error) = self.take_over_behind(whose, after).await {
            tracing::warn!(%error, "a session could not look what it may have missed");
            // What another one has left, it is told again of.
            if whose == Whose::Own {
                self.reconcile_at = Some(Instant::now() + RECONCILE_PAUSE);
            }
        }
        Ok(())
    }

    pub(super) async fn take_over_behind(&mut self, whose: Whose, after: Option<Cursor>) -> Result<(), StoreError> {
        let (tenant, agent, session) = (&self.presence.tenant, self.presence.agent, self.presence.session);
        // Whoever sent them may believe that nothing was written: from here on nobody can say so.
        let taken = self.services.ledger.take_over(tenant, agent, session, whose, after).await?;
        if taken.len() >= TAKEN_OVER_AT_ONCE {
            self.walks.push(Walk { whose, after: taken.last().map(super::Entry::cursor) });
        }
        for entry in taken {
            // What is in its journal needs no second delivery: its outcome comes by itself.
            let command = entry.key.command;
            if whose == Whose::Others && self.unfinished.contains(&command) {
                self.remember(entry.key, entry.exp, Span::default());
                self.note_received(command).await;
            } else {
                self.backlog.push_back(entry);
            }
        }
        if self.walks.is_empty() {
            // An idle session keeps no lists.
            (self.walks, self.unfinished) = (Vec::new(), Vec::new());
        }
        Ok(())
    }
}
