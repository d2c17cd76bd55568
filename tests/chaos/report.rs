//! What is printed at the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::checker::{Findings, Violation};

/// So many violations are shown with the whole history of their command.
const SHOWN: usize = 20;

/// What was done.
pub(crate) fn print_run(seed: u64, took: Duration, faults: &BTreeMap<String, usize>) {
    println!("\nseed {seed}, {} s", took.as_secs());
    println!("\n{} faults", faults.values().sum::<usize>());
    for (fault, count) in faults {
        println!("{count:8}  {fault}");
    }
}

/// What came of it.
pub(crate) fn print_findings(findings: &Findings, folder: &Path) {
    let Findings { changes, submits, repeated, late, promises_lost, .. } = findings;
    let commands: usize = findings.ends.values().sum();
    println!(
        "\n{commands} commands, sent {submits} times, {repeated} of them again; {changes} changes in the directories"
    );
    for (end, count) in &findings.ends {
        println!("{count:8}  {end}");
    }
    println!("{late:8}  of these were answered only when their agent was started anew");
    println!(
        "{promises_lost:8}  of these were called undelivered by a ledger that was lost while a copy was under way"
    );
    println!("\n{} violations", findings.violations.len());
    for violation in &findings.violations {
        println!("  {violation}");
    }
    for violation in findings.violations.iter().take(SHOWN) {
        show(violation, folder);
    }
}

/// Every line of the histories that names the command or its password.
fn show(Violation { command, .. }: &Violation, folder: &Path) {
    let Some(command) = command else { return };
    let history = std::fs::read_to_string(folder.join("history.jsonl")).unwrap();
    let lines: Vec<_> = history.lines().filter(|line| line.contains(&command.to_string())).collect();
    println!("\nthe history of {command}:\n{}", lines.join("\n"));
    let made: Option<serde_json::Value> = lines.first().and_then(|line| serde_json::from_str(line).ok());
    let Some(digest) = made.as_ref().and_then(|made| made["made"]["digest"].as_str()) else { return };
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("directory-")) {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for line in text.lines().filter(|line| line.contains(digest)) {
                println!("{}: {line}", path.file_name().unwrap().display());
            }
        }
    }
}
