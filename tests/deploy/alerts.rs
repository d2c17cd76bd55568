//! The alerts: promtool's own tests of them, each tested in both directions, each with a runbook, each on metrics that exist.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::promql::{assert_exported, metrics};
use super::{list, project, read, run, text, yaml};

const RULES: &str = "deploy/prometheus/rules.yaml";
const TESTS: &str = "deploy/prometheus/rules_test.yaml";
const RUNBOOK: &str = "docs/operations.md";

fn alerts() -> Vec<Value> {
    let rules = yaml(RULES);
    let alerts = list(&rules["groups"]).iter().flat_map(|group| list(&group["rules"]));
    let alerts: Vec<Value> = alerts.filter(|rule| rule["alert"].is_string()).cloned().collect();
    assert!(alerts.len() > 10);
    alerts
}

#[tokio::test]
async fn promtool_finds_no_fault_and_its_tests_pass() {
    let (rules, tests) = (project(RULES), project(TESTS));
    for arguments in [["check", "rules", &rules.display().to_string()], ["test", "rules", &tests.display().to_string()]]
    {
        let said = run("promtool", &arguments).await;
        assert_eq!(said.status, 0, "{said:?}");
    }
}

#[test]
fn each_alert_fires_in_a_test_and_is_silent_in_another() {
    let mut seen: BTreeMap<String, [bool; 2]> = BTreeMap::new();
    let tests = yaml(TESTS);
    for case in list(&tests["tests"]).iter().flat_map(|test| list(&test["alert_rule_test"])) {
        let fires = !list(&case["exp_alerts"]).is_empty();
        seen.entry(text(&case["alertname"]).to_owned()).or_default()[usize::from(fires)] = true;
    }
    let known: BTreeSet<String> = alerts().iter().map(|alert| text(&alert["alert"]).to_owned()).collect();
    for alert in &known {
        assert_eq!(seen.get(alert), Some(&[true, true]), "{alert}: silent, and firing");
    }
    assert_eq!(seen.keys().cloned().collect::<BTreeSet<_>>(), known);
}

#[test]
fn each_alert_says_what_it_is_and_links_to_its_runbook() {
    let runbook = read(RUNBOOK);
    let heading = |line: &str| line.strip_prefix("### ").map(str::to_lowercase);
    let anchors: BTreeSet<String> = runbook.lines().filter_map(heading).collect();
    let mut linked = BTreeSet::new();
    for alert in alerts() {
        let (name, annotations) = (text(&alert["alert"]), &alert["annotations"]);
        assert!(["page", "ticket"].contains(&text(&alert["labels"]["severity"])), "{name}");
        assert!(!text(&annotations["summary"]).is_empty() && !text(&annotations["description"]).is_empty(), "{name}");
        let anchor = name.to_lowercase();
        assert_eq!(text(&annotations["runbook_url"]), format!("{RUNBOOK}#{anchor}"), "{name}");
        assert!(anchors.contains(&anchor), "{RUNBOOK} has no section {name}");
        let section = runbook.split(&format!("\n### {name}\n")).nth(1).unwrap_or_else(|| panic!("{name}: its heading"));
        let section = section.split("\n#").next().unwrap();
        for part in ["**What it means.**", "**What to do.**"] {
            assert!(section.contains(part), "{name}: {RUNBOOK} does not say {part}");
        }
        linked.insert(anchor);
    }
    let (_, sections) = runbook.split_once("\n## Alerts\n").unwrap();
    let sections = sections.split("\n## ").next().unwrap();
    let described: BTreeSet<String> = sections.lines().filter_map(heading).collect();
    assert_eq!(described, linked, "alerts that are described, and those that there are");
}

#[tokio::test]
async fn each_alert_is_on_metrics_that_a_node_has() {
    for alert in alerts() {
        let (name, expression) = (text(&alert["alert"]), text(&alert["expr"]));
        assert!(!metrics(expression).is_empty() || expression.contains("up{"), "{name}: on what?");
        assert_exported(name, expression).await;
    }
}
