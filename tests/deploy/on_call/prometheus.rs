//! A Prometheus that runs with deploy/compose's configuration and the rules that are shipped, and looks twice a second.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::super::{list, read, text};
use crate::support::process::Process;
use crate::support::relay::Relay;
use crate::support::{https_client, own_address};

/// In place of what is shipped, so that a test need not wait.
const INTERVAL: &str = "500ms";

pub(super) struct Prometheus {
    url: String,
    process: Process,
    folder: TempDir,
}

/// An alert that is pending or firing.
pub(super) struct Active {
    /// Since when its condition has held, in seconds since the epoch.
    pub(super) since: f64,
    pub(super) severity: String,
}

impl Prometheus {
    pub(super) async fn of(nodes: &[Relay]) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), own_address());
        let targets: Vec<_> = nodes.iter().map(|node| format!("{}:9443", node.own_addr().ip())).collect();
        let shipped = read("deploy/compose/prometheus.yml");
        let named = "[\"relay-1:9443\", \"relay-2:9443\", \"relay-3:9443\"]";
        assert!(shipped.contains(named) && shipped.matches("_interval: 15s").count() == 2, "{shipped}");
        let config = shipped.replace(named, &format!("{targets:?}")).replace(": 15s", &format!(": {INTERVAL}"));
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        std::fs::write(folder.path().join("rules.yaml"), of_seconds(&read("deploy/prometheus/rules.yaml"))).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let process = Process::spawn(
            Command::new("prometheus")
                .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
                .arg(format!("--web.listen-address={address}:9090"))
                .stdout(Stdio::null())
                .stderr(log),
        );
        let prometheus = Self { url: format!("http://{address}:9090/api/v1"), process, folder };
        let (all, log) = (format!("sum(up) == {}", nodes.len()), prometheus.folder.path().join("log"));
        let sees = async || prometheus.value(&all).await.is_some();
        prometheus.process.comes_up("it sees the nodes", &log, sees).await;
        prometheus
    }

    async fn ask(&self, path: &str, expression: Option<&str>) -> Option<Value> {
        let http = https_client(None).unwrap();
        let url = format!("{}/{path}", self.url);
        let request = match expression {
            None => http.get(url),
            Some(expression) => http
                .post(url)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(expression.bytes().fold("query=".to_owned(), |form, byte| form + &format!("%{byte:02x}"))),
        };
        serde_json::from_slice(&request.timeout(Duration::from_secs(5)).send().await.ok()?.bytes().await.ok()?).ok()
    }

    /// What an expression is now: of several series, the first's.
    pub(super) async fn value(&self, expression: &str) -> Option<f64> {
        let answer = self.ask("query", Some(expression)).await?;
        assert_ne!(answer["status"], "error", "{expression}: {answer}");
        let result = &answer["data"]["result"];
        let sample = if answer["data"]["resultType"] == "scalar" { result } else { &list(result).first()?["value"] };
        text(&sample[1]).parse().ok()
    }

    /// An alert, if its condition holds.
    pub(super) async fn active(&self, alert: &str) -> Option<Active> {
        let answer = self.ask("alerts", None).await?;
        let known =
            list(&answer["data"]["alerts"]).iter().find(|known| text(&known["labels"]["alertname"]) == alert)?;
        let since = self.value(&format!("min(ALERTS_FOR_STATE{{alertname=\"{alert}\"}})")).await?;
        Some(Active { since, severity: text(&known["labels"]["severity"]).to_owned() })
    }

    /// The alerts whose condition holds.
    pub(super) async fn all_active(&self) -> Vec<String> {
        let answer = self.ask("alerts", None).await.unwrap_or_default();
        let mut alerts: Vec<_> = list(&answer["data"]["alerts"])
            .iter()
            .map(|known| text(&known["labels"]["alertname"]).to_owned())
            .collect();
        alerts.sort();
        alerts.dedup();
        alerts
    }
}

/// What there usually was in an hour or a day is what there was in this test. All else of the rules stays.
fn of_seconds(rules: &str) -> String {
    rules.replace("[1d:5m]", "[60s:1s]").replace("[1h:1m]", "[20s:1s]")
}
