//! A terminal that is closed (SIGHUP): whatever ran in it cleans up and drains, as it does when it is told to stop.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Pid;
use tempfile::TempDir;
use writeback_relay::protocol::frame::FromRelay;
use writeback_relay::protocol::outcome::Code;

use crate::support::agent::Agent;
use crate::support::process::{Process, Signal, in_a_terminal, runs};
use crate::support::pty::Pty;
use crate::support::raw_agent::RawAgent;
use crate::support::relay::Relay;
use crate::support::{eventually, own_address};

const RELAY: &str = env!("CARGO_BIN_EXE_writeback-relay");
const AGENT: &str = env!("CARGO_BIN_EXE_writeback-agent");

/// The process of this program that has `mark` among its arguments or in its environment.
async fn process_of(program: &str, mark: &Path) -> Pid {
    let mark = mark.display().to_string();
    let has = |process: &Path| {
        let text = |name| fs::read(process.join(name)).unwrap_or_default();
        let known = [text("cmdline"), text("environ")].concat();
        fs::read_link(process.join("exe")).is_ok_and(|exe| exe == Path::new(program))
            && String::from_utf8_lossy(&known).contains(&mark)
    };
    let mut found = None;
    eventually(&format!("{program} runs"), || {
        let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path()).find(|process| has(process));
        found = all.and_then(|process| Pid::from_raw(process.file_name()?.to_str()?.parse().ok()?));
        std::future::ready(found.is_some())
    })
    .await;
    found.unwrap()
}

async fn gone(pid: Pid) {
    eventually("it ends", || std::future::ready(!runs(pid))).await;
}

fn left(folder: &TempDir) -> Vec<PathBuf> {
    fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_demo_whose_terminal_is_closed_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let variable = format!("TMPDIR={}", temporary.path().display());
    let mut terminal = Pty::start("env", &[&variable, RELAY, "demo", "--serve"]);
    terminal.shows("Ctrl-C ends it.").await;
    let pid = process_of(RELAY, temporary.path()).await;
    assert!(!left(&temporary).is_empty());
    terminal.close();
    gone(pid).await;
    assert!(left(&temporary).is_empty(), "{:?}", left(&temporary));
}

#[tokio::test]
async fn a_demo_that_is_hung_up_in_the_middle_of_its_story_leaves_nothing_behind_and_is_no_failure() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = in_a_terminal(RELAY);
    command.args(["demo", "--serve"]).env("TMPDIR", temporary.path()).stdin(Stdio::null()).stdout(Stdio::null());
    let mut demo = Process::spawn(&mut command);
    eventually("it has begun", || std::future::ready(!left(&temporary).is_empty())).await;
    demo.signal(Signal::HUP);
    assert!(demo.ended().await.success());
    assert!(left(&temporary).is_empty(), "{:?}", left(&temporary));
}

#[tokio::test]
async fn a_node_whose_terminal_is_closed_drains() {
    let (folder, address) = (tempfile::tempdir().unwrap(), own_address());
    let data = folder.path().join("data");
    let log = folder.path().join("log");
    let run = format!(
        "exec {RELAY} run --dev-tls --data-dir {} --listen {address}:8443 --ops-listen {address}:9443 2>{}",
        data.display(),
        log.display()
    );
    let mut terminal = Pty::start("sh", &["-c", &run]);
    let pid = process_of(RELAY, &data).await;
    let logged = |text: &str| fs::read_to_string(&log).unwrap_or_default().contains(text);
    eventually("the node is up", || std::future::ready(logged("the node is up"))).await;
    terminal.close();
    gone(pid).await;
    assert!(logged("the node is down"), "{}", fs::read_to_string(&log).unwrap());
}

/// A shell passes SIGHUP on, and when it is gone the kernel sends another one.
#[tokio::test]
async fn a_node_that_is_hung_up_twice_waits_for_its_commands_all_the_same_and_ends_with_status_zero() {
    for first in [Signal::HUP, Signal::TERM] {
        let mut relay = Relay::start().await;
        let portal = relay.portal("portal-1").await;
        let agent = RawAgent::enrolled(&relay, &portal).await;
        let mut session = agent.open().await;
        let (command, jws) =
            portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
        assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
        session.delivery().await;
        relay.signal(first);
        assert!(matches!(session.next().await, FromRelay::GoAway(_)));
        relay.signal(Signal::HUP);
        // It answers, although it stops.
        assert_eq!(relay.probe("livez").await, 200);
        session.send(agent.outcome_frame(&command, Code::PasswordReset)).await;
        assert!(relay.ended().await.success(), "{first:?}: {}", relay.log());
        assert!(relay.log().contains("the node is down"));
    }
}

#[tokio::test]
async fn an_agent_that_is_hung_up_or_whose_terminal_is_closed_takes_its_leave() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let mut agent = Agent::running(&relay, &portal, &["jane@corp.example"], 0).await;
    let closed = || {
        let lines: Vec<_> =
            relay.log().lines().filter(|line| line.contains("session_closed")).map(str::to_owned).collect();
        lines
    };
    // The relay knows of its session before the agent does.
    eventually("the agent's session is open", || std::future::ready(agent.event_ids().contains(&31017))).await;
    agent.signal(Signal::HUP);
    assert!(agent.ended().await.success());
    eventually("its session has ended", || std::future::ready(closed().len() == 1)).await;
    assert!(closed()[0].contains("\"reason\":\"left\""), "{:?}", closed());

    // All that it says goes to the terminal.
    let mut terminal = Pty::start(AGENT, &["--home", &agent.home().display().to_string(), "run"]);
    agent.usable(&portal).await;
    terminal.shows("a session is open").await;
    let pid = process_of(AGENT, &agent.home()).await;
    terminal.close();
    gone(pid).await;
    eventually("its session has ended", || std::future::ready(closed().len() == 2)).await;
    assert!(closed()[1].contains("\"reason\":\"left\""), "{:?}\n{}", closed(), terminal.screen());
}

#[tokio::test]
async fn a_demo_that_was_started_to_outlive_its_terminal_does() {
    let temporary = tempfile::tempdir().unwrap();
    let out = temporary.path().join("out");
    let mut command = Command::new("sh");
    // As nohup(1) does it.
    command.args(["-c", &format!("trap '' HUP; exec {RELAY} demo --serve >{}", out.display())]);
    let kept = tempfile::tempdir().unwrap();
    let mut demo = Process::spawn(command.env("TMPDIR", kept.path()).stdin(Stdio::null()));
    let said = |text: &str| fs::read_to_string(&out).unwrap_or_default().contains(text);
    eventually("it serves", || std::future::ready(said("Ctrl-C ends it."))).await;
    demo.signal(Signal::HUP);
    // Bit 0 is SIGHUP's: proc_pid_status(5).
    let status = fs::read_to_string(format!("/proc/{}/status", demo.pid())).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & 1, 1, "{status}");
    assert!(demo.is_running());
    demo.signal(Signal::INT);
    assert!(demo.ended().await.success());
}
