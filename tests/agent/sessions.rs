//! How an agent keeps its session.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use writeback_relay::agent::directory::demo::Demo;
use writeback_relay::agent::home::Home;
use writeback_relay::agent::{Agent, AgentError, Options, enroll, status};
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::frame::{CloseReason, FromAgent, FromRelay, v1};
use writeback_relay::protocol::outcome::Status;
use writeback_relay::protocol::problem::ProblemCode;

use crate::support::deadline;
use crate::support::scripted_relay::{ScriptedRelay, event_ids};

pub(crate) const JANE: &str = "jane@corp.example";

/// The system's clock, set back by five seconds.
struct SetBack;

impl Clock for SetBack {
    fn now_ms(&self) -> u64 {
        System.now_ms() - 5000
    }
}

/// An agent that runs.
pub(crate) struct Running {
    pub(crate) dir: TempDir,
    pub(crate) directory: Demo,
    pub(super) stop: CancellationToken,
    ended: JoinHandle<Result<(), AgentError>>,
}

impl Running {
    pub(crate) async fn start(relay: &ScriptedRelay) -> Self {
        Self::start_with(relay, System::clock()).await
    }

    /// Enrolled by the system's clock; from then on it has this one.
    pub(super) async fn start_with(relay: &ScriptedRelay, clock: Arc<dyn Clock>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        enroll(&home, &relay.code(), Some(&relay.ca_file), System::clock(), System::random()).await.unwrap();
        Self::again(relay, dir, clock)
    }

    /// With the folder of one that has stopped.
    fn again(relay: &ScriptedRelay, dir: TempDir, clock: Arc<dyn Clock>) -> Self {
        let home = Home::new(dir.path());
        let directory = Demo::new(System::clock(), System::random()).with_account(JANE, "Old-Passw0rd");
        let options = Options {
            ca_file: Some(relay.ca_file.clone()),
            backoff_base: Duration::from_millis(5),
            backoff_max: Duration::from_millis(50),
            unknown_agent_pause: Duration::from_millis(10),
            wake_check: Duration::from_millis(20),
            stop_deadline: Duration::from_secs(10),
            ..Options::default()
        };
        let opened = Agent::open(&home, Arc::new(directory.clone()), options, clock, System::random());
        let (agent, stop) = (opened.unwrap(), CancellationToken::new());
        let ended = tokio::spawn(agent.run(stop.clone()));
        Self { dir, directory, stop, ended }
    }

    pub(super) async fn ended(self) -> (TempDir, Result<(), AgentError>) {
        (self.dir, deadline("the agent's end", self.ended).await.unwrap())
    }
}

#[tokio::test]
async fn a_reset_goes_through_and_the_agent_leaves_in_good_order() {
    let relay = ScriptedRelay::start().await;
    let agent = Running::start(&relay).await;
    let mut session = relay.welcome().await;
    let command = relay.command(JANE, "New-Passw0rd");
    session.say(relay.deliver(&command)).await;
    let outcome = session.outcome().await;
    assert_eq!(relay.read(&outcome.jws, &command).status, Status::Succeeded);
    assert!(agent.directory.password_is(JANE, "New-Passw0rd"));
    session.stored(&command).await;
    let shown = status(&Home::new(agent.dir.path()), &System).await.unwrap();
    assert!(
        shown.contains("portal-1") && shown.contains("1 done and 0 not done") && shown.contains("31017"),
        "{shown}"
    );
    agent.stop.cancel();
    while !matches!(session.hear().await, FromAgent::Leaving(_)) {}
    assert!(session.next().await.is_none());
    let (dir, ended) = agent.ended().await;
    ended.unwrap();
    assert_eq!(event_ids(dir.path())[3..], [31015, 31017, 31001, 31002, 31016]);
    assert!(status(&Home::new(dir.path()), &System).await.unwrap().contains("0 without an outcome, 0 outcomes"));
}

#[tokio::test]
async fn after_a_break_it_comes_back_and_sends_the_outcome_again() {
    let relay = ScriptedRelay::start().await;
    let agent = Running::start(&relay).await;
    let mut session = relay.welcome().await;
    let command = relay.command(JANE, "New-Passw0rd");
    session.say(relay.deliver(&command)).await;
    let first = session.outcome().await;
    drop(session);
    let mut session = relay.welcome().await;
    assert_eq!(session.outcome().await, first);
    session.close(CloseReason::Drain.code()).await;
    let mut session = relay.welcome().await;
    assert_eq!(session.outcome().await, first);
    assert_eq!(event_ids(agent.dir.path()).iter().filter(|id| **id == 32002).count(), 2);
}

#[tokio::test]
async fn on_go_away_it_opens_a_new_session_before_it_closes_the_old_one() {
    let relay = ScriptedRelay::start().await;
    let _agent = Running::start(&relay).await;
    let mut old = relay.welcome().await;
    let advice = v1::GoAway { reason: "drain".into(), reconnect_after_ms: 1, close_after_ms: 60_000 };
    old.say(FromRelay::GoAway(advice)).await;
    let mut new = relay.session().await;
    // Not welcomed yet: the old one still works.
    let command = relay.command(JANE, "New-Passw0rd");
    old.say(relay.deliver(&command)).await;
    old.outcome().await;
    assert!(matches!(new.hear().await, FromAgent::Hello(_)));
    new.say(FromRelay::Welcome(v1::Welcome { heartbeat_interval_ms: 30_000, ..Default::default() })).await;
    deadline("the old session's end", async { while old.next().await.is_some() {} }).await;
    let command = relay.command(JANE, "Newer-Passw0rd");
    new.say(relay.deliver(&command)).await;
    while new.outcome().await.command != command.jti.to_string() {}
}

#[tokio::test]
async fn a_process_that_starts_after_the_clock_was_set_back_is_the_newer_one_all_the_same() {
    let relay = ScriptedRelay::start().await;
    let agent = Running::start(&relay).await;
    let FromAgent::Hello(first) = relay.session().await.hear().await else { panic!("hello comes first") };
    agent.stop.cancel();
    let (dir, ended) = agent.ended().await;
    ended.unwrap();
    let _agent = Running::again(&relay, dir, Arc::new(SetBack));
    let FromAgent::Hello(second) = relay.session().await.hear().await else { panic!("hello comes first") };
    assert!(second.instance > first.instance, "{} after {}", second.instance, first.instance);
}

#[tokio::test]
async fn a_revoked_agent_stops_for_good() {
    let relay = ScriptedRelay::start().await;
    relay.refuse_upgrade(ProblemCode::AgentRevoked, None);
    let agent = Running::start(&relay).await;
    let (dir, ended) = agent.ended().await;
    assert!(matches!(ended, Err(AgentError::Revoked)));
    assert_eq!(event_ids(dir.path())[3..], [31015, 31013, 31016]);
    assert_eq!(relay.upgrades(), 1);
}

#[tokio::test]
async fn a_close_code_that_means_dont_is_the_end() {
    for (reason, event) in
        [(CloseReason::Revoked, 31013), (CloseReason::Displaced, 32002), (CloseReason::ForeignJournal, 32002)]
    {
        let relay = ScriptedRelay::start().await;
        let agent = Running::start(&relay).await;
        relay.welcome().await.close(reason.code()).await;
        let (dir, ended) = agent.ended().await;
        assert!(ended.unwrap_err().is_for_good());
        assert_eq!(event_ids(dir.path())[3..], [31015, 31017, event, 31016]);
    }
}

#[tokio::test]
async fn an_unknown_and_an_old_agent_keep_trying_and_say_so_each_time() {
    let relay = ScriptedRelay::start().await;
    for code in [ProblemCode::UnknownAgent, ProblemCode::AgentTooOld, ProblemCode::UnknownAgent] {
        relay.refuse_upgrade(code, None);
    }
    let agent = Running::start(&relay).await;
    let _session = relay.welcome().await;
    assert_eq!(event_ids(agent.dir.path())[3..7], [31015, 32009, 32009, 32009]);
}

#[tokio::test]
async fn retry_after_is_honoured_and_one_trouble_is_said_once() {
    let relay = ScriptedRelay::start().await;
    let began = Instant::now();
    relay.refuse_upgrade(ProblemCode::Overloaded, Some(1));
    relay.refuse_upgrade(ProblemCode::Overloaded, None);
    relay.refuse_upgrade(ProblemCode::Overloaded, None);
    let agent = Running::start(&relay).await;
    let _session = relay.welcome().await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(event_ids(agent.dir.path())[3..5], [31015, 31034]);
    assert_eq!(event_ids(agent.dir.path()).iter().filter(|id| **id == 31034).count(), 1);
}

#[tokio::test]
async fn a_stop_ends_an_agent_that_has_no_session() {
    let relay = ScriptedRelay::start().await;
    let agent = Running::start(&relay).await;
    let _silent = relay.session().await;
    agent.stop.cancel();
    agent.ended().await.1.unwrap();
}
