//! The agent as the library has it: many of them in one process, each with a folder and a directory of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use writeback_relay::agent::directory::demo::Demo;
use writeback_relay::agent::home::Home;
use writeback_relay::agent::{Agent, AgentError, Options, enroll};
use writeback_relay::clock::System;
use writeback_relay::protocol::ids::AgentId;

use super::agent::INITIAL_PASSWORD;
use super::eventually;
use super::relay::{Relay, TestPortal, tenant};

/// About as long as a domain controller takes, so that commands are under way whenever something happens.
const WRITE_TAKES: Duration = Duration::from_millis(50);

/// A running agent, with the times of a service. Dropped, it is gone without a word.
pub(crate) struct InProcessAgent {
    pub(crate) agent: AgentId,
    folder: TempDir,
    running: JoinHandle<Result<(), AgentError>>,
}

impl InProcessAgent {
    /// Enrolled, approved, running, and online, with these accounts, and so many sessions if there are as many nodes.
    pub(crate) async fn running(relay: &Relay, portal: &TestPortal, accounts: &[String], sessions: usize) -> Self {
        // Few accounts, and many commands for each.
        let options = Options { sessions, resets_per_hour: 1000, ..Options::default() };
        Self::running_with(relay, portal, accounts, WRITE_TAKES / 2, options).await
    }

    /// The same, with these options, and writes that wait so long before they take effect, and after it.
    pub(crate) async fn running_with(
        relay: &Relay,
        portal: &TestPortal,
        accounts: &[String],
        delay: Duration,
        options: Options,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        let code = portal.portal.invite(&tenant(), true).await.unwrap();
        let (clock, random) = (System::clock(), System::random());
        let ca_file = Some(relay.ca_file());
        let enrolled = enroll(&home, &code, ca_file.as_deref(), clock.clone(), random.clone()).await.unwrap();
        let mut directory = Demo::new(clock.clone(), random.clone());
        directory = directory.with_delays(delay, delay);
        for account in accounts {
            directory = directory.with_account(account, INITIAL_PASSWORD);
        }
        let options = Options { ca_file, ..options };
        let agent = Agent::open(&home, Arc::new(directory), options, clock, random).unwrap();
        let running = tokio::spawn(agent.run(CancellationToken::new()));
        let agent = Self { agent: enrolled.agent, folder, running };
        eventually("the agent is usable", || async {
            let agents = portal.portal.agents(&tenant()).await.unwrap();
            agents.iter().any(|known| known.agent == agent.agent && known.usable())
        })
        .await;
        agent
    }

    /// Its folder.
    pub(crate) fn home(&self) -> &Path {
        self.folder.path()
    }

    /// How often each command was executed with success, by its id.
    pub(crate) fn executed(&self) -> BTreeMap<String, u32> {
        let text = std::fs::read_to_string(self.folder.path().join("events.jsonl")).unwrap();
        let mut executed = BTreeMap::new();
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            if event["event_id"] == 31002 {
                *executed.entry(event["command"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        executed
    }
}

impl Drop for InProcessAgent {
    fn drop(&mut self) {
        self.running.abort();
    }
}
