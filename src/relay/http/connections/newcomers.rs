//! Connections without a credential, and which of them makes room for a newcomer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a client says by itself is there by then: the first flight follows the connection at once.
pub(super) const AT_ONCE: Duration = Duration::from_millis(20);
/// What it says to an answer of the node's is there by then: a slow round trip.
const ROUND_TRIP: Duration = Duration::from_millis(500);

/// Those without a credential, by address. Where addresses are not known, all have none.
#[derive(Default)]
pub(super) struct Unauthenticated {
    all: usize,
    /// The number that the next one gets: the oldest have the smallest.
    next: u64,
    by_address: HashMap<Option<IpAddr>, BTreeMap<u64, Newcomer>>,
    /// The addresses, by how many they have and how old the oldest of them is: the last one makes room first.
    by_count: BTreeSet<(usize, Reverse<u64>, Option<IpAddr>)>,
}

/// One of them.
pub(super) struct Newcomer {
    /// Things of its that are worked on; the first is the look at what it has said.
    served: u32,
    /// Since when the node waits for it, if nothing of its is worked on.
    since: Instant,
    /// It has said something, and was answered.
    answered: bool,
    /// It has to make room.
    evicted: CancellationToken,
}

/// Who has to make room: the first of these, the last never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It keeps the node waiting.
    Silent,
    /// The node waits, and what it waits for may be under way.
    Awaited,
    /// It waits for the node.
    Served,
}

impl Newcomer {
    /// One that the node has not looked at yet, and what tells it to make room.
    pub(super) fn arrive() -> (Self, CancellationToken) {
        let evicted = CancellationToken::new();
        (Self { served: 1, since: Instant::now(), answered: false, evicted: evicted.clone() }, evicted)
    }

    /// It has said something, which is worked on.
    pub(super) fn serve(&mut self) {
        (self.served, self.answered) = (self.served + 1, true);
    }

    /// One thing less is worked on.
    pub(super) fn wait(&mut self) {
        (self.served, self.since) = (self.served.saturating_sub(1), Instant::now());
    }

    fn turn(&self, now: Instant) -> Turn {
        match now.saturating_duration_since(self.since) {
            _ if self.served > 0 => Turn::Served,
            waited if waited < AT_ONCE => Turn::Served,
            waited if self.answered && waited < ROUND_TRIP => Turn::Awaited,
            _ => Turn::Silent,
        }
    }
}

impl Unauthenticated {
    pub(super) fn len(&self) -> usize {
        self.all
    }

    fn resize<T>(&mut self, address: Option<IpAddr>, change: impl FnOnce(&mut BTreeMap<u64, Newcomer>) -> T) -> T {
        let rank = |of_address: &BTreeMap<u64, Newcomer>| {
            let (oldest, _) = of_address.first_key_value()?;
            Some((of_address.len(), Reverse(*oldest), address))
        };
        let of_address = self.by_address.entry(address).or_default();
        let before = rank(of_address);
        let changed = change(of_address);
        let now = rank(of_address);
        if let Some(before) = before {
            self.by_count.remove(&before);
            self.all -= before.0;
        }
        match now {
            Some(now) => {
                self.by_count.insert(now);
                self.all += now.0;
            }
            None => {
                self.by_address.remove(&address);
            }
        }
        changed
    }

    pub(super) fn add(&mut self, address: Option<IpAddr>, newcomer: Newcomer) -> u64 {
        let number = self.next;
        self.next += 1;
        self.resize(address, |of_address| of_address.insert(number, newcomer));
        number
    }

    pub(super) fn remove(&mut self, address: Option<IpAddr>, number: u64) -> Option<Newcomer> {
        self.resize(address, |of_address| of_address.remove(&number))
    }

    pub(super) fn get_mut(&mut self, address: Option<IpAddr>, number: u64) -> Option<&mut Newcomer> {
        self.by_address.get_mut(&address)?.get_mut(&number)
    }

    /// The oldest one of this address whose turn it is.
    fn oldest(&self, address: Option<IpAddr>, turn: Turn, now: Instant) -> Option<u64> {
        let mut of_address = self.by_address.get(&address)?.iter();
        of_address.find(|(_, newcomer)| newcomer.turn(now) == turn).map(|(number, _)| *number)
    }

    /// Closes the first one of this address that has to make room; whether there is one.
    pub(super) fn evict(&mut self, address: Option<IpAddr>) -> bool {
        self.evict_first(|table, turn, now| Some((address, table.oldest(address, turn, now)?)))
    }

    /// The same of whichever address has the most.
    pub(super) fn evict_any(&mut self) -> bool {
        self.evict_first(|table, turn, now| {
            let mut addresses = table.by_count.iter().rev().map(|(.., address)| *address);
            addresses.find_map(|address| Some((address, table.oldest(address, turn, now)?)))
        })
    }

    fn evict_first(&mut self, find: impl Fn(&Self, Turn, Instant) -> Option<(Option<IpAddr>, u64)>) -> bool {
        let now = Instant::now();
        let found = [Turn::Silent, Turn::Awaited].into_iter().find_map(|turn| find(self, turn, now));
        let evicted = found.and_then(|(address, number)| self.remove(address, number));
        evicted.inspect(|newcomer| newcomer.evicted.cancel()).is_some()
    }

    pub(super) fn of_address(&self, address: Option<IpAddr>) -> usize {
        self.by_address.get(&address).map_or(0, BTreeMap::len)
    }
}

#[cfg(test)]
impl Newcomer {
    /// Its last moment is so long ago.
    pub(super) fn age(&mut self, by: Duration) {
        self.since -= by;
    }
}

#[cfg(test)]
impl Unauthenticated {
    pub(super) fn is_empty(&self) -> bool {
        self.all == 0 && self.by_address.is_empty() && self.by_count.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_turn_it_is_follows_from_who_waits_for_whom_and_for_how_long() {
        let (mut newcomer, _) = Newcomer::arrive();
        let at = newcomer.since;
        let turns = |newcomer: &Newcomer| {
            let moments = [AT_ONCE - Duration::from_millis(1), AT_ONCE, ROUND_TRIP];
            moments.map(|waited| newcomer.turn(at + waited))
        };
        assert_eq!(turns(&newcomer), [Turn::Served; 3], "nobody has looked at it yet");
        newcomer.wait();
        newcomer.since = at;
        assert_eq!(turns(&newcomer), [Turn::Served, Turn::Silent, Turn::Silent], "its first words are there at once");
        newcomer.serve();
        assert_eq!(turns(&newcomer), [Turn::Served; 3], "they are worked on");
        newcomer.wait();
        newcomer.since = at;
        assert_eq!(turns(&newcomer), [Turn::Served, Turn::Awaited, Turn::Silent], "it answers within a round trip");
    }
}
