//! The chaos program's checker finds each kind of violation, and nothing where all is well.

#[path = "chaos/checker.rs"]
mod checker;
#[path = "chaos/history.rs"]
#[allow(dead_code, reason = "the chaos program writes histories too")]
mod history;

use std::collections::BTreeMap;

use writeback_relay::clock::System;
use writeback_relay::protocol::ids::{AgentId, CommandId};
use writeback_relay::protocol::outcome::Status;

use self::checker::{Broken, Findings, check};
use self::history::{Change, Event, Made, Said};

const JANE: &str = "jane@corp.example";

/// What happened, told in order: each event a second after the one before.
struct Story {
    command: CommandId,
    history: Vec<Event>,
    directories: BTreeMap<String, Vec<Change>>,
}

fn signed(status: Status) -> Said {
    Said::Signed { status, code: "code".to_owned(), digest: format!("{status:?}") }
}

fn going() -> Said {
    Said::Going { state: "Delivering".to_owned() }
}

fn undelivered() -> Said {
    Said::NotDelivered { reason: "no_agent".to_owned() }
}

impl Story {
    /// A command that was made in contoso for Jane.
    fn begun() -> Self {
        let mut story = Self { command: id(), history: Vec::new(), directories: BTreeMap::new() };
        let command = story.command;
        story.made(command, "hers");
        story
    }

    fn at(&self) -> u64 {
        1000 * u64::try_from(self.history.len()).unwrap()
    }

    fn made(&mut self, command: CommandId, digest: &str) {
        let (tenant, account, digest) = ("contoso".to_owned(), JANE.to_owned(), digest.to_owned());
        let made =
            Made { command, tenant, agent: AgentId::new(&System, &System), account, digest, lifetime_seconds: 60 };
        self.history.push(Event::Made { at: self.at(), made });
    }

    fn told(mut self, answer: Said) -> Self {
        let (at, call) = (self.at(), "submit".to_owned());
        self.history.push(Event::Answered { command: self.command, asked: at - 500, at, call, answer });
        self
    }

    /// An answer to a question that was asked before everything else.
    fn told_late(mut self, answer: Said) -> Self {
        let (at, call) = (self.at(), "submit".to_owned());
        self.history.push(Event::Answered { command: self.command, asked: 0, at, call, answer });
        self
    }

    fn then(mut self, event: impl FnOnce(u64, CommandId) -> Event) -> Self {
        let event = event(self.at(), self.command);
        self.history.push(event);
        self
    }

    fn written(self) -> Self {
        self.written_to("contoso", JANE, "hers")
    }

    fn written_to(mut self, tenant: &str, account: &str, digest: &str) -> Self {
        let (account, digest) = (account.to_owned(), digest.to_owned());
        let change = Change { at_ms: 1, guid: uuid::Uuid::nil(), account, digest, pwd_last_set: 1 };
        self.directories.entry(tenant.to_owned()).or_default().push(change);
        self
    }

    fn checked(&self) -> Findings {
        check(&self.history, &self.directories)
    }

    #[track_caller]
    fn is(&self, end: &str, broken: &[Broken]) {
        let findings = self.checked();
        let found: Vec<_> = findings.violations.iter().map(|violation| violation.broken).collect();
        assert_eq!(found, broken, "{:?}", findings.violations);
        assert_eq!(findings.ends.get(end), Some(&1), "{:?}", findings.ends);
    }
}

fn id() -> CommandId {
    CommandId::new(&System, &System)
}

#[test]
fn what_ended_as_it_was_answered_is_no_violation() {
    Story::begun().told(going()).told(signed(Status::Succeeded)).written().is("succeeded code", &[]);
    Story::begun().told(Said::Unknown).told(signed(Status::Succeeded)).written().is("succeeded code", &[]);
    Story::begun().told(signed(Status::Rejected)).told(signed(Status::Rejected)).is("rejected code", &[]);
    Story::begun().told(signed(Status::Expired)).is("expired code", &[]);
    Story::begun().told(undelivered()).told(undelivered()).is("undelivered no_agent", &[]);
    Story::begun().told(Said::Nothing { why: "lost".to_owned() }).told(Said::NotThere).is("never taken", &[]);
    Story::begun().is("never taken", &[]);
}

#[test]
fn a_change_made_twice_is_found() {
    let story = Story::begun().told(signed(Status::Succeeded)).written().written();
    story.is("succeeded code", &[Broken::WrittenTwice]);
}

#[test]
fn a_success_without_a_change_is_found() {
    Story::begun().told(signed(Status::Succeeded)).is("succeeded code", &[Broken::FalseSuccess]);
}

#[test]
fn a_change_of_a_command_that_the_agent_denies_is_found() {
    for (status, end) in
        [(Status::Rejected, "rejected code"), (Status::Failed, "failed code"), (Status::Expired, "expired code")]
    {
        Story::begun().told(signed(status)).written().is(end, &[Broken::FalseFailure]);
    }
}

#[test]
fn a_change_of_a_command_that_the_relay_called_undelivered_is_found() {
    let story = Story::begun().told(undelivered()).told(signed(Status::Succeeded)).written();
    story.is("succeeded code", &[Broken::FalseUndelivered]);
    Story::begun().told(undelivered()).written().is("undelivered no_agent", &[Broken::FalseUndelivered]);
}

#[test]
fn a_command_that_lives_on_after_it_was_called_undelivered_is_found() {
    let story = Story::begun().told(undelivered()).told(signed(Status::Expired));
    story.is("expired code", &[Broken::AnsweredUndelivered]);
    Story::begun().told(undelivered()).told(going()).is("undelivered no_agent", &[Broken::ChangedEnd]);
    Story::begun().told(undelivered()).told_late(going()).is("undelivered no_agent", &[]);
}

#[test]
fn an_end_that_changes_is_found() {
    let ended = || Story::begun().told(signed(Status::Succeeded)).written();
    for other in [going(), Said::NotThere, undelivered()] {
        let broken = ended().told(other.clone()).checked().violations;
        assert!(broken.iter().any(|violation| violation.broken == Broken::ChangedEnd), "{other:?}");
    }
    let other = Said::Signed { status: Status::Succeeded, code: "code".to_owned(), digest: "another".to_owned() };
    ended().told_late(other).is("succeeded code", &[Broken::ChangedEnd]);
    ended().told_late(going()).is("succeeded code", &[]);
    ended().told(Said::Nothing { why: "lost".to_owned() }).is("succeeded code", &[]);
}

#[test]
fn an_emptied_ledger_excuses_that_it_has_forgotten_and_nothing_else() {
    let emptied = |story: Story| story.then(|at, _| Event::Emptied { at });
    let ended = || Story::begun().told(signed(Status::Succeeded)).written();
    emptied(ended()).told(Said::NotThere).is("succeeded code", &[]);
    emptied(Story::begun().told(going())).told(Said::NotThere).is("unresolved", &[Broken::Unresolved]);
    Story::begun().told(going()).told(Said::NotThere).is("unresolved", &[Broken::Unresolved]);
    let again = emptied(Story::begun().told(going()).written()).told(undelivered());
    again.is("undelivered no_agent", &[Broken::FalseUndelivered]);
    emptied(Story::begun().told(going()).written().written())
        .told(Said::NotThere)
        .is("unresolved", &[Broken::WrittenTwice, Broken::Unresolved]);
}

#[test]
fn a_promise_is_lost_with_the_ledger_only_for_a_copy_that_was_under_way_all_the_time() {
    let emptied = |story: Story| story.then(|at, _| Event::Emptied { at });
    let under_way = emptied(Story::begun().told(undelivered())).told_late(signed(Status::Succeeded)).written();
    under_way.is("succeeded code", &[]);
    assert_eq!(under_way.checked().promises_lost, 1);
    for story in [
        emptied(Story::begun().told(undelivered())).told(signed(Status::Succeeded)),
        emptied(Story::begun()).told(undelivered()).told_late(signed(Status::Succeeded)),
        Story::begun().told(undelivered()).told_late(signed(Status::Succeeded)),
    ] {
        story.written().is("succeeded code", &[Broken::FalseUndelivered]);
    }
}

#[test]
fn a_forged_outcome_is_found() {
    let story = Story::begun().told(Said::Forged { why: "signature".to_owned() }).told(signed(Status::Rejected));
    assert!(story.checked().violations.iter().any(|violation| violation.broken == Broken::Forged));
}

#[test]
fn what_crosses_tenants_or_accounts_is_found() {
    let ended = || Story::begun().told(signed(Status::Succeeded)).written();
    ended().written_to("fabrikam", JANE, "hers").is("succeeded code", &[Broken::Crossed]);
    ended().written_to("contoso", "joe@corp.example", "hers").is("succeeded code", &[Broken::Crossed]);
    ended().written_to("contoso", JANE, "nobody's").is("succeeded code", &[Broken::Crossed]);
    let told = |answer| ended().then(|at, command| Event::Trespassed { at, command, answer });
    told(Said::NotThere).is("succeeded code", &[]);
    told(Said::Refused { code: "tenant_not_granted".to_owned() }).is("succeeded code", &[]);
    told(signed(Status::Succeeded)).is("succeeded code", &[Broken::Crossed]);
    told(going()).is("succeeded code", &[Broken::Crossed]);
}

#[test]
fn an_agent_that_needs_not_say_unknown_is_found() {
    Story::begun().told(signed(Status::Unknown)).written().is("unknown code", &[Broken::NeedlesslyUnknown]);
    let mut both = Story::begun().told(signed(Status::Unknown));
    both.made(id(), "another");
    let both = both.written().written_to("contoso", JANE, "another");
    let findings = both.checked();
    assert!(findings.violations.iter().all(|violation| violation.broken != Broken::NeedlesslyUnknown));
    assert_eq!((findings.changes, findings.submits, findings.repeated), (2, 1, 0));
}

#[test]
fn a_command_without_an_end_is_found() {
    Story::begun().told(going()).is("unresolved", &[Broken::Unresolved]);
    Story::begun().told(going()).told(Said::Unknown).is("unresolved", &[Broken::Unresolved]);
    Story::begun().written().is("unresolved", &[Broken::Unresolved]);
}

#[test]
fn a_process_that_must_not_have_ended_is_found() {
    let ended = |for_good| {
        let (process, status) = ("agent".to_owned(), "exit status: 3".to_owned());
        Story::begun().told(undelivered()).then(|at, _| Event::Ended { at, process, status, for_good })
    };
    ended(true).is("undelivered no_agent", &[Broken::Died]);
    ended(false).is("undelivered no_agent", &[]);
}

#[test]
fn an_answer_that_came_only_when_the_agent_was_started_anew_is_counted() {
    let story = Story::begun().told(Said::Unknown).then(|at, _| Event::Healed { at });
    let story = story.then(|at, _| Event::Restarted { at }).told(signed(Status::Expired));
    assert_eq!((story.checked().late, story.checked().violations.len()), (1, 0));
}
