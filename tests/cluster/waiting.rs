//! A node that starts while its Redis is away: it lives, says why it is not ready, and serves when Redis comes. What an
//! operator has to change ends it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use writeback_relay::storage::PrivateFile;

use crate::support::cli::Cli;
use crate::support::hosts::Hosts;
use crate::support::redis::{MASTER, Redis};
use crate::support::relay::{Relay, TENANT};
use crate::support::{deadline, eventually, own_address};

/// The one node of a cluster that comes up as its Redis lets it.
struct Stage {
    redis: Redis,
    public: Ipv4Addr,
    folder: TempDir,
}

impl Stage {
    fn new(redis: Redis) -> Self {
        let folder = tempfile::tempdir().unwrap();
        PrivateFile::new(folder.path().join("key")).replace("a key that all nodes of this cluster share").unwrap();
        Self { redis, public: own_address(), folder }
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    fn node_with(&self, before: &str, settings: &str) -> Relay {
        let settings = format!("store = \"redis\"\n{settings}");
        Relay::beginning(before, self.public, self.folder.path().join("data"), &settings)
    }

    fn node(&self) -> Relay {
        self.node_with("", &self.redis.settings(&self.key()))
    }
}

/// What `/readyz` says of why the node waits, once it has to do with this.
async fn waits_for(node: &Relay, reason: &str) -> String {
    let said = Mutex::new(String::new());
    eventually(&format!("it waits: {reason}"), async || {
        let Some((status, text)) = node.readiness_or_none().await else { return false };
        assert_ne!(status, 200, "it serves: {text}");
        let waits = text.contains("the node waits for its store") && text.contains(reason);
        *said.lock().unwrap() = text;
        waits
    })
    .await;
    assert_eq!(node.probe("livez").await, 200, "kubelet would kill it");
    said.into_inner().unwrap()
}

#[tokio::test]
async fn a_node_that_starts_while_redis_is_away_lives_says_why_it_waits_and_serves_when_redis_comes() {
    let stage = Stage::new(Redis::single().await);
    stage.redis.kill(6379).await;
    let mut node = stage.node();
    let said = waits_for(&node, "refused").await;
    assert!(said.contains("store_unavailable") && said.contains("redis.urls"), "{said}");
    let said_in_log = || node.log().matches("the node waits for its store, and is not ready").count();
    assert_eq!(said_in_log(), 1, "{}", node.log());

    // Nobody is let in, and nobody is left in a queue.
    let refused = TcpStream::connect_timeout(&node.own_addr(), Duration::from_secs(10)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let metrics = node.metrics().await;
    assert!(metrics.lines().any(|line| line == "writeback_ready 0"), "{metrics}");

    let mut cli = Cli::new(env!("CARGO_BIN_EXE_writeback-relay"), &[]);
    cli.set("WRITEBACK_OPS_URL", &node.ops_url());
    cli.set("WRITEBACK_ADMIN_TOKEN_FILE", &node.data_dir().join("admin.token").display().to_string());
    let ready = cli.run(&["ready"]).await;
    assert_eq!((ready.status, ready.out.as_str(), ready.err.lines().count()), (1, "", 1), "{ready:?}");
    assert!(ready.err.contains("not ready: ") && ready.err.contains("refused"), "{ready:?}");
    assert_eq!(cli.run(&["ready"]).await.err, ready.err, "whoever counts its words could not");
    let status = cli.run(&["status"]).await;
    assert!(status.status == 1 && status.err.contains("the node waits for its store"), "{status:?}");

    let pid = node.pid();
    stage.redis.start_again(6379).await;
    node.ready().await;
    assert_eq!((node.pid(), node.has_ended()), (pid, None));
    node.admin().add_tenant(TENANT.parse().unwrap()).await.unwrap();
    TcpStream::connect_timeout(&node.own_addr(), Duration::from_secs(10)).unwrap();
    assert!(node.log().contains("the node has its store"));
    assert!(node.terminate().await.success());
}

#[tokio::test]
async fn one_that_waits_ends_at_once_and_well_when_it_is_asked_to() {
    let stage = Stage::new(Redis::single().await);
    stage.redis.kill(6379).await;
    let mut node = stage.node();
    waits_for(&node, "refused").await;
    let asked = Instant::now();
    assert!(deadline("it ends", node.terminate()).await.success(), "{}", node.log());
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    // The next one is not in its way.
    let again = stage.node();
    waits_for(&again, "refused").await;
}

#[tokio::test]
async fn a_name_that_is_not_there_yet_is_waited_for() {
    let stage = Stage::new(Redis::single().await);
    let hosts = Hosts::of("other.example", &[]);
    let mount = format!("mount --bind {} /etc/hosts && exec \"$0\" \"$@\"", hosts.file());
    let before = format!("exec unshare --mount --propagation private sh -c '{mount}' \"$0\" \"$@\"; ");
    let urls = vec!["redis://redis.waiting.invalid:6379".to_owned()];
    let node = stage.node_with(&before, &stage.redis.settings_through(urls, &stage.key()));
    waits_for(&node, "redis.waiting.invalid").await;
    std::fs::write(hosts.file(), format!("{} redis.waiting.invalid\n", stage.redis.addr(6379).ip())).unwrap();
    node.ready().await;
}

#[tokio::test]
async fn a_server_that_reads_its_data_is_waited_for() {
    // Meanwhile it answers after each 1024 keys.
    const KEYS: &str = "for n = 1, 12000 do redis.call('SET', 'key' .. n, n) end";
    let stage = Stage::new(Redis::single_with("appendonly yes\nappendfsync always\nkey-load-delay 500").await);
    stage.redis.cli(6379, &["EVAL", KEYS, "0"]);
    stage.redis.kill(6379).await;
    let node = stage.node();
    waits_for(&node, "refused").await;
    stage.redis.start_again(6379).await;
    node.ready().await;
    let log = node.log();
    let waited = log.lines().filter(|line| line.contains("the node waits for its store"));
    assert!(waited.filter(|line| line.contains("is loading the dataset")).count() > 0, "{log}");
}

#[tokio::test]
async fn a_server_that_takes_no_writes_yet_is_waited_for() {
    let stage = Stage::new(Redis::single().await);
    stage.redis.cli(6379, &["CONFIG", "SET", "maxmemory", "1"]);
    let node = stage.node();
    waits_for(&node, "OOM").await;
    stage.redis.cli(6379, &["CONFIG", "SET", "maxmemory", "0"]);
    node.ready().await;
}

#[tokio::test]
async fn a_server_that_says_nothing_is_waited_for() {
    let stage = Stage::new(Redis::single().await);
    stage.redis.freeze(6379);
    let node = stage.node();
    waits_for(&node, " in time").await;
    stage.redis.thaw(6379);
    node.ready().await;
}

#[tokio::test]
async fn a_master_that_no_sentinel_knows_yet_and_one_that_is_away_are_waited_for() {
    let stage = Stage::new(Redis::sentinel().await);
    let settings = stage.redis.settings(&stage.key());
    let settings = settings.replace(&format!("\"{MASTER}\""), "\"another\"");
    let early = stage.node_with("", &settings);
    waits_for(&early, "redis.master_name").await;
    for sentinel in stage.redis.ports().into_iter().filter(|port| *port > 26000) {
        let address = stage.redis.addr(6379).ip().to_string();
        stage.redis.cli(sentinel, &["SENTINEL", "MONITOR", "another", &address, "6379", "1"]);
    }
    early.ready().await;
}

#[tokio::test]
async fn a_cluster_that_is_away_is_waited_for() {
    let stage = Stage::new(Redis::cluster().await);
    let ports = stage.redis.ports();
    for port in &ports {
        stage.redis.kill(*port).await;
    }
    let node = stage.node();
    waits_for(&node, "refused").await;
    for port in &ports {
        stage.redis.start_again(*port).await;
    }
    node.ready().await;
}

#[tokio::test]
async fn what_an_operator_has_to_change_ends_it_with_its_sentence_at_the_start_and_after_it_has_waited() {
    let rights = writeback_relay::relay::redis::keys::ACL.strip_prefix("ACL SETUSER NAME ").unwrap();
    let stage = Stage::new(Redis::single_with_user("the-password", rights).await);
    let settings = stage.redis.settings(&stage.key());
    // In the same file.
    stage.redis.password_file("wrong");
    let ended = async |mut node: Relay| {
        assert!(!node.ended().await.success());
        let log = node.log();
        let last = log.lines().last().unwrap_or_default();
        assert!(last.contains("redis.password_file"), "{log}");
    };
    ended(stage.node_with("", &settings)).await;
    stage.redis.kill(6379).await;
    let node = stage.node_with("", &settings);
    waits_for(&node, "refused").await;
    stage.redis.start_again(6379).await;
    ended(node).await;
}
