//! Remembers a bounded number of things, for a bounded time.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What was found a moment ago.
pub(super) struct Cache<K, V> {
    max_age: Duration,
    max_entries: usize,
    known: Mutex<Known<K, V>>,
}

struct Known<K, V> {
    entries: HashMap<K, (Instant, V)>,
    /// How often something was to be forgotten.
    forgotten: u64,
}

/// Begun before something is looked up. What is to be forgotten meanwhile is not remembered after all.
#[derive(Clone, Copy)]
pub(super) struct Look {
    at: Instant,
    forgotten: u64,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(super) fn new(max_age: Duration, max_entries: usize) -> Self {
        let known = Known { entries: HashMap::new(), forgotten: 0 };
        Self { max_age, max_entries, known: Mutex::new(known) }
    }

    /// What is remembered, and is not too old by now.
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.get_at(Instant::now(), key)
    }

    fn get_at<Q: Eq + Hash + ?Sized>(&self, now: Instant, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let known = self.known.lock();
        let (at, value) = known.entries.get(key)?;
        (now.duration_since(*at) < self.max_age).then(|| value.clone())
    }

    pub(super) fn look(&self) -> Look {
        Look { at: Instant::now(), forgotten: self.known.lock().forgotten }
    }

    /// Remembers what was found by `look`.
    pub(super) fn remember(&self, look: Look, key: K, value: V) {
        let mut known = self.known.lock();
        if known.forgotten != look.forgotten {
            return;
        }
        if known.entries.len() >= self.max_entries {
            known.entries.retain(|_, (at, _)| at.elapsed() < self.max_age);
        }
        if known.entries.len() >= self.max_entries {
            // It costs a look each, once in `max_entries`.
            known.entries.clear();
        }
        known.entries.insert(key, (look.at, value));
    }

    pub(super) fn forget(&self, key: &K) {
        let mut known = self.known.lock();
        known.forgotten += 1;
        known.entries.remove(key);
    }

    pub(super) fn forget_all(&self) {
        let mut known = self.known.lock();
        known.forgotten += 1;
        known.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> Cache<u32, &'static str> {
        Cache::new(Duration::from_secs(5), 3)
    }

    #[test]
    fn it_forgets_when_time_is_over_counted_from_the_beginning_of_the_look() {
        let cache = cache();
        let look = cache.look();
        cache.remember(look, 1, "one");
        assert_eq!(cache.get_at(look.at + Duration::from_millis(4_999), &1), Some("one"));
        assert_eq!(cache.get_at(look.at + Duration::from_secs(5), &1), None);
    }

    #[test]
    fn what_was_to_be_forgotten_during_a_look_is_not_remembered_after_it() {
        let cache = cache();
        let look = cache.look();
        cache.forget(&1);
        cache.remember(look, 1, "old");
        assert_eq!(cache.get(&1), None);
        cache.remember(cache.look(), 1, "new");
        assert_eq!(cache.get(&1), Some("new"));
        cache.forget_all();
        assert_eq!(cache.get(&1), None);
    }

    #[test]
    fn it_never_holds_more_than_it_may() {
        let cache = cache();
        for i in 0..100 {
            cache.remember(cache.look(), i, "x");
            assert_eq!(cache.get(&i), Some("x"));
            assert!(cache.known.lock().entries.len() <= 3);
        }
    }
}
