//! Networks that go away without a word, hosts that sleep, and clocks that are wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use writeback_relay::agent::directory::demo::Demo;
use writeback_relay::agent::home::Home;
use writeback_relay::agent::{self, Options, enroll};
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::outcome::Status;
use writeback_relay::relay::config::SessionConfig;

use super::sessions::{JANE, Running};
use crate::support::agent::{Agent, demo};
use crate::support::relay::{Relay, tenant};
use crate::support::scripted_relay::ScriptedRelay;
use crate::support::squid::Squid;
use crate::support::{PATIENCE, deadline, eventually, eventually_within};

/// The system's clock, so many milliseconds ahead.
struct Ahead(AtomicU64);

impl Clock for Ahead {
    fn now_ms(&self) -> u64 {
        System.now_ms() + self.0.load(Ordering::SeqCst)
    }
}

/// The system's clock, set back by five minutes.
struct Slow;

impl Clock for Slow {
    fn now_ms(&self) -> u64 {
        System.now_ms() - 300_000
    }
}

/// After two and a half heartbeats on either side: with those of a service, in under 45 s.
#[tokio::test]
async fn a_connection_that_is_dead_without_a_word_is_found_and_replaced() {
    assert!(SessionConfig::default().heartbeat_seconds * 5 / 2 < 45);
    let relay = Relay::start_with("[session]\nheartbeat_seconds = 2").await;
    let portal = relay.portal("portal-1").await;
    let squid = Squid::open().await;
    let mut agent = Agent::new(&relay);
    agent.configure(&format!("proxy = \"http://{}\"\n{}", squid.place(), demo(&agent.home(), &[JANE], 0)));
    let code = portal.portal.invite(&tenant(), true).await.unwrap().to_text().unwrap();
    assert_eq!(agent.enroll(&code).await.status, 0);
    agent.start();
    agent.usable(&portal).await;
    // The relay knows of its session before the agent does: the welcome may still be on its way through the proxy.
    eventually("the agent's session is open", || std::future::ready(agent.event_ids().contains(&31017))).await;

    // The kernel still takes what either side writes, and nothing comes out on the other.
    squid.freeze();
    // In its log, and not as an event: a session that is about to be replaced anyway ends without one.
    // A busy host may find first that nobody takes what it writes.
    let found = ["the relay has gone silent", "the relay takes no more frames", "the connection broke"];
    let finds = || std::future::ready(found.iter().any(|how| agent.log().contains(how)));
    eventually_within(3 * PATIENCE, "the agent finds it", finds).await;
    eventually("the relay finds it", || async { relay.admin().sessions().await.unwrap().is_empty() }).await;
    squid.thaw();
    agent.usable(&portal).await;
}

#[tokio::test]
async fn an_agent_that_was_suspended_is_back_at_once_when_it_goes_on() {
    let relay = Relay::start_with("[session]\nheartbeat_seconds = 1").await;
    let portal = relay.portal("portal-1").await;
    let mut agent = Agent::running(&relay, &portal, &[JANE], 0).await;
    agent.freeze();
    eventually("the relay has given it up", || async { relay.admin().sessions().await.unwrap().is_empty() }).await;
    agent.thaw();
    let back = Instant::now();
    agent.usable(&portal).await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
}

#[tokio::test]
async fn after_a_sleep_or_a_clock_that_was_set_a_new_session_is_opened_before_the_old_one_ends() {
    let relay = ScriptedRelay::start().await;
    let clock = Arc::new(Ahead(AtomicU64::new(0)));
    let agent = Running::start_with(&relay, clock.clone()).await;
    let mut old = relay.welcome().await;
    // While the host sleeps only the wall clock goes on. The relay is not asked to take an assertion of the future.
    clock.0.store(20_000, Ordering::SeqCst);
    let mut new = relay.session().await;
    // The old one still works: it may not be dead at all.
    let command = relay.command(JANE, "New-Passw0rd");
    old.say(relay.deliver(&command)).await;
    assert_eq!(relay.read(&old.outcome().await.jws, &command).status, Status::Succeeded);
    new.welcome("node-1", 1).await;
    deadline("the old session's end", async { while old.next().await.is_some() {} }).await;
    agent.stop.cancel();
    while new.next().await.is_some() {}
    agent.ended().await.1.unwrap();
}

#[tokio::test]
async fn an_agent_whose_clock_is_wrong_is_told_by_how_much() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path());
    let code = portal.portal.invite(&tenant(), true).await.unwrap();
    let ca_file = relay.ca_file();
    enroll(&home, &code, Some(&ca_file), System::clock(), System::random()).await.unwrap();
    let directory = Arc::new(Demo::new(System::clock(), System::random()));
    let options = Options { ca_file: Some(ca_file), ..Options::default() };
    let agent = agent::Agent::open(&home, directory, options, Arc::new(Slow), System::random()).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(agent.run(stop.clone()));
    let events = || std::fs::read_to_string(dir.path().join("events.jsonl")).unwrap();
    let told = |line: &str| {
        line.contains("32009") && ["300 s behind", "299 s behind", "301 s behind"].iter().any(|by| line.contains(by))
    };
    eventually("it is told", || std::future::ready(events().lines().any(told))).await;
    stop.cancel();
    deadline("its end", running).await.unwrap().unwrap();
}
