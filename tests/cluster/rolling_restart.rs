//! Every node is replaced, one after the other, while portals go on: no command fails.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use writeback_relay::portal::{Agent, Answer, Portal};
use writeback_relay::protocol::command::Subject;
use writeback_relay::protocol::outcome::Status;
use writeback_relay::protocol::password::Password;

use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::in_process::InProcessAgent;
use crate::support::redis::Redis;
use crate::support::relay::tenant;

const NODES: usize = 3;
const AGENTS: usize = 6;
/// Each with connections of its own, and one reset after the other.
const PORTALS: usize = 4;
/// Resets between one node and the next.
const BETWEEN: usize = 50;

/// How far the portals are, and whether they go on.
#[derive(Default)]
pub(super) struct Load {
    pub(super) stop: AtomicBool,
    done: AtomicUsize,
}

fn accounts() -> Vec<String> {
    (0..24).map(|n| format!("user-{n}@corp.example")).collect()
}

/// The commands that it has sent, when it was told to stop; fails the test if one was not executed.
pub(super) async fn resets(portal: Portal, accounts: &[String], load: &Load) -> BTreeSet<String> {
    let mut sent = BTreeSet::new();
    for (n, account) in accounts.iter().cycle().enumerate() {
        if load.stop.load(Ordering::Relaxed) {
            break;
        }
        let password = Password::new(format!("Pass-Word-{n}")).unwrap();
        let (tenant, subject) = (tenant(), Subject::upn(account).unwrap());
        let begun = Instant::now();
        let wait = Duration::from_secs(30);
        let answer = portal.reset(&tenant, &subject, password, Default::default(), wait).await;
        match answer {
            Ok(Answer::Concluded { outcome, .. }) if outcome.status == Status::Succeeded => {
                assert!(sent.insert(outcome.command.to_string()));
                load.done.fetch_add(1, Ordering::Relaxed);
            }
            other => panic!("reset {n} of {account}, after {:?}: {other:?}", begun.elapsed()),
        }
    }
    sent
}

#[tokio::test]
async fn a_rolling_restart_under_load_fails_no_command() {
    let mut cluster = Cluster::start_with(NODES, Redis::single().await, "").await;
    cluster.spread();
    let portal = cluster.nodes[0].portal("portal-1").await;
    let accounts = accounts();
    let mut agents = Vec::new();
    for n in 0..AGENTS {
        // One with one session, one with two, and so on.
        agents.push(InProcessAgent::running(&cluster.nodes[0], &portal, &accounts, 1 + n % 2).await);
    }
    let load = Load::default();
    let portals = join_all((0..PORTALS).map(|_| resets(portal.another(), &accounts, &load)));
    let restarts = async {
        let begun = Instant::now();
        for node in &mut cluster.nodes {
            let enough = load.done.load(Ordering::Relaxed) + BETWEEN;
            let come = || std::future::ready(load.done.load(Ordering::Relaxed) >= enough);
            eventually("the portals go on", come).await;
            let status = node.terminate().await;
            assert!(status.success(), "{status}: {}", node.log());
            eprintln!("a node went down {:?} after the begin", begun.elapsed());
            node.start_again().await;
        }
        eprintln!("{NODES} nodes were replaced in {:?}", begun.elapsed());
        load.stop.store(true, Ordering::Relaxed);
    };
    let (sent, ()) = tokio::join!(portals, restarts);
    let sent: BTreeSet<String> = sent.into_iter().flatten().collect();
    let executed: Vec<_> = agents.iter().flat_map(InProcessAgent::executed).collect();
    assert!(executed.iter().all(|(_, times)| *times == 1), "{executed:?}");
    let executed: BTreeSet<String> = executed.into_iter().map(|(command, _)| command).collect();
    eprintln!("{} commands, each executed once", sent.len());
    assert_eq!(executed, sent, "one command for each reset, and nothing besides");
    let agents = portal.portal.agents(&tenant()).await.unwrap();
    assert!(agents.iter().all(Agent::usable), "{agents:?}");
}
