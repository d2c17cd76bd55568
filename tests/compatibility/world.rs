//! A relay, an agent and a portal, each of whichever version, as people use them.

use serde_json::Value;
use tempfile::TempDir;

use super::previous::Programs;
use crate::support::agent::{Agent, INITIAL_PASSWORD, demo};
use crate::support::cli::{Cli, Said};
use crate::support::eventually;
use crate::support::relay::{Relay, TENANT};

pub(super) const JANE: &str = "jane@corp.example";
const TONY: &str = "tony@corp.example";

/// A portal's folder, and the program that is run in it.
pub(super) struct Portal {
    folder: TempDir,
    cli: Cli,
}

impl Portal {
    /// Registered at the relay, by the relay's own program.
    pub(super) async fn init(program: &'static str, relay: &Relay) -> Self {
        let portal = Self::at(program, tempfile::tempdir().unwrap());
        let ca_file = relay.ca_file().display().to_string();
        let init = ["init", "--id", "portal-1", "--relay", &relay.url(), "--ca-file", &ca_file];
        let key = portal.folder.path().join("portal.jwk");
        std::fs::write(&key, portal.done(&init).await.out).unwrap();
        let key = key.display().to_string();
        assert!(relay.operator(&["portal", "add", "portal-1", "--key", &key, "--tenant", TENANT]));
        portal
    }

    fn at(program: &'static str, folder: TempDir) -> Self {
        let home = folder.path().join("portal").display().to_string();
        Self { cli: Cli::new(program, &["--home", &home]), folder }
    }

    /// The same folder, under another version.
    pub(super) fn becomes(self, program: &'static str) -> Self {
        Self::at(program, self.folder)
    }

    pub(super) async fn run(&self, arguments: &[&str]) -> Said {
        self.cli.run(arguments).await
    }

    pub(super) async fn done(&self, arguments: &[&str]) -> Said {
        let said = self.run(arguments).await;
        assert_eq!(said.status, 0, "{arguments:?}: {said:?}");
        said
    }

    /// Waits until the relay says that a reset is possible.
    pub(super) async fn available(&self) {
        eventually("a reset is possible", || async {
            // A portal trusts a new agent, and follows its keys, when it looks.
            self.run(&["agents", TENANT]).await;
            self.run(&["availability", TENANT]).await.status == 0
        })
        .await;
    }

    /// The code of the outcome, which is the agent's and was verified; and the command.
    async fn asked(&self, arguments: &[&str], input: &str) -> (i32, String, String) {
        let said = self.cli.run_with(&[arguments, &["--json"]].concat(), input.as_bytes()).await;
        let answer = said.json();
        assert_eq!(answer["result"], "concluded", "{arguments:?}: {said:?}");
        let text = |name: &str| answer["outcome"][name].as_str().unwrap().to_owned();
        (said.status, text("code"), text("command"))
    }

    async fn answers(&self, arguments: &[&str], input: &str, status: i32, code: &str) -> String {
        let (ended, said, command) = self.asked(arguments, input).await;
        assert_eq!((ended, &*said), (status, code), "{arguments:?}");
        command
    }

    /// A reset that is done; its command.
    pub(super) async fn reset(&self, password: &str) -> String {
        self.answers(&["reset", TENANT, JANE, "--unlock"], &format!("{password}\n"), 0, "password_reset").await
    }

    /// It knows what became of a command.
    pub(super) async fn knows(&self, command: &str) {
        self.answers(&["status", TENANT, command, "--wait", "10"], "", 0, "password_reset").await;
    }

    /// Everything that can be asked of an agent: what is done, and what is refused.
    pub(super) async fn everything_is_answered(&self) {
        let command = self.reset("Fresh-Start-2026!").await;
        self.knows(&command).await;
        let change = format!("{INITIAL_PASSWORD}\nAnother-Start-2026!\n");
        self.answers(&["change", TENANT, TONY], &change, 0, "password_changed").await;
        self.answers(&["unlock", TENANT, TONY], "", 0, "account_unlocked").await;
        self.answers(&["reset", TENANT, JANE], "short\n", 2, "password_policy").await;
        self.answers(&["reset", TENANT, "nobody@corp.example"], "Fresh-Start-2026!\n", 2, "user_not_found").await;
        let wrong = "Not-My-Password-1\nYet-Another-Start-2026!\n";
        self.answers(&["change", TENANT, JANE], wrong, 2, "incorrect_password").await;
    }

    /// Its key changes, and every agent takes the new one.
    pub(super) async fn rotates(&self) {
        let first = self.run(&["public-key"]).await.out;
        self.run(&["rotate-keys"]).await;
        let status = ["rotate-keys", "--status"];
        eventually("the agent has acknowledged", || async { self.run(&status).await.status == 0 }).await;
        assert_ne!(self.done(&["public-key"]).await.out, first);
    }

    /// How far the agent's keys have been followed.
    pub(super) async fn follows(&self, agent: &Agent) {
        let fingerprint = agent.status().await.out;
        let fingerprint = find_fingerprint(&fingerprint);
        eventually("the agent's new keys are followed", || async {
            let agents: Value = self.done(&["agents", TENANT, "--json"]).await.json();
            agents.as_array().unwrap().iter().any(|agent| agent["fingerprint"] == *fingerprint)
        })
        .await;
    }
}

/// The fingerprint in what a program printed: ten groups of four.
fn find_fingerprint(said: &str) -> String {
    let is_one = |word: &&str| word.len() == 49 && word.split('-').all(|group| group.len() == 4);
    said.split_whitespace().find(is_one).unwrap_or_else(|| panic!("no fingerprint in {said}")).to_owned()
}

/// An agent that has enrolled with a code of the portal, whose fingerprint was compared, and that is in service.
pub(super) async fn enrolled(program: &'static str, relay: &Relay, portal: &Portal) -> Agent {
    let mut agent = Agent::of(program, relay);
    agent.configure(&demo(&agent.home(), &[JANE, TONY], 0));
    let code = portal.done(&["invite", TENANT]).await.out;
    let said = agent.enroll(code.trim()).await;
    assert_eq!(said.status, 0, "{said:?}");
    let id = agent.id().to_string();
    portal.done(&["approve", TENANT, &id, "--fingerprint", &find_fingerprint(&said.out)]).await;
    agent.start();
    portal.available().await;
    agent
}

/// One after another: an enrolment, what is done and what is refused, new keys of both, a check, and a revocation.
pub(super) async fn a_whole_life(relay: Programs, agent: Programs, portal: Programs) {
    let relay = Relay::start_of(relay.relay).await;
    let portal = Portal::init(portal.portal, &relay).await;
    let mut agent = enrolled(agent.agent, &relay, &portal).await;
    portal.everything_is_answered().await;
    assert_eq!(agent.rotate_keys().await.status, 0);
    portal.follows(&agent).await;
    portal.reset("After-The-Agents-Keys-1!").await;
    portal.rotates().await;
    portal.reset("After-The-Portals-Key-1!").await;
    let id = agent.id().to_string();
    portal.done(&["check", TENANT, &id]).await;
    portal.done(&["revoke", TENANT, &id]).await;
    assert_eq!(agent.ended().await.code(), Some(3));
}
