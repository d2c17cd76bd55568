//! Which places brought nothing a while ago: they are tried last.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::race::Raced;

/// How long a failure is remembered.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);

/// Places in doubt, and since when.
#[derive(Debug)]
pub struct Doubts<P> {
    since: Mutex<HashMap<P, Instant>>,
    remembered: Duration,
}

impl<P> Default for Doubts<P> {
    fn default() -> Self {
        Self { since: Mutex::default(), remembered: REMEMBERED }
    }
}

impl<P: Clone + Eq + Hash> Doubts<P> {
    /// This place has brought nothing.
    pub fn note(&self, place: P) {
        let mut since = self.since.lock();
        since.retain(|_, since| since.elapsed() < self.remembered);
        since.insert(place, Instant::now());
    }

    /// This place serves.
    pub fn forget(&self, place: &P) {
        self.since.lock().remove(place);
    }

    /// What a race has shown.
    pub fn learn<T, E>(&self, raced: &Raced<P, T, E>) {
        raced.lost.iter().for_each(|(place, _)| self.note(place.clone()));
        if let Some((place, _)) = &raced.won {
            self.forget(place);
        }
    }

    /// In this order; those in doubt last, and among them the one first that was given up first.
    pub fn in_order(&self, mut places: Vec<P>) -> Vec<P> {
        let since = self.since.lock();
        places.sort_by_key(|place| since.get(place).filter(|since| since.elapsed() < self.remembered).copied());
        places
    }

    /// Whether it brought nothing a while ago.
    pub fn contains(&self, place: &P) -> bool {
        self.since.lock().get(place).is_some_and(|since| since.elapsed() < self.remembered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_failed_is_last_for_a_while_and_who_failed_first_is_tried_first_again() {
        let doubts = Doubts::default();
        let order = || doubts.in_order(vec!["a", "b", "c"]);
        assert_eq!(order(), ["a", "b", "c"]);
        doubts.note("a");
        assert_eq!(order(), ["b", "c", "a"]);
        doubts.note("b");
        doubts.note("c");
        assert_eq!(order(), ["a", "b", "c"]);
        doubts.note("a");
        assert_eq!(order(), ["b", "c", "a"]);
        doubts.forget(&"c");
        assert_eq!(order()[0], "c");
        assert!(doubts.contains(&"a") && !doubts.contains(&"c"));
        let forgetful = Doubts { remembered: Duration::ZERO, ..Doubts::default() };
        forgetful.note("a");
        assert_eq!(forgetful.in_order(vec!["a", "b"]), ["a", "b"]);
        assert!(!forgetful.contains(&"a"));
    }

    #[test]
    fn a_race_teaches_who_serves() {
        let doubts = Doubts::default();
        doubts.note("won");
        let lost = vec![("silent", crate::net::race::Lost::<()>::Silent(REMEMBERED))];
        doubts.learn(&Raced { won: Some(("won", ())), lost });
        assert_eq!(doubts.in_order(vec!["silent", "won"]), ["won", "silent"]);
    }
}
