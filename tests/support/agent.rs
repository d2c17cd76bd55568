//! An agent as its users meet it: a process with a folder of its own, that can be killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use writeback_relay::protocol::enrollment::AgentKeys;
use writeback_relay::protocol::ids::AgentId;

use super::cli::{Call, Cli, Said};
use super::eventually;
use super::hosts::{Hosts, knowing};
use super::process::{Process, Signal, in_a_terminal};
use super::relay::{Relay, TestPortal, tenant};
use super::samba::dc;

const AGENT: &str = env!("CARGO_BIN_EXE_writeback-agent");

/// What the demo directory's accounts have at first.
pub(crate) const INITIAL_PASSWORD: &str = "Initial-Passw0rd1";

/// An agent, running or not. Dropped, it is killed and its folder removed.
pub(crate) struct Agent {
    program: &'static str,
    folder: TempDir,
    relay_ca: PathBuf,
    cli: Cli,
    environment: Vec<(&'static str, String)>,
    hosts: Option<PathBuf>,
    process: Option<Process>,
}

impl Agent {
    /// An empty folder.
    pub(crate) fn new(relay: &Relay) -> Self {
        Self::of(AGENT, relay)
    }

    /// The same of another build of the program.
    pub(crate) fn of(program: &'static str, relay: &Relay) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cli = Cli::new(program, &["--home", &folder.path().join("home").display().to_string()]);
        std::fs::create_dir(folder.path().join("home")).unwrap();
        let agent = Self {
            program,
            folder,
            relay_ca: relay.ca_file(),
            cli,
            environment: Vec::new(),
            hosts: None,
            process: None,
        };
        agent.configure("");
        agent
    }

    /// From now on, it is this build of the program, in the same folder.
    pub(crate) fn becomes(&mut self, program: &'static str) {
        self.program = program;
        self.cli = Cli::new(program, &["--home", &self.home().display().to_string()]);
    }

    /// Enrolled, approved, running, and online, with these accounts in a [`demo`] directory in its folder.
    pub(crate) async fn running(relay: &Relay, portal: &TestPortal, accounts: &[&str], delay_before_ms: u32) -> Self {
        let mut agent = Self::new(relay);
        agent.configure(&demo(&agent.home(), accounts, delay_before_ms));
        let code = portal.portal.invite(&tenant(), true).await.unwrap();
        let said = agent.enroll(&code.to_text().unwrap()).await;
        assert_eq!(said.status, 0, "{said:?}");
        agent.start();
        agent.usable(portal).await;
        agent
    }

    /// Waits until the portal could send it a command.
    pub(crate) async fn usable(&self, portal: &TestPortal) {
        eventually("the agent is usable", || async {
            let agents = portal.portal.agents(&tenant()).await.unwrap();
            agents.iter().any(|known| known.agent == self.id() && known.usable())
        })
        .await;
    }

    /// Trusts this CA in place of the relay's, from the next [`Self::configure`] on.
    pub(crate) fn trust(&mut self, ca_file: PathBuf) {
        self.relay_ca = ca_file;
    }

    /// From its next start on, with this in its environment.
    pub(crate) fn set(&mut self, variable: &'static str, value: &str) {
        self.cli.set(variable, value);
        self.environment.push((variable, value.to_owned()));
    }

    /// From its next start on, with this hosts file.
    pub(crate) fn knowing(&mut self, hosts: &Hosts) {
        self.cli.knowing(hosts.file().as_ref());
        self.hosts = Some(hosts.file().into());
    }

    /// Its public keys, as the portal has verified them.
    pub(crate) async fn keys(&self, portal: &TestPortal) -> AgentKeys {
        let agents = portal.portal.agents(&tenant()).await.unwrap();
        let known = agents.into_iter().find(|known| known.agent == self.id()).unwrap();
        known.standing.unwrap().keys().unwrap().clone()
    }

    /// The demo directory's file.
    pub(crate) fn accounts(&self) -> String {
        std::fs::read_to_string(self.home().join("demo.json")).unwrap()
    }

    /// Writes `agent.toml`: how to reach the relay, and these lines: first more of `[relay]`, then sections.
    pub(crate) fn configure(&self, sections: &str) {
        let text = format!("[relay]\nca_file = {:?}\n{sections}\n", self.relay_ca);
        std::fs::write(self.home().join("agent.toml"), text).unwrap();
    }

    /// `writeback-agent enroll -`.
    pub(crate) async fn enroll(&self, code: &str) -> Said {
        self.cli.run_with(&["enroll", "-"], code.as_bytes()).await
    }

    /// `writeback-agent rotate-keys`, which may be beside a running agent.
    pub(crate) async fn rotate_keys(&self) -> Said {
        self.cli.run(&["rotate-keys"]).await
    }

    /// The same; dropped, it is killed.
    pub(crate) fn start_rotate_keys(&self) -> Call {
        self.cli.start(&["rotate-keys"], b"")
    }

    /// `writeback-agent trust -`.
    pub(crate) async fn trust_portal(&self, code: &str) -> Said {
        self.cli.run_with(&["trust", "-"], code.as_bytes()).await
    }

    /// `writeback-agent` with these arguments.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> Said {
        self.cli.run(arguments).await
    }

    /// `writeback-agent status`.
    pub(crate) async fn status(&self) -> Said {
        self.cli.run(&["status"]).await
    }

    /// One call of its program.
    pub(crate) async fn call(&self, arguments: &[&str]) -> Said {
        self.cli.run(arguments).await
    }

    /// The same of one that does not end by itself.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Call {
        self.cli.start(arguments, b"")
    }

    /// Its folder.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The id it made when it enrolled.
    pub(crate) fn id(&self) -> AgentId {
        let text = std::fs::read_to_string(self.home().join("identity.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["agent"].as_str().unwrap().parse().unwrap()
    }

    /// `writeback-agent run`, in the background.
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = in_a_terminal(self.program);
        command.arg("--home").arg(self.home()).arg("run").env("RUST_LOG", "debug");
        command.envs(self.environment.iter().map(|(variable, value)| (variable, value)));
        if let Some(hosts) = &self.hosts {
            command = knowing(hosts, &command);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(Process::spawn(&mut command));
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the agent was not started")
    }

    /// SIGKILL: nothing is finished.
    pub(crate) fn kill(&mut self) {
        self.process().kill();
    }

    /// SIGSTOP: it does nothing until [`Self::thaw`], and its sockets stay open.
    pub(crate) fn freeze(&mut self) {
        self.process().freeze();
    }

    pub(crate) fn thaw(&mut self) {
        self.process().signal(Signal::CONT);
    }

    /// SIGTERM; its exit status when it has ended.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.process().signal(Signal::TERM);
        self.ended().await
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.process().signal(signal);
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process().is_running()
    }

    /// The most memory that it has ever had at one time.
    pub(crate) fn largest_kib(&mut self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process().pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.process().ended().await
    }

    /// All it has logged, over restarts, and what its other calls have said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap() + &self.cli.transcript()
    }

    /// What its calls have said.
    pub(crate) fn log_of_calls(&self) -> String {
        self.cli.transcript()
    }

    /// Its event log.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.home().join("events.jsonl")).unwrap_or_default();
        // The last line may be half written.
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    }

    /// The numbers of its events, in order.
    pub(crate) fn event_ids(&self) -> Vec<u64> {
        self.events().iter().map(|event| event["event_id"].as_u64().unwrap()).collect()
    }

    /// The numbers of its events about this account, in order.
    pub(crate) fn event_ids_about(&self, account: &str) -> Vec<u64> {
        let events = self.events();
        let about = events.iter().filter(|event| event["account"] == account);
        about.map(|event| event["event_id"].as_u64().unwrap()).collect()
    }

    /// Waits until there is an event with this number about this account, and gives it.
    pub(crate) async fn event(&self, id: u64, account: &str) -> Value {
        let find = || self.events().into_iter().find(|event| event["event_id"] == id && event["account"] == account);
        eventually(&format!("event {id} about {account}"), || std::future::ready(find().is_some())).await;
        find().unwrap()
    }
}

/// `[directory]`: the staff's unit at the domain controller, at `url`.
pub(crate) fn samba(url: &str) -> String {
    samba_in(url, &[&format!("OU=Staff,{}", dc().base_dn())], dc().service_account())
}

/// `[directory]`: these units, or the whole domain, and this service account with the file of its password. Answers are
/// waited for as long as can be configured.
pub(crate) fn samba_in(url: &str, units: &[&str], (bind_user, bind_password_file): (String, PathBuf)) -> String {
    let base_dn = if units.is_empty() { String::new() } else { format!("base_dn = {units:?}\n") };
    format!(
        "[directory]\nkind = \"active_directory\"\nurl = {url:?}\nca_file = {:?}\nbind_user = {bind_user:?}\n\
         bind_password_file = {bind_password_file:?}\noperation_timeout_seconds = 60\nconnect_timeout_seconds = 10\n{base_dn}",
        dc().ca_file()
    )
}

/// `[directory]`: accounts in memory and in a file in `folder`, whose writes take so long before they take effect; each may
/// be reset as often as tests need.
pub(crate) fn demo(folder: &Path, accounts: &[&str], delay_before_ms: u32) -> String {
    format!(
        "[directory]\nkind = \"demo\"\naccounts = {accounts:?}\ninitial_password = {INITIAL_PASSWORD:?}\n\
         state_file = {:?}\ndelay_before_ms = {delay_before_ms}\n[execution]\nresets_per_hour = 1000\n",
        folder.join("demo.json")
    )
}
