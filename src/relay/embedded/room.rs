//! Whether there is room on the disk for what need not be written now. A write that finds none breaks the file for everybody,
//! so nothing is begun that may.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::super::StoreError;
use super::super::writes::{Cause, Writes};
use crate::storage::{RESERVE_BYTES, Reserve};

/// What is begun only if so much is free, in bytes: more than one group of writes takes, and the files it is told to.
const MARGIN: u64 = 16 * 1024 * 1024;

/// How often it is looked, whether anybody writes or not.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// For so long an answer of the operating system holds: within it, no disk takes as much as the margin.
const HOLDS: Duration = Duration::from_millis(10);

/// The room of a store's folder. Without one, there always is some.
#[derive(Clone, Debug, Default)]
pub struct Room(Option<Arc<Kept>>);

#[derive(Debug)]
struct Kept {
    reserve: Reserve,
    writes: Arc<Writes>,
    /// What was free, in bytes, and when that was asked.
    known: Mutex<Option<(Instant, u64)>>,
}

impl Room {
    /// Of this folder; takes the reserve, if there is room for it, or gives it away, if that is needed to open the files.
    #[must_use]
    pub fn of(folder: &Path, writes: &Arc<Writes>) -> Self {
        let kept = Kept { reserve: Reserve::new(folder), writes: Arc::clone(writes), known: Mutex::default() };
        kept.look();
        Self(Some(Arc::new(kept)))
    }

    /// Before a write that may be refused.
    ///
    /// # Errors
    /// If there is no room for it.
    pub fn check(&self) -> Result<(), StoreError> {
        let Some(kept) = &self.0 else { return Ok(()) };
        if kept.free_lately() < MARGIN {
            kept.writes.refused(Cause::Disk);
        }
        kept.writes.check()
    }

    /// Before a write that must be done.
    pub fn make_way(&self) {
        if let Some(kept) = &self.0 {
            kept.give_if_needed(kept.free_lately());
        }
    }

    /// Looks from time to time, for ever.
    pub async fn watch(self) {
        let Some(kept) = self.0 else { return };
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            kept.look();
        }
    }
}

impl Kept {
    /// What is free; all of it, if nobody can say.
    fn free(&self) -> u64 {
        self.reserve.free().unwrap_or(u64::MAX)
    }

    /// The same, a moment ago: every command asks, some twice.
    fn free_lately(&self) -> u64 {
        let mut known = self.known.lock();
        match *known {
            Some((at, free)) if at.elapsed() < HOLDS => free,
            _ => known.insert((Instant::now(), self.free())).1,
        }
    }

    fn give_if_needed(&self, free: u64) {
        if free < MARGIN / 2
            && self.reserve.is_taken()
            && let Err(error) = self.reserve.give()
        {
            tracing::error!(%error, "the disk is full, and the reserve could not be given away");
        }
    }

    fn look(&self) {
        let free = self.free();
        self.give_if_needed(free);
        let missing = if self.reserve.is_taken() { 0 } else { RESERVE_BYTES };
        // Once it was full, which a missing reserve says after a restart, too, more than a little has to be free, so that it is
        // not full again at the next write.
        let was_full = missing > 0 || self.writes.cause().is_some();
        let enough = if was_full { 2 * MARGIN + missing } else { MARGIN };
        if free < enough {
            return self.writes.refused(Cause::Disk);
        }
        if missing > 0
            && let Err(error) = self.reserve.take()
        {
            tracing::debug!(%error, "no room is kept back on the disk");
        }
        self.writes.taken();
    }
}
