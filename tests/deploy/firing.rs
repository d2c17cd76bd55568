//! Alerts for real: Prometheus asks a node, and things go wrong. The rules are those that are shipped, with minutes as seconds.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::support::https_client;
use serde_json::Value;
use tempfile::TempDir;
use writeback_relay::protocol::api::PreflightState;

use super::{installed, list, read, text};
use crate::support::agent::{Agent, samba_in};
use crate::support::cluster::Cluster;
use crate::support::process::Process;
use crate::support::redis::Redis;
use crate::support::relay::{Relay, tenant};
use crate::support::samba::dc;
use crate::support::{eventually, own_address};

const JANE: &str = "jane@corp.example";

/// Reset Password, and then Change Password, and to write `lockoutTime` and `pwdLastSet`.
const RIGHTS: [&str; 4] = [
    "CR;00299570-246d-11d0-a768-00aa006e0529",
    "CR;ab721a53-1e2f-11d0-9819-00aa0040529b",
    "WP;28630ebf-41d5-11d1-a9c1-0000f80367c1",
    "WP;bf967a0a-0de6-11d0-a285-00aa003049e2",
];

/// A Prometheus that asks this node twice a second.
struct Prometheus {
    url: String,
    process: Process,
    folder: TempDir,
}

impl Prometheus {
    fn start(node: &Relay) -> Self {
        installed("helm"); // and prometheus
        let (folder, address) = (tempfile::tempdir().unwrap(), own_address());
        let mut rules = read("deploy/prometheus/rules.yaml");
        for (minutes, seconds) in
            [("[1d:5m]", "[60s:1s]"), ("[1h:1m]", "[20s:1s]"), ("[10m]", "[10s]"), ("[5m]", "[5s]"), ("[1m]", "[10s]")]
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
        Self { url: format!("http://{address}:9090/api/v1"), process, folder }
    }

    async fn ask(&self, path: &str) -> Option<Value> {
        let answer = https_client(None).unwrap().get(format!("{}/{path}", self.url)).send().await.ok()?;
        serde_json::from_slice(&answer.bytes().await.ok()?).ok()
    }

    async fn sees(&self, query: &str) {
        let log = self.folder.path().join("log");
        let sees = async || {
            let answer = self.ask(&format!("query?query={query}")).await.unwrap_or_default();
            !list(&answer["data"]["result"]).is_empty()
        };
        self.process.comes_up(&format!("{query} is seen"), &log, sees).await;
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
    let prometheus = Prometheus::start(&cluster.nodes[0]);
    prometheus.sees("writeback_sessions==1").await;
    for alert in ["StoreAway", "AgentsLost", "NoAgents", "RelayAway"] {
        // It may have looked before it asked for the first time.
        eventually(&format!("{alert} is silent"), async || !prometheus.fires(alert).await).await;
    }

    // Nobody asks for a reset: it is noticed all the same.
    cluster.redis.freeze(6379);
    eventually("StoreAway", async || prometheus.fires("StoreAway").await).await;
    cluster.redis.thaw(6379);
    eventually("StoreAway ends", async || !prometheus.fires("StoreAway").await).await;

    // What there usually was.
    prometheus.sees("count_over_time(sum(writeback_sessions)[20s:1s])>=20").await;
    drop(agent);
    eventually("AgentsLost", async || prometheus.fires("AgentsLost").await).await;
    eventually("NoAgents", async || prometheus.fires("NoAgents").await).await;

    cluster.nodes[0].kill();
    eventually("RelayAway", async || prometheus.fires("RelayAway").await).await;
    cluster.nodes[0].start_again().await;
    eventually("RelayAway ends", async || !prometheus.fires("RelayAway").await).await;
}

#[tokio::test]
async fn a_right_that_is_missing_is_an_alert_until_it_is_given() {
    let unit = dc().create_unit("alerted", dc().base_dn()).await;
    let service = dc().create_service("svc-alerted").await;
    dc().create_user_in("alerted", &unit, "Initial-Passw0rd1").await;
    let entry = |right: &str| format!("(OA;CIIO;{right};bf967aba-0de6-11d0-a285-00aa003049e2;{})", service.sid);
    let [reset, others @ ..] = RIGHTS.map(entry);
    dc().permit(&unit, &others.concat()).await;

    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let mut agent = Agent::new(&relay);
    agent.configure(&samba_in(&dc().ldaps_url(), &[&unit], (service.user.upn, service.password_file)));
    let code = portal.portal.invite(&tenant(), true).await.unwrap();
    assert_eq!(agent.enroll(&code.to_text().unwrap()).await.status, 0);
    agent.start();
    let prometheus = Prometheus::start(&relay);
    eventually("PreflightRed", async || prometheus.fires("PreflightRed").await).await;

    dc().permit(&unit, &reset).await;
    let report = portal.portal.check(&tenant(), agent.id()).await.unwrap();
    assert_ne!(report.worst(), PreflightState::Failed, "{report:?}");
    eventually("PreflightRed ends", async || !prometheus.fires("PreflightRed").await).await;
}

#[tokio::test]
async fn a_store_that_takes_no_writes_is_an_alert_until_it_does() {
    let cluster = Cluster::start(1, Redis::single().await).await;
    let prometheus = Prometheus::start(&cluster.nodes[0]);
    prometheus.sees("writeback_store_writable==1").await;
    cluster.redis.cli(6379, &["CONFIG", "SET", "maxmemory", "1"]);
    eventually("StoreRefusesWrites", async || prometheus.fires("StoreRefusesWrites").await).await;
    cluster.redis.cli(6379, &["CONFIG", "SET", "maxmemory", "0"]);
    eventually("StoreRefusesWrites ends", async || !prometheus.fires("StoreRefusesWrites").await).await;
}

#[tokio::test]
async fn a_registry_that_came_back_empty_is_an_alert_until_it_is_restored() {
    let cluster = Cluster::start(1, Redis::single().await).await;
    let node = &cluster.nodes[0];
    let prometheus = Prometheus::start(node);
    prometheus.sees("writeback_registry_tenants==1").await;
    let backup = node.data_dir().join("registry.json").display().to_string();
    assert!(node.operator(&["registry", "export", &backup]));
    cluster.redis.flush();
    // Within a minute, as it is shipped.
    eventually("RegistryLost", async || prometheus.fires("RegistryLost").await).await;
    assert!(node.operator(&["registry", "import", &backup]));
    eventually("RegistryLost ends", async || !prometheus.fires("RegistryLost").await).await;
}
