//! Two releases of the chart that one Prometheus watches: neither hides what the other lacks, and nothing is said twice.

use serde_json::{Value, json};

use super::chart::one;
use super::dashboards::{dashboard, panels};
use super::prometheus::Prometheus;
use super::{list, objects, project, run, template_as, text};
use crate::support::eventually;
use crate::support::relay::Relay;

/// What the chart makes for Prometheus.
struct Watched {
    namespace: &'static str,
    release: &'static str,
    relabelings: Value,
    rules: String,
}

impl Watched {
    fn new(release: &'static str, namespace: &'static str) -> Self {
        let set = [
            "serviceMonitor.enabled=true",
            "prometheusRule.enabled=true",
            "prometheusRule.runbookUrl=https://runbooks.example.com/relay",
        ];
        let yaml = template_as(release, namespace, &project("tests/deploy/values/redis.yaml"), &set).unwrap();
        let objects = objects(&yaml, &["--check"]).unwrap();
        let relabelings = list(&one(&objects, "ServiceMonitor")["spec"]["endpoints"])[0]["relabelings"].clone();
        let rules = one(&objects, "PrometheusRule")["spec"].to_string();
        for general in ["release=~", "job=~"] {
            assert!(!rules.contains(general), "{rules}");
        }
        Self { namespace, release, relabelings, rules }
    }

    fn job(&self) -> String {
        format!("{}-writeback-relay-ops", self.release)
    }

    fn pod(&self) -> String {
        format!("{}-writeback-relay-7d9c5b8f6-x2k4p", self.release)
    }

    /// What the Prometheus operator makes of the ServiceMonitor, for one pod that is this node.
    fn scraped(&self, node: &Relay) -> Value {
        let label = |from: &str, to: &str| json!({"source_labels": [from], "target_label": to});
        let mut relabelings = vec![
            label("__meta_kubernetes_namespace", "namespace"),
            label("__meta_kubernetes_service_name", "service"),
            label("__meta_kubernetes_pod_name", "pod"),
            label("__meta_kubernetes_service_name", "job"),
            json!({"target_label": "endpoint", "replacement": "ops"}),
        ];
        relabelings.extend(list(&self.relabelings).iter().map(|own| {
            let name =
                |name: &String| name.replace("sourceLabels", "source_labels").replace("targetLabel", "target_label");
            own.as_object().unwrap().iter().map(|(field, value)| (name(field), value.clone())).collect()
        }));
        json!({
            "job_name": format!("serviceMonitor/{}/{}/0", self.namespace, self.release),
            "static_configs": [{
                "targets": [node.ops_url().replace("http://", "")],
                "labels": {
                    "__meta_kubernetes_namespace": self.namespace,
                    "__meta_kubernetes_service_name": self.job(),
                    "__meta_kubernetes_pod_name": self.pod(),
                },
            }],
            "relabel_configs": relabelings,
        })
    }
}

#[tokio::test]
async fn of_two_releases_in_one_prometheus_the_one_that_is_dead_is_an_alert_and_the_other_is_not() {
    let watched = [Watched::new("first", "eu"), Watched::new("second", "us")];
    let mut nodes = [Relay::start().await, Relay::start().await];
    let scrape: Vec<Value> = watched.iter().zip(&nodes).map(|(watched, node)| watched.scraped(node)).collect();
    let rules = watched.each_ref().map(|watched| watched.rules.clone());
    let prometheus = Prometheus::with(&json!(scrape), &rules);
    for Watched { namespace, release, .. } in &watched {
        // The pod's name, and not its address.
        let pod = format!("instance=\"{release}-writeback-relay-7d9c5b8f6-x2k4p\"");
        prometheus
            .sees(&format!("writeback_ready{{namespace=\"{namespace}\",release=\"{release}\",{pod}}} == 1"))
            .await;
        prometheus.sees(&format!("writeback:up{{release=\"{release}\"}} == 1")).await;
    }
    eventually("RelayAway is silent", async || !prometheus.fires("RelayAway").await).await;

    nodes[1].kill();
    for alert in ["RelayAway", "NodeAway"] {
        eventually(alert, async || prometheus.fires(alert).await).await;
        let [labels] = &prometheus.firing(alert).await[..] else { panic!("{alert} is said twice") };
        for (label, value) in [("namespace", "us"), ("release", "second"), ("job", &*watched[1].job())] {
            assert_eq!(text(&labels[label]), value, "{labels}");
        }
        assert!(alert == "RelayAway" || text(&labels["instance"]) == watched[1].pod(), "{labels}");
    }
    nodes[1].start_again().await;
    eventually("RelayAway ends", async || !prometheus.fires("RelayAway").await).await;
}

/// What the overview asks for its first panel, with all releases chosen.
fn possible() -> String {
    let panel =
        panels(&dashboard("overview")).into_iter().find(|panel| panel.title == "Can a reset be done now?").unwrap();
    ["$namespace", "$release", "$job"]
        .into_iter()
        .fold(panel.targets[0].clone(), |asked, name| asked.replace(name, ".*"))
}

#[tokio::test]
async fn a_release_that_was_never_there_and_one_whose_pods_are_gone_are_alerts_of_their_own() {
    let watched = [Watched::new("first", "relay"), Watched::new("second", "relay")];
    let folder = tempfile::tempdir().unwrap();
    for Watched { release, rules, .. } in &watched {
        std::fs::write(folder.path().join(format!("{release}.yaml")), rules).unwrap();
    }
    let series = |name: &str, watched: &Watched, values: &str| {
        let (job, pod) = (watched.job(), watched.pod());
        let labels = format!("namespace=\"relay\", release=\"{}\", job=\"{job}\", instance=\"{pod}\"", watched.release);
        json!({"series": format!("{name}{{{labels}}}"), "values": values})
    };
    let away = |watched: &Watched, job: Option<String>| {
        let release = watched.release;
        let mut labels =
            json!({"app": "writeback-relay", "severity": "page", "namespace": "relay", "release": release});
        if let Some(job) = job {
            labels["job"] = job.into();
        }
        json!({"exp_labels": labels, "exp_annotations": {
            "summary": format!("No relay node answers (relay/{release})"),
            "description": "Prometheus reaches no node. Agents and portals most likely reach none either.",
            "runbook_url": "https://runbooks.example.com/relay#relayaway",
        }})
    };
    let [first, second] = &watched;
    let case = |minute: u32, expected: Vec<Value>| json!({"eval_time": format!("{minute}m"), "alertname": "RelayAway", "exp_alerts": expected});
    let tests = json!({
        "rule_files": ["first.yaml", "second.yaml"],
        "evaluation_interval": "30s",
        "tests": [
            {
                "name": "the second was never there",
                "interval": "30s",
                "input_series": [
                    series("up", first, "1x40"),
                    series("writeback_build_info", first, "1x40"),
                ],
                "alert_rule_test": [case(10, vec![away(second, None)])],
            },
            {
                "name": "the pods of the first are gone, with their targets",
                "interval": "30s",
                "input_series": [
                    series("up", first, "1x10 stale"),
                    series("writeback_build_info", first, "1x10 stale"),
                    series("up", second, "1x40"),
                    series("writeback_build_info", second, "1x40"),
                    series("writeback_ready", second, "1x40"),
                    series("writeback_store_writable", second, "1x40"),
                    series("writeback_sessions", second, "5x40"),
                ],
                // The second one alone could.
                "promql_expr_test": [
                    {"expr": possible(), "eval_time": "15m", "exp_samples": [{"labels": "{}", "value": 0}]},
                ],
                "alert_rule_test": [case(4, vec![]), case(15, vec![away(first, Some(first.job()))])],
            },
        ],
    });
    let file = folder.path().join("tests.yaml");
    std::fs::write(&file, tests.to_string()).unwrap();
    let said = run("promtool", &["test", "rules", &file.display().to_string()]).await;
    assert_eq!(said.status, 0, "{said:?}");
}
