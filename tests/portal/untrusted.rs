//! What a relay and an agent write never leaves `writeback-portal` as it is: every call that shows something of theirs, in a
//! pipe and at a terminal.

use std::sync::Arc;

use writeback_relay::clock::{Clock, System, UnixTime};
use writeback_relay::protocol::api::{AgentStatus, CommandState, PreflightReport, PreflightRow, PreflightState};
use writeback_relay::protocol::command::Command;
use writeback_relay::protocol::ids::ObjectId;
use writeback_relay::protocol::outcome::{Outcome, Status};

use super::World;
use super::fake_relay::{FakeAgent, Reply, view};
use crate::support::cli::Cli;
use crate::support::untrusted::{at_a_terminal, hostile, is_fit_to_read, problem};

const PORTAL: &str = env!("CARGO_BIN_EXE_writeback-portal");
const JANE: &str = "jane@corp.example";
const PASSWORDS: &[u8] = b"Old-Passw0rd1\nNew-Passw0rd1\n";

struct Stage {
    world: World,
    agent: Arc<FakeAgent>,
    home: String,
    cli: Cli,
}

impl Stage {
    async fn new() -> Self {
        let world = World::new().await;
        let agent = world.trusted_agent().await;
        let home = world.dir.path().join("portal").display().to_string();
        let cli = Cli::new(PORTAL, &["--home", &home]);
        Self { world, agent, home, cli }
    }

    async fn says(&self, arguments: &[&str], marks: &[&str]) {
        let said = self.cli.run_with(arguments, PASSWORDS).await;
        is_fit_to_read(&format!("{arguments:?}"), &said.out, &[]);
        is_fit_to_read(&format!("{arguments:?}"), &said.err, &[]);
        is_fit_to_read(&format!("{arguments:?}"), &(said.out + &said.err), marks);
    }

    async fn shows(&self, arguments: &[&str], answers: &[(&str, &str)], marks: &[&str]) {
        at_a_terminal(PORTAL, &[&["--home", &self.home], arguments].concat(), answers, marks).await;
    }

    fn row(&self, remedy_code: Option<&str>) -> PreflightRow {
        PreflightRow {
            check: hostile("its-check").into(),
            target: hostile("its-target").into(),
            state: PreflightState::Failed,
            detail: hostile("its-finding").into(),
            remedy: hostile("its-remedy").into(),
            remedy_code: remedy_code.map(Into::into),
        }
    }
}

/// An outcome of which every text is hostile, signed.
fn outcome(agent: &FakeAgent, command: &Command) -> String {
    let outcome = Outcome {
        iss: command.aud,
        aud: command.iss.clone(),
        tenant: command.tenant.clone(),
        jti: ObjectId::new(&System, &System),
        command: command.jti,
        iat: System.now(),
        status: Status::Rejected,
        code: hostile("its-code").into(),
        event_id: 1,
        detail: hostile("its-detail").into(),
        retry_safe: true,
        retry_at: None,
        hindrances: None,
        directory_ms: 1,
        account: None,
    };
    outcome.sign(&agent.signing).unwrap()
}

fn concluded(agent: &Arc<FakeAgent>) -> impl FnOnce(&Command) -> Reply + Send + use<> {
    let agent = Arc::clone(agent);
    move |command| match view(command, CommandState::Concluded, Some(outcome(&agent, command))) {
        Reply::View(view) => {
            Reply::View(writeback_relay::protocol::api::CommandView { trace_id: hostile("its-trace").into(), ..view })
        }
        other => other,
    }
}

fn undeliverable(command: &Command) -> Reply {
    match view(command, CommandState::Undeliverable, None) {
        Reply::View(mut view) => {
            (view.reason, view.trace_id) = (Some(hostile("its-reason").into()), hostile("its-trace").into());
            Reply::View(view)
        }
        other => other,
    }
}

#[tokio::test]
async fn a_problem_is_shown_quoted_by_every_call() {
    let stage = Stage::new().await;
    let agent = stage.agent.id.to_string();
    let id = ObjectId::new(&System, &System).to_string();
    stage.world.relay.then(concluded(&stage.agent));
    let done = stage.cli.run_with(&["reset", "contoso", JANE, "--json"], PASSWORDS).await.json();
    let command = done["outcome"]["command"].as_str().unwrap().to_owned();
    for code in [None, Some("store_unavailable"), Some("agent_busy")] {
        stage.world.relay.refuse_everything(Some(problem(code)));
        let calls: &[&[&str]] = &[
            &["invite", "contoso"],
            &["agents", "contoso"],
            &["agents", "contoso", "--json"],
            &["approve", "contoso", &agent, "--fingerprint", &stage.agent.fingerprint()],
            &["check", "contoso", &agent],
            &["rotate-keys"],
            &["availability", "contoso"],
            &["reset", "contoso", JANE, "--wait", "2"],
            &["change", "contoso", JANE, "--wait", "2"],
            &["unlock", "contoso", JANE, "--wait", "2"],
            &["unlock", "contoso", JANE, "--wait", "2", "--json"],
            &["status", "contoso", &command],
        ];
        for call in calls {
            stage.says(call, &["its-detail"]).await;
        }
        stage.says(&["status", "contoso", &id], &[]).await;
        stage.shows(&["availability", "contoso"], &[], &["its-detail", "its-trace"]).await;
    }
    stage.says(&["revoke", "contoso", &agent], &["its-detail"]).await;
}

#[tokio::test]
async fn what_agents_and_the_relay_say_is_shown_quoted_and_advice_is_ours_or_marked_as_theirs() {
    let stage = Stage::new().await;
    let (relay, agent) = (&stage.world.relay, stage.agent.id.to_string());
    let rows =
        vec![stage.row(None), stage.row(Some("of_a_newer_version")), stage.row(Some(&hostile("its-remedy-code")))];
    relay.change(stage.agent.id, |view| {
        view.name = hostile("its-name").into();
        view.version = Some(hostile("its-version").into());
        view.preflight = Some(PreflightReport { checked_at: UnixTime(1), rows });
        view.status = AgentStatus::Approved;
    });
    let found = ["its-check", "its-target", "its-finding", "in its own words, which nobody has checked: \"its-remedy"];
    for call in [["agents", "contoso"].as_slice(), &["check", "contoso", &agent]] {
        stage.says(call, &found).await;
        stage.shows(call, &[], &found).await;
        stage.says(&[call, &["--json"]].concat(), &["its-remedy", "of_a_newer_version"]).await;
    }
    stage.says(&["agents", "contoso"], &["its-name"]).await;
    let carried = stage.cli.run(&["agents", "contoso", "--json"]).await.json();
    assert_eq!(carried[0]["relay"]["name"], hostile("its-name"), "JSON carries the data unchanged");

    let known = stage.row(Some("grant_right"));
    relay.change(stage.agent.id, |view| view.preflight.as_mut().unwrap().rows = vec![known]);
    let said = stage.cli.run(&["check", "contoso", &agent]).await.out;
    assert!(said.contains("mend it: give the service account this right"), "{said}");
    assert!(!said.contains("its-remedy"), "an agent's advice beside ours: {said}");

    relay.unavailable(&hostile("its-reason"));
    stage.says(&["availability", "contoso"], &["its-reason"]).await;
    stage.says(&["availability", "contoso", "--json"], &["its-reason"]).await;
    stage.says(&["rotate-keys"], &["its-name"]).await;
    stage.says(&["rotate-keys", "--status"], &["its-name"]).await;
    stage.says(&["rotate-keys", "--status", "--json"], &["its-name"]).await;
}

#[tokio::test]
async fn what_became_of_a_command_is_shown_quoted() {
    let stage = Stage::new().await;
    let relay = &stage.world.relay;
    let said = ["its-code", "its-detail", "its-trace"];
    let mut command = String::new();
    for call in [["reset", "contoso", JANE].as_slice(), &["change", "contoso", JANE], &["unlock", "contoso", JANE]] {
        relay.then(undeliverable);
        stage.says(call, &["its-reason", "its-trace"]).await;
        relay.then(concluded(&stage.agent));
        stage.says(call, &said).await;
        relay.then(concluded(&stage.agent));
        let json = stage.cli.run_with(&[call, &["--json"]].concat(), PASSWORDS).await;
        is_fit_to_read("JSON", &json.out, &said);
        assert_eq!(json.json()["outcome"]["detail"], hostile("its-detail"), "JSON carries the data unchanged");
        command = json.json()["outcome"]["command"].as_str().unwrap().to_owned();
    }
    relay.then(concluded(&stage.agent));
    stage.says(&["status", "contoso", &command], &said).await;
    relay.then(concluded(&stage.agent));
    stage.shows(&["status", "contoso", &command], &[], &said).await;
    relay.then(concluded(&stage.agent));
    let answers = [("New password:", "New-Passw0rd1"), ("Once more:", "New-Passw0rd1")];
    stage.shows(&["reset", "contoso", JANE], &answers, &said).await;
}
