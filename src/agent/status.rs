//! What `writeback-agent status` prints.

use std::fmt::Write;

use super::control::{self, Ask, Running};
use super::counted;
use super::error::AgentError;
use super::events::{Filter, for_people, tail};
use super::home::{Home, Identity};
use super::journal::{Journal, JournalError};
use super::preflight;
use super::started;
use super::watched::hold_journal;
use crate::clock::{Clock, UnixTime};
use crate::protocol::api::PreflightReport;
use crate::protocol::untrusted::one_line;
use crate::storage::DatabaseError;

const EVENTS: usize = 10;

/// Everything that can be said about the agent in a folder, for people: first whether it works. It changes nothing.
///
/// # Errors
/// If it is not enrolled, or its identity or keys can't be read.
pub async fn status(home: &Home, clock: &dyn Clock) -> Result<String, AgentError> {
    let folder = home.folder().display().to_string();
    let identity = home.identity()?.ok_or_else(|| AgentError::NotEnrolled { folder: folder.clone() })?;
    let fingerprint = home.keys()?.public().fingerprint(identity.agent);
    let asked = control::ask(home, Ask::Status).await;
    let mut text = String::new();
    match &asked {
        Ok(Some(running)) => works(&mut text, running, &identity, clock.now()),
        Ok(None) => {
            line(&mut text, "running", &format!("no; start it: {}", started::start(home)));
            line(&mut text, "connected", "no");
            line(&mut text, "last check", "not known while it does not run; check now: writeback-agent check");
        }
        Err(error) => line(&mut text, "running", &error.to_string()),
    }
    let running = asked.ok().flatten();
    line(&mut text, "commands", &commands(home, running.as_ref()).unwrap_or_else(|error| error.to_string()));
    for (name, value) in [
        ("folder", folder),
        ("agent", identity.agent.to_string()),
        ("tenant", identity.tenant.to_string()),
        ("relay", one_line(&identity.relay).into_owned()),
        ("fingerprint", fingerprint.to_string()),
    ] {
        line(&mut text, name, &value);
    }
    if let Some(next) = home.keyring()?.next {
        line(&mut text, "rotation", &format!("{} has begun; the relay has not taken the new keys yet", next.seq));
    }
    for (portal, pin) in &identity.portals {
        line(&mut text, "portal", &format!("{portal} (key {})", pin.key.thumbprint()));
    }
    match tail(&home.events(), EVENTS, &Filter::default()).map(|(events, _)| events) {
        Ok(events) if events.is_empty() => line(&mut text, "events", "none yet"),
        Ok(events) => {
            let events: Vec<_> = events.iter().map(|event| for_people(event)).collect();
            line(&mut text, "events", &events.join("\n             "));
        }
        Err(error) => line(&mut text, "events", &format!("{}: can't be read: {error}", home.events().display())),
    }
    Ok(text)
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a text does not fail.
    let _ = writeln!(text, "{name:<12} {value}");
}

/// Whether it runs, is connected and approved, and can reset passwords.
fn works(text: &mut String, running: &Running, identity: &Identity, now: UnixTime) {
    let since = spoken(running.since, now);
    line(text, "running", &format!("for {since}, version {}, process {}", running.version, running.process));
    line(text, "connected", &connected(running, identity, now));
    let check = match &running.preflight {
        Some(report) => format!("{} ago: {}", spoken(report.checked_at, now), found(report)),
        None => "the first one is under way".to_owned(),
    };
    line(text, "last check", &check);
}

fn connected(running: &Running, identity: &Identity, now: UnixTime) -> String {
    let relay = one_line(&identity.relay);
    let proxy = running.proxy.as_ref().map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
    let Some(oldest) = running.sessions.iter().map(|session| session.since).min() else {
        let why = running.trouble.as_ref().map(|why| format!(": {}", one_line(why)));
        return format!("not to {relay}{proxy}{}", why.unwrap_or_else(|| ", it has just begun to try".to_owned()));
    };
    let nodes: Vec<_> = running.sessions.iter().map(|session| session.node.cell()).collect();
    let sessions = counted(nodes.len(), "session");
    let approved = if running.is_approved() {
        "approved".to_owned()
    } else {
        let (tenant, agent) = (&identity.tenant, identity.agent);
        format!("waits for approval: writeback-portal approve {tenant} {agent}")
    };
    let since = spoken(oldest, now);
    format!("to {relay}{proxy} for {since}, {sessions} ({}); {approved}", nodes.join(", "))
}

/// The sum, and the worst of it.
fn found(report: &PreflightReport) -> String {
    let sum = preflight::sum(report);
    match preflight::worst(report) {
        Some(worst) => format!("{sum}; {worst}"),
        None => sum,
    }
}

/// How long something is ago.
fn spoken(then: UnixTime, now: UnixTime) -> String {
    let seconds = then.until(now).as_secs();
    let (count, thing) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    counted(usize::try_from(count).unwrap_or(usize::MAX), thing)
}

/// What became of the commands: what was done, and what is left to do.
///
/// # Errors
/// If the identity or the journal can't be read.
pub(super) fn commands(home: &Home, running: Option<&Running>) -> Result<String, AgentError> {
    if let Some(Running { work: Some(work), .. }) = running {
        let left = left(work.unfinished, work.unstored);
        return Ok(format!("{} done and {} not done since it runs; {left}", work.done, work.not_done));
    }
    let folder = home.folder().display().to_string();
    let identity = home.identity()?.ok_or(AgentError::NotEnrolled { folder })?;
    // An agent that starts now waits until it is closed again.
    let _held = hold_journal(home);
    let journal = Journal::open(&home.journal(), identity.journal);
    match journal.and_then(|journal| Ok((journal.unfinished()?.len(), journal.unstored()?.len()))) {
        Ok((unfinished, unstored)) => Ok(left(unfinished, unstored)),
        Err(JournalError::Database(DatabaseError::InUse { .. })) => {
            Ok("the agent is running and has its journal open, so they can't be counted now".to_owned())
        }
        Err(error) => Err(error.into()),
    }
}

fn left(unfinished: usize, unstored: usize) -> String {
    let outcomes = counted(unstored, "outcome");
    format!("{unfinished} without an outcome, {outcomes} that the relay has not stored")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::directory::{Check, Finding};
    use crate::agent::testing::{Enrolled, NOW};

    #[tokio::test]
    async fn one_that_does_not_run_is_said_first_and_how_it_is_started() {
        let agent = Enrolled::new().await;
        let text = status(&agent.home(), &*agent.clock).await.unwrap();
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("running      no; start it: ") && text.contains("0 without"), "{text}");
    }

    #[test]
    fn the_worst_row_is_told_and_times_are_spoken() {
        let report = |rows: Vec<Finding>| PreflightReport {
            checked_at: UnixTime(1),
            domains: Vec::new(),
            rows: rows.into_iter().map(Into::into).collect(),
        };
        let less = Finding::warning(Check::Clock, "dc1", "70 s behind");
        let (ok, bad) = (Finding::ok(Check::Bind, "dc1", "yes"), Finding::failed(Check::Tcp, "dc2", "port 636: no"));
        assert_eq!(found(&report(vec![ok.clone(), less, bad])), "1 failed, 1 warning, 1 ok; TCP at dc2: port 636: no");
        assert_eq!(found(&report(vec![ok])), "0 failed, 0 warnings, 1 ok");
        let now = UnixTime(NOW);
        for (ago, text) in [(1, "1 second"), (119, "119 seconds"), (150, "2 minutes"), (90_000, "25 hours")] {
            assert_eq!(spoken(UnixTime(NOW - ago), now), text);
        }
    }
}
