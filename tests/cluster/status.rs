//! The operator sees the whole cluster from any of its nodes, and stops the one that he names.

use serde_json::{Value, json};
use writeback_relay::clock::System;
use writeback_relay::protocol::frame::{FromAgent, v1};
use writeback_relay::protocol::ids::ObjectId;
use writeback_relay::relay::ids::NodeId;
use writeback_relay::relay::redis::keys;

use crate::support::cli::{Cli, Said};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::raw_agent::RawAgent;
use crate::support::redis::Redis;
use crate::support::relay::{Relay, TENANT};

/// The operator's commands at this node.
pub(super) fn at(node: &Relay) -> Cli {
    let mut cli = Cli::new(env!("CARGO_BIN_EXE_writeback-relay"), &[]);
    cli.set("WRITEBACK_OPS_URL", &node.ops_url());
    cli.set("WRITEBACK_ADMIN_TOKEN_FILE", &node.data_dir().join("admin.token").display().to_string());
    cli
}

async fn status(node: &Relay) -> Value {
    at(node).run(&["status", "--json"]).await.json()
}

/// The id of the node that answers.
async fn id(node: &Relay) -> String {
    let nodes = status(node).await["nodes"].clone();
    let own = nodes.as_array().unwrap().iter().find(|node| node["answers"] == true).unwrap().clone();
    own["node"].as_str().unwrap().to_owned()
}

/// What a node shows once both are known to it, and so many sessions.
async fn settled(node: &Relay, sessions: u64) -> Value {
    let is_settled = async || {
        let nodes = status(node).await["nodes"].clone();
        let nodes = nodes.as_array().unwrap().clone();
        nodes.len() == 2 && nodes.iter().map(|node| node["sessions"].as_u64().unwrap()).sum::<u64>() == sessions
    };
    eventually("the nodes know each other's load", is_settled).await;
    status(node).await
}

fn red(check: &str) -> FromAgent {
    FromAgent::Preflight(v1::Preflight {
        checked_at: 1_800_000_000,
        rows: vec![v1::PreflightRow {
            check: check.to_owned(),
            target: "OU=Staff,DC=corp,DC=example".to_owned(),
            state: v1::PreflightState::Failed.into(),
            detail: "the right is \u{1b}[2Jmissing".to_owned(),
            remedy: "dsacls ...".to_owned(),
            remedy_code: String::new(),
            scope: None,
        }],
        domains: Vec::new(),
    })
}

fn refused(said: &Said, words: &[&str]) {
    assert_eq!(said.status, 1, "{said:?}");
    assert!(words.iter().all(|word| said.err.contains(word)), "{words:?}: {said:?}");
}

#[tokio::test]
async fn every_node_shows_all_nodes_all_sessions_and_what_is_wrong() {
    let mut cluster = Cluster::start(1, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    cluster.add().await;
    let (good, bad) =
        (RawAgent::enrolled(&cluster.nodes[0], &portal).await, RawAgent::enrolled(&cluster.nodes[0], &portal).await);
    let away = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    let pending = RawAgent::pending(&cluster.nodes[0], &portal).await;
    let _first = good.open().await;
    cluster.choose(1);
    let mut second = bad.open().await;
    second.send(red("reset_password")).await;
    eventually("the preflight is known", async || status(&cluster.nodes[0]).await.to_string().contains("dsacls")).await;

    for node in &cluster.nodes {
        let seen = settled(node, 2).await;
        assert_eq!((&seen["tenants"], &seen["portals"]), (&json!(1), &json!(1)));
        let counts = json!({"approved": 3, "online": 2, "pending": 1, "revoked": 0, "versions": {"0.0.0-raw": 2}});
        assert_eq!(seen["agents"], counts);
        for node in seen["nodes"].as_array().unwrap() {
            assert_eq!((&node["version"], &node["sessions"]), (&json!(env!("CARGO_PKG_VERSION")), &json!(1)), "{node}");
        }
        let troubles = seen["troubles"].as_array().unwrap();
        assert_eq!(troubles.len(), 2, "{troubles:?}");
        assert_eq!((&troubles[0]["state"], &troubles[0]["agent"]), (&json!("failed"), &json!(bad.agent)));
        assert_eq!((&troubles[1]["state"], &troubles[1]["agent"]), (&json!("warning"), &json!(away.agent)));
    }

    let cli = at(&cluster.nodes[0]);
    let said = cli.run(&["status"]).await;
    refused(&said, &["one of these fails resets"]);
    let shown = [
        "serving",
        "3 in service, 2 of them connected; 1 waits for approval",
        "reset_password at OU=Staff",
        "in its own words, which nobody has checked: \"dsacls ...\"",
    ];
    assert!(shown.iter().all(|text| said.out.contains(text)), "{}", said.out);
    assert!(!said.out.contains('\u{1b}'), "an agent's text moves the cursor");

    let listed = cli.run(&["sessions"]).await.out;
    assert!([&good, &bad].iter().all(|agent| listed.contains(&agent.agent.to_string())), "{listed}");
    assert!([&away, &pending].iter().all(|agent| !listed.contains(&agent.agent.to_string())), "{listed}");
    assert_eq!(cli.run(&["sessions", "--tenant", TENANT, "--json"]).await.json().as_array().unwrap().len(), 2);
    assert_eq!(cli.run(&["sessions", "--node", "elsewhere", "--json"]).await.json(), json!([]));

    // What is left is no reason to wake anybody: the exit status says so.
    assert_eq!(cli.run(&["agent", "revoke", TENANT, &bad.agent.to_string()]).await.status, 0);
    let said = cli.run(&["status"]).await;
    assert!(said.status == 0 && said.out.contains("warning") && said.out.contains("1 revoked"), "{said:?}");
}

#[tokio::test]
async fn the_node_that_is_named_drains_and_no_other() {
    let mut cluster = Cluster::start(2, Redis::single().await).await;
    let forged = NodeId(ObjectId::new(&System, &System));
    let lease = "{\"name\":\"forged\",\"mark\":\"AAAA\"}";
    cluster.redis.cli(6379, &["SET", &keys::node(forged), lease]);
    cluster.redis.cli(6379, &["HSET", keys::NODES, &forged.0.to_string(), "forged"]);
    eventually("all are known", async || status(&cluster.nodes[0]).await["nodes"].as_array().unwrap().len() == 3).await;
    let cli = at(&cluster.nodes[0]);

    refused(&cli.run(&["drain", "nobody"]).await, &["no node of this name", "test", "forged"]);
    refused(&cli.run(&["drain", "forged"]).await, &["another cluster key"]);
    let (here, there) = (id(&cluster.nodes[0]).await, id(&cluster.nodes[1]).await);
    refused(&cli.run(&["drain", "test"]).await, &["several nodes", &here, &there]);
    let failed = status(&cluster.nodes[0]).await["troubles"][0].to_string();
    assert!(failed.contains(&forged.0.to_string()) && failed.contains("the same cluster key"), "{failed}");

    let said = cli.run(&["drain", &there]).await;
    assert!(said.status == 0 && said.out.contains(&there), "{said:?}");
    assert!(cluster.nodes[1].ended().await.success());
    assert_eq!(cluster.nodes[0].probe("readyz").await, 200);
    // Now the name is one node's alone.
    eventually("it is gone", async || !status(&cluster.nodes[0]).await["nodes"].to_string().contains(&there)).await;
    assert_eq!(cli.run(&["drain", "test"]).await.status, 0);
    assert!(cluster.nodes[0].ended().await.success());
}
