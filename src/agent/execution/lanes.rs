//! One account at a time, in order of arrival; different accounts side by side.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::protocol::account::FoldedName;

/// Jobs that wait behind another one for the same account, as portals name it.
pub(super) struct Lanes<J> {
    waiting: Mutex<HashMap<FoldedName, VecDeque<J>>>,
}

impl<J> Lanes<J> {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default() }
    }

    /// Enters a lane. Gives the job back if the lane was empty: the caller runs it, and then whatever [`Self::next`]
    /// gives until it gives nothing.
    pub(super) fn enter(&self, lane: &FoldedName, job: J) -> Option<J> {
        let mut waiting = self.waiting.lock();
        if let Some(queue) = waiting.get_mut(lane) {
            queue.push_back(job);
            return None;
        }
        waiting.insert(lane.clone(), VecDeque::new());
        Some(job)
    }

    /// The next job of a lane; if there is none, the lane is empty from now on.
    pub(super) fn next(&self, lane: &FoldedName) -> Option<J> {
        let mut waiting = self.waiting.lock();
        let next = waiting.get_mut(lane).and_then(VecDeque::pop_front);
        if next.is_none() {
            waiting.remove(lane);
        }
        next
    }
}

/// One lock for each account that is being written. A UPN and an objectGUID may name the same one.
#[derive(Default)]
pub(super) struct AccountLocks {
    locks: Mutex<HashMap<Uuid, Weak<tokio::sync::Mutex<()>>>>,
}

impl AccountLocks {
    /// The lock of an account. Locks that nobody holds or waits for are forgotten.
    pub(super) fn of(&self, object_guid: Uuid) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock();
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(&object_guid).and_then(Weak::upgrade) {
            return lock;
        }
        let new = Arc::default();
        locks.insert(object_guid, Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_gives_its_jobs_in_order_of_arrival_and_ends_when_it_is_empty() {
        let lanes = Lanes::new();
        let [jane, upper, joe] = ["jane", "JANE", "joe"].map(FoldedName::of);
        assert_eq!(lanes.enter(&jane, 1), Some(1));
        assert_eq!(lanes.enter(&upper, 2), None);
        assert_eq!(lanes.enter(&joe, 9), Some(9));
        assert_eq!(lanes.enter(&jane, 3), None);
        assert_eq!((lanes.next(&jane), lanes.next(&upper), lanes.next(&jane)), (Some(2), Some(3), None));
        assert_eq!(lanes.enter(&jane, 4), Some(4));
    }

    #[test]
    fn an_account_has_one_lock_as_long_as_somebody_has_it() {
        let locks = AccountLocks::default();
        let (first, same) = (locks.of(Uuid::from_u128(1)), locks.of(Uuid::from_u128(1)));
        assert!(Arc::ptr_eq(&first, &same) && !Arc::ptr_eq(&first, &locks.of(Uuid::from_u128(2))));
        drop((first, same));
        locks.of(Uuid::from_u128(3));
        assert_eq!(locks.locks.lock().len(), 1);
    }
}
