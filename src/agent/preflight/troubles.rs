//! What the event log has been told: each trouble once when it begins, and once when it is mended.

use std::collections::HashMap;

use crate::agent::directory::{Check, Finding};
use crate::agent::events::{About, EventLog};
use crate::protocol::api::PreflightState;

/// The troubles that the event log knows of, by what and where.
pub(super) struct Troubles {
    events: EventLog,
    known: HashMap<(Check, String), PreflightState>,
}

impl Troubles {
    pub(super) fn new(events: EventLog) -> Self {
        Self { events, known: HashMap::new() }
    }

    /// Records what has begun, has become worse, or has ended. What was not looked at this time is as it was.
    pub(super) fn note(&mut self, findings: &[Finding]) {
        for finding in findings {
            let key = (finding.check, finding.target.clone());
            let (title, event) = (finding.check.title(), finding.check.event());
            if is_trouble(finding) {
                let before = self.known.insert(key, finding.state);
                if before.is_none_or(|before| before < finding.state) {
                    let remedy =
                        finding.remedy.iter().map(|mending| format!("; mend it: {}", mending.how)).collect::<String>();
                    let message = format!("preflight: {title}, {}: {}{remedy}", finding.target, finding.detail);
                    self.events.record(event, &message, &About::default());
                }
            } else if self.known.remove(&key).is_some() {
                let message = format!("preflight: {title}, {}: mended: {}", finding.target, finding.detail);
                self.events.record_mended(event, &message);
            }
        }
    }
}

/// What somebody should hear of: failures; a right that some users lack; one of several domain controllers that is gone.
fn is_trouble(finding: &Finding) -> bool {
    match finding.state {
        PreflightState::Failed => true,
        PreflightState::Warning => {
            finding.check.is_right() || matches!(finding.check, Check::Dns | Check::Tcp | Check::Tls | Check::Bind)
        }
        PreflightState::Ok => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::events::history;
    use crate::clock::System;
    use crate::protocol::remedy::Remedy;

    #[test]
    fn each_trouble_is_told_once_when_it_begins_and_once_when_it_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let mut troubles = Troubles::new(EventLog::open(&path, System::clock()).unwrap());
        let missing =
            Finding::failed(Check::ResetPassword, "OU=A", "missing").mended_with(Remedy::GrantRight, "dsacls ...");
        let some = Finding::warning(Check::ResetPassword, "OU=A", "missing on 1 of 2");
        let there = Finding::ok(Check::ResetPassword, "OU=A", "granted");
        let hints = Finding::warning(Check::PolicyHints, "DC=a", "not offered");
        let mut told_after = |findings: &[&Finding]| {
            troubles.note(&findings.iter().map(|finding| (*finding).clone()).collect::<Vec<_>>());
            let lines = history(&path).unwrap();
            let told = lines.iter().map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                (line["event_id"].as_u64().unwrap(), line["level"].as_str().unwrap().to_owned())
            });
            told.collect::<Vec<_>>()
        };
        let error = (33004, "error".to_owned());
        assert_eq!(told_after(&[&hints]), []);
        assert_eq!(told_after(&[&some]), std::slice::from_ref(&error));
        assert_eq!(told_after(&[&missing]).len(), 2, "it has become worse");
        assert_eq!(told_after(&[&missing, &hints]).len(), 2);
        assert_eq!(told_after(&[&some]).len(), 2, "less of the same");
        assert_eq!(told_after(&[&hints]).len(), 2, "it was not looked at");
        assert_eq!(told_after(&[&there])[2], (33004, "info".to_owned()));
        assert_eq!(told_after(&[&there]).len(), 3);
        assert_eq!(told_after(&[&missing]).len(), 4, "it begins anew");
        let begun = history(&path).unwrap().pop().unwrap();
        assert!(begun.contains("OU=A") && begun.contains("dsacls ..."), "{begun}");
    }
}
