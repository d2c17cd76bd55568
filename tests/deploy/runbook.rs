//! docs/operations.md for whoever is woken: its commands are run against nodes, agents and portals that run, and do what it says.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::{installed, read};
use crate::support::agent::{Agent, demo};
use crate::support::cli::{Cli, Said};
use crate::support::cluster::Cluster;
use crate::support::redis::{MASTER, Redis};
use crate::support::relay::{Relay, TENANT};
use crate::support::{deadline, eventually};

const JANE: &str = "jane@corp.example";

/// The blocks of commands of a section, each with its lines.
pub(super) fn blocks(heading: &str) -> Vec<String> {
    blocks_of("docs/operations.md", heading)
}

/// The same of another document.
fn blocks_of(document: &str, heading: &str) -> Vec<String> {
    let runbook = read(document);
    let level = heading.split(' ').next().unwrap();
    let (_, section) = runbook.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split(&format!("\n{level} ")).next().unwrap().split("\n## ").next().unwrap();
    let (mut blocks, mut inside) = (Vec::<String>::new(), false);
    for line in section.lines() {
        match line.strip_prefix("    ") {
            Some(command) if inside => *blocks.last_mut().unwrap() += &format!("\n{command}"),
            Some(command) => blocks.push(command.to_owned()),
            None => {}
        }
        inside = line.starts_with("    ");
    }
    blocks
}

/// The person who was woken: a shell, in a folder of his own, on the host of everything.
struct Operator {
    folder: TempDir,
    relay: Relay,
    shell: Cli,
}

impl Operator {
    /// Of a relay with one portal.
    async fn new() -> Self {
        let mut operator = Self::of(Relay::start().await);
        let relay = operator.relay.url();
        operator
            .done(&format!(
                "writeback-portal init --id portal-1 --relay {relay} > portal.jwk\n\
                 writeback-relay portal add portal-1 --key portal.jwk --tenant {TENANT}"
            ))
            .await;
        operator.shell.set("RUST_LOG", "error");
        operator
    }

    fn of(relay: Relay) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = Path::new(env!("CARGO_BIN_EXE_writeback-relay")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let mut shell = Cli::new("bash", &["-c"]);
        for (variable, value) in [
            ("PATH", path),
            ("HELM", installed("helm").display().to_string()),
            ("KUBECTL", installed("kubectl").display().to_string()),
            ("WRITEBACK_OPS_URL", relay.ops_url()),
            ("WRITEBACK_ADMIN_TOKEN_FILE", relay.data_dir().join("admin.token").display().to_string()),
            ("WRITEBACK_PORTAL_HOME", folder.path().join("portal").display().to_string()),
            // As a public certificate would be.
            ("SSL_CERT_FILE", relay.ca_file().display().to_string()),
        ] {
            shell.set(variable, &value);
        }
        Self { folder, relay, shell }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn run(&self, commands: &str) -> Said {
        let script = format!("cd {}\n{}\n{commands}", self.folder.path().display(), read("tests/deploy/newcomer.sh"));
        deadline(commands, self.shell.run(&[&script])).await
    }

    async fn done(&self, commands: &str) -> String {
        let said = self.run(commands).await;
        assert_eq!(said.status, 0, "{commands}: {said:?}");
        said.out
    }

    /// Commands of the runbook, with this run's names in place of the example's.
    fn own(&self, commands: &str) -> String {
        let backups = self.path("backups");
        std::fs::create_dir_all(&backups).unwrap();
        commands
            .replace("https://relay.example.com", &self.relay.url())
            .replace("relay.example.com:443", &self.relay.public_addr().to_string())
            .replace("/var/lib/writeback-relay", &self.relay.data_dir().display().to_string())
            .replace("/var/backups", &backups.display().to_string())
            .replace("$(pidof writeback-relay)", &self.relay.pid().to_string())
            .replace("AGENT_ID", "\"$AGENT_ID\"")
    }

    /// An agent in service, with a directory of its own.
    async fn agent(&mut self) -> Agent {
        let mut agent = Agent::new(&self.relay);
        agent.configure(&demo(&agent.home(), &[JANE], 0));
        let code = self.done(&format!("writeback-portal invite {TENANT} --auto-approve")).await;
        assert_eq!(agent.enroll(code.trim()).await.status, 0);
        agent.start();
        self.shell.set("WRITEBACK_AGENT_HOME", &agent.home().display().to_string());
        self.shell.set("AGENT_ID", &agent.id().to_string());
        self.available().await;
        agent
    }

    async fn available(&self) {
        // A portal trusts a new agent when it first looks.
        let ask = format!("writeback-portal agents {TENANT}; writeback-portal availability {TENANT}");
        eventually("a reset is possible", async || self.run(&ask).await.status == 0).await;
    }

    /// Resets a password; the command's id.
    async fn reset(&self) -> String {
        let said = self.done(&format!("echo Fresh-Start-2026! | writeback-portal reset {TENANT} {JANE} --json")).await;
        let answer: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(answer["outcome"]["code"], "password_reset", "{said}");
        answer["outcome"]["command"].as_str().unwrap().to_owned()
    }

    async fn knows(&self, command: &str) {
        let said = self.done(&format!("writeback-portal status {TENANT} {command} --json")).await;
        assert!(said.contains("password_reset"), "{said}");
    }
}

#[tokio::test]
async fn a_copy_of_the_embedded_store_is_as_good_as_what_was_lost_whether_the_node_stood_or_ran() {
    let mut operator = Operator::new().await;
    let agent = operator.agent().await;
    let blocks = blocks("## Save and restore");
    let copies: Vec<&String> = blocks.iter().filter(|block| block.contains("cp -a")).collect();
    assert_eq!(copies.len(), 2, "of a node that is stopped, and of one that runs");
    for copy in copies {
        let command = operator.reset().await;
        let runs = copy.contains("kill -STOP");
        if !runs {
            operator.relay.terminate().await;
        }
        operator.done(&operator.own(copy)).await;
        if runs {
            operator.relay.kill();
        }
        let (data, backup) = (operator.relay.data_dir(), operator.path("backups/writeback-relay"));
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::rename(backup, &data).unwrap();
        operator.relay.start_again().await;
        operator.knows(&command).await;
        operator.available().await;
    }
    drop(agent);
}

#[tokio::test]
async fn a_registry_that_was_lost_is_restored_from_its_copy_and_a_key_that_is_newer_is_registered_again() {
    let mut operator = Operator::new().await;
    let mut agent = operator.agent().await;
    let blocks = blocks("## Save and restore");
    let [export, import, register] = ["registry export", "registry import", "public-key"]
        .map(|wanted| operator.own(blocks.iter().find(|block| block.contains(wanted)).unwrap()));
    operator.done(&export).await;
    let rotate = "writeback-portal rotate-keys";
    eventually("the portal has another key", async || operator.run(rotate).await.status == 0).await;

    operator.relay.kill();
    for file in std::fs::read_dir(operator.relay.data_dir()).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|end| end != "pem" && end != "token" && end != "key") {
            std::fs::remove_file(file).unwrap();
        }
    }
    operator.relay.start_again().await;
    assert_eq!(operator.done("writeback-relay portal list").await, "");
    let restored = operator.done(&import).await;
    assert!(restored.contains(TENANT) && restored.contains("portal-1"), "{restored}");
    let agents = format!("writeback-portal agents {TENANT}");
    let refused = operator.run(&agents).await;
    assert!(refused.status != 0 && refused.err.contains("no portal that is registered"), "{refused:?}");
    operator.done(&register).await;
    let listed = operator.done(&agents).await;
    assert!(listed.contains(&agent.id().to_string()), "{listed}");
    // It may have been told that nobody knows it, and waits.
    agent.kill();
    agent.start();
    operator.available().await;
    operator.reset().await;
}

#[tokio::test]
async fn a_stolen_portal_key_is_ended_at_the_relay_and_at_the_agent_and_another_portal_takes_its_place() {
    let mut operator = Operator::new().await;
    let agent = operator.agent().await;
    operator.done("cp -a portal stolen").await;
    let script = operator.own(&blocks("### A portal's key, or the portal").join("\n"));
    operator.done(&script).await;
    let stolen = operator.run(&format!("WRITEBACK_PORTAL_HOME=stolen writeback-portal agents {TENANT}")).await;
    assert!(stolen.status != 0 && stolen.err.contains("no portal that is registered"), "{stolen:?}");
    let trusted = agent.cli(&["trust", "--list"]).await.out;
    assert!(trusted.contains("portal-2") && !trusted.contains("portal-1"), "{trusted}");
    operator.shell.set("WRITEBACK_PORTAL_HOME", &operator.path("portal-new").display().to_string());
    operator.available().await;
    operator.reset().await;
    // Whose accounts he has reset.
    let events = agent.cli(&["events", "--id", "31002", "--id", "31007"]).await;
    assert!(events.status == 0 && events.out.contains(JANE), "{events:?}");
}

#[tokio::test]
async fn a_stolen_agent_is_ended_by_either_of_the_two_commands() {
    let [by_portal, by_relay, whose] = &blocks("### An agent's key or its host")[..] else {
        panic!("by the portal, by the relay, and whose passwords it has seen")
    };
    for block in [by_portal, by_relay] {
        let mut operator = Operator::new().await;
        let mut agent = operator.agent().await;
        let command = operator.reset().await;
        operator.done(&operator.own(block)).await;
        assert_eq!(agent.ended().await.code(), Some(3), "and is not started again");
        let seen = operator.done(&operator.own(whose)).await;
        assert!(seen.contains(JANE) && seen.contains(&command) && seen.lines().count() == 1, "{seen}");
    }
}

#[tokio::test]
async fn a_portals_folder_comes_back_from_its_copy_and_nobody_has_to_be_trusted_again() {
    let mut operator = Operator::new().await;
    let mut agent = operator.agent().await;
    let [save, restore] = &blocks_of("docs/portal.md", "## Save it")[..] else { panic!("a copy, and the way back") };
    operator.done(save).await;
    // What the relay shows as new keys is followed from those in the copy.
    assert_eq!(agent.rotate_keys().await.status, 0);
    std::fs::remove_dir_all(operator.path("portal")).unwrap();
    let agents = operator.done(&operator.own(restore)).await;
    assert!(agents.contains(&agent.id().to_string()) && agents.contains("trusted"), "{agents}");
    operator.available().await;
    operator.reset().await;
    assert!(agent.terminate().await.success());
}

#[tokio::test]
async fn a_tenant_is_granted_and_withdrawn_while_everything_runs() {
    let operator = Operator::new().await;
    operator.done("writeback-relay tenant add fabrikam").await;
    let blocks = blocks("## Looking at it");
    let block = blocks.iter().find(|block| block.contains("portal grant")).expect("how a tenant is granted");
    let (grant, withdraw) = block.split_once('\n').unwrap();
    let agents = "writeback-portal agents fabrikam";
    assert_ne!(operator.run(agents).await.status, 0);
    operator.done(grant).await;
    operator.done(agents).await;
    operator.done(withdraw).await;
    let refused = operator.run(agents).await;
    assert!(refused.status == 1 && refused.err.contains("tenant_not_granted"), "{refused:?}");
}

#[tokio::test]
async fn an_enrolment_code_that_was_seen_is_used_up_and_opens_nothing() {
    let operator = Operator::new().await;
    operator.done(&format!("(umask 077; writeback-portal invite {TENANT} > code)")).await;
    operator.done(&operator.own(&blocks("### An enrolment code").join("\n"))).await;
    let late = operator.run("mkdir -m 700 late; WRITEBACK_AGENT_HOME=$PWD/late writeback-agent enroll - < code").await;
    assert_ne!(late.status, 0, "{late:?}");
    let agents = operator.relay.admin().agents(&TENANT.parse().unwrap()).await.unwrap();
    let [agent] = &agents[..] else { panic!("{agents:?}") };
    let revoked = operator.done(&format!("writeback-relay agent list {TENANT}")).await;
    assert!(revoked.contains(&agent.agent.to_string()) && revoked.contains("revoked"), "{revoked}");
}

#[tokio::test]
async fn what_was_taken_with_a_node_or_redis_is_replaced_by_commands_that_hold() {
    let mut operator = Operator::new().await;
    let agent = operator.agent().await;
    let made = rcgen::generate_simple_self_signed(["relay.example.com".to_owned()]).unwrap();
    std::fs::write(operator.path("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(operator.path("tls.key"), made.signing_key.serialize_pem()).unwrap();
    operator.done("writeback-relay registry export registry.json").await;
    let said = operator.done(&operator.own(&blocks("## Change the certificate").join("\n"))).await;
    assert!(said.contains("notAfter="), "{said}");
    for heading in ["### A relay node", "### Redis"] {
        let said = operator.done(&operator.own(&blocks(heading).join("\n"))).await;
        let listed = said.contains("portal-1") && said.contains(&agent.id().to_string());
        assert!(heading != "### A relay node" || listed, "{said}");
    }
}

#[tokio::test]
async fn redis_fails_over_when_it_is_told_to_and_the_relay_goes_with_it() {
    let cluster = Cluster::start(1, Redis::sentinel().await).await;
    let sentinel = cluster.redis.addr(26379);
    let master = || cluster.redis.cli(26379, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
    let before = master();
    let block = blocks("## Redis failover").remove(0);
    let (failover, status) = block.split_once('\n').unwrap();
    let failover = failover
        .replace("-p 26379", &format!("-h {} -p {}", sentinel.ip(), sentinel.port()))
        .replace("mymaster", MASTER);
    let token = cluster.nodes[0].data_dir().join("admin.token").display().to_string();
    let mut shell = Cli::new("bash", &["-c"]);
    shell.set("WRITEBACK_OPS_URL", &cluster.nodes[0].ops_url());
    shell.set("WRITEBACK_ADMIN_TOKEN_FILE", &token);
    let said = shell.run(&[&failover]).await;
    assert!(said.status == 0 && said.out.trim() == "OK", "{said:?}");
    eventually("there is another master", || std::future::ready(master() != before)).await;
    let status = status.replace("writeback-relay", env!("CARGO_BIN_EXE_writeback-relay"));
    eventually("the relay has followed", async || shell.run(&[&status]).await.status == 0).await;
    cluster.nodes[0].portal("portal-1").await;
}
