//! Which session asked for which command: its outcome goes back there. Of several that asked, the last one: the relay
//! asks again where it has lost the others.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use crate::protocol::ids::CommandId;

/// A signed outcome, on its way to the relay.
pub(in crate::agent) type Concluded = (CommandId, String);

/// Where a session takes the outcomes that it asked for.
pub(in crate::agent) type Asker = mpsc::Sender<Concluded>;

/// The sessions that wait for outcomes.
#[derive(Default)]
pub(super) struct Askers {
    waiting: Mutex<HashMap<CommandId, Asker>>,
    unclaimed: Notify,
}

impl Askers {
    /// From now on `asker` waits for this command.
    pub(super) fn ask(&self, command: CommandId, asker: &Asker) {
        self.waiting.lock().insert(command, asker.clone());
    }

    /// Nobody does any more.
    pub(super) fn forget(&self, command: CommandId) {
        self.waiting.lock().remove(&command);
    }

    /// Tells who asked. If nobody did, or is not there any more, the outcome is unclaimed.
    pub(super) fn answer(&self, concluded: Concluded) {
        let asker = self.waiting.lock().remove(&concluded.0);
        // One that is so slow that its queue is full finds the outcome in the journal.
        if asker.is_none_or(|asker| asker.try_send(concluded).is_err()) {
            self.unclaimed.notify_one();
        }
    }

    /// What a session has sent may not have arrived.
    pub(super) fn disclaim(&self) {
        self.unclaimed.notify_one();
    }

    /// Resolves when there may be outcomes in the journal that no session has sent, or that did not arrive.
    pub(super) async fn unclaimed(&self) {
        self.unclaimed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::clock::System;

    #[tokio::test]
    async fn an_outcome_goes_to_who_asked_last_and_is_unclaimed_without_one() {
        let (askers, id) = (Askers::default(), CommandId::new(&System, &System));
        let concluded = || (id, "jws".to_owned());
        let ((one, mut from_one), (two, mut from_two)) = (mpsc::channel(1), mpsc::channel(1));
        askers.ask(id, &one);
        askers.ask(id, &two);
        askers.answer(concluded());
        assert_eq!((from_one.try_recv().ok(), from_two.try_recv().ok()), (None, Some(concluded())));
        assert!(askers.unclaimed().now_or_never().is_none());
        askers.answer(concluded());
        assert!(askers.unclaimed().now_or_never().is_some(), "nobody asks any more");
        askers.ask(id, &one);
        drop(from_one);
        askers.answer(concluded());
        assert!(askers.unclaimed().now_or_never().is_some(), "who asked is gone");
        assert!(askers.waiting.lock().is_empty());
    }
}
