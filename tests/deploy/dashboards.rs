//! The dashboards: complete, and on metrics that exist.

use std::collections::BTreeSet;

use serde_json::Value;

use super::promql::{assert_exported, metrics};
use super::{list, read, text};

const DASHBOARDS: [&str; 3] = ["overview", "tenant", "node"];

fn dashboard(name: &str) -> Value {
    serde_json::from_str(&read(&format!("deploy/grafana/{name}.json"))).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let variables = list(&dashboard["templating"]["list"]).iter().filter(|variable| variable["type"] == "query");
    let variables = variables.map(|v| (text(&v["name"]).to_owned(), text(&v["query"]["query"]).to_owned()));
    let panels = list(&dashboard["panels"]).iter().flat_map(|panel| {
        let title = text(&panel["title"]).to_owned();
        list(&panel["targets"]).iter().map(move |target| (title.clone(), text(&target["expr"]).to_owned()))
    });
    variables.chain(panels).collect()
}

#[tokio::test]
async fn each_panel_is_on_metrics_that_a_node_has() {
    for name in DASHBOARDS {
        for (panel, expression) in expressions(&dashboard(name)) {
            assert!(!metrics(&expression).is_empty() || expression.contains("up{"), "{name}, {panel}: on what?");
            assert_exported(&format!("{name}, {panel}"), &expression).await;
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
