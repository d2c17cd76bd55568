//! The alerts: promtool's own tests of them, each tested in both directions, each with a runbook, each on metrics that exist.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::promql::{assert_exported, metrics, recorded};
use super::{list, project, read, run, text, yaml};

const RULES: &str = "deploy/prometheus/rules.yaml";
const TESTS: [&str; 2] = ["deploy/prometheus/rules_test.yaml", "deploy/prometheus/objective_test.yaml"];
const RUNBOOK: &str = "docs/operations.md";

/// Alerts, and what is recorded for them.
fn rules() -> Vec<Value> {
    list(&yaml(RULES)["groups"]).iter().flat_map(|group| list(&group["rules"])).cloned().collect()
}

fn alerts() -> Vec<Value> {
    let alerts: Vec<Value> = rules().into_iter().filter(|rule| rule["alert"].is_string()).collect();
    assert!(alerts.len() > 10);
    alerts
}

/// The names of what is recorded.
pub(super) fn records() -> BTreeSet<String> {
    rules().iter().filter_map(|rule| rule["record"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn promtool_finds_no_fault_and_its_tests_pass() {
    let [rules, first, second] = [RULES, TESTS[0], TESTS[1]].map(|file| project(file).display().to_string());
    for arguments in [&["check", "rules", &rules][..], &["test", "rules", &first, &second]] {
        let said = run("promtool", arguments).await;
        assert_eq!(said.status, 0, "{said:?}");
    }
}

#[test]
fn each_alert_fires_in_a_test_and_is_silent_in_another() {
    let mut seen: BTreeMap<String, [bool; 2]> = BTreeMap::new();
    let tests: Vec<Value> = TESTS.iter().flat_map(|file| list(&yaml(file)["tests"]).to_vec()).collect();
    for case in tests.iter().flat_map(|test| list(&test["alert_rule_test"])) {
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
        assert_eq!(text(&alert["labels"]["app"]), "writeback-relay", "{name}: by it dashboards and routes know it");
        let whose = "{{ with $labels.namespace }} ({{ . }}{{ with $labels.release }}/{{ . }}{{ end }}){{ end }}";
        assert!(text(&annotations["summary"]).ends_with(whose), "{name} does not say whose it is");
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
async fn each_rule_is_on_metrics_that_a_node_has_and_on_rules_that_there_are() {
    for rule in rules() {
        let (name, expression) = (rule["alert"].as_str().or(rule["record"].as_str()).unwrap(), text(&rule["expr"]));
        let recorded = recorded(expression);
        assert!(!metrics(expression).is_empty() || !recorded.is_empty(), "{name}: on what?");
        assert!(recorded.is_subset(&records()), "{name}: {recorded:?}");
        assert_exported(name, expression).await;
    }
}

/// What the chart puts its own namespace and release in place of, and what tells releases apart.
const SCOPES: [&str; 2] = ["{release=~\".*\"", "{job=~\"(.+-)?writeback-relay(-.+)?\"}"];
const RELEASE: &str = "(namespace, job, release";

#[test]
fn each_rule_is_about_one_release_at_a_time() {
    for rule in rules() {
        let (name, expression) = (rule["alert"].as_str().or(rule["record"].as_str()).unwrap(), text(&rule["expr"]));
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let words = expression.match_indices(is_name).filter(|(at, _)| !expression[..*at].ends_with(is_name));
        for (at, _) in words {
            let rest = &expression[at..];
            let (word, behind) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
            if word.starts_with("writeback_") || word.starts_with("writeback:") || word == "up" {
                // Not a name within the scope's own text.
                let scoped = SCOPES.iter().any(|scope| behind.starts_with(scope));
                assert!(scoped, "{name}: {word}{behind} is of all releases");
            }
            if ["sum", "min", "max", "avg", "count", "group"].contains(&word) {
                assert!(behind.starts_with(&format!(" by {RELEASE}")), "{name}: {word}{behind} mixes releases");
            }
            if ["on", "ignoring", "without"].contains(&word) {
                let apart =
                    behind.starts_with(&format!(" {RELEASE}")) || (name == "RelayAway" && behind.starts_with(" ()"));
                assert!(apart, "{name}: {word}{behind} mixes releases");
            }
        }
    }
}
