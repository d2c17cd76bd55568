//! A Prometheus that runs, with the rules that are shipped. Minutes are seconds in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Command, Stdio};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{installed, list, read, text, yaml};
use crate::support::process::Process;
use crate::support::relay::Relay;
use crate::support::{https_client, own_address};

/// A Prometheus that asks its nodes twice a second.
pub(super) struct Prometheus {
    url: String,
    process: Process,
    folder: TempDir,
}

/// What a series is now.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) labels: Value,
    pub(super) value: f64,
}

impl Prometheus {
    /// With the configuration and the rules of deploy/compose, for these nodes.
    pub(super) fn start(nodes: &[Relay]) -> Self {
        Self::with(&scrape_of_compose(nodes), &[read("deploy/prometheus/rules.yaml")])
    }

    /// The same with the rules as they are shipped: an alert is pending for minutes. Only what there usually was in an hour or a
    /// day is what there was in this test.
    pub(super) fn start_patient(nodes: &[Relay]) -> Self {
        let rules = read("deploy/prometheus/rules.yaml").replace("[1d:5m]", "[60s:1s]").replace("[1h:1m]", "[20s:1s]");
        Self::with_files(&scrape_of_compose(nodes), &[rules])
    }

    /// With these `scrape_configs` and these files of rules.
    pub(super) fn with(scrape: &Value, rules: &[String]) -> Self {
        Self::with_files(scrape, &rules.iter().map(|rules| of_seconds(rules)).collect::<Vec<_>>())
    }

    fn with_files(scrape: &Value, rules: &[String]) -> Self {
        installed("helm"); // and prometheus
        let (folder, address) = (tempfile::tempdir().unwrap(), own_address());
        for (number, rules) in rules.iter().enumerate() {
            std::fs::write(folder.path().join(format!("rules-{number}.yaml")), rules).unwrap();
        }
        let often = "500ms";
        let config = json!({
            "global": {"scrape_interval": often, "scrape_timeout": often, "evaluation_interval": often},
            "rule_files": ["rules-*.yaml"],
            "scrape_configs": scrape,
        });
        std::fs::write(folder.path().join("prometheus.yml"), config.to_string()).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let process = Process::spawn(
            Command::new("prometheus")
                .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
                .arg(format!("--web.listen-address={address}:9090"))
                .stdout(Stdio::null())
                .stderr(log),
        );
        Self { url: format!("http://{address}:9090/api/v1"), process, folder }
    }

    async fn ask(&self, path: &str) -> Option<Value> {
        let answer = https_client(None).unwrap().get(format!("{}/{path}", self.url)).send().await.ok()?;
        serde_json::from_slice(&answer.bytes().await.ok()?).ok()
    }

    /// What an expression is now. One that Prometheus does not understand fails the test.
    pub(super) async fn query(&self, expression: &str) -> Option<Vec<Sample>> {
        let query = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let answer = self.ask(&format!("query?query={query}")).await?;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let sample = |series: &Value| Sample {
            labels: series["metric"].clone(),
            value: text(&series["value"][1]).parse().unwrap(),
        };
        Some(list(&answer["data"]["result"]).iter().map(sample).collect())
    }

    /// The values of a label of these series.
    pub(super) async fn label_values(&self, selector: &str, label: &str) -> Vec<String> {
        let selector = utf8_percent_encode(selector, NON_ALPHANUMERIC);
        let answer = self.ask(&format!("label/{label}/values?match[]={selector}")).await.unwrap();
        assert_eq!(answer["status"], "success", "{answer}");
        list(&answer["data"]).iter().map(|value| text(value).to_owned()).collect()
    }

    /// Waits until an expression is something.
    pub(super) async fn sees(&self, expression: &str) {
        let log = self.folder.path().join("log");
        let sees = async || self.query(expression).await.is_some_and(|samples| !samples.is_empty());
        self.process.comes_up(&format!("{expression} is seen"), &log, sees).await;
    }

    /// The labels with which an alert fires.
    pub(super) async fn firing(&self, alert: &str) -> Vec<Value> {
        let answer = self.ask("alerts").await.unwrap_or_default();
        let firing = |known: &&Value| known["state"] == "firing" && text(&known["labels"]["alertname"]) == alert;
        list(&answer["data"]["alerts"]).iter().filter(firing).map(|known| known["labels"].clone()).collect()
    }

    /// The alerts whose condition holds, each with since when (in seconds since the epoch), whether it fires already or not.
    pub(super) async fn active(&self) -> BTreeMap<String, f64> {
        // It gives up a series when the alert has ended.
        let samples = self.query("min by (alertname) (ALERTS_FOR_STATE)").await.unwrap_or_default();
        samples.into_iter().map(|sample| (text(&sample.labels["alertname"]).to_owned(), sample.value)).collect()
    }

    pub(super) async fn fires(&self, alert: &str) -> bool {
        !self.firing(alert).await.is_empty()
    }
}

/// What deploy/compose's Prometheus asks, if these are the nodes.
fn scrape_of_compose(nodes: &[Relay]) -> Value {
    let mut scrape = yaml("deploy/compose/prometheus.yml")["scrape_configs"].clone();
    let targets: Vec<_> = nodes.iter().map(|node| node.ops_url().replace("http://", "")).collect();
    scrape[0]["static_configs"] = json!([{ "targets": targets }]);
    scrape
}

/// The same rules, for tests that can't wait for minutes.
fn of_seconds(rules: &str) -> String {
    let mut rules = rules.to_owned();
    for (minutes, seconds) in [
        ("[1d:5m]", "[60s:1s]"),
        ("[1h:1m]", "[20s:1s]"),
        ("[10m]", "[10s]"),
        ("[5m]", "[5s]"),
        ("[1m]", "[10s]"),
        ("interval: 1m", "interval: 1s"),
        ("\"interval\":\"1m\"", "\"interval\":\"1s\""),
    ] {
        rules = rules.replace(minutes, seconds);
    }
    for minutes in ["15s", "1m", "2m", "3m", "5m", "10m"] {
        rules = rules.replace(&format!("for: {minutes}\n"), "for: 2s\n");
        rules = rules.replace(&format!("\"for\":\"{minutes}\""), "\"for\":\"2s\"");
    }
    rules
}

#[test]
fn rules_of_minutes_are_rules_of_seconds() {
    let (rules, short) = (read("deploy/prometheus/rules.yaml"), of_seconds(&read("deploy/prometheus/rules.yaml")));
    assert_eq!(rules.matches(" for: ").count(), short.matches(" for: 2s\n").count());
    for window in ["[1d:5m]", "[1h:1m]", "[10m]", "[5m]", "[1m]", "interval: 1m"] {
        assert!(rules.contains(window) && !short.contains(window), "{window}");
    }
}
