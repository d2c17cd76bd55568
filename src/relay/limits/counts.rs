//! How many of something each of many has at a time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// How many each has, and all together.
#[derive(Clone)]
pub(super) struct Counts<K>(Arc<Mutex<Table<K>>>);

struct Table<K> {
    each: HashMap<K, u32>,
    all: u32,
}

/// Why there is not one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoMore {
    /// This one has as many as it may.
    Each,
    /// All together have.
    All,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Table { each: HashMap::new(), all: 0 })))
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Counts<K> {
    /// One more, if this one has fewer than `each`, and all together fewer than `all`.
    pub(super) fn one_more(&self, key: &K, each: u32, all: u32) -> Result<Counted, NoMore> {
        let mut table = self.0.lock();
        if table.all >= all {
            return Err(NoMore::All);
        }
        match table.each.get_mut(key) {
            Some(count) if *count >= each => return Err(NoMore::Each),
            Some(count) => *count += 1,
            None => {
                table.each.insert(key.clone(), 1);
            }
        }
        table.all += 1;
        Ok(Counted(Box::new(Held { counts: self.clone(), key: key.clone() })))
    }

    fn one_less(&self, key: &K) {
        let mut table = self.0.lock();
        table.all -= 1;
        if let Some(count) = table.each.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                table.each.remove(key);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let table = self.0.lock();
        table.all == 0 && table.each.is_empty()
    }
}

struct Held<K: Clone + Eq + Hash + Send + Sync + 'static> {
    counts: Counts<K>,
    key: K,
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Drop for Held<K> {
    fn drop(&mut self) {
        self.counts.one_less(&self.key);
    }
}

/// One of as many as somebody may have, until this is dropped.
#[must_use]
pub struct Counted(#[expect(dead_code, reason = "held, not used")] Box<dyn std::any::Any + Send + Sync>);
