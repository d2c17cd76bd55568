//! The store does not do what is needed: `status` shows every node with what is wrong with it, in seconds, and fails; `readyz`
//! has the reason.

use std::time::{Duration, Instant};

use super::status::at;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::raw_agent::RawAgent;
use crate::support::redis::Redis;
use crate::support::relay::Relay;

const PORT: u16 = 6379;
/// What a relay needs, as `keys::ACL` says.
const RIGHTS: &str = "~wb:* &wb:* +@all -@admin -@dangerous +info";

/// Longer takes no answer, whatever the store does.
const BOUND: Duration = Duration::from_secs(15);

/// Two nodes that know each other, one of which has an agent, and whose operator has nothing to complain of.
async fn stage(redis: Redis) -> (Cluster, RawAgent, crate::support::raw_agent::RawSession) {
    let cluster = Cluster::start(2, redis).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    let session = agent.open().await;
    for node in &cluster.nodes {
        well(node).await;
    }
    (cluster, agent, session)
}

/// Both nodes serve, and nothing is wrong.
async fn well(node: &Relay) {
    eventually("nothing is wrong", async || {
        let said = at(node).run(&["status"]).await;
        said.status == 0 && said.out.matches("serving").count() == 2 && said.out.contains("nothing is wrong")
    })
    .await;
    eventually("readyz is content", async || node.readiness().await == (200, "ok".to_owned())).await;
}

/// Every node says of both nodes that no reset can be done, with these words; and `readyz` has these.
async fn ill(cluster: &Cluster, words: &[&str], ready: &[&str]) {
    for node in &cluster.nodes {
        let says = async || {
            let begun = Instant::now();
            let said = at(node).run(&["status"]).await;
            assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
            assert_eq!(said.status, 1, "it says that all is well: {said:?}");
            assert!(!said.out.contains("serving") && said.out.contains("FAILED"), "{said:?}");
            let rows = said.out.lines().filter(|line| line.starts_with("test")).count();
            assert_eq!(rows, 2, "not every node is shown: {said:?}");
            words.iter().all(|word| said.out.contains(word))
        };
        eventually(&format!("status says {words:?}"), says).await;
        eventually(&format!("readyz says {ready:?}"), async || {
            let said = node.readiness().await.1;
            ready.iter().all(|word| said.contains(word))
        })
        .await;
        let json = at(node).run(&["status", "--json"]).await;
        assert_eq!((json.status, json.json()["nodes"].as_array().unwrap().len()), (1, 2), "{json:?}");
        let failed = |trouble: &serde_json::Value| trouble["state"] == "failed" && trouble["remedy_code"].is_string();
        assert!(json.json()["troubles"].as_array().unwrap().iter().any(failed), "{json:?}");
    }
}

#[tokio::test]
async fn while_the_store_is_stopped_each_node_says_so_of_itself_and_that_it_does_not_know_the_others() {
    let (cluster, _agent, _session) = stage(Redis::single().await).await;
    cluster.redis.kill(PORT).await;
    // The very first question finds it out, too.
    let said = at(&cluster.nodes[0]).run(&["status"]).await;
    assert!(said.status == 1 && said.out.contains("does not answer"), "{said:?}");
    let words = [
        "does no resets: redis does not answer",
        "not known now",
        "how the other nodes are is not known",
        "ask each of them itself",
        "not known now\n",
        "look whether it runs and can be reached",
    ];
    ill(&cluster, &words, &["redis does not answer"]).await;
}

#[tokio::test]
async fn a_store_that_hangs_costs_the_operator_seconds() {
    let (cluster, _agent, _session) = stage(Redis::single().await).await;
    cluster.redis.freeze(PORT);
    let begun = Instant::now();
    let said = at(&cluster.nodes[1]).run(&["status"]).await;
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    assert!(said.status == 1 && !said.out.contains("serving"), "{said:?}");
    ill(&cluster, &["redis does not answer", "how the other nodes are is not known"], &["redis does not answer"]).await;
    cluster.redis.thaw(PORT);
    for node in &cluster.nodes {
        well(node).await;
    }
}

#[tokio::test]
async fn a_read_only_store_is_every_nodes_trouble() {
    let (cluster, _agent, _session) = stage(Redis::with_a_replica().await).await;
    let replica = cluster.redis.addr(6380);
    cluster.redis.cli(PORT, &["REPLICAOF", &replica.ip().to_string(), "6380"]);
    ill(&cluster, &["does no resets: redis is a read-only replica", "REPLICAOF NO ONE"], &["read-only replica"]).await;
    cluster.redis.cli(PORT, &["REPLICAOF", "NO", "ONE"]);
    for node in &cluster.nodes {
        well(node).await;
    }
}

#[tokio::test]
async fn whatever_the_acl_takes_away_is_found_and_named() {
    let redis = Redis::single_with_user("a-password", RIGHTS).await;
    let (cluster, _agent, _session) = stage(redis).await;
    for (rights, word) in
        [("-spublish", "spublish"), ("-hset", "hset"), ("-@scripting", "eval"), ("-@hash", "h"), ("-psetex", "psetex")]
    {
        cluster.redis.cli(PORT, &["ACL", "SETUSER", "relay", rights]);
        let words = ["does no resets: redis refuses a command to the relay's user", word, "ACL SETUSER NAME"];
        ill(&cluster, &words, &["redis refuses a command", word, "ACL SETUSER NAME"]).await;
        cluster.redis.cli(PORT, &["ACL", "SETUSER", "relay", "+@all", "-@admin", "-@dangerous", "+info"]);
        for node in &cluster.nodes {
            well(node).await;
        }
    }
}

#[tokio::test]
async fn a_channel_that_may_not_be_subscribed_to_is_named_with_the_servers_words() {
    let redis = Redis::single_with_user("a-password", RIGHTS).await;
    let (cluster, _agent, _session) = stage(redis).await;
    // In the second case what the node says to itself is refused, too: as with a store that is away, no node would do better.
    for (rights, ready) in
        [(&["-ssubscribe"][..], "its own messages"), (&["resetchannels", "&elsewhere:*"], "ok; redis refuses")]
    {
        cluster.redis.cli(PORT, &[&["ACL", "SETUSER", "relay"], rights].concat());
        cluster.redis.cli(PORT, &["CLIENT", "KILL", "TYPE", "pubsub"]);
        let words = ["redis refuses a command to the relay's user", "NAME"];
        ill(&cluster, &words, &[ready, "NAME"]).await;
        cluster.redis.cli(PORT, &["ACL", "SETUSER", "relay", "+ssubscribe", "resetchannels", "&wb:*"]);
        for node in &cluster.nodes {
            well(node).await;
        }
    }
}

#[tokio::test]
async fn a_node_that_is_deaf_is_shown_by_the_others_too() {
    let redis = Redis::single_with_user("a-password", RIGHTS).await;
    let (cluster, _agent, _session) = stage(redis).await;
    cluster.redis.cli(PORT, &["ACL", "SETUSER", "relay", "-ssubscribe"]);
    cluster.redis.cli(PORT, &["CLIENT", "KILL", "TYPE", "pubsub"]);
    for node in &cluster.nodes {
        eventually("both are deaf", async || {
            let said = at(node).run(&["status"]).await;
            said.out.matches("its own messages do not reach it").count() >= 4
        })
        .await;
    }
}
