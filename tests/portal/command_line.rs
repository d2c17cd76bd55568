//! `writeback-portal` as people and scripts run it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output, Stdio};
use std::sync::Arc;

use serde_json::Value;
use writeback_relay::protocol::api::CommandState;
use writeback_relay::protocol::enrolment_code::EnrolmentCode;
use writeback_relay::protocol::outcome::Code;
use writeback_relay::protocol::problem::ProblemCode;

use super::fake_relay::{FakeAgent, FakeRelay, Reply, view};
use super::{DEADLINE, PASSWORD, World, succeeds};

/// Runs it with `input` on standard input, which stays open until it has ended: who reads to the end waits for ever.
async fn run(home: &Path, arguments: &[&str], input: &str) -> Output {
    let mut process = Process::new(env!("CARGO_BIN_EXE_writeback-portal"));
    process.arg("--home").arg(home).args(arguments).env_clear();
    process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = process.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may have ended without reading.
    let _ = stdin.write_all(input.as_bytes());
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = tokio::time::timeout(DEADLINE, ended).await.expect("writeback-portal did not end").unwrap();
    drop(stdin);
    output
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn home(world: &World) -> PathBuf {
    world.dir.path().join("portal")
}

const RESET: &[&str] = &["reset", "contoso", "jane@corp.example", "--wait", "20"];

#[tokio::test]
async fn init_prints_the_key_says_how_it_is_registered_and_happens_once() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["init", "--id", "portal-7", "--relay", "https://relay.example"];
    let output = run(&dir.path().join("p"), &arguments, "").await;
    assert_eq!(status(&output), 0, "{}", text(&output));
    let key: Value = serde_json::from_slice(&output.stdout).expect("standard output is the JWK and nothing else");
    assert_eq!((&key["kty"], &key["crv"], &key["d"]), (&"OKP".into(), &"Ed25519".into(), &Value::Null));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("writeback-relay portal add portal-7 --key - --tenant TENANT"), "{said}");
    let again = run(&dir.path().join("p"), &arguments, "").await;
    assert_eq!(status(&again), 1);
    assert!(text(&again).contains("portal.toml"), "{}", text(&again));
    // 2 would say that the directory refused.
    assert_eq!(status(&run(dir.path(), &["no-such-command"], "").await), 1);
    assert_eq!(status(&run(dir.path(), RESET, "x\n").await), 1);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut process = Process::new(env!("CARGO_BIN_EXE_writeback-portal"));
    process.arg("--home").arg(dir.path().join("p")).args(["init", "--id", "p", "--relay", "https://relay.example"]);
    let output = process.stdin(Stdio::null()).stdout(writer).output().unwrap();
    assert_eq!(status(&output), 0, "{}", text(&output));
}

#[tokio::test]
async fn from_an_invitation_to_a_reset() {
    let world = World::new().await;
    let (home, agent) = (home(&world), Arc::new(FakeAgent::new()));
    let invited = run(&home, &["invite", "contoso"], "").await;
    let code: EnrolmentCode = String::from_utf8(invited.stdout).unwrap().parse().unwrap();
    world.relay.list(agent.enrolled(&code));

    let listed = text(&run(&home, &["agents", "contoso"], "").await);
    assert!(listed.contains(&agent.fingerprint()) && listed.contains("to approve"), "{listed}");
    let id = agent.id.to_string();
    let unasked = run(&home, &["approve", "contoso", &id], "yes\n").await;
    assert_eq!(status(&unasked), 1, "it was approved without a terminal: {}", text(&unasked));
    let wrong = run(&home, &["approve", "contoso", &id, "--fingerprint", "AAAA-BBBB"], "").await;
    assert_eq!(status(&wrong), 1);
    let approved = run(&home, &["approve", "contoso", &id, "--fingerprint", &agent.fingerprint()], "").await;
    assert_eq!(status(&approved), 0, "{}", text(&approved));

    // `succeeds` compares the password, with its blanks, after it came through the pipe.
    for line_end in ["\n", "\r\n"] {
        world.relay.then(succeeds(&agent));
        let done = run(&home, RESET, &format!("{PASSWORD}{line_end}")).await;
        assert_eq!(status(&done), 0, "{}", text(&done));
        assert!(text(&done).contains("support code trace-of-a-view"), "{}", text(&done));
    }
    world.relay.then(succeeds(&agent));
    let json = run(&home, &[RESET, &["--json"]].concat(), &format!("{PASSWORD}\n")).await;
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["result"], &json["outcome"]["code"]), (&"concluded".into(), &"password_reset".into()));

    let revoked = run(&home, &["revoke", "contoso", &id], "").await;
    assert_eq!(status(&revoked), 0, "{}", text(&revoked));
    assert_eq!(status(&run(&home, RESET, "x\n").await), 3);
}

#[tokio::test]
async fn the_exit_status_tells_scripts_what_is_known() {
    let world = World::new().await;
    let agent = world.trusted_agent().await;
    let (home, intruder) = (home(&world), FakeAgent::new());
    let signer = Arc::clone(&agent);
    world.relay.then(move |c| view(c, CommandState::Concluded, Some(signer.outcome(c, Code::PasswordPolicy))));
    let refused = run(&home, RESET, "x\n").await;
    assert_eq!(status(&refused), 2, "{}", text(&refused));
    world.relay.then(|_| Reply::Problem(ProblemCode::NoAgent));
    assert_eq!(status(&run(&home, RESET, "x\n").await), 3);
    world.relay.then(move |c| view(c, CommandState::Concluded, Some(intruder.outcome(c, Code::PasswordReset))));
    let forged = run(&home, RESET, "x\n").await;
    assert_eq!(status(&forged), 4, "{}", text(&forged));
    assert!(text(&forged).contains("NOT THE AGENT'S") && text(&forged).contains("writeback-portal status contoso"));
    for (input, why) in [("\n", "empty"), (&*format!("{}\n", "x".repeat(257)), "longer than 256")] {
        let output = run(&home, RESET, input).await;
        assert_eq!(status(&output), 1);
        assert!(text(&output).contains(why), "{}", text(&output));
    }
}

#[tokio::test]
async fn a_lie_of_the_relay_is_said_loudly() {
    let world = World::new().await;
    let (agent, intruder): (Arc<FakeAgent>, _) = (world.trusted_agent().await, FakeAgent::new());
    let relay: &FakeRelay = &world.relay;
    relay.change(agent.id, |view| view.signing_key = intruder.keys().signing);
    let listed = text(&run(&home(&world), &["agents", "contoso"], "").await);
    assert!(listed.contains("WARNING") && listed.contains("OTHER KEYS"), "{listed}");
    relay.forget_all_agents();
    let listed = text(&run(&home(&world), &["agents", "contoso"], "").await);
    assert!(listed.contains("not listed") && listed.contains(&agent.fingerprint()), "{listed}");
}
