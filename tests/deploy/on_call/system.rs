//! Three nodes on one Redis, an agent and a portal, with Prometheus beside them, and whoever looks at them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::super::dashboards::{dashboard, panels};
use super::super::panels::asked;
use super::super::prometheus::Prometheus;
use super::super::{list, text, yaml};
use super::rows::{Readyz, Row, Shows};
use crate::support::agent::Agent;
use crate::support::cli::Cli;
use crate::support::cluster::Cluster;
use crate::support::redis::Redis;
use crate::support::relay::{Relay, TestPortal};
use crate::support::{PATIENCE, eventually};

const JANE: &str = "jane@corp.example";

/// So many seconds are left to the nodes and to Prometheus to see a fault, of the minute that the document says: Prometheus
/// as it is shipped looks and judges each 15 s.
const SEEN_WITHIN: f64 = 30.0;

pub(super) struct System {
    pub(super) cluster: Cluster,
    pub(super) prometheus: Prometheus,
    /// Its folder is in use.
    _portal: TestPortal,
    pub(super) agent: Option<Agent>,
}

impl System {
    pub(super) async fn start() -> Self {
        Self::on(Redis::single().await).await
    }

    pub(super) async fn on(redis: Redis) -> Self {
        Self::of(Cluster::start_with(3, redis, "").await).await
    }

    pub(super) async fn of(cluster: Cluster) -> Self {
        cluster.choose(0);
        let portal = cluster.nodes[0].portal("portal-1").await;
        cluster.spread();
        let agent = Agent::running(&cluster.nodes[0], &portal, &[JANE], 0).await;
        let prometheus = Prometheus::start_patient(&cluster.nodes);
        prometheus.sees("sum(up) == 3 and sum(writeback_sessions) == 2").await;
        Self { cluster, prometheus, _portal: portal, agent: Some(agent) }
    }

    /// Nothing of the fault is seen before it is there.
    pub(super) async fn is_well(&self, row: &Row) {
        is_well(&self.cluster.nodes[0], &self.prometheus, row).await;
    }

    /// Everything that shows a fault shows it, asked of the node that the row is about, and of the first of the others.
    pub(super) async fn shows(&self, row: &Row, since: f64, node: usize) {
        shows(&self.cluster.nodes[node], &self.cluster.nodes[0], &self.prometheus, row, since).await;
    }
}

/// In seconds since the epoch, as Prometheus counts.
#[expect(clippy::disallowed_methods, reason = "the clock of another process")]
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn operator(node: &Relay) -> Cli {
    let mut cli = Cli::new(env!("CARGO_BIN_EXE_writeback-relay"), &[]);
    cli.set("WRITEBACK_OPS_URL", &node.ops_url());
    cli.set("WRITEBACK_ADMIN_TOKEN_FILE", &node.data_dir().join("admin.token").display().to_string());
    cli.set("RUST_LOG", "off");
    cli
}

pub(super) async fn is_well(node: &Relay, prometheus: &Prometheus, row: &Row) {
    let cli = operator(node);
    eventually("all is well", async || cli.run(&["status"]).await.status == 0).await;
    eventually("it is ready", async || node.readiness_or_none().await == Some((200, "ok".to_owned()))).await;
    // It may have looked before there was anything to see.
    eventually("no alert", async || !prometheus.active().await.contains_key(row.alert)).await;
    let value = panel(prometheus, row).await;
    assert!(!row.panel.shows.is(value), "{} shows {value:?} before there is a fault", row.panel.title);
}

/// Waits until it is as it should be; if it does not come to that, the test fails with how it is instead.
async fn comes_to(what: &str, mut how: impl AsyncFnMut() -> Result<(), String>) {
    let begun = Instant::now();
    while let Err(instead) = how().await {
        assert!(begun.elapsed() < PATIENCE, "{what}: it is {instead}");
        // Between two looks, not instead of one.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// `asked` is where the fault is, `beside` where the operator looks.
pub(super) async fn shows(asked: &Relay, beside: &Relay, prometheus: &Prometheus, row: &Row, since: f64) {
    let fault = row.fault;
    comes_to(&format!("{fault}: /readyz"), async || {
        let said = asked.readiness_or_none().await;
        let found = match (row.readyz, &said) {
            (Readyz::Silent, None) => true,
            (Readyz::Ok, Some((status, body))) => (*status, body.as_str()) == (200, "ok"),
            (Readyz::Says(status, words), Some((found, body))) => status == *found && body.contains(words),
            _ => false,
        };
        if found { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
    let cli = operator(beside);
    comes_to(&format!("{fault}: status"), async || {
        let said = cli.run(&["status"]).await;
        let found = said.status == row.status.exit && format!("{}{}", said.out, said.err).contains(row.status.says);
        if found { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
    let mut first = 0.0;
    comes_to(&format!("{fault}: the alert {}", row.alert), async || {
        let active = prometheus.active().await;
        first = *active.get(row.alert).ok_or_else(|| format!("{active:?} that are active"))?;
        Ok(())
    })
    .await;
    assert!(first - since < SEEN_WITHIN, "{fault}: {} was seen after {} s", row.alert, first - since);
    comes_to(&format!("{fault}: the panel {}", row.panel.title), async || {
        let value = panel(prometheus, row).await;
        if row.panel.shows.is(value) { Ok(()) } else { Err(format!("{value:?}")) }
    })
    .await;
    // It stays so, and fires when it has been so for as long as the rule says.
    eventually(&format!("{fault}: {} holds", row.alert), async || now() - first > 5.0).await;
    let then = prometheus.active().await;
    assert_eq!(then.get(row.alert), Some(&first), "{fault}: {} comes and goes", row.alert);
}

/// A rule of deploy/prometheus/rules.yaml.
pub(super) fn rule(alert: &str) -> Value {
    let rules = yaml("deploy/prometheus/rules.yaml");
    let all = list(&rules["groups"]).iter().flat_map(|group| list(&group["rules"]));
    all.clone().find(|rule| rule["alert"] == alert).unwrap_or_else(|| panic!("no alert {alert}")).clone()
}

pub(super) fn severity(alert: &str) -> String {
    text(&rule(alert)["labels"]["severity"]).to_owned()
}

/// What the row's panel shows: of several series, one that is as it should be, if there is one.
async fn panel(prometheus: &Prometheus, row: &Row) -> Option<f64> {
    let panels = panels(&dashboard(row.panel.dashboard));
    let panel = panels.iter().find(|panel| panel.title == row.panel.title);
    let target = &panel.unwrap_or_else(|| panic!("no panel {}", row.panel.title)).targets[0];
    let values: Vec<_> = prometheus.query(&asked(target)).await?.into_iter().map(|sample| sample.value).collect();
    values.iter().copied().find(|value| row.panel.shows.is(Some(*value))).or(values.first().copied())
}

impl Shows {
    fn is(self, value: Option<f64>) -> bool {
        match (self, value) {
            (Self::Is(wanted), Some(value)) => (value - wanted).abs() < 1e-9,
            (Self::Below(bound), Some(value)) => value < bound,
            (Self::Above(bound), Some(value)) => value > bound,
            _ => false,
        }
    }
}
