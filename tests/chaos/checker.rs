//! Histories in, violations out. It knows the guarantees and nothing of how they are kept.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use writeback_relay::protocol::ids::CommandId;
use writeback_relay::protocol::outcome::Status;

use super::history::{Change, Event, Made, Said};

/// A guarantee that was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Broken {
    /// The directory has a command's password more than once.
    WrittenTwice,
    /// `succeeded`, and the directory does not have it.
    FalseSuccess,
    /// `rejected`, `failed` or `expired` by the agent, and the directory has it.
    FalseFailure,
    /// The relay said that it was not delivered, and the directory has it.
    FalseUndelivered,
    /// The relay said that it was not delivered, and its agent has answered it.
    AnsweredUndelivered,
    /// Two signed outcomes, or another word after a signed one.
    ChangedEnd,
    /// An outcome that the portal could not verify.
    Forged,
    /// A change in another tenant's directory, of another account, or of a command nobody made; or an answer to
    /// another tenant's portal.
    Crossed,
    /// The agent says `unknown` of an account that nobody else has changed.
    NeedlesslyUnknown,
    /// No end, although everything is healed and its agent came back.
    Unresolved,
    /// An agent was told never to come back, or a process has panicked or failed.
    Died,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) broken: Broken,
    pub(crate) command: Option<CommandId>,
    pub(crate) detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = self.command.map(|id| format!(" {id}")).unwrap_or_default();
        write!(f, "{:?}{command}: {}", self.broken, self.detail)
    }
}

/// How the commands ended.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Commands, by their end.
    pub(crate) ends: BTreeMap<String, usize>,
    /// Commands for which the agent's word came only when it was started anew after everything was healed.
    pub(crate) late: usize,
    pub(crate) changes: usize,
    /// How often commands were sent, and how often that was a repetition.
    pub(crate) submits: usize,
    pub(crate) repeated: usize,
    /// Commands of which the relay said truly that they were not delivered, and then lost its ledger while the same bytes
    /// were still on their way to it: these it took.
    pub(crate) promises_lost: usize,
    pub(crate) violations: Vec<Violation>,
}

/// One command's part of the history.
struct Story<'a> {
    made: &'a Made,
    answers: Vec<Answer<'a>>,
    /// In its own tenant's directory.
    changes: Vec<&'a Change>,
}

struct Answer<'a> {
    /// It was sent (again), not only asked about.
    submitted: bool,
    asked: u64,
    at: u64,
    said: &'a Said,
}

/// Judges a whole run. `directories` is each tenant's log.
pub(crate) fn check(history: &[Event], directories: &BTreeMap<String, Vec<Change>>) -> Findings {
    let mut findings = Findings { changes: directories.values().map(Vec::len).sum(), ..Findings::default() };
    let mut stories: BTreeMap<CommandId, Story<'_>> = BTreeMap::new();
    let (mut emptied, mut healed, mut restarted) = (Vec::new(), u64::MAX, u64::MAX);
    for event in history {
        match event {
            Event::Made { made, .. } => {
                stories.insert(made.command, Story { made, answers: Vec::new(), changes: Vec::new() });
            }
            Event::Answered { command, asked, at, call, answer } => {
                if let Some(story) = stories.get_mut(command) {
                    story.answers.push(Answer { submitted: call == "submit", asked: *asked, at: *at, said: answer });
                }
            }
            Event::Trespassed { command, answer, .. } => {
                if !matches!(answer, Said::Refused { .. } | Said::NotThere | Said::Nothing { .. }) {
                    findings.add(
                        Broken::Crossed,
                        Some(*command),
                        format!("another tenant's portal was told {answer:?}"),
                    );
                }
            }
            Event::Ended { process, status, for_good: true, .. } => {
                findings.add(Broken::Died, None, format!("{process}: {status}"));
            }
            Event::Emptied { at } => emptied.push(*at),
            Event::Healed { at } => healed = *at,
            Event::Restarted { at } => restarted = *at,
            Event::Broke { .. } | Event::Ended { .. } => {}
        }
    }
    findings.attribute(&mut stories, directories);
    for story in stories.values() {
        let submits = story.answers.iter().filter(|answer| answer.submitted).count();
        findings.submits += submits;
        findings.repeated += submits.saturating_sub(1);
        findings.judge(story, &emptied, directories);
        let signed = story.signed().map(|answer| answer.at).next();
        findings.late += usize::from(signed.is_some_and(|at| healed < restarted && at >= restarted));
    }
    findings.violations.sort_by_key(|violation| (violation.broken, violation.command));
    findings
}

impl Story<'_> {
    fn signed(&self) -> impl Iterator<Item = &Answer<'_>> {
        self.answers.iter().filter(|answer| matches!(answer.said, Said::Signed { .. }))
    }
}

impl Findings {
    fn add(&mut self, broken: Broken, command: Option<CommandId>, detail: String) {
        self.violations.push(Violation { broken, command, detail });
    }

    /// Gives each change to the command whose password it is.
    fn attribute<'a>(
        &mut self,
        stories: &mut BTreeMap<CommandId, Story<'a>>,
        directories: &'a BTreeMap<String, Vec<Change>>,
    ) {
        let by_digest: HashMap<&str, CommandId> =
            stories.values().map(|story| (story.made.digest.as_str(), story.made.command)).collect();
        for (tenant, changes) in directories {
            for change in changes {
                let command = by_digest.get(change.digest.as_str()).copied();
                let Some(story) = command.and_then(|command| stories.get_mut(&command)) else {
                    self.add(Broken::Crossed, None, format!("{tenant} has a change that nobody asked for: {change:?}"));
                    continue;
                };
                if story.made.tenant == *tenant && story.made.account == change.account {
                    story.changes.push(change);
                } else {
                    let detail =
                        format!("asked for {} of {}: {tenant}: {change:?}", story.made.account, story.made.tenant);
                    self.add(Broken::Crossed, command, detail);
                }
            }
        }
    }

    fn judge(&mut self, story: &Story<'_>, emptied: &[u64], directories: &BTreeMap<String, Vec<Change>>) {
        let (command, written) = (Some(story.made.command), story.changes.len());
        if written > 1 {
            self.add(Broken::WrittenTwice, command, format!("{written} times"));
        }
        for answer in &story.answers {
            match answer.said {
                Said::Forged { why } => self.add(Broken::Forged, command, why.clone()),
                Said::Signed { status: Status::Succeeded, .. } if written == 0 => {
                    self.add(Broken::FalseSuccess, command, "the directory has no such change".to_owned());
                    break;
                }
                Said::Signed { status: Status::Rejected | Status::Failed | Status::Expired, code, .. }
                    if written > 0 =>
                {
                    self.add(Broken::FalseFailure, command, format!("{code}, and the directory has it"));
                    break;
                }
                _ => {}
            }
        }
        let undelivered = story.answers.iter().find_map(|answer| match answer.said {
            Said::NotDelivered { reason } => Some((answer, reason)),
            _ => None,
        });
        if let Some((first, reason)) =
            undelivered.filter(|(first, _)| !self.lost_with_the_ledger(story, first, emptied))
        {
            let revived = |later: &&Answer<'_>| {
                later.asked >= first.at && matches!(later.said, Said::Going { .. } | Said::Unknown)
            };
            if written > 0 {
                self.add(Broken::FalseUndelivered, command, format!("{reason}, and the directory has it"));
            } else if let Some(answer) = story.signed().next() {
                self.add(Broken::AnsweredUndelivered, command, format!("{reason}, and then {:?}", answer.said));
            } else if let Some(answer) = story.answers.iter().find(revived) {
                self.add(Broken::ChangedEnd, command, format!("{reason}, and then {:?}", answer.said));
            }
        }
        let undelivered = undelivered.map(|(_, reason)| reason);
        self.judge_end(story, undelivered, emptied, directories);
    }

    /// Whether a copy of the command was on its way when the relay said `first`, and still when the ledger was lost.
    fn lost_with_the_ledger(&mut self, story: &Story<'_>, first: &Answer<'_>, emptied: &[u64]) -> bool {
        let under_way = |lost: u64| {
            let mut copies = story.answers.iter().filter(|answer| answer.submitted);
            copies.any(|copy| copy.asked < first.at && copy.at > lost)
        };
        let lost = emptied.iter().any(|lost| *lost > first.asked && under_way(*lost));
        self.promises_lost += usize::from(lost && (!story.changes.is_empty() || story.signed().next().is_some()));
        lost
    }

    fn judge_end(
        &mut self,
        story: &Story<'_>,
        undelivered: Option<&String>,
        emptied: &[u64],
        directories: &BTreeMap<String, Vec<Change>>,
    ) {
        let command = Some(story.made.command);
        let forgotten = |from: u64, to: u64| emptied.iter().any(|at| (from..=to).contains(at));
        if let Some(first) = story.signed().next() {
            for later in &story.answers {
                let same =
                    matches!(later.said, Said::Nothing { .. } | Said::Refused { .. }) || later.said == first.said;
                // Of two questions at the same time the earlier answer may come later. An empty ledger knows nothing.
                let excused = !matches!(later.said, Said::Signed { .. })
                    && (later.asked < first.at || forgotten(first.asked, later.at));
                if !same && !excused {
                    self.add(Broken::ChangedEnd, command, format!("{:?}, and then {:?}", first.said, later.said));
                    break;
                }
            }
            if let Said::Signed { status, code, .. } = first.said {
                if *status == Status::Unknown && !others_changed(story, directories) {
                    self.add(Broken::NeedlesslyUnknown, command, "nobody else has changed the account".to_owned());
                }
                let status = serde_json::to_value(status).unwrap();
                self.end(&format!("{} {code}", status.as_str().unwrap()));
            }
            return;
        }
        if let Some(reason) = undelivered {
            return self.end(&format!("undelivered {reason}"));
        }
        let last = story.answers.iter().rev().find(|answer| !matches!(answer.said, Said::Nothing { .. }));
        let accepted = story.answers.iter().any(|answer| matches!(answer.said, Said::Going { .. } | Said::Unknown));
        match last.map(|answer| answer.said) {
            Some(Said::NotThere | Said::Refused { .. }) | None if !accepted && story.changes.is_empty() => {
                self.end("never taken");
            }
            last => {
                self.end("unresolved");
                self.add(Broken::Unresolved, command, format!("at last {last:?}, written {}", story.changes.len()));
            }
        }
    }

    fn end(&mut self, end: &str) {
        *self.ends.entry(end.to_owned()).or_default() += 1;
    }
}

/// Whether any other command has changed the account of this one.
fn others_changed(story: &Story<'_>, directories: &BTreeMap<String, Vec<Change>>) -> bool {
    let changes = directories.get(&story.made.tenant).map(Vec::as_slice).unwrap_or_default();
    changes.iter().any(|change| change.account == story.made.account && change.digest != story.made.digest)
}
