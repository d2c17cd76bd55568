//! What `writeback-agent status` prints.

use std::fmt::Write;

use super::error::AgentError;
use super::events::{Filter, tail};
use super::home::Home;
use super::journal::{Journal, JournalError};
use crate::protocol::untrusted::one_line;
use crate::storage::DatabaseError;

const EVENTS: usize = 10;

/// Everything that can be said about the agent in a folder, for people. It changes nothing.
///
/// # Errors
/// If it is not enrolled, or its identity or keys can't be read.
pub fn status(home: &Home) -> Result<String, AgentError> {
    let folder = home.folder().display().to_string();
    let identity = home.identity()?.ok_or_else(|| AgentError::NotEnrolled { folder: folder.clone() })?;
    let fingerprint = home.keys()?.public().fingerprint(identity.agent);
    let mut text = format!(
        "folder       {folder}\nagent        {}\ntenant       {}\nrelay        {}\nfingerprint  {fingerprint}\n",
        identity.agent,
        identity.tenant,
        one_line(&identity.relay)
    );
    if let Some(next) = home.keyring()?.next {
        line(&mut text, "rotation", &format!("{} has begun; the relay has not taken the new keys yet", next.seq));
    }
    for (portal, pin) in &identity.portals {
        line(&mut text, "portal", &format!("{portal} (key {})", pin.key.thumbprint()));
    }
    line(&mut text, "commands", &commands(home).unwrap_or_else(|error| error.to_string()));
    match tail(&home.events(), EVENTS, &Filter::default()).map(|(events, _)| events) {
        Ok(events) if events.is_empty() => line(&mut text, "events", "none yet"),
        Ok(events) => line(&mut text, "events", &events.join("\n             ")),
        Err(error) => line(&mut text, "events", &format!("{}: can't be read: {error}", home.events().display())),
    }
    Ok(text)
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a text does not fail.
    let _ = writeln!(text, "{name:<12} {value}");
}

/// How many commands have no outcome, or one that the relay does not have.
///
/// # Errors
/// If the identity or the journal can't be read.
pub(super) fn commands(home: &Home) -> Result<String, AgentError> {
    let folder = home.folder().display().to_string();
    let identity = home.identity()?.ok_or(AgentError::NotEnrolled { folder })?;
    let journal = Journal::open(&home.journal(), identity.journal);
    match journal.and_then(|journal| Ok((journal.unfinished()?.len(), journal.unstored()?.len()))) {
        Ok((unfinished, unstored)) => {
            Ok(format!("{unfinished} without an outcome, {unstored} outcomes that the relay has not stored"))
        }
        Err(JournalError::Database(DatabaseError::InUse { .. })) => {
            Ok("the agent is running and has its journal open, so they can't be counted now".to_owned())
        }
        Err(error) => Err(error.into()),
    }
}
