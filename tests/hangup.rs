//! SIGHUP: of a terminal that is closed, whatever ran in it cleans up and drains, as it does when it is told to stop; of
//! anybody else, files are read again, and nothing ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Pid;
use tempfile::TempDir;
use writeback_relay::protocol::frame::FromRelay;
use writeback_relay::protocol::outcome::Code;

use crate::support::agent::{Agent, demo};
use crate::support::portal_cli::PortalCli;
use crate::support::process::{Process, Signal, in_a_terminal, runs};
use crate::support::pty::Pty;
use crate::support::raw_agent::RawAgent;
use crate::support::relay::{Relay, tenant};
use crate::support::{eventually, own_address};

const RELAY: &str = env!("CARGO_BIN_EXE_writeback-relay");
const AGENT: &str = env!("CARGO_BIN_EXE_writeback-agent");

/// The process of this program that has `mark` among its arguments or in its environment.
async fn process_of(program: &str, mark: &Path) -> Pid {
    process_with(program, mark, "").await
}

/// The same, with this word, too.
async fn process_with(program: &str, mark: &Path, word: &str) -> Pid {
    let mark = mark.display().to_string();
    let has = |process: &Path| {
        let text = |name| fs::read(process.join(name)).unwrap_or_default();
        let known = [text("cmdline"), text("environ")].concat();
        fs::read_link(process.join("exe")).is_ok_and(|exe| exe == Path::new(program))
            && [&mark, word].iter().all(|part| String::from_utf8_lossy(&known).contains(*part))
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
async fn a_demo_whose_terminal_is_closed_in_the_middle_of_its_story_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let variable = format!("TMPDIR={}", temporary.path().display());
    let mut terminal = Pty::start("env", &[&variable, RELAY, "demo", "--serve"]);
    eventually("it has begun", || std::future::ready(!left(&temporary).is_empty())).await;
    let pid = process_of(RELAY, temporary.path()).await;
    terminal.close();
    gone(pid).await;
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
async fn a_node_that_stops_and_is_hung_up_waits_for_its_commands_all_the_same_and_ends_with_status_zero() {
    let mut relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let mut session = agent.open().await;
    let (command, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    session.delivery().await;
    relay.signal(Signal::TERM);
    assert!(matches!(session.next().await, FromRelay::GoAway(_)));
    relay.signal(Signal::HUP);
    // It answers, although it stops.
    assert_eq!(relay.probe("livez").await, 200);
    session.send(agent.outcome_frame(&command, Code::PasswordReset)).await;
    assert!(relay.ended().await.success(), "{}", relay.log());
    assert!(relay.log().contains("the node is down"));
}

#[tokio::test]
async fn a_node_that_is_told_to_read_again_takes_the_new_certificate_and_goes_on() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let mut session = agent.open().await;
    for times in 1..=3 {
        relay.signal(Signal::HUP);
        eventually("it has read them again", || {
            std::future::ready(relay.log().matches("asked to read again (SIGHUP)").count() == times)
        })
        .await;
    }
    assert!(relay.log().contains("the certificate was read again"), "{}", relay.log());
    let (command, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    let (answered, ()) = tokio::join!(portal.raw.submit(&jws, 20), async {
        session.delivery().await;
        session.send(agent.outcome_frame(&command, Code::PasswordReset)).await;
    });
    assert_eq!(answered.status, 200, "the session is the one from before: {}", answered.text());
    // What the node could not be started with is said, and changes nothing.
    std::fs::write(relay.config_file(), "nothing = ").unwrap();
    relay.signal(Signal::HUP);
    eventually("it says so", || std::future::ready(relay.log().contains("the configuration is no use any more"))).await;
    assert_eq!(relay.probe("readyz").await, 200);
}

#[tokio::test]
async fn an_agent_that_is_told_to_read_again_goes_on_and_one_whose_terminal_is_closed_takes_its_leave() {
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
    eventually("it says what it reads again", || {
        std::future::ready(agent.log().contains("asked to read again (SIGHUP)"))
    })
    .await;
    let config = agent.home().join("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, "nothing = ").unwrap();
    agent.signal(Signal::HUP);
    eventually("it says that it is no use", || {
        std::future::ready(agent.log().contains("agent.toml is no use any more"))
    })
    .await;
    fs::write(&config, text).unwrap();
    assert!(agent.is_running() && closed().is_empty(), "{:?}", closed());
    assert!(agent.terminate().await.success());
    eventually("its session has ended", || std::future::ready(closed().len() == 1)).await;

    // All that it says goes to the terminal, as text.
    let mut terminal = Pty::start(AGENT, &["--home", &agent.home().display().to_string(), "run"]);
    agent.usable(&portal).await;
    terminal.shows("a session is open").await;
    let pid = process_of(AGENT, &agent.home()).await;
    terminal.close();
    gone(pid).await;
    eventually("its session has ended", || std::future::ready(closed().len() == 2)).await;
    assert!(closed()[1].contains("\"reason\":\"left\""), "{:?}\n{}", closed(), terminal.screen());
    let shown = terminal.screen();
    assert!(shown.lines().any(|line| line.contains(" INFO ")) && !shown.contains("{\"timestamp\""), "{shown}");
}

/// As much as a pipe holds, and then nobody reads any more.
#[tokio::test]
async fn an_agent_whose_log_nobody_reads_any_more_goes_on() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let mut agent = Agent::running(&relay, &portal, &["jane@corp.example"], 0).await;
    assert!(agent.terminate().await.success());
    let mut command = in_a_terminal(AGENT);
    command.arg("--home").arg(agent.home()).arg("run").env("RUST_LOG", "debug");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // JSON, where no terminal is.
    let mut first = String::new();
    let mut log = std::io::BufReader::new(child.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut log, &mut first).unwrap();
    assert!(first.starts_with("{\"timestamp\""), "{first}");
    drop(log);
    let mut child = Process::from(child);
    agent.usable(&portal).await;
    let subject = writeback_relay::protocol::command::Subject::upn("jane@corp.example").unwrap();
    for password in ["N3w-Passw0rd-2026", "N3w-Passw0rd-2027"] {
        let password = writeback_relay::protocol::password::Password::new(password.to_owned()).unwrap();
        let wait = std::time::Duration::from_secs(30);
        let answer = portal.portal.reset(&tenant(), &subject, password, Default::default(), wait).await.unwrap();
        assert_eq!(answer.exit_status(), 0, "{answer:?}");
    }
    child.signal(Signal::TERM);
    assert!(child.ended().await.success());
}

#[tokio::test]
async fn a_call_of_the_portal_outlives_its_terminal_and_a_followed_event_log_does_not() {
    let relay = Relay::start().await;
    let portal = PortalCli::init(&relay).await;
    let code = portal.invite().await;
    let mut agent = Agent::new(&relay);
    agent.configure(&demo(&agent.home(), &["jane@corp.example"], 3000));
    let said = agent.enroll(&code).await;
    let fingerprint = said.out.lines().find_map(|line| line.strip_prefix("fingerprint")).unwrap().trim().to_owned();
    assert_eq!(portal.approve(agent.id(), &fingerprint).await.status, 0);
    agent.start();
    eventually("a session is open", || std::future::ready(agent.event_ids().contains(&31017))).await;
    let reset = portal.start_reset("jane@corp.example", "N3w-Passw0rd-2026", &[]);
    eventually("it has begun", || std::future::ready(agent.event_ids().contains(&31001))).await;
    reset.signal(Signal::HUP);
    let said = reset.said().await;
    assert!(said.status == 0 && said.out.starts_with("done: password_reset"), "{said:?}");

    let mut terminal = Pty::start(AGENT, &["--home", &agent.home().display().to_string(), "events", "--follow"]);
    terminal.shows("31017").await;
    let pid = process_with(AGENT, &agent.home(), "--follow").await;
    terminal.close();
    gone(pid).await;
    let mut followed = agent.begin(&["events", "--follow"]);
    eventually("it shows them", || std::future::ready(agent.log_of_calls().contains("31017"))).await;
    followed.signal(Signal::HUP);
    assert!(followed.is_running());
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
