//! Waiting for a command's end.

use std::future::pending;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{DispatchError, Dispatcher, not_taken};
use crate::protocol::ids::TenantId;
use crate::relay::StoreError;
use crate::relay::bus::Notice;
use crate::relay::ledger::{CommandKey, Entry};
use crate::relay::limits::Counted;
use crate::relay::sessions::Ending;
use crate::relay::writes::Cause;

/// How often a caller that waits looks into the ledger, in case that word of the end was lost on the way.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// One command that has no end yet, as far as this node looks.
pub(super) struct InFlight(watch::Sender<usize>, #[expect(dead_code, reason = "held, not used")] Counted);

impl InFlight {
    pub(super) fn begin(count: &watch::Sender<usize>, counted: Counted) -> Self {
        count.send_modify(|n| *n += 1);
        Self(count.clone(), counted)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n = n.saturating_sub(1));
    }
}

impl Dispatcher {
    /// The command as it is stored, or with the end that it gets before `until`.
    pub(super) async fn end_of(&self, key: &CommandKey, until: Instant) -> Result<Option<Entry>, StoreError> {
        let ending = self.sessions.ending(key);
        match self.ledger.get(key).await? {
            Some(entry) => self.wait(entry, ending, until).await.map(Some),
            None => Ok(None),
        }
    }

    /// The command as it is stored now. One whose session died without a word goes on with another session of its
    /// agent, if there is one.
    async fn look_after(&self, entry: &Entry) -> Result<Entry, StoreError> {
        let entry = self.ledger.get(&entry.key).await?.unwrap_or_else(|| entry.clone());
        if entry.end.is_none() {
            let places = self.bus.places(&entry.key.tenant, entry.agent).await?;
            let gone = places.iter().all(|place| Some(place.session) != entry.owner);
            if let Some(next) = places.first().filter(|_| gone) {
                self.bus.tell(Notice::Left(*next)).await?;
            }
        }
        Ok(entry)
    }

    /// Resolves when a new command of this tenant could not be stored. Of several servers one may be full: that of the
    /// tenant's commands is asked, for what it would have to write, too.
    pub(super) async fn refused(&self, tenant: &TenantId) -> DispatchError {
        let mut news = self.writes.subscribe();
        loop {
            let cause = *news.borrow_and_update();
            match cause {
                None => {}
                Some(cause @ Cause::Disk) => return DispatchError::NotTaken(cause),
                Some(_) => {
                    if let Err(error) = self.ledger.complete_since(tenant, self.clock.now()).await {
                        return not_taken(error);
                    }
                }
            }
            if news.changed().await.is_err() {
                return pending().await;
            }
        }
    }

    /// The command, with the end that it gets before `until`.
    pub(super) async fn wait(&self, entry: Entry, mut ending: Ending, until: Instant) -> Result<Entry, StoreError> {
        if entry.end.is_some() {
            return Ok(entry);
        }
        loop {
            let look = until.min(Instant::now() + LOOK_AGAIN);
            match timeout_at(look, ending.ended()).await {
                Ok(ended) => return Ok(ended),
                // Word of its end may have been lost; the ledger has it.
                Err(_) => {
                    let entry = self.look_after(&entry).await?;
                    if entry.end.is_some() || Instant::now() >= until {
                        return Ok(entry);
                    }
                }
            }
        }
    }

    /// Looks after a command until it has an end or its time is over, whatever the store does meanwhile.
    pub(super) async fn stay(&self, mut entry: Entry, mut ending: Ending, until: Instant) {
        while entry.end.is_none() && Instant::now() < until {
            let look = until.min(Instant::now() + LOOK_AGAIN);
            if timeout_at(look, ending.ended()).await.is_ok() {
                return;
            }
            match self.look_after(&entry).await {
                Ok(now) => entry = now,
                Err(error) => tracing::warn!(%error, "a command could not be looked after"),
            }
        }
    }
}
