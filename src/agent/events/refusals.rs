//! What a peer can have refused as often as it likes: the first few are events, and then a line a minute says how many more
//! there were, until there is none for an hour. So a peer makes some 1500 lines a day, however it spreads what it sends.

use std::collections::HashMap;

use crate::agent::counted;

/// How long refusals of one kind are counted before they are told, in milliseconds.
const WINDOW_MS: u64 = 60_000;

/// A kind of which none came for so long begins anew, in milliseconds.
const QUIET_MS: u64 = 3_600_000;

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
    /// A command of a portal that was trusted once: it is answered.
    Portal,
}

impl Refused {
    /// Of one.
    pub(super) fn one(self) -> &'static str {
        match self {
            Self::Command => "a command was refused and not answered",
            Self::Room => "a command was not taken",
            Self::PortalKey => "a portal's new key was refused",
            Self::Portal => "a command of a portal that is not trusted any more was refused",
        }
    }

    /// Of so many further ones.
    pub(super) fn more(self, count: u64) -> String {
        let (things, were) = match self {
            Self::Command => ("more command", "refused and not answered"),
            Self::Room => ("more command", "not taken"),
            Self::PortalKey => ("more new portal key", "refused"),
            Self::Portal => ("more command of a portal that is not trusted any more", "refused"),
        };
        let verb = if count == 1 { "was" } else { "were" };
        format!("{} {verb} {were}", counted(usize::try_from(count).unwrap_or(usize::MAX), things))
    }

    /// The label of the metric.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Room => "room",
            Self::PortalKey => "portal_key",
            Self::Portal => "portal",
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

/// What became of one kind.
#[derive(Default)]
struct Kind {
    /// One by one, since it was quiet.
    told: u64,
    /// When the last one was refused.
    last_ms: u64,
    /// Since when they are counted.
    since_ms: u64,
    more: u64,
    last: String,
}

impl Kind {
    /// A clock that was set back makes none quiet.
    fn is_quiet(&self, now_ms: u64) -> bool {
        now_ms.checked_sub(self.last_ms).is_some_and(|since| since >= QUIET_MS)
    }

    /// A clock that was set back ends the minute, too.
    fn is_due(&self, now_ms: u64) -> bool {
        now_ms.checked_sub(self.since_ms).is_none_or(|since| since >= WINDOW_MS)
    }
}

/// The counts.
#[derive(Default)]
pub(super) struct Refusals(HashMap<Refused, Kind>);

impl Refusals {
    /// Whether this one is told. Otherwise it is counted.
    pub(super) fn is_told(&mut self, kind: Refused, why: &str, now_ms: u64) -> bool {
        let of = self.0.entry(kind).or_default();
        if of.is_quiet(now_ms) {
            of.told = 0;
        }
        of.last_ms = now_ms;
        if of.told < FIRST {
            of.told += 1;
            return true;
        }
        if of.more == 0 {
            of.since_ms = now_ms;
        }
        of.more += 1;
        of.last.clear();
        of.last.push_str(why);
        false
    }

    /// What is to be told now: of each kind that was counted for a minute, or of all.
    pub(super) fn due(&mut self, now_ms: u64, all: bool) -> Vec<Summary> {
        let due = self.0.iter_mut().filter(|(_, of)| of.more > 0 && (all || of.is_due(now_ms)));
        due.map(|(kind, of)| {
            let seconds = now_ms.saturating_sub(of.since_ms).div_ceil(1000);
            Summary { kind: *kind, count: std::mem::take(&mut of.more), seconds, last: std::mem::take(&mut of.last) }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(refusals: &mut Refusals, kind: Refused, now_ms: u64) -> bool {
        refusals.is_told(kind, &format!("at {now_ms}"), now_ms)
    }

    #[test]
    fn the_first_of_a_kind_are_told_and_then_once_a_minute_how_many_more_there_were() {
        let mut refusals = Refusals::default();
        for now_ms in 1_000..1_000 + FIRST {
            assert!(told(&mut refusals, Refused::Command, now_ms));
        }
        assert!(told(&mut refusals, Refused::PortalKey, 2_000), "another kind");
        for now_ms in 2_000..=52_000 {
            assert!(!told(&mut refusals, Refused::Command, now_ms));
        }
        assert_eq!(refusals.due(61_999, false), []);
        let summary =
            |count, seconds, last: &str| Summary { kind: Refused::Command, count, seconds, last: last.into() };
        assert_eq!(refusals.due(62_000, false), [summary(50_001, 60, "at 52000")]);
        // The flood goes on: one line a minute, however much comes.
        for now_ms in 62_000..70_000 {
            assert!(!told(&mut refusals, Refused::Command, now_ms));
        }
        assert_eq!(refusals.due(122_000, false), [summary(8_000, 60, "at 69999")]);
        assert_eq!(refusals.due(182_000, false), []);
        // It was quiet for an hour: the next ones are told again as they are.
        assert!(!told(&mut refusals, Refused::Command, 69_999 + QUIET_MS - 1));
        let quiet = 69_999 + 2 * QUIET_MS;
        for now_ms in quiet..quiet + FIRST {
            assert!(told(&mut refusals, Refused::Command, now_ms));
        }
        assert!(!told(&mut refusals, Refused::Command, quiet + FIRST));
        // What was counted before is not lost.
        assert_eq!(refusals.due(quiet + 100, true).iter().map(|summary| summary.count).sum::<u64>(), 2);
    }

    #[test]
    fn what_was_counted_is_told_at_once_at_the_end_and_when_the_clock_was_set_back() {
        let mut refusals = Refusals::default();
        (0..FIRST).for_each(|_| assert!(told(&mut refusals, Refused::Room, 9_000_000)));
        for all in [true, false] {
            assert!(!told(&mut refusals, Refused::Room, 9_000_000));
            let due = refusals.due(if all { 9_001_000 } else { 8_000_000 }, all);
            assert_eq!(due.iter().map(|summary| summary.count).collect::<Vec<_>>(), [1]);
        }
        assert!(!told(&mut refusals, Refused::Room, 10_000), "nor does it bring the first ones back");
    }

    /// As many as are told one by one, again and again.
    #[test]
    fn a_patient_peer_makes_no_more_lines_in_a_day_than_one_in_a_hurry() {
        const DAY_MS: u64 = 86_400_000;
        for burst in [1, FIRST - 1, FIRST, FIRST + 1] {
            for pause_ms in [10_000, WINDOW_MS - 1, WINDOW_MS, WINDOW_MS + 1, 10 * WINDOW_MS, QUIET_MS] {
                let (mut refusals, mut lines) = (Refusals::default(), 0);
                for now_ms in (QUIET_MS..QUIET_MS + DAY_MS).step_by(usize::try_from(pause_ms).unwrap()) {
                    lines += refusals.due(now_ms, false).len();
                    lines += (0..burst).filter(|_| told(&mut refusals, Refused::Command, now_ms)).count();
                }
                assert!(lines <= 1440 + 16, "{burst} in {pause_ms} ms: {lines}");
            }
        }
    }
}
