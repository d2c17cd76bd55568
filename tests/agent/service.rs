//! The agent as a service: what it tells systemd, and what people read of it.

use std::time::Duration;

use serde_json::Value;
use writeback_relay::protocol::command::{Options, Subject};
use writeback_relay::protocol::password::Password;

use crate::support::agent::{Agent, INITIAL_PASSWORD, demo};
use crate::support::relay::{Relay, tenant};
use crate::support::service_manager::{Manager, analyzed};
use crate::support::{PATIENCE, eventually};

const JANE: &str = "jane@corp.example";
const NEW: &str = "Another-Passw0rd1";

#[tokio::test]
async fn the_service_manager_hears_that_the_agent_is_ready_alive_connected_and_stopping() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let mut agent = Agent::new(&relay);
    agent.configure(&demo(&agent.home(), &[JANE], 0));
    let code = portal.portal.invite(&tenant(), true).await.unwrap();
    assert_eq!(agent.enroll(&code.to_text().unwrap()).await.status, 0);
    let manager = Manager::new();
    manager.environment().into_iter().for_each(|(variable, value)| agent.set(variable, &value));
    agent.start();
    manager.hears("READY=1", 1).await;
    manager.hears("WATCHDOG=1", 3).await;
    manager.hears("STATUS=1 of 2 sessions", 1).await;
    assert!(agent.terminate().await.success());
    manager.hears("STOPPING=1", 1).await;
    // One that hangs says nothing any more, and would be started anew.
    agent.start();
    manager.hears("READY=1", 2).await;
    agent.freeze();
    manager.forget();
    tokio::time::timeout(Duration::from_secs(2), manager.hears("WATCHDOG=1", 1)).await.unwrap_err();
}

#[test]
fn the_unit_is_what_systemd_expects_and_shuts_the_agent_in() {
    analyzed("writeback-agent", env!("CARGO_BIN_EXE_writeback-agent"), 15);
}

#[tokio::test]
async fn events_are_shown_filtered_and_followed_and_a_support_bundle_holds_no_secret() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = Agent::running(&relay, &portal, &[JANE], 0).await;
    let all = agent.call(&["events"]).await;
    assert!(all.status == 0 && all.out.contains("31015 WriteBackServiceStarted"), "{all:?}");
    let following = agent.begin(&["events", "--follow", "-n", "0", "--json", "--id", "31002"]);
    let password = Password::new(NEW.to_owned()).unwrap();
    let jane = Subject::upn(JANE).unwrap();
    portal.portal.reset(&tenant(), &jane, password, Options::default(), PATIENCE).await.unwrap();
    eventually("the event is followed", || std::future::ready(following.out().ends_with('\n'))).await;
    let line: Value = serde_json::from_str(&following.out()).unwrap();
    assert_eq!((line["event_id"].as_u64(), line["account"].as_str()), (Some(31002), Some(JANE)));
    let only = agent.call(&["events", "--id", "31002"]).await;
    assert!(only.out.lines().count() == 1 && only.out.contains("PasswordResetSuccess"), "{only:?}");

    let file = agent.home().join("bundle.txt");
    let said = agent.call(&["support-bundle", file.to_str().unwrap()]).await;
    assert_eq!(said.status, 0, "{said:?}");
    let bundle = std::fs::read_to_string(&file).unwrap();
    assert!(bundle.contains("31002") && bundle.contains(&agent.id().to_string()), "{bundle}");
    for secret in [NEW, INITIAL_PASSWORD, "\"d\""] {
        assert!(!bundle.contains(secret), "{bundle}");
    }
}
