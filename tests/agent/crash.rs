//! The agent as a process, killed where it hurts most.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};

use tempfile::TempDir;
use writeback_relay::protocol::frame::FromAgent;
use writeback_relay::protocol::outcome::Status;

use crate::support::deadline;
use crate::support::scripted_relay::ScriptedRelay;

const JANE: &str = "jane@corp.example";
const NEW: &str = "New-Passw0rd";

/// A process that does not outlive its test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn agent(home: &Path) -> Process {
    let mut process = Process::new(env!("CARGO_BIN_EXE_writeback-agent"));
    process.arg("--home").arg(home).stderr(Stdio::null());
    process
}

fn configure(relay: &ScriptedRelay, home: &Path, before_ms: u32, after_ms: u32) {
    let text = format!(
        "[relay]\nca_file = {:?}\n[directory]\nkind = \"demo\"\naccounts = [{JANE:?}]\n\
         initial_password = \"Old-Passw0rd\"\nstate_file = {:?}\n\
         delay_before_ms = {before_ms}\ndelay_after_ms = {after_ms}\n",
        relay.ca_file,
        home.join("demo.json"),
    );
    std::fs::write(home.join("agent.toml"), text).unwrap();
}

async fn enrolled(relay: &ScriptedRelay) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    configure(relay, dir.path(), 0, 0);
    let code = relay.code().to_text().unwrap();
    let home = dir.path().to_owned();
    let output = tokio::task::spawn_blocking(move || {
        let mut process =
            agent(&home).args(["enroll", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        process.stdin.take().unwrap().write_all(code.as_bytes()).unwrap();
        process.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("fingerprint") && text.contains("approve"), "{text}");
    dir
}

/// Delivers a command, kills the agent when `reached` says so, starts it again, and gives the outcome.
async fn killed(before_ms: u32, after_ms: u32, reached: impl Fn(&str) -> bool) -> (Status, String, bool) {
    let relay = ScriptedRelay::start().await;
    let dir = enrolled(&relay).await;
    let state = dir.path().join("demo.json");
    configure(&relay, dir.path(), before_ms, after_ms);
    let mut first = Agent(agent(dir.path()).arg("run").spawn().unwrap());
    let mut session = relay.welcome().await;
    let before = std::fs::read_to_string(&state).unwrap();
    let command = relay.command(JANE, NEW);
    session.say(relay.deliver(&command)).await;
    while !matches!(session.hear().await, FromAgent::Received(_)) {}
    let events = dir.path().join("events.jsonl");
    deadline("the moment to kill", async {
        loop {
            let changed = std::fs::read_to_string(&state).unwrap() != before;
            let log = std::fs::read_to_string(&events).unwrap();
            if reached(if changed {
                "written"
            } else if log.contains("31001") {
                "begun"
            } else {
                ""
            }) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    configure(&relay, dir.path(), 0, 0);
    let _second = Agent(agent(dir.path()).arg("run").spawn().unwrap());
    let mut session = relay.welcome().await;
    let outcome = session.outcome().await;
    let outcome = relay.read(&outcome.jws, &command);
    let written = std::fs::read_to_string(&state).unwrap() != before;
    (outcome.status, outcome.code, written)
}

#[tokio::test]
async fn killed_after_the_directory_was_written_it_answers_that_it_is_done() {
    let (status, code, written) = killed(0, 60_000, |at| at == "written").await;
    assert_eq!((status, code.as_str(), written), (Status::Succeeded, "password_reset", true));
}

#[tokio::test]
async fn killed_around_the_start_it_answers_what_is_true() {
    // Either the start was not on disk yet, and the next process executes it, or it was, and nothing was changed.
    let (status, code, written) = killed(60_000, 0, |at| at == "begun").await;
    match status {
        Status::Succeeded => assert!(written, "{code}"),
        Status::Failed => assert!(code == "interrupted" && !written, "{code}"),
        other => panic!("{other:?} {code}"),
    }
}
