//! What came of an attack, and whether that is good enough.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::measured::{Account, Served, Spent, Wish};

/// What a node may have.
const NODE: u64 = 512 * MIB;
/// A node stays below.
const RESIDENT: u64 = 400 * MIB;
/// Of a hundred who come anew, so many are served, and within this time.
const NEW_OF_HUNDRED: usize = 99;
const NEW_WITHIN: Duration = Duration::from_secs(2);
/// What an allocator may keep of what it had, for the next: a quarter of what a node may have.
const KEPT: u64 = NODE / 4;
/// Connections that come and go.
const FILES: usize = 8;
/// Whoever takes so many times as long as before, and this much longer, is slow.
const SLOW: u32 = 3;
const SLOW_BY: Duration = Duration::from_millis(500);
/// No more is kept on disk than was sent, and pages that the database has begun.
const STORED_BESIDE: u64 = 4 * MIB;
/// Bytes of log in a second.
const LOGGED: u64 = 128 * 1024;

const MIB: u64 = 1024 * 1024;

/// How it was before.
pub(crate) struct Before {
    pub(crate) normal: Vec<Served>,
    pub(crate) resident: u64,
    pub(crate) files: usize,
}

impl Before {
    fn normal(&self, wish: Wish) -> Duration {
        self.normal.iter().filter(|served| served.wish == wish).map(|served| served.took).max().unwrap_or_default()
    }

    /// What is not as it was.
    pub(crate) fn left(&self, served: &[Served], resident: u64, files: usize) -> Vec<String> {
        let mut left = Vec::new();
        for Served { wish, took, refused } in served {
            match refused {
                Some(why) => left.push(format!("{}: {why:.80}", wish.name())),
                None if *took > self.normal(*wish) * SLOW + SLOW_BY => {
                    left.push(format!("{} take {} ms", wish.name(), took.as_millis()));
                }
                None => {}
            }
        }
        if resident > self.resident + KEPT {
            left.push(format!("{} MiB resident, {} before", resident / MIB, self.resident / MIB));
        }
        if files > self.files + FILES {
            left.push(format!("{files} files open, {} before", self.files));
        }
        left
    }
}

/// How it was afterwards.
pub(crate) enum Recovery {
    /// As before, after so long.
    After(Duration),
    /// Not as before in time: this.
    Not(Vec<String>),
    /// The node's process has ended.
    Ended(String),
}

/// What came of one attack.
pub(crate) struct Verdict {
    pub(crate) name: String,
    pub(crate) accounts: Vec<Account>,
    pub(crate) attacker_cpu: Duration,
    pub(crate) lasted: Duration,
    pub(crate) peak: u64,
    pub(crate) cpu: Duration,
    pub(crate) logged: u64,
    /// Bytes that its folder has grown by.
    pub(crate) stored: u64,
    pub(crate) served: Vec<Served>,
    pub(crate) lost: Vec<String>,
    pub(crate) before: Before,
    /// Why the operator could not revoke the attacker's agents.
    pub(crate) operator: Option<String>,
    pub(crate) recovery: Recovery,
}

impl Verdict {
    fn of(&self, wish: Wish) -> Vec<&Served> {
        self.served.iter().filter(|served| served.wish == wish).collect()
    }

    fn logged_per_second(&self) -> u64 {
        self.logged * 1000 / u64::try_from(self.lasted.as_millis()).unwrap().max(1)
    }

    /// What legitimate users noticed.
    pub(crate) fn noticed(&self) -> Vec<String> {
        let mut noticed = Vec::new();
        for wish in Wish::ALL {
            let all = self.of(wish);
            let served = all.iter().filter(|served| served.refused.is_none()).count();
            // Of those who come anew one of a hundred may fail; of those who were there, nobody.
            if all.is_empty() {
                noticed.push(format!("{}: nobody was served", wish.name()));
            }
            let enough = if wish == Wish::Reset { all.len() } else { (all.len() * NEW_OF_HUNDRED).div_ceil(100) };
            if served < enough {
                noticed.push(format!("{} of {} {} failed", all.len() - served, all.len(), wish.name()));
            }
            let slowest = slowest(&all);
            if wish != Wish::Reset && slowest > NEW_WITHIN {
                noticed.push(format!("{} took {} ms", wish.name(), slowest.as_millis()));
            }
        }
        if !self.lost.is_empty() {
            noticed.push(format!("{} open sessions were lost", self.lost.len()));
        }
        if let Some(why) = &self.operator {
            noticed.push(format!("the operator could not revoke the agents: {why}"));
        }
        match &self.recovery {
            Recovery::After(_) => {}
            Recovery::Not(left) => noticed.push(format!("not as before after 10 s: {}", left.join("; "))),
            Recovery::Ended(status) => noticed.push(format!("the node was gone ({status})")),
        }
        noticed
    }

    /// What they were told.
    fn reasons(&self) -> impl Iterator<Item = String> {
        let refused = self.served.iter().filter_map(|it| Some(format!("{}: {}", it.wish.name(), it.refused.as_ref()?)));
        let lost = self.lost.iter().map(|why| format!("open sessions: {why}"));
        refused.chain(lost).collect::<BTreeSet<_>>().into_iter()
    }

    /// Everything that is not as it has to be.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = self.noticed();
        if self.peak >= RESIDENT {
            faults.push(format!("{} MiB resident", self.peak / MIB));
        }
        if self.stored > self.spent().sent + STORED_BESIDE {
            faults.push(format!("{} MiB on disk, of {} that were sent", self.stored / MIB, size(self.spent().sent)));
        }
        if self.logged_per_second() > LOGGED {
            faults.push(format!("{} KiB of log a second", self.logged_per_second() / 1024));
        }
        faults
    }

    fn spent(&self) -> Spent {
        self.accounts.iter().fold(Spent::default(), |all, account| all + account.spent)
    }

    /// Its row of the table.
    pub(crate) fn row(&self) -> [String; 4] {
        let Spent { connections, turned_away, sent, .. } = self.spent();
        let noticed = if self.noticed().is_empty() { "nothing".to_owned() } else { self.noticed().join("; ") };
        let seconds = |cpu: Duration| format!("{:.1} s", cpu.as_secs_f64());
        [
            self.name.clone(),
            format!(
                "{connections} connections ({turned_away} refused), {}, {} CPU",
                size(sent),
                seconds(self.attacker_cpu)
            ),
            format!(
                "{} MiB ({} before), {} CPU, {}/s log, {} on disk",
                self.peak / MIB,
                self.before.resident / MIB,
                seconds(self.cpu),
                size(self.logged_per_second()),
                size(self.stored)
            ),
            noticed,
        ]
    }
}

/// The slowest of those who were served: of fewer than a hundred, the 99th percentile.
fn slowest(served: &[&Served]) -> Duration {
    let mut took: Vec<_> = served.iter().filter(|it| it.refused.is_none()).map(|it| it.took).collect();
    took.sort();
    took.get((took.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
}

fn size(bytes: u64) -> String {
    if bytes < 10 * 1024 {
        format!("{bytes} B")
    } else if bytes < 10 * MIB {
        format!("{} KiB", bytes / 1024)
    } else {
        format!("{} MiB", bytes / MIB)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, theirs, ours, _] = self.row();
        writeln!(f, "  in {:.1} s the attacker: {theirs}; the node: {ours}", self.lasted.as_secs_f64())?;
        for wish in Wish::ALL {
            let all = self.of(wish);
            let done = all.iter().filter(|served| served.refused.is_none()).count();
            write!(f, "  {} {done}/{}, slowest {} ms;", wish.name(), all.len(), slowest(&all).as_millis())?;
        }
        match &self.recovery {
            Recovery::After(took) => writeln!(f, " as before after {:.1} s", took.as_secs_f64())?,
            _ => writeln!(f)?,
        }
        for Account { variant, spent, told } in &self.accounts {
            let mut told: Vec<_> = told.iter().collect();
            told.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
            let told: Vec<_> = told.iter().take(3).map(|(what, times)| format!("{times} × {what:.100}")).collect();
            writeln!(f, "    {variant}: {} connections, {}; {}", spent.connections, size(spent.sent), told.join(", "))?;
        }
        for reason in self.reasons() {
            writeln!(f, "    {reason}")?;
        }
        match self.faults().as_slice() {
            [] => write!(f, "  held"),
            faults => write!(f, "  DID HARM: {}", faults.join("\n            ")),
        }
    }
}
