//! What a peer can have refused as often as it likes: the first few are events, and then a line a minute says how many more
//! there were, until there is none for a minute.

use std::collections::HashMap;

/// How long refusals of one kind are counted before they are told, in milliseconds.
const WINDOW_MS: u64 = 60_000;

/// So many of a kind are told one by one: a mistake makes no more, and each may have another reason.
pub(super) const FIRST: u64 = 16;

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// A delivery that is no command of a trusted portal for this agent, or one that has come too late to be answered.
    Command,
    /// A command for which there is no room.
    Room,
    /// A portal's new key that does not hold.
    PortalKey,
}

impl Refused {
    /// Of one.
    pub(super) fn one(self) -> &'static str {
        match self {
            Self::Command => "a command was refused and not answered",
            Self::Room => "a command was not taken",
            Self::PortalKey => "a portal's new key was refused",
        }
    }

    /// Of several.
    pub(super) fn more(self) -> &'static str {
        match self {
            Self::Command => "more commands were refused and not answered",
            Self::Room => "more commands were not taken",
            Self::PortalKey => "more new keys of portals were refused",
        }
    }

    /// The label of the metric.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Room => "room",
            Self::PortalKey => "portal_key",
        }
    }
}

/// Refusals that were counted and not told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) kind: Refused,
    pub(super) count: u64,
    /// Within so many seconds.
    pub(super) seconds: u64,
    /// Why the last of them was.
    pub(super) last: String,
}

/// A minute with refusals of a kind.
struct Window {
    began_ms: u64,
    /// One by one.
    told: u64,
    more: u64,
    last: String,
}

impl Window {
    fn new(now_ms: u64, told: u64) -> Self {
        Self { began_ms: now_ms, told, more: 0, last: String::new() }
    }

    /// A clock that was set back ends it, too.
    fn is_over(&self, now_ms: u64) -> bool {
        now_ms.checked_sub(self.began_ms).is_none_or(|since| since >= WINDOW_MS)
    }

    /// What was counted.
    fn summary(&self, kind: Refused, now_ms: u64) -> Summary {
        let seconds = now_ms.saturating_sub(self.began_ms).div_ceil(1000);
        Summary { kind, count: self.more, seconds, last: self.last.clone() }
    }
}

/// The counts.
#[derive(Default)]
pub(super) struct Refusals(HashMap<Refused, Window>);

impl Refusals {
    /// Whether this one is told. Otherwise it is counted.
    pub(super) fn is_told(&mut self, kind: Refused, why: &str, now_ms: u64) -> bool {
        let window = self.0.entry(kind).or_insert_with(|| Window::new(now_ms, 0));
        if window.more == 0 && window.is_over(now_ms) {
            *window = Window::new(now_ms, 0);
        }
        if window.told < FIRST {
            window.told += 1;
            return true;
        }
        window.more += 1;
        window.last.clear();
        window.last.push_str(why);
        false
    }

    /// What is to be told now: of each kind whose minute is over, or of all.
    pub(super) fn due(&mut self, now_ms: u64, all: bool) -> Vec<Summary> {
        let mut due = Vec::new();
        self.0.retain(|kind, window| {
            let over = all || window.is_over(now_ms);
            if over && window.more > 0 {
                due.push(window.summary(*kind, now_ms));
                // While it goes on, it is only counted.
                *window = Window::new(now_ms, FIRST);
                return true;
            }
            !over
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_kind_are_told_and_then_once_a_minute_how_many_more_there_were() {
        let mut refusals = Refusals::default();
        let told = |refusals: &mut Refusals, kind, now_ms| refusals.is_told(kind, &format!("at {now_ms}"), now_ms);
        for now_ms in 1_000..1_000 + FIRST {
            assert!(told(&mut refusals, Refused::Command, now_ms));
        }
        assert!(told(&mut refusals, Refused::PortalKey, 2_000), "another kind");
        for now_ms in 2_000..=52_000 {
            assert!(!told(&mut refusals, Refused::Command, now_ms));
        }
        assert_eq!(refusals.due(60_999, false), []);
        let summary =
            |count, seconds, last: &str| Summary { kind: Refused::Command, count, seconds, last: last.into() };
        assert_eq!(refusals.due(61_000, false), [summary(50_001, 60, "at 52000")]);
        // The flood goes on: one line a minute, however much comes.
        for now_ms in 62_000..70_000 {
            assert!(!told(&mut refusals, Refused::Command, now_ms));
        }
        assert_eq!(refusals.due(122_000, false), [summary(8_000, 61, "at 69999")]);
        // It is over; the next one is told again as it is.
        assert_eq!(refusals.due(182_000, false), []);
        assert!(told(&mut refusals, Refused::Command, 182_000));
        for now_ms in 182_001..182_000 + FIRST {
            assert!(told(&mut refusals, Refused::Command, now_ms));
        }
        // At the end, what was counted is told at once; so it is when the clock has been set back.
        assert!(!told(&mut refusals, Refused::Command, 183_000));
        assert_eq!(refusals.due(184_000, true), [summary(1, 2, "at 183000")]);
        assert!(!told(&mut refusals, Refused::Command, 185_000));
        assert_eq!(refusals.due(10_000, false).len(), 1);
    }
}
