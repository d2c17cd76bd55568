//! Redis answers and takes no writes: everything that needs none goes on, rights are taken away as far as Redis lets anybody,
//! all else is refused at once with its cause, and all heals by itself.

use std::time::{Duration, Instant};

use writeback_relay::portal::Answer;
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::command::{Options, Subject};
use writeback_relay::protocol::frame::CloseReason;
use writeback_relay::protocol::password::Password;

use super::{JANE, NEW, conclude};
use crate::support::cli::Cli;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::raw_agent::RawAgent;
use crate::support::redis::Redis;
use crate::support::relay::{Answered, Relay, TENANT, TestPortal, tenant};

const PORT: u16 = 6379;

fn at(node: &Relay) -> Cli {
    let mut cli = Cli::new(env!("CARGO_BIN_EXE_writeback-relay"), &[]);
    cli.set("WRITEBACK_OPS_URL", &node.ops_url());
    cli.set("WRITEBACK_ADMIN_TOKEN_FILE", &node.data_dir().join("admin.token").display().to_string());
    cli
}

/// Another client fills this server, with values of a megabyte, and then with smaller ones.
fn fill(redis: &Redis, port: u16) {
    for bytes in ["1000000", "10000", "100"] {
        for n in 0.. {
            let key = format!("filler:{bytes}:{n}");
            let set = "return redis.call('SET', KEYS[1], string.rep('x', ARGV[1]))";
            let said = redis.cli(port, &["EVAL", set, "1", &key, bytes]);
            if said.contains("OOM") {
                break;
            }
            assert!(said.contains("OK"), "{said}");
        }
    }
}

/// Every node says this, and serves as far as it can.
async fn all_say(cluster: &Cluster, text: &str) {
    for node in &cluster.nodes {
        eventually(&format!("readyz says {text}"), async || {
            let (status, said) = node.readiness().await;
            assert_eq!(status, 200, "{said}");
            said.contains(text)
        })
        .await;
    }
}

/// Nothing was stored, and the answer says so.
fn not_writable(answered: &Answered) {
    assert_eq!((answered.status, answered.problem().as_str()), (503, "store_not_writable"), "{}", answered.text());
    assert!(answered.headers.contains_key("retry-after"));
}

async fn refused_at_once(portal: &TestPortal, agent: &RawAgent) {
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let begun = Instant::now();
    not_writable(&portal.raw.submit(&jws, 30).await);
    // So does whoever has a portal of this make, who hears that nothing was done.
    let subject = Subject::upn(JANE).unwrap();
    let password = Password::new(NEW.to_owned()).unwrap();
    let wait = Duration::from_secs(30);
    let answer = portal.portal.reset(&tenant(), &subject, password, Options::default(), wait).await.unwrap();
    assert!(matches!(&answer, Answer::Undeliverable { reason, .. } if reason == "store_not_writable"), "{answer:?}");
    assert!(answer.for_people(TENANT).contains("a new command may be sent: yes"), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn in_a_full_redis_rights_are_taken_away_and_all_else_is_refused_at_once_until_there_is_room() {
    let redis = Redis::single_with("maxmemory 32mb\nmaxmemory-policy noeviction").await;
    let cluster = Cluster::start(2, redis).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let other = cluster.nodes[0].portal("portal-2").await;
    let (good, bad) =
        (RawAgent::enrolled(&cluster.nodes[0], &portal).await, RawAgent::enrolled(&cluster.nodes[0], &portal).await);
    cluster.choose(1);
    let (mut session, mut dropped) = (good.open().await, bad.open().await);
    cluster.choose(0);
    all_say(&cluster, "ok").await;

    fill(&cluster.redis, PORT);
    all_say(&cluster, "redis has reached its maxmemory").await;
    refused_at_once(&portal, &good).await;
    assert!(cluster.nodes[0].metrics().await.contains("writeback_store_writable 0"));
    assert!(cluster.nodes[0].log().contains("out_of_memory"), "the log has the cause");
    assert_eq!(portal.portal.agents(&tenant()).await.unwrap().len(), 2);
    assert!(portal.portal.availability(&tenant()).await.unwrap().available);
    // The nodes go on knowing each other.
    cluster.redis.cli(
        PORT,
        &["EVAL", "for _, key in ipairs(redis.call('KEYS', 'wb:node:*')) do redis.call('DEL', key) end", "0"],
    );
    let leases = async || cluster.redis.cli(PORT, &["KEYS", "wb:node:*"]).lines().count() == 2;
    eventually("the leases are renewed", leases).await;

    let cli = at(&cluster.nodes[0]);
    let said = cli.run(&["status"]).await;
    assert!(said.status == 1 && said.out.contains("redis has reached its maxmemory"), "{said:?}");
    assert!(said.out.contains("raise maxmemory"), "what to do: {said:?}");
    let said = cli.run(&["tenant", "add", "fabrikam"]).await;
    assert!(said.status == 1 && said.err.contains("raise maxmemory"), "the operator is told the cause: {said:?}");
    assert_eq!(cli.run(&["agent", "revoke", TENANT, &bad.agent.to_string()]).await.status, 0);
    assert_eq!(dropped.closed().await.0, CloseReason::Revoked.code());
    assert_eq!(cli.run(&["portal", "remove", "portal-2"]).await.status, 0);
    assert!(other.portal.agents(&tenant()).await.is_err());
    assert_eq!(cli.run(&["agent", "forget", TENANT, &bad.agent.to_string()]).await.status, 0);
    assert_eq!(cli.run(&["sessions", "--json"]).await.json().as_array().unwrap().len(), 1);

    cluster.redis.cli(
        PORT,
        &["EVAL", "for _, key in ipairs(redis.call('KEYS', 'filler:*')) do redis.call('DEL', key) end", "0"],
    );
    for node in &cluster.nodes {
        eventually("there is room", async || node.readiness().await == (200, "ok".to_owned())).await;
    }
    assert!(cluster.nodes[0].metrics().await.contains("writeback_store_writable 1"));
    let (_, jws) = portal.raw.reset(good.agent, good.sealing.public(), JANE, NEW);
    let (answered, _) = tokio::join!(portal.raw.submit(&jws, 20), conclude(&good, &mut session));
    assert_eq!(answered.json::<CommandView>().state, CommandState::Concluded);
}

/// What breaks it, what mends it, and what is said meanwhile: the cause, and what to do.
type Case<'a> = (&'a dyn Fn(), &'a dyn Fn(), &'static str, &'static str);

#[tokio::test]
async fn a_redis_that_takes_no_writes_is_named_with_its_cause_and_heals_by_itself() {
    let settings = "save 3600 1000000\ndbfilename occupied.rdb\nreplica-serve-stale-data yes";
    let cluster = Cluster::start(1, Redis::single_with(settings).await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    let _session = agent.open().await;
    let redis = &cluster.redis;
    let occupied = redis.ca_file().with_file_name("occupied.rdb");
    let snapshot_fails = || {
        std::fs::create_dir_all(occupied.join("by a folder")).unwrap();
        redis.cli(PORT, &["BGSAVE"]);
    };
    let snapshot_succeeds = || {
        std::fs::remove_dir_all(&occupied).unwrap();
        redis.cli(PORT, &["BGSAVE"]);
    };
    let replicas = |count: &str| drop(redis.cli(PORT, &["CONFIG", "SET", "min-replicas-to-write", count]));
    // Nobody listens there.
    let follows = || drop(redis.cli(PORT, &["REPLICAOF", "127.0.0.1", "1"]));
    let leads = || drop(redis.cli(PORT, &["REPLICAOF", "NO", "ONE"]));
    let cases: [Case<'_>; 3] = [
        (&snapshot_fails, &snapshot_succeeds, "redis can't write to its own disk", "look at the log of Redis"),
        (
            &|| replicas("1"),
            &|| replicas("0"),
            "fewer replicas than its min-replicas-to-write",
            "bring its replicas back",
        ),
        (&follows, &leads, "redis is a read-only replica", "let the node's urls name the master"),
    ];
    for (breaks, mends, cause, remedy) in cases {
        breaks();
        all_say(&cluster, cause).await;
        refused_at_once(&portal, &agent).await;
        assert_eq!(portal.portal.agents(&tenant()).await.unwrap().len(), 1);
        let cli = at(&cluster.nodes[0]);
        let said = cli.run(&["status"]).await;
        assert!(said.status == 1 && said.out.contains(cause) && said.out.contains(remedy), "{said:?}");
        // Nobody can have it stored, and the operator is told why.
        let said = cli.run(&["agent", "revoke", TENANT, &agent.agent.to_string()]).await;
        assert!(said.status == 1 && said.err.contains(remedy), "{said:?}");
        mends();
        eventually("it takes writes", async || cluster.nodes[0].readiness().await == (200, "ok".to_owned())).await;
        let said = cli.run(&["tenant", "add", "fabrikam"]).await;
        assert_eq!(said.status, 0, "{said:?}");
    }
}

#[tokio::test]
async fn whoever_waits_for_an_agent_to_come_back_hears_at_once_that_no_more_is_stored() {
    let cluster = Cluster::start(1, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    drop(agent.open().await);
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let waiting = portal.raw.submit(&jws, 30);
    let fills = async {
        eventually("it waits", async || cluster.nodes[0].metrics().await.contains("writeback_commands_in_flight 1"))
            .await;
        cluster.redis.cli(PORT, &["CONFIG", "SET", "min-replicas-to-write", "1"]);
        Instant::now()
    };
    let (answered, full) = tokio::join!(waiting, fills);
    not_writable(&answered);
    assert!(full.elapsed() < Duration::from_secs(5), "{:?}", full.elapsed());
}

#[tokio::test]
async fn one_full_master_of_a_cluster_is_noticed() {
    let cluster = Cluster::start(1, Redis::cluster().await).await;
    all_say(&cluster, "ok").await;
    cluster.redis.cli(7002, &["CONFIG", "SET", "maxmemory", "1"]);
    all_say(&cluster, "redis has reached its maxmemory").await;
    cluster.redis.cli(7002, &["CONFIG", "SET", "maxmemory", "0"]);
    eventually("there is room", async || cluster.nodes[0].readiness().await == (200, "ok".to_owned())).await;
}
