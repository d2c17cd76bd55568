//! What rules and dashboards ask for, and what a running node has.

use std::collections::BTreeSet;

use tokio::sync::OnceCell;

use crate::support::agent::Agent;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::redis::Redis;

const JANE: &str = "jane@corp.example";

/// The relay's metrics that an expression names, without what a histogram adds to a name.
pub(super) fn metrics(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let family = |word: &str| {
        let suffix = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| word.strip_suffix(suffix));
        suffix.unwrap_or(word).to_owned()
    };
    let ours = |word: &&str| word.starts_with("writeback_") || word.starts_with("process_");
    words.filter(ours).map(family).collect()
}

/// What rules have recorded and an expression names.
pub(super) fn recorded(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| word.starts_with("writeback:")).map(str::to_owned).collect()
}

/// The metrics that a node has when it has done a bit of everything: the names of their `# TYPE` lines.
pub(super) async fn exported() -> &'static BTreeSet<String> {
    static ONCE: OnceCell<BTreeSet<String>> = OnceCell::const_new();
    ONCE.get_or_init(busy_node).await
}

async fn busy_node() -> BTreeSet<String> {
    let cluster = Cluster::start(1, Redis::single().await).await;
    let node = &cluster.nodes[0];
    let portal = node.portal("portal-1").await;
    let agent = Agent::running(node, &portal, &[JANE], 0).await;
    let keys = agent.keys(&portal).await;
    let (_, jws) = portal.raw.reset(agent.id(), &keys.sealing, JANE, "Fresh-Start-2026!");
    assert_eq!(portal.raw.submit(&jws, 30).await.status, 200);
    drop(agent);
    eventually("the session's end", async || node.metrics().await.contains("writeback_session_ends_total{")).await;
    assert_eq!(portal.raw.submit("no command", 0).await.status, 400);
    let text = node.metrics().await;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    types.map(str::to_owned).collect()
}

/// Fails the test unless a running node has every metric that `expression` names.
pub(super) async fn assert_exported(of: &str, expression: &str) {
    let (named, exported) = (metrics(expression), exported().await);
    let missing: Vec<_> = named.difference(exported).collect();
    assert!(missing.is_empty(), "{of}: no node has {missing:?}; there are {exported:?}");
}

#[test]
fn every_metric_of_an_expression_is_seen() {
    let expression =
        "histogram_quantile(0.9, sum by (le) (rate(writeback_a_seconds_bucket{x=\"y\"}[5m]))) / writeback_b";
    assert_eq!(metrics(expression), BTreeSet::from(["writeback_a_seconds".to_owned(), "writeback_b".to_owned()]));
}
