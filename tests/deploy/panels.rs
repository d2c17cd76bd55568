//! Every panel of every dashboard, asked of a Prometheus that watches three nodes: when nobody uses them, when somebody does,
//! and with the faults of the runbook. Each has something to show, or the text that says why not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use writeback_relay::protocol::enrollment::AgentKeys;

use super::dashboards::{DASHBOARDS, dashboard, panels, variables};
use super::prometheus::{Prometheus, Sample};
use crate::support::agent::Agent;
use crate::support::cluster::Cluster;
use crate::support::redis::Redis;
use crate::support::relay::{TENANT, TestPortal};
use crate::support::{PATIENCE, eventually};

const JANE: &str = "jane@corp.example";

/// Says that no series names a tenant.
const LABEL: &str = "tenant: Is the tenant a label?";

/// Panels that have something to show with a fault only; their text says that there is none.
const QUIET: [&str; 5] = ["overview: Problems", "node: Problems", "node: Limits", "node: Store errors", "node: Drain"];

/// Panels that have something to show as soon as there was one command, or one session.
const UNUSED: [&str; 9] = [
    "overview: Answered by an agent",
    "overview: 95th percentile",
    "overview: Time to the outcome",
    "overview: Session ends",
    "overview: Resets decided, 30 days",
    "overview: Error budget left",
    "overview: Burn rate",
    "node: Time to the outcome",
    "node: Session ends",
];

/// As Grafana puts values in place of its variables, with all nodes and this tenant chosen; and minutes are seconds.
pub(super) fn asked(expression: &str) -> String {
    let mut asked = expression.to_owned();
    for (variable, value) in [
        ("$namespace", ".*"),
        ("$release", ".*"),
        ("$job", "(writeback-relay)"),
        ("$instance", ".*"),
        ("$tenant", TENANT),
        ("$__rate_interval", "10s"),
        ("[1m]", "[5s]"),
        ("[5m]", "[10s]"),
        ("[15m]", "[60s]"),
    ] {
        asked = asked.replace(variable, value);
    }
    asked
}

/// A person who looks at the dashboards.
struct Looking<'a>(&'a Prometheus);

/// Whether a panel should be empty, if that is known.
type Expected<'a> = &'a dyn Fn(&str) -> Option<bool>;

impl Looking<'_> {
    /// What each panel shows: nothing but its text, or numbers that are some.
    async fn look(&self) -> BTreeMap<String, Vec<Sample>> {
        let mut seen = BTreeMap::new();
        for name in DASHBOARDS {
            for panel in panels(&dashboard(name)) {
                let mut shown = Vec::new();
                for target in &panel.targets {
                    let samples = self.0.query(&asked(target)).await.unwrap();
                    for sample in &samples {
                        assert!(!sample.value.is_nan(), "{name}: {} shows {sample:?}", panel.title);
                    }
                    shown.extend(samples);
                }
                assert!(!shown.is_empty() || !panel.no_value.is_empty(), "{name}: {} says nothing", panel.title);
                seen.insert(format!("{name}: {}", panel.title), shown);
            }
        }
        seen
    }

    /// Looks until the panels are empty, and not, as they should be. Rates need a little time.
    async fn finds(&self, when: &str, expected: Expected<'_>, mut meanwhile: impl AsyncFnMut()) {
        let begun = Instant::now();
        loop {
            meanwhile().await;
            let seen = self.look().await;
            let wrong: Vec<_> = seen
                .iter()
                .filter(|(panel, shown)| expected(panel).is_some_and(|should| should != shown.is_empty()))
                .collect();
            if wrong.is_empty() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{when}, these panels should be empty, or not: {wrong:?}");
        }
    }

    /// The samples of a panel of the overview.
    async fn samples(&self, title: &str) -> Vec<Sample> {
        let found = panels(&dashboard("overview")).into_iter().find(|panel| panel.title == title);
        let panel = found.unwrap_or_else(|| panic!("no {title}"));
        self.0.query(&asked(&panel.targets[0])).await.unwrap()
    }

    /// Waits until a panel of the overview shows this number.
    async fn shows(&self, title: &str, wanted: f64) {
        let shows = async || {
            let samples = self.samples(title).await;
            samples.len() == 1 && (samples[0].value - wanted).abs() < 0.01
        };
        eventually(&format!("{title} {wanted}"), shows).await;
    }

    /// Waits until the panel that everybody looks at first shows this.
    async fn possible(&self, wanted: f64) {
        self.shows("Can a reset be done now?", wanted).await;
    }

    async fn alert(&self, alert: &str) {
        let fires =
            async || self.samples("Firing alerts").await.iter().any(|sample| sample.labels["alertname"] == alert);
        eventually(alert, fires).await;
    }
}

/// Who uses the nodes.
struct Users {
    portal: TestPortal,
    agent: Agent,
    keys: AgentKeys,
}

impl Users {
    async fn come(cluster: &Cluster) -> Self {
        cluster.spread();
        let portal = cluster.nodes[0].portal("portal-1").await;
        let mut agent = Agent::running(&cluster.nodes[0], &portal, &[JANE], 0).await;
        let keys = agent.keys(&portal).await;
        // A session has ended once.
        assert!(agent.terminate().await.success());
        agent.start();
        agent.usable(&portal).await;
        Self { portal, agent, keys }
    }

    /// A reset at each node, and what is none.
    async fn reset(&self, cluster: &Cluster) {
        for node in 0..cluster.nodes.len() {
            cluster.choose(node);
            let (_, jws) = self.portal.raw.reset(self.agent.id(), &self.keys.sealing, JANE, "Fresh-Start-2026!");
            let answered = self.portal.raw.submit(&jws, 30).await;
            assert!([200, 503].contains(&answered.status), "{}", answered.text());
            assert_eq!(self.portal.raw.submit("no command", 0).await.status, 400);
        }
        cluster.spread();
    }
}

#[tokio::test]
async fn every_panel_has_something_to_show_or_says_why_not_whatever_happens() {
    let mut cluster = Cluster::start(3, Redis::single().await).await;
    let prometheus = Prometheus::start(&cluster.nodes);
    let looking = Looking(&prometheus);
    prometheus.sees("count(writeback_ready == 1) == 3").await;
    prometheus.sees("writeback:reset_possible == 0").await;
    let of_tenant = |panel: &str| panel.starts_with("tenant: ") && panel != LABEL;
    let idle = |panel: &str| match panel {
        "overview: Firing alerts" => None,
        panel => Some(QUIET.contains(&panel) || UNUSED.contains(&panel) || of_tenant(panel)),
    };
    looking.finds("when nobody uses it", &idle, async || ()).await;
    // There is no agent.
    looking.possible(0.0).await;
    looking.shows("Store", 1.0).await;

    let users = Users::come(&cluster).await;
    let busy = |panel: &str| match panel {
        "overview: Firing alerts" => None,
        panel if panel.ends_with(": Problems") => Some(false),
        panel => Some(QUIET.contains(&panel) || of_tenant(panel)),
    };
    looking.finds("when it is used", &busy, async || users.reset(&cluster).await).await;
    looking.possible(1.0).await;
    looking.shows("Failed checks", 0.0).await;
    assert_eq!(looking.samples("Nodes that can do a reset").await.len(), 3);

    // Redis does not answer.
    cluster.redis.freeze(6379);
    looking.possible(0.0).await;
    looking.shows("Store", 0.0).await;
    looking.shows("Writes", 0.0).await;
    looking.alert("StoreAway").await;
    looking.look().await;
    cluster.redis.thaw(6379);
    looking.possible(1.0).await;
    looking.shows("Store", 1.0).await;

    // It is full.
    cluster.redis.cli(6379, &["CONFIG", "SET", "maxmemory", "1"]);
    looking.shows("Writes", 0.0).await;
    looking.possible(0.0).await;
    looking.alert("StoreRefusesWrites").await;
    looking.look().await;
    cluster.redis.cli(6379, &["CONFIG", "SET", "maxmemory", "0"]);
    looking.possible(1.0).await;

    // Nodes may not speak to each other any more.
    cluster.redis.cli(6379, &["ACL", "SETUSER", "default", "-publish", "-spublish"]);
    looking.possible(0.0).await;
    looking.look().await;
    cluster.redis.cli(6379, &["ACL", "SETUSER", "default", "+@all"]);
    looking.possible(1.0).await;

    // Redis came back empty.
    let backup = cluster.nodes[0].data_dir().join("registry.json").display().to_string();
    assert!(cluster.nodes[0].operator(&["registry", "export", &backup]));
    looking.shows("Registry", 1.0).await;
    cluster.redis.flush();
    looking.shows("Registry", -1.0).await;
    looking.possible(0.0).await;
    looking.alert("RegistryLost").await;
    looking.look().await;
    assert!(cluster.nodes[0].operator(&["registry", "import", &backup]));
    looking.shows("Registry", 1.0).await;
    looking.possible(1.0).await;

    // One node is away.
    cluster.nodes[2].kill();
    looking.possible(2.0 / 3.0).await;
    let mut nodes: Vec<f64> =
        looking.samples("Nodes that can do a reset").await.iter().map(|sample| sample.value).collect();
    nodes.sort_by(f64::total_cmp);
    assert_eq!(nodes, [0.0, 1.0, 1.0]);
    looking.alert("NodeAway").await;
    looking.look().await;
    cluster.nodes[2].start_again().await;
    looking.possible(1.0).await;

    // The agents are away.
    drop(users);
    looking.possible(0.0).await;
    looking.shows("Agent sessions", 0.0).await;
    looking.alert("NoAgents").await;
    looking.look().await;

    // All nodes are away.
    for node in &mut cluster.nodes {
        node.kill();
    }
    looking.possible(0.0).await;
    looking.shows("Nodes", 0.0).await;
    looking.alert("RelayAway").await;
    looking.look().await;
}

#[tokio::test]
async fn a_tenants_panels_have_something_to_show_where_the_tenant_is_a_label() {
    let settings = "[session]\nheartbeat_seconds = 60\n[telemetry]\ntenant_label = true\n";
    let cluster = Cluster::start_with(3, Redis::single().await, settings).await;
    let prometheus = Prometheus::start(&cluster.nodes);
    let looking = Looking(&prometheus);
    let users = Users::come(&cluster).await;
    let used = |panel: &str| match panel {
        LABEL => Some(true),
        // Whose commands are not delivered, and there is none.
        "tenant: Not delivered" => Some(true),
        panel => panel.starts_with("tenant: ").then_some(false),
    };
    looking.finds("when it is used", &used, async || users.reset(&cluster).await).await;
    looking.possible(1.0).await;
    for name in DASHBOARDS {
        for (variable, query) in variables(&dashboard(name)) {
            let (selector, label) =
                query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap().rsplit_once(", ").unwrap();
            let mut values = prometheus.label_values(&asked(selector), label).await;
            values.sort();
            let nodes = cluster.nodes.iter().map(|node| node.own_addr().ip().to_string());
            let expected: BTreeSet<String> = match &*variable {
                "job" => BTreeSet::from(["writeback-relay".to_owned()]),
                "instance" => nodes.collect(),
                "tenant" => BTreeSet::from([TENANT.to_owned()]),
                // Kubernetes has them.
                _ => BTreeSet::new(),
            };
            assert_eq!(values.into_iter().collect::<BTreeSet<_>>(), expected, "{name}: {variable}");
        }
    }
    // The last session goes, and its series with it: that no agent is there is an alert all the same.
    prometheus.sees("writeback_sessions > 0").await;
    drop(users);
    looking.possible(0.0).await;
    looking.alert("NoAgents").await;
}
