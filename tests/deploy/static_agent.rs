//! The agent as one static program: for a host whose C library is another, or too old.

use std::process::Command;
use std::time::Duration;

use writeback_relay::protocol::command::{Options, Subject};
use writeback_relay::protocol::password::Password;

use super::linked_statically;
use crate::support::agent::{Agent, demo};
use crate::support::relay::{Relay, tenant};

const JANE: &str = "jane@corp.example";

fn readelf(option: &str, program: &str) -> String {
    let said = Command::new("readelf").args([option, "--wide", program]).output().expect("binutils are installed");
    assert!(said.status.success());
    String::from_utf8(said.stdout).unwrap()
}

#[tokio::test]
async fn the_static_agent_needs_no_library_of_its_host_and_carries_a_reset() {
    let program: &'static str = Box::leak(linked_statically("writeback-agent").display().to_string().into_boxed_str());
    assert!(!readelf("--program-headers", program).contains("INTERP"), "it asks for a loader");
    assert!(!readelf("--dynamic", program).contains("(NEEDED)"), "it asks for a library");

    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let mut agent = Agent::of(program, &relay);
    let version = agent.call(&["--version"]).await;
    assert_eq!(version.out.trim(), concat!("writeback-agent ", env!("CARGO_PKG_VERSION")));
    agent.configure(&demo(&agent.home(), &[JANE], 0));
    let code = portal.portal.invite(&tenant(), true).await.unwrap();
    assert_eq!(agent.enroll(&code.to_text().unwrap()).await.status, 0);
    agent.start();
    agent.usable(&portal).await;
    let (jane, password) = (Subject::upn(JANE).unwrap(), Password::new("Another-Passw0rd1".to_owned()).unwrap());
    let wait = Duration::from_secs(30);
    portal.portal.reset(&tenant(), &jane, password, Options::default(), wait).await.unwrap();
    agent.event(31002, JANE).await;
    assert!(agent.terminate().await.success());
}
