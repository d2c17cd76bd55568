//! The table in docs/operations.md.

use super::super::dashboards::dashboard;
use super::super::{list, read, text};
use super::rows::{Panel, ROWS, Readyz, Row, Shows};
use super::system::{rule, severity};

const HEADING: &str = "\n## What you see when\n";

/// How long a rule's condition has to hold.
fn after(alert: &str) -> String {
    match rule(alert).get("for").map(|held| text(held).to_owned()) {
        None => "at once".to_owned(),
        Some(held) => held.replace('m', " min").replace('s', " s"),
    }
}

/// Words after which more comes.
fn words(found: &str) -> String {
    found.strip_suffix(' ').map_or_else(|| found.to_owned(), |begun| format!("{begun} …"))
}

fn line(row: &Row) -> String {
    let readyz = match row.readyz {
        Readyz::Ok => "200 `ok`".to_owned(),
        Readyz::Says(status, found) => format!("{status} `{}`", words(found)),
        Readyz::Silent => "no answer".to_owned(),
    };
    let status = format!("{}: *{}*", row.status.exit, words(row.status.says));
    let alert =
        format!("[{0}](#{1}): {2}, {3}", row.alert, row.alert.to_lowercase(), severity(row.alert), after(row.alert));
    let panel = format!("{}: *{}* is {}", row.panel.dashboard, row.panel.title, shown(&row.panel));
    format!("| {} | {readyz} | {status} | {alert} | {panel} |\n", row.fault)
}

/// What stands in the panel: the dashboard has words for some values.
fn shown(panel: &Panel) -> String {
    let dashboard = dashboard(panel.dashboard);
    let found = list(&dashboard["panels"]).iter().find(|known| known["title"] == panel.title).unwrap();
    let mapped = |value: f64| {
        let mappings = list(&found["fieldConfig"]["defaults"]["mappings"]).iter();
        mappings.filter_map(|mapping| mapping["options"][value.to_string()]["text"].as_str()).next()
    };
    match panel.shows {
        Shows::Is(value) => mapped(value).map_or_else(|| value.to_string(), |text| format!("*{text}*")),
        Shows::Below(bound) => format!("below {bound}"),
        Shows::Above(bound) => format!("above {bound}"),
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
