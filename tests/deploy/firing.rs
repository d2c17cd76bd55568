//! Alerts for real: Prometheus asks a node, and things go wrong. The rules are those that are shipped, with minutes as seconds.

use writeback_relay::protocol::api::PreflightState;

use super::prometheus::Prometheus;
use crate::support::agent::{Agent, samba_in};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::redis::Redis;
use crate::support::relay::{Relay, tenant};
use crate::support::samba::dc;

const JANE: &str = "jane@corp.example";

/// Reset Password, and then Change Password, and to write `lockoutTime` and `pwdLastSet`.
const RIGHTS: [&str; 4] = [
    "CR;00299570-246d-11d0-a768-00aa006e0529",
    "CR;ab721a53-1e2f-11d0-9819-00aa0040529b",
    "WP;28630ebf-41d5-11d1-a9c1-0000f80367c1",
    "WP;bf967a0a-0de6-11d0-a285-00aa003049e2",
];

#[tokio::test]
async fn redis_away_agents_away_and_the_node_away_are_alerts_and_end_when_they_are_back() {
    let mut cluster = Cluster::start(1, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = Agent::running(&cluster.nodes[0], &portal, &[JANE], 0).await;
    let prometheus = Prometheus::start(&cluster.nodes);
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
    prometheus.sees("count_over_time(sum(writeback_sessions)[20s:1s]) >= 20").await;
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
    let prometheus = Prometheus::start(std::slice::from_ref(&relay));
    eventually("PreflightRed", async || prometheus.fires("PreflightRed").await).await;

    dc().permit(&unit, &reset).await;
    let report = portal.portal.check(&tenant(), agent.id()).await.unwrap();
    assert_ne!(report.worst(), PreflightState::Failed, "{report:?}");
    eventually("PreflightRed ends", async || !prometheus.fires("PreflightRed").await).await;
}

#[tokio::test]
async fn a_store_that_takes_no_writes_is_an_alert_until_it_does() {
    let cluster = Cluster::start(1, Redis::single().await).await;
    let prometheus = Prometheus::start(&cluster.nodes);
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
    let prometheus = Prometheus::start(std::slice::from_ref(node));
    prometheus.sees("writeback_registry_tenants==1").await;
    let backup = node.data_dir().join("registry.json").display().to_string();
    assert!(node.operator(&["registry", "export", &backup]));
    cluster.redis.flush();
    // Within a minute, as it is shipped.
    eventually("RegistryLost", async || prometheus.fires("RegistryLost").await).await;
    assert!(node.operator(&["registry", "import", &backup]));
    eventually("RegistryLost ends", async || !prometheus.fires("RegistryLost").await).await;
}
