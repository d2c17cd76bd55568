//! The agent as a process, killed where it hurts most.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};

use tempfile::TempDir;
use writeback_relay::protocol::frame::FromAgent;
use writeback_relay::protocol::outcome::{Outcome, Status};
use writeback_relay::storage::PrivateFile;

use crate::support::deadline;
use crate::support::scripted_relay::{ScriptedRelay, event_ids};

const JANE: &str = "jane@corp.example";
const OLD: &str = "Old-Passw0rd";
const NEW: &str = "New-Passw0rd";

/// The directory's file, with the account locked.
const LOCKED: &str = r#"{"jane@corp.example":{"guid":"6f2c1a52-1b7f-4d5e-9a53-0c9d2f1f0a11","password_sha256":"",
    "pwd_last_set":7,"disabled":false,"bad_logons":5,"lockout_time":9}}"#;

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
         initial_password = {OLD:?}\nstate_file = {:?}\n\
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

/// What is asked of the agent, about an account whose password is [`OLD`].
#[derive(Clone, Copy, Debug)]
enum Asked {
    Reset,
    Change,
    /// The account is locked.
    Unlock,
}

const ALL: [Asked; 3] = [Asked::Reset, Asked::Change, Asked::Unlock];

/// How it ended.
struct Ended {
    outcome: Outcome,
    /// Whether the directory was written.
    written: bool,
    /// The numbers in the event log.
    events: Vec<u64>,
}

/// Delivers a command, kills the agent when `reached` says so, starts it again, and gives the outcome.
async fn killed(asked: Asked, before_ms: u32, after_ms: u32, reached: impl Fn(&str) -> bool) -> Ended {
    let relay = ScriptedRelay::start().await;
    let dir = enrolled(&relay).await;
    let state = dir.path().join("demo.json");
    if let Asked::Unlock = asked {
        PrivateFile::new(&state).replace(LOCKED).unwrap();
    }
    configure(&relay, dir.path(), before_ms, after_ms);
    let mut first = Agent(agent(dir.path()).arg("run").spawn().unwrap());
    let mut session = relay.welcome().await;
    let before = std::fs::read_to_string(&state).unwrap();
    let command = match asked {
        Asked::Reset => relay.command(JANE, NEW),
        Asked::Change => relay.change(JANE, OLD, NEW),
        Asked::Unlock => relay.unlock(JANE),
    };
    session.say(relay.deliver(&command)).await;
    while !matches!(session.hear().await, FromAgent::Received(_)) {}
    deadline("the moment to kill", async {
        loop {
            let changed = std::fs::read_to_string(&state).unwrap() != before;
            // Its last line may be half written.
            let log = std::fs::read_to_string(dir.path().join("events.jsonl")).unwrap();
            let begun = ["31001", "31006"].iter().any(|id| log.contains(id));
            let at = if changed {
                "written"
            } else if begun {
                "begun"
            } else {
                ""
            };
            if reached(at) {
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
    Ended { outcome, written, events: event_ids(dir.path()) }
}

#[tokio::test]
async fn killed_between_the_directorys_answer_and_the_journal_it_answers_that_it_is_done() {
    for asked in ALL {
        let Ended { outcome, written, events } = killed(asked, 0, 60_000, |at| at == "written").await;
        let (code, begun, done) = match asked {
            Asked::Reset => ("password_reset", 31001, 31002),
            Asked::Change => ("password_changed", 31006, 31007),
            Asked::Unlock => ("account_unlocked", 31001, 31002),
        };
        assert_eq!((outcome.status, outcome.code.as_data(), written), (Status::Succeeded, code, true), "{asked:?}");
        assert!(outcome.detail.contains("confirmed it afterwards"), "{:?}", outcome.detail);
        let told: Vec<_> = events.into_iter().filter(|id| [31001, 31002, 31006, 31007].contains(id)).collect();
        assert_eq!(told, [begun, done], "{asked:?}: begun once, done once");
    }
}

#[tokio::test]
async fn killed_around_the_start_it_answers_what_is_true() {
    for asked in ALL {
        // Either the start was not on disk yet, and the next process executes it, or it was, and nothing was changed.
        let Ended { outcome, written, .. } = killed(asked, 60_000, 0, |at| at == "begun").await;
        match outcome.status {
            Status::Succeeded => assert!(written, "{asked:?} {:?}", outcome.code),
            Status::Failed => assert!(outcome.code == "interrupted" && !written, "{asked:?} {:?}", outcome.code),
            other => panic!("{asked:?} {other:?} {:?}", outcome.code),
        }
    }
}
