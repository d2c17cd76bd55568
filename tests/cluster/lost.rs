//! The registry came back empty, or older: nobody is told that he is unknown, the operator is told what is wrong, and it is
//! as it was when he has restored it.

use serde_json::Value;
use tokio_tungstenite::tungstenite::Error;
use writeback_relay::clock::System;
use writeback_relay::portal::Told;
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::command::Command;
use writeback_relay::protocol::frame::{FromRelay, SUBPROTOCOL};
use writeback_relay::protocol::ids::AgentId;
use writeback_relay::protocol::outcome::Code;
use writeback_relay::protocol::problem::Problem;
use writeback_relay::relay::redis::keys;
use writeback_relay::relay::registry::Part;

use super::status::at;
use super::{JANE, NEW};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::redis::Redis;
use crate::support::relay::{Relay, TestPortal, tenant};

const PORT: u16 = 6379;

/// Two nodes, a portal, and an agent that is connected to the second one.
struct Stage {
    cluster: Cluster,
    portal: TestPortal,
    agent: RawAgent,
    session: RawSession,
}

impl Stage {
    async fn new(redis: Redis) -> Self {
        let cluster = Cluster::start(2, redis).await;
        let portal = cluster.nodes[0].portal("portal-1").await;
        let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
        cluster.choose(1);
        let session = agent.open().await;
        let stage = Self { cluster, portal, agent, session };
        for node in &stage.cluster.nodes {
            eventually("the registry was seen", async || node.metrics().await.contains("writeback_registry_tenants 1"))
                .await;
            whole(node).await;
        }
        stage
    }

    fn backup(&self) -> String {
        let file = self.cluster.nodes[0].data_dir().join("registry.json").display().to_string();
        assert!(self.cluster.nodes[0].operator(&["registry", "export", &file]));
        file
    }

    /// What a portal is answered at this node.
    async fn portals_answer(&self, node: usize) -> String {
        self.cluster.choose(node);
        let (_, jws) = self.portal.raw.reset(self.agent.agent, self.agent.sealing.public(), JANE, NEW);
        let answered = self.portal.raw.submit(&jws, 0).await;
        if answered.status < 400 {
            return "taken".to_owned();
        }
        let code = answered.problem();
        assert_eq!(code == "registry_lost", answered.status == 503 && answered.headers.contains_key("retry-after"));
        code
    }

    /// What an agent is answered that opens a session at this node.
    async fn agents_answer(&self, node: usize) -> String {
        self.cluster.choose(node);
        let bearer = self.agent.assertion().sign(&self.agent.signing).unwrap();
        let Err(Error::Http(refused)) = self.agent.upgrade(&bearer, SUBPROTOCOL).await else {
            return "opened".to_owned();
        };
        let problem: Problem = serde_json::from_slice(refused.body().as_ref().unwrap()).unwrap();
        assert!(problem.status != 503 || refused.headers().contains_key("retry-after"));
        problem.code.into_data()
    }

    /// Every node knows it, tells everybody who is to hear it, and goes on.
    async fn is_lost(&self, words: &str) {
        for (n, node) in self.cluster.nodes.iter().enumerate() {
            lost(node, words).await;
            eventually("a portal is not told that it is unknown", async || {
                let answer = self.portals_answer(n).await;
                // What the node remembers of it holds for some seconds.
                assert!(["registry_lost", "taken", "no_agent", "store_unavailable"].contains(&&*answer), "{answer}");
                answer == "registry_lost"
            })
            .await;
            assert_eq!(self.agents_answer(n).await, "registry_lost");
        }
    }

    async fn restored(&self, backup: &str) {
        assert!(self.cluster.nodes[0].operator(&["registry", "import", backup]));
        for node in &self.cluster.nodes {
            whole(node).await;
        }
    }

    /// A reset by way of this node is done. The agent's session has been open all the time, or is opened anew.
    async fn serves(&mut self, node: usize) {
        self.cluster.choose(node);
        eventually("the agent is seen", async || {
            self.portal.portal.availability(&tenant()).await.is_ok_and(|said| said.available)
        })
        .await;
        let (_, jws) = self.portal.raw.reset(self.agent.agent, self.agent.sealing.public(), JANE, NEW);
        let (agent, session) = (&self.agent, &mut self.session);
        // It may have been asked for other things before.
        let answering = async {
            loop {
                if let FromRelay::Deliver(delivery) = session.next().await {
                    let asked = Command::parse(&delivery.command_jws).unwrap().unverified().unwrap();
                    session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
                }
            }
        };
        tokio::select! {
            answered = self.portal.raw.submit(&jws, 30) => {
                assert_eq!(answered.status, 200, "{}", answered.text());
                assert_eq!(answered.json::<CommandView>().state, CommandState::Concluded);
            }
            () = answering => unreachable!(),
        }
    }
}

/// The node tells the operator, wherever he looks.
async fn lost(node: &Relay, words: &str) {
    eventually("readyz says it", async || {
        let (status, said) = node.readiness().await;
        assert_eq!(status, 200, "no other node would do better: {said}");
        said.contains("the registry is lost") && said.contains(words)
    })
    .await;
    assert!(node.metrics().await.contains("writeback_registry_lost 1"));
    let said = at(node).run(&["status"]).await;
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.out.contains("FAILED   the registry is lost") && said.out.contains(words), "{}", said.out);
    assert!(
        said.out.contains("registry import") && said.out.contains("does no resets: the registry is lost"),
        "{said:?}"
    );
    assert!(!said.out.contains("serving") && !said.out.contains("nothing is wrong"), "{said:?}");
}

/// What its folder says that it has seen.
fn seen(node: &Relay) -> Value {
    let text = std::fs::read_to_string(node.data_dir().join("registry-seen.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Nothing is missed at the node.
async fn whole(node: &Relay) {
    eventually("the node misses nothing", async || {
        let metrics = node.metrics().await;
        let (_, said) = node.readiness().await;
        metrics.contains("writeback_registry_lost 0") && said == "ok"
    })
    .await;
}

#[tokio::test]
async fn after_flushall_nobody_is_told_that_he_is_unknown_and_an_import_heals_it_at_every_node() {
    let mut stage = Stage::new(Redis::single().await).await;
    let backup = stage.backup();
    stage.cluster.redis.flush();
    stage.is_lost("came back empty").await;
    // A node that has never seen it is told by the others, by way of the store; and so is one that forgets what it saw.
    let folder = tempfile::tempdir().unwrap();
    stage.cluster.add_in(folder.path().join("data")).await;
    lost(&stage.cluster.nodes[2], "came back empty").await;
    // Its certificate is its own.
    drop(stage.cluster.nodes.pop());
    for node in &mut stage.cluster.nodes {
        node.kill();
        std::fs::remove_file(node.data_dir().join("registry-seen.json")).ok();
    }
    for node in &mut stage.cluster.nodes {
        node.start_again().await;
    }
    stage.is_lost("came back empty").await;
    stage.restored(&backup).await;
    stage.cluster.choose(0);
    stage.session = stage.agent.open().await;
    for node in 0..2 {
        stage.serves(node).await;
    }
}

#[tokio::test]
async fn an_operator_who_means_it_says_so_once_and_every_node_takes_it() {
    let stage = Stage::new(Redis::single().await).await;
    stage.cluster.redis.flush();
    stage.is_lost("came back empty").await;
    // A tenant that is added by hand makes no other registry of it.
    assert!(stage.cluster.nodes[0].operator(&["tenant", "add", "fabrikam"]));
    lost(&stage.cluster.nodes[1], "not the one").await;
    let said = at(&stage.cluster.nodes[1]).run(&["registry", "accept"]).await;
    assert!(said.status == 0 && said.out.contains("by every node"), "{said:?}");
    for (n, node) in stage.cluster.nodes.iter().enumerate() {
        whole(node).await;
        assert_eq!(stage.portals_answer(n).await, "invalid_assertion");
        assert_eq!(stage.agents_answer(n).await, "unknown_agent");
    }
    let said = at(&stage.cluster.nodes[0]).run(&["registry", "accept"]).await;
    assert!(said.status == 0 && said.out.contains("nothing was lost"), "{said:?}");
    // An empty one is accepted, too.
    stage.cluster.redis.flush();
    lost(&stage.cluster.nodes[0], "came back empty").await;
    assert_eq!(at(&stage.cluster.nodes[0]).run(&["registry", "accept"]).await.status, 0);
    for node in &stage.cluster.nodes {
        whole(node).await;
    }
}

#[tokio::test]
async fn what_was_lost_while_no_node_ran_is_known_by_the_folder_of_each() {
    let mut stage = Stage::new(Redis::single().await).await;
    let backup = stage.backup();
    for node in &mut stage.cluster.nodes {
        node.kill();
    }
    stage.cluster.redis.kill(PORT).await;
    stage.cluster.redis.start_again(PORT).await;
    for node in &mut stage.cluster.nodes {
        node.start_again().await;
    }
    stage.is_lost("came back empty").await;
    stage.restored(&backup).await;
    stage.cluster.choose(0);
    stage.session = stage.agent.open().await;
    stage.serves(1).await;
}

#[tokio::test]
async fn a_replica_that_has_nothing_takes_the_masters_place_and_everybody_knows() {
    let mut stage = Stage::new(Redis::sentinel().await).await;
    let backup = stage.backup();
    let redis = &stage.cluster.redis;
    for replica in [6380, 6381] {
        redis.cli(replica, &["CONFIG", "SET", "replica-read-only", "no"]);
        assert!(redis.cli(replica, &["FLUSHALL"]).contains("OK"));
        redis.cli(replica, &["CONFIG", "SET", "replica-read-only", "yes"]);
    }
    redis.kill(PORT).await;
    stage.is_lost("came back empty").await;
    stage.restored(&backup).await;
    stage.serves(0).await;
}

#[tokio::test]
async fn another_database_is_another_registry_and_the_right_one_is_taken_without_a_word() {
    let mut stage = Stage::new(Redis::single().await).await;
    stage.cluster.redis.cli(PORT, &["SWAPDB", "0", "1"]);
    stage.is_lost("came back empty").await;
    stage.cluster.redis.cli(PORT, &["SWAPDB", "0", "1"]);
    for node in &stage.cluster.nodes {
        whole(node).await;
    }
    stage.serves(0).await;
}

#[tokio::test]
async fn an_older_copy_serves_those_whom_it_knows_and_is_older_whatever_is_changed_in_it() {
    let mut stage = Stage::new(Redis::single().await).await;
    stage.cluster.redis.cli(PORT, &["SAVE"]);
    let late = stage.cluster.nodes[0].portal("portal-2").await;
    let backup = stage.backup();
    for node in &stage.cluster.nodes {
        eventually("the node has seen it", async || seen(node)["portals"]["revision"] == 2).await;
    }
    stage.cluster.redis.kill(PORT).await;
    stage.cluster.redis.start_again(PORT).await;
    for node in &stage.cluster.nodes {
        lost(node, "older copy").await;
    }
    let refused = |node| {
        stage.cluster.choose(node);
        let (_, jws) = late.raw.reset(stage.agent.agent, stage.agent.sealing.public(), JANE, NEW);
        let late = late.raw.clone();
        async move { late.submit(&jws, 0).await.problem() }
    };
    for node in 0..2 {
        // The second node may remember it for some seconds.
        eventually("it is refused", async || refused(node).await == "registry_lost").await;
    }
    // It grows, and is not what it was all the same.
    for name in ["portal-3", "portal-4", "portal-5"] {
        stage.cluster.nodes[1].portal(name).await;
    }
    for (n, node) in stage.cluster.nodes.iter().enumerate() {
        lost(node, "older copy").await;
        assert_eq!(refused(n).await, "registry_lost");
    }
    stage.serves(0).await;
    stage.restored(&backup).await;
    stage.cluster.choose(1);
    assert!(late.portal.availability(&tenant()).await.unwrap().available);
}

#[tokio::test]
async fn in_a_cluster_each_part_can_be_lost_alone() {
    let stage = Stage::new(Redis::cluster().await).await;
    let backup = stage.backup();
    let redis = &stage.cluster.redis;
    let master = |part: &Part| redis.master_of(7001, &keys::records(part));
    let agents = master(&Part::Agents(tenant()));
    assert!(agents != master(&Part::Portals) && agents != master(&Part::Tenants), "contoso has another server");
    redis.kill(agents).await;
    redis.start_again(agents).await;
    for (n, node) in stage.cluster.nodes.iter().enumerate() {
        lost(node, "the agents of contoso").await;
        eventually("no agent is told that it is unknown", async || stage.agents_answer(n).await == "registry_lost")
            .await;
        eventually("no portal is told that it has no agents", async || {
            let refused = stage.portal.portal.agents(&tenant()).await.err().map(|error| error.to_string());
            refused.is_some_and(|refused| refused.contains("registry_lost"))
        })
        .await;
        eventually("nor that its agent is unknown", async || stage.portals_answer(n).await == "registry_lost").await;
    }
    stage.restored(&backup).await;
    // Its sessions are known again, and it can be revoked.
    stage.cluster.choose(0);
    assert!(matches!(stage.portal.portal.revoke(&tenant(), stage.agent.agent).await.unwrap(), Told::Yes));

    redis.kill(master(&Part::Portals)).await;
    redis.start_again(master(&Part::Portals)).await;
    for (n, node) in stage.cluster.nodes.iter().enumerate() {
        lost(node, "registry is lost").await;
        eventually("a portal is lost", async || stage.portals_answer(n).await == "registry_lost").await;
    }
    stage.restored(&backup).await;
}

#[tokio::test]
async fn a_registry_file_that_is_gone_is_missed_by_its_folder_and_by_the_ledger_beside_it() {
    for forgetful in [false, true] {
        let mut relay = Relay::start().await;
        let portal = relay.portal("portal-1").await;
        let backup = relay.data_dir().join("registry.json").display().to_string();
        assert!(relay.operator(&["registry", "export", &backup]));
        eventually("it was seen", async || seen(&relay)["portals"]["revision"] == 1).await;
        relay.kill();
        std::fs::remove_file(relay.data_dir().join("registry.redb")).unwrap();
        if forgetful {
            std::fs::remove_file(relay.data_dir().join("registry-seen.json")).unwrap();
        }
        relay.start_again().await;
        lost(&relay, "came back empty").await;
        let claims = portal.raw.command(AgentId::new(&System, &System), JANE);
        let submit = async || portal.raw.submit(&claims.sign(&portal.raw.key).unwrap(), 0).await.problem();
        assert_eq!(submit().await, "registry_lost");
        assert!(relay.operator(&["registry", "import", &backup]));
        whole(&relay).await;
        assert_eq!(submit().await, "unprocessable", "the portal is known, and its command has no password");
        relay.kill();
        relay.start_again().await;
        whole(&relay).await;
    }
}
