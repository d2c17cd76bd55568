//! What people read, and what the process's exit status tells their scripts.

use std::fmt::Write;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::again::again;
use super::agents::{Agent, Told};
use super::answer::Answer;
use super::rotation::RotationStatus;
use super::trust_store::Standing;
use crate::clock::UnixTime;
use crate::protocol::api::{AgentStatus, Availability, PreflightReport, PreflightRow, PreflightState};
use crate::protocol::command::Operation;
use crate::protocol::hindrance::Hindrance;
use crate::protocol::outcome::{Code, Status};
use crate::protocol::readiness::{Need, Readiness};
use crate::protocol::untrusted::Untrusted;

/// The exit statuses of `writeback-portal`.
pub mod exit {
    /// Done.
    pub const SUCCEEDED: u8 = 0;
    /// Wrong usage, or nothing could be sent.
    pub const ERROR: u8 = 1;
    /// The directory refused: the same again changes nothing.
    pub const REJECTED: u8 = 2;
    /// Not done; it is safe to try again.
    pub const NOT_DONE: u8 = 3;
    /// It may have been done: ask with `status` before anything else.
    pub const UNKNOWN: u8 = 4;
}

impl Answer {
    /// The process's exit status: one of [`exit`].
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Concluded { outcome, .. } => match outcome.status {
                Status::Succeeded => exit::SUCCEEDED,
                Status::Rejected => exit::REJECTED,
                Status::Failed | Status::Expired if outcome.retry_safe => exit::NOT_DONE,
                Status::Failed | Status::Expired | Status::Unknown => exit::UNKNOWN,
            },
            Self::Undeliverable { .. } => exit::NOT_DONE,
            Self::Unknown { .. } => exit::UNKNOWN,
        }
    }

    /// A few lines for people.
    #[must_use]
    pub fn for_people(&self, tenant: &str) -> String {
        match self {
            Self::Concluded { outcome: o, trace_id } => {
                let headline = match o.status {
                    Status::Succeeded => "done",
                    Status::Rejected if own_refusal(&o.code) => "refused by the agent",
                    Status::Rejected => "refused by the directory",
                    Status::Failed => "not done, for a technical reason",
                    Status::Expired => "not done: its time was over before it began",
                    Status::Unknown => "it may have been done: somebody has to look at the account",
                };
                let again = again(o, utc);
                let hindrances = hindrances(o.hindrances.as_deref().unwrap_or_default());
                let account = o.account.as_ref().map(|found| format!("  the account: {found}\n")).unwrap_or_default();
                let todo = if is_code(&o.code, Code::PortalNotTrusted) {
                    format!("  what to do: {}\n", explain(&o.code))
                } else {
                    String::new()
                };
                format!(
                    "{headline}: {} (event {})\n{hindrances}  the agent says: {}\n{account}{todo}  a new command may be sent: {again}\n  signed by agent \
                     {} for command {}, {} ms in the directory\n  support code {}\n",
                    o.code.cell(),
                    o.event_id,
                    o.detail.quoted(),
                    o.iss,
                    o.command,
                    o.directory_ms,
                    trace_id.cell()
                )
            }
            Self::Undeliverable { reason, asked, trace_id } => {
                let trace_id = support_code(trace_id.as_ref());
                format!(
                    "not done: {}\n  {}\n  agents asked: {}\n  a new command may be sent: yes, nothing was changed\n{trace_id}",
                    reason.cell(),
                    explain(reason),
                    asked.len()
                )
            }
            Self::Unknown { command, agent, doubt, trace_id } => {
                let trace_id = support_code(trace_id.as_ref());
                format!(
                    "not known: {doubt}\n  agent {agent}\n  a new command may be sent: no\n  ask again: writeback-portal status \
                     {tenant} {command}\n{trace_id}"
                )
            }
        }
    }
}

/// What still keeps the user from logging on: a line for each, in our words if the code is known.
fn hindrances(codes: &[Untrusted]) -> String {
    let line = |code: &Untrusted| {
        let known = Hindrance::from_code(code).map(Hindrance::text);
        let text = known.map_or_else(|| format!("the agent calls it {}", code.quoted()), str::to_owned);
        format!("  BUT the user may not be able to log on: {text}\n")
    };
    codes.iter().take(Hindrance::ALL.len()).map(line).collect()
}

/// What the agent refuses without the directory.
fn own_refusal(code: &Untrusted) -> bool {
    [Code::RateLimited, Code::Unsupported, Code::PortalNotTrusted].iter().any(|own| is_code(code, *own))
}

fn is_code(said: &Untrusted, code: Code) -> bool {
    *said == *code.as_str()
}

fn support_code(trace_id: Option<&Untrusted>) -> String {
    trace_id.map(|id| format!("  support code {}\n", id.cell())).unwrap_or_default()
}

pub(super) fn utc(time: UnixTime) -> String {
    let formatted = OffsetDateTime::from_unix_timestamp(time.0).ok().and_then(|time| time.format(&Rfc3339).ok());
    formatted.unwrap_or_else(|| format!("{} seconds since 1970", time.0))
}

/// What a reason means, and what to do.
fn explain(reason: &Untrusted) -> &'static str {
    match reason.as_data() {
        "no_trusted_agent" => "no agent of this tenant is trusted here; see: writeback-portal agents",
        "no_agent" => "no trusted agent is connected to the relay: look at the agents' hosts",
        "agent_pending" => {
            "an agent waits for approval; see: writeback-portal agents, and then: writeback-portal approve"
        }
        "portal_not_trusted" => {
            "the agents that are connected take no commands of this portal: on the agent's host run writeback-agent trust CODE, \
             with a code from: writeback-portal invite"
        }
        "preflight_failed" => "the connected agents say that resets will fail; see: writeback-portal agents",
        "keys_not_trusted" => {
            "an agent is connected with keys that no password may be sealed to; see: writeback-portal agents"
        }
        "not_served" => "no agent serves accounts with this suffix: add it to upn_suffixes of its domain in agent.toml",
        "agent_busy" => "the agents are busy: try again in a moment",
        "draining" => "the relay's node is stopping: try again in a moment",
        "store_not_writable" => {
            "the relay's store takes no writes: tell whoever runs it, who sees why with writeback-relay status"
        }
        "registry_lost" => {
            "the relay has lost what it knew of portals and agents: tell whoever runs it, and keep this folder as it is; nothing \
             has to be set up anew"
        }
        "expired" => "its time was over before an agent got it: try again, and compare the hosts' clocks",
        _ => "the relay did not deliver it",
    }
}

/// A table of agents, and below it whatever is wrong.
#[must_use]
pub fn agents_table(agents: &[Agent]) -> String {
    let mut rows = vec![["AGENT", "NAME", "HERE", "RELAY", "ONLINE", "PREFLIGHT", "FINGERPRINT"].map(str::to_owned)];
    rows.extend(agents.iter().map(row));
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
            let _ = write!(line, "{cell:<width$}  ", width = width.unwrap_or(0));
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for agent in agents {
        for warning in &agent.warnings {
            let _ = writeln!(text, "\nWARNING: agent {}: {warning}", agent.agent);
        }
        let preflight = agent.relay.as_ref().and_then(|view| view.preflight.as_ref());
        for row in preflight.map(|report| report.rows.iter()).into_iter().flatten() {
            if row.state != PreflightState::Ok {
                let said = format!("agent {}: {}", agent.agent, finding(row));
                let _ = write!(text, "\npreflight {}: {said}", in_a_word(row.state));
            }
        }
    }
    text
}

/// What an agent found, the worst first.
#[must_use]
pub fn preflight_lines(report: &PreflightReport) -> String {
    let mut rows: Vec<_> = report.rows.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.state));
    rows.into_iter().map(|row| format!("{:<7}  {}", in_a_word(row.state), finding(row))).collect()
}

fn in_a_word(state: PreflightState) -> &'static str {
    match state {
        PreflightState::Ok => "ok",
        PreflightState::Warning => "warning",
        PreflightState::Failed => "FAILED",
    }
}

/// A line, and one more for what mends it.
fn finding(row: &PreflightRow) -> String {
    let mut text = format!("{}, {}: {}\n", row.check.cell(), row.target.cell(), row.detail.quoted());
    if let Some(advice) = row.advice() {
        let _ = writeln!(text, "         {advice}");
    }
    text
}

/// Where a rotation of this portal's key stands.
#[must_use]
pub fn rotation_table(status: &RotationStatus) -> String {
    if status.finished {
        return match status.seq {
            0 => "this portal's key was never rotated\n".to_owned(),
            seq => {
                let mut text = format!("rotation {seq} is finished: the new key is in use\n");
                for agent in status.agents.iter().filter(|agent| !agent.acknowledged) {
                    let name = agent.name.as_ref().map(|name| name.cell()).unwrap_or_default();
                    let _ = writeln!(
                        text,
                        "  {}  {}  {name}  has not acknowledged it: it takes no command of this portal until it has \
                         connected again",
                        agent.tenant, agent.agent
                    );
                }
                text
            }
        };
    }
    let done = status.agents.iter().filter(|agent| agent.acknowledged).count();
    let mut text = format!(
        "rotation {}: {done} of {} acknowledged the new key; until all have, the old one signs\n",
        status.seq,
        if status.agents.len() == 1 {
            "1 agent has".to_owned()
        } else {
            format!("{} agents have", status.agents.len())
        },
    );
    for agent in &status.agents {
        let state = match (agent.acknowledged, agent.online) {
            (true, _) => "acknowledged",
            (false, true) if agent.refuses => {
                "WAITING (it takes no commands of this portal any more, so it will not: revoke it, or don't wait: --finish)"
            }
            (false, true) => {
                "WAITING (online, so it should take a moment; if it lasts, its version knows of no rotations)"
            }
            (false, false) => "WAITING (offline)",
        };
        let name = agent.name.as_ref().map(|name| name.cell()).unwrap_or_default();
        let _ = writeln!(text, "  {}  {}  {name}  {state}", agent.tenant, agent.agent);
    }
    text
}

fn row(agent: &Agent) -> [String; 7] {
    let here = match &agent.standing {
        None => "unknown",
        Some(Standing::Attested { .. }) => "to approve",
        Some(Standing::Trusted { .. }) => "trusted",
        Some(Standing::Revoked { .. }) => "REVOKED",
    };
    let (mut name, mut at_relay, mut online, mut preflight) = ("-".to_owned(), "not listed", "-", "-");
    if let Some(view) = &agent.relay {
        name = view.name.cell();
        at_relay = match view.status {
            AgentStatus::Pending => "pending",
            AgentStatus::Approved => "approved",
            AgentStatus::Revoked => "revoked",
        };
        online = if view.online { "yes" } else { "no" };
        preflight = view.preflight.as_ref().map_or("-", |report| match view.readiness(Need::default()) {
            Readiness::Degraded => "degraded",
            _ => in_a_word(report.worst()),
        });
    }
    let texts = [here, at_relay, online, preflight].map(str::to_owned);
    let [here, at_relay, online, preflight] = texts;
    [agent.agent.to_string(), name, here, at_relay, online, preflight, agent.fingerprint.clone()]
}

/// One line.
#[must_use]
pub fn availability_line(availability: &Availability) -> String {
    if availability.available {
        let reset = Operation::ResetPassword.as_str();
        let operations: Vec<_> = availability.operations.iter().map(Untrusted::cell).collect();
        // An older relay names none.
        let what = if operations.is_empty() || operations.iter().any(|one| one == reset) {
            "a reset is possible now".to_owned()
        } else {
            format!("possible now is {}", operations.join(" and "))
        };
        let (count, agents) = match availability.agents.len() {
            1 => (1, "agent"),
            more => (more, "agents"),
        };
        let mut text = format!("{what}, as the relay says: {count} {agents} could take it\n");
        if availability.degraded {
            text.push_str("  but not everywhere: what does not work is told by: writeback-portal agents\n");
        }
        text
    } else {
        let reason = availability.reason.clone().unwrap_or_else(|| "no_agent".into());
        format!("no reset is possible now: {}\n  {}\n", reason.cell(), explain(&reason))
    }
}

impl Told {
    /// What to say after a decision that holds here.
    #[must_use]
    pub fn for_people(&self, decision: &str) -> String {
        match self {
            Self::Yes => format!("{decision}, here and at the relay\n"),
            Self::No(error) => format!(
                "{decision} here, for good; but the relay could not be told: {error}\n  run `writeback-portal agents` when \
                 it can be reached: that tells it again\n"
            ),
        }
    }
}
