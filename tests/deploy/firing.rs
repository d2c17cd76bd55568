//! Alerts for real: Prometheus asks a node, and things go wrong. The rules are those that are shipped, with minutes as seconds.

use std::fs::File;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use writeback_relay::net::https_client;

use super::{installed, list, read, text};
use crate::support::agent::Agent;
use crate::support::cluster::Cluster;
use crate::support::process::Process;
use crate::support::redis::Redis;
use crate::support::relay::Relay;
use crate::support::{eventually, own_address};

const JANE: &str = "jane@corp.example";

/// A Prometheus that asks this node twice a second.
struct Prometheus {
    url: String,
    _process: Process,
    folder: TempDir,
}

impl Prometheus {
    fn start(node: &Relay) -> Self {
        installed("helm"); // and prometheus
        let (folder, address) = (tempfile::tempdir().unwrap(), own_address());
        let mut rules = read("deploy/prometheus/rules.yaml");
        for (minutes, seconds) in
            [("[1d:5m]", "[60s:1s]"), ("[1h:1m]", "[20s:1s]"), ("[10m]", "[10s]"), ("[5m]", "[5s]"), ("[2m]", "[10s]")]
        {
            assert!(rules.contains(minutes), "{minutes}");
            rules = rules.replace(minutes, seconds);
        }
        for minutes in ["1m", "2m", "3m", "5m", "10m"] {
            rules = rules.replace(&format!("for: {minutes}\n"), "for: 2s\n");
        }
        let target = node.ops_url().replace("http://", "");
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\nrule_files: [rules.yaml]\n\
             scrape_configs: [{{job_name: writeback-relay, static_configs: [{{targets: [\"{target}\"]}}]}}]\n"
        );
        std::fs::write(folder.path().join("rules.yaml"), rules).unwrap();
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let process = Process::spawn(
            Command::new("prometheus")
                .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
                .arg(format!("--web.listen-address={address}:9090"))
                .stdout(Stdio::null())
                .stderr(log),
        );
        Self { url: format!("http://{address}:9090/api/v1"), _process: process, folder }
    }

    async fn ask(&self, path: &str) -> Option<Value> {
        let answer = https_client(None).unwrap().get(format!("{}/{path}", self.url)).send().await.ok()?;
        serde_json::from_slice(&answer.bytes().await.ok()?).ok()
    }

    async fn sees(&self, query: &str) {
        let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        eventually(&format!("{query} is seen: {}", log()), async || {
            let answer = self.ask(&format!("query?query={query}")).await.unwrap_or_default();
            !list(&answer["data"]["result"]).is_empty()
        })
        .await;
    }

    async fn fires(&self, alert: &str) -> bool {
        let answer = self.ask("alerts").await.unwrap_or_default();
        let firing = |known: &Value| known["state"] == "firing" && text(&known["labels"]["alertname"]) == alert;
        list(&answer["data"]["alerts"]).iter().any(firing)
    }
}

#[tokio::test]
async fn redis_away_agents_away_and_the_node_away_are_alerts_and_end_when_they_are_back() {
    let mut cluster = Cluster::start(1, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = Agent::running(&cluster.nodes[0], &portal, &[JANE], 0).await;
    let keys = agent.keys(&portal).await;
    let prometheus = Prometheus::start(&cluster.nodes[0]);
    prometheus.sees("writeback_sessions==1").await;
    for alert in ["StoreAway", "NoAgents", "RelayAway"] {
        // It may have looked before it asked for the first time.
        eventually(&format!("{alert} is silent"), async || !prometheus.fires(alert).await).await;
    }

    cluster.redis.freeze(6379);
    eventually("StoreAway", async || {
        let (_, jws) = portal.raw.reset(agent.id(), &keys.sealing, JANE, "Fresh-Start-2026!");
        portal.raw.submit(&jws, 0).await;
        prometheus.fires("StoreAway").await
    })
    .await;
    cluster.redis.thaw(6379);
    eventually("StoreAway ends", async || !prometheus.fires("StoreAway").await).await;

    prometheus.sees("writeback_sessions==1").await;
    drop(agent);
    eventually("NoAgents", async || prometheus.fires("NoAgents").await).await;

    cluster.nodes[0].kill();
    eventually("RelayAway", async || prometheus.fires("RelayAway").await).await;
    cluster.nodes[0].start_again().await;
    eventually("RelayAway ends", async || !prometheus.fires("RelayAway").await).await;
}
