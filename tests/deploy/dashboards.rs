//! The dashboards: complete, and on metrics that exist.

use std::collections::BTreeSet;

use serde_json::Value;

use super::alerts::records;
use super::promql::{assert_exported, metrics, recorded};
use super::{list, read, text};

pub(super) const DASHBOARDS: [&str; 3] = ["overview", "tenant", "node"];

/// What a panel asks, and what it shows if there is no answer.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) targets: Vec<String>,
    pub(super) no_value: String,
}

pub(super) fn dashboard(name: &str) -> Value {
    serde_json::from_str(&read(&format!("deploy/grafana/{name}.json"))).unwrap_or_else(|e| panic!("{name}: {e}"))
}

pub(super) fn panels(dashboard: &Value) -> Vec<Panel> {
    let panels = list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row");
    let panel = |panel: &Value| Panel {
        title: text(&panel["title"]).to_owned(),
        targets: list(&panel["targets"]).iter().map(|target| text(&target["expr"]).to_owned()).collect(),
        no_value: panel["fieldConfig"]["defaults"]["noValue"].as_str().unwrap_or_default().to_owned(),
    };
    panels.map(panel).collect()
}

/// The variables that Prometheus is asked for, and how.
pub(super) fn variables(dashboard: &Value) -> Vec<(String, String)> {
    let variables = list(&dashboard["templating"]["list"]).iter().filter(|variable| variable["type"] == "query");
    variables.map(|v| (text(&v["name"]).to_owned(), text(&v["query"]["query"]).to_owned())).collect()
}

fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = panels(dashboard)
        .into_iter()
        .flat_map(|Panel { title, targets, .. }| targets.into_iter().map(move |target| (title.clone(), target)));
    variables(dashboard).into_iter().chain(panels).collect()
}

#[tokio::test]
async fn each_panel_is_on_metrics_that_a_node_has_or_that_rules_record() {
    for name in DASHBOARDS {
        for (panel, expression) in expressions(&dashboard(name)) {
            let recorded = recorded(&expression);
            let prometheus_own = ["up{", "ALERTS{"].iter().any(|own| expression.contains(own));
            assert!(
                !metrics(&expression).is_empty() || !recorded.is_empty() || prometheus_own,
                "{name}, {panel}: on what?"
            );
            assert!(recorded.is_subset(&records()), "{name}, {panel}: {recorded:?}");
            assert_exported(&format!("{name}, {panel}"), &expression).await;
        }
    }
}

/// By what each series of a panel is chosen.
const CHOSEN: &str = "namespace=~\"$namespace\",release=~\"$release\",job=~\"$job";

#[test]
fn each_panel_is_of_the_releases_that_are_chosen_and_says_what_it_means_if_it_is_empty() {
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        for panel in panels(&dashboard) {
            assert!(!panel.no_value.is_empty(), "{name}, {}: what does it show where there is nothing?", panel.title);
            for target in &panel.targets {
                let selectors = target.matches('{').count();
                assert!(
                    selectors > 0 && target.matches(CHOSEN).count() == selectors,
                    "{name}, {}: {target}",
                    panel.title
                );
                let naked = metrics(target).into_iter().chain(recorded(target)).find(|metric| {
                    let of = [format!("{metric}{{"), format!("{metric}_bucket{{")];
                    !of.iter().any(|of| target.contains(of.as_str()))
                });
                assert_eq!(naked, None, "{name}, {}: {target}", panel.title);
            }
        }
        let variables: Vec<String> = variables(&dashboard).into_iter().map(|(name, _)| name).collect();
        assert_eq!(variables[..3], ["namespace", "release", "job"], "{name}");
        for variable in list(&dashboard["templating"]["list"]).iter().filter(|variable| variable["name"] == "job") {
            assert!(variable["allValue"].is_null(), "{name}: up of other programs would be ours");
        }
    }
}

#[test]
fn each_dashboard_is_whole() {
    let mut uids = BTreeSet::new();
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        assert!(uids.insert(text(&dashboard["uid"]).to_owned()), "{name}: its uid is another's");
        assert!(dashboard["id"].is_null() && !text(&dashboard["title"]).is_empty(), "{name}");
        let panels = list(&dashboard["panels"]);
        let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "{name}: ids of panels");
        let mut places = BTreeSet::new();
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            let title = text(&panel["title"]);
            assert!(!text(&panel["description"]).is_empty(), "{name}, {title}: what it shows");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{name}, {title}: its unit");
            assert_eq!(text(&panel["datasource"]["uid"]), "${datasource}", "{name}, {title}");
            let place = &panel["gridPos"];
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| place[side].as_u64().unwrap());
            assert!(x + w <= 24, "{name}, {title}: too wide");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(places.insert(cell), "{name}, {title}: lies on another");
            }
        }
        let variables: BTreeSet<&str> =
            list(&dashboard["templating"]["list"]).iter().map(|v| text(&v["name"])).collect();
        for (panel, expression) in expressions(&dashboard) {
            for used in expression.split('$').skip(1).map(|rest| {
                let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                &rest[..end]
            }) {
                assert!(used.starts_with("__") || variables.contains(used), "{name}, {panel}: ${used} is no variable");
            }
        }
    }
}
