//! The table in docs/operations.md.

use super::super::{read, text};
use super::rows::{ROWS, Readyz, Row, Shows};
use super::system::{rule, severity};

const HEADING: &str = "\n## What you see when\n";

/// How long a rule's condition has to hold.
fn after(alert: &str) -> String {
    match rule(alert).get("for").map(|held| text(held).to_owned()) {
        None => "at once".to_owned(),
        Some(held) => held.strip_suffix('m').map(|minutes| format!("{minutes} min")).expect("minutes"),
    }
}

fn line(row: &Row) -> String {
    let readyz = match row.readyz {
        Readyz::Ok => "200 `ok`".to_owned(),
        Readyz::Says(status, words) => format!("{status} `{words}`"),
        Readyz::Silent => "no answer".to_owned(),
    };
    let status = format!("{}: *{}*", row.status.exit, row.status.says);
    let alert =
        format!("[{0}](#{1}): {2}, {3}", row.alert, row.alert.to_lowercase(), severity(row.alert), after(row.alert));
    let panel = format!("{}: *{}* {}", row.panel.dashboard, row.panel.title, row.panel.shows.in_words());
    format!("| {} | {readyz} | {status} | {alert} | {panel} |\n", row.fault)
}

impl Shows {
    fn in_words(self) -> String {
        match self {
            Self::Is(value) => format!("is {value}"),
            Self::Below(bound) => format!("is below {bound}"),
            Self::Above(bound) => format!("is above {bound}"),
        }
    }
}

#[test]
fn the_table_of_the_document_is_what_the_faults_are_tested_to_show() {
    let document = read("docs/operations.md");
    let (_, section) = document.split_once(HEADING).expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let found: String =
        section.lines().filter(|line| line.starts_with('|')).skip(2).map(|l| format!("{l}\n")).collect();
    let wanted: String = ROWS.into_iter().map(line).collect();
    assert_eq!(found, wanted, "docs/operations.md should have:\n{wanted}");
    for row in ROWS {
        assert!(document.contains(&format!("\n### {}\n", row.alert)), "{}: its section in the runbook", row.alert);
    }
}
