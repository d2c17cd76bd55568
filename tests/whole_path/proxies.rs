//! Through the proxies of companies: a real Squid between agent and relay.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use super::{NEW, OLD, Stage, only_new_logs_on};
use crate::support::agent::{Agent, samba};
use crate::support::eventually;
use crate::support::portal_cli::PortalCli;
use crate::support::relay::Relay;
use crate::support::samba::{Ou, dc};
use crate::support::squid::{PASSWORD, Squid, USER};

/// An agent that is not enrolled, its relay, and that one's portal.
async fn parts() -> (Relay, PortalCli, Agent) {
    let relay = Relay::start().await;
    let portal = PortalCli::init(&relay).await;
    let agent = Agent::new(&relay);
    (relay, portal, agent)
}

/// A reset ends as it should, and came through the proxy: there was no tunnel left that could have been another way.
async fn resets_through(stage: &mut Stage, squid: &Squid) {
    let user = dc().create_user("proxied", Ou::Staff, OLD).await;
    let said = stage.portal.reset(&user.upn, NEW, &[]).await;
    assert!(said.out.starts_with("done: password_reset (event 31002)\n"), "{said:?}\n{}", stage.agent.log());
    only_new_logs_on(&user.upn).await;
    assert_eq!(stage.agent.event_ids_about(&user.upn), [31001, 31002]);
    assert!(stage.agent.terminate().await.success());
    // The enrolment, and the session.
    let connect = format!("CONNECT {} ", stage.relay.url().trim_start_matches("https://"));
    eventually("both tunnels are in the proxy's log", || async { squid.log().matches(&connect).count() >= 2 }).await;
    assert!(!stage.agent.log().contains(PASSWORD), "the proxy's password was logged");
}

fn escaped(text: &str) -> String {
    text.replace('@', "%40").replace(':', "%3A").replace('/', "%2F")
}

#[tokio::test]
async fn a_reset_goes_through_a_proxy_that_the_configuration_names() {
    let (relay, portal, agent) = parts().await;
    let squid = Squid::open().await;
    agent.configure(&format!("proxy = \"http://{}\"\n{}", squid.place(), samba(&dc().ldaps_url())));
    let mut stage = Stage::enrolled(relay, portal, agent).await;
    resets_through(&mut stage, &squid).await;
}

#[tokio::test]
async fn a_reset_goes_through_a_proxy_with_a_password_in_a_file() {
    let (relay, portal, agent) = parts().await;
    let squid = Squid::with_password().await;
    let password = agent.home().join("proxy-password");
    std::fs::write(&password, PASSWORD).unwrap();
    std::fs::set_permissions(&password, PermissionsExt::from_mode(0o600)).unwrap();
    agent.configure(&format!(
        "proxy = \"http://{}\"\nproxy_user = {USER:?}\nproxy_password_file = \"proxy-password\"\n{}",
        squid.place(),
        samba(&dc().ldaps_url())
    ));
    let mut stage = Stage::enrolled(relay, portal, agent).await;
    resets_through(&mut stage, &squid).await;
    assert!(squid.log().contains(&format!(" {USER} ")), "{}", squid.log());
}

/// A relay whose name only this proxy knows: nobody comes to it by another way.
async fn behind_a_proxy() -> (Relay, Squid, String) {
    let relay = Relay::named("relay.test").await;
    let IpAddr::V4(address) = relay.public_addr().ip() else { panic!() };
    let squid = Squid::with_password_and_host("relay.test", address).await;
    let url = format!("http://{USER}:{}@{}", escaped(PASSWORD), squid.place());
    (relay, squid, url)
}

#[tokio::test]
async fn a_reset_goes_through_a_proxy_with_a_password_that_the_environment_names_to_agent_and_portal() {
    let (relay, squid, url) = behind_a_proxy().await;
    let (mut portal, mut agent) = (PortalCli::init(&relay).await, Agent::new(&relay));
    portal.proxied(&url);
    agent.set("HTTPS_PROXY", &url);
    agent.set("NO_PROXY", "10.0.0.0/8,127.0.0.1:1,.corp.example");
    agent.configure(&samba(&dc().ldaps_url()));
    let mut stage = Stage::enrolled(relay, portal, agent).await;
    resets_through(&mut stage, &squid).await;
    assert!(squid.log().contains(&format!(" {USER} ")), "{}", squid.log());
}

#[tokio::test]
async fn a_reset_goes_through_a_proxy_that_opens_tls_once_its_ca_is_trusted() {
    let (relay, portal, mut agent) = parts().await;
    let squid = Squid::inspecting(true).await;
    let line = format!("proxy = \"http://{}\"\n", squid.place());
    agent.configure(&format!("{line}{}", samba(&dc().ldaps_url())));
    // Without its CA nothing goes through, and the reason is said.
    let said = agent.enroll(&portal.invite().await).await;
    assert!(said.status != 0 && said.err.contains("a proxy inspects TLS") && said.err.contains("ca_file"), "{said:?}");
    agent.trust(squid.ca_file());
    agent.configure(&format!("{line}{}", samba(&dc().ldaps_url())));
    let mut stage = Stage::enrolled(relay, portal, agent).await;
    resets_through(&mut stage, &squid).await;
    // It has seen requests and not only tunnels: the agent's TLS ended there.
    let session = format!("GET {}/v1/agent/session ", stage.relay.url());
    assert!(squid.log().contains(&session), "{}", squid.log());
}

#[tokio::test]
async fn no_proxy_keeps_the_relay_out_of_the_proxy() {
    let (relay, squid, url) = behind_a_proxy().await;
    let (mut portal, mut agent) = (PortalCli::init(&relay).await, Agent::new(&relay));
    portal.proxied(&url);
    agent.set("HTTPS_PROXY", &url);
    agent.set("NO_PROXY", "relay.test:8443");
    let code = portal.invite().await;
    let asked = || squid.log().matches("CONNECT relay.test:8443 ").count();
    eventually("the portal has gone through it", || async { asked() == 1 }).await;
    let said = agent.enroll(&code).await;
    assert!(said.status == 1 && said.err.contains("relay.test") && !said.err.contains("proxy"), "{said:?}");
    assert_eq!(asked(), 1, "{}", squid.log());
}

#[tokio::test]
async fn a_relay_on_the_same_host_is_reached_without_the_proxy_that_the_environment_names() {
    let (relay, mut portal, mut agent) = parts().await;
    let squid = Squid::open().await;
    let url = format!("http://{}", squid.place());
    portal.proxied(&url);
    agent.set("HTTPS_PROXY", &url);
    agent.set("NO_PROXY", "");
    agent.configure(&samba(&dc().ldaps_url()));
    let mut stage = Stage::enrolled(relay, portal, agent).await;
    assert!(stage.agent.terminate().await.success());
    assert!(!squid.log().contains("CONNECT"), "{}", squid.log());
}

#[tokio::test]
async fn a_proxy_that_opens_tls_and_takes_the_upgrade_away_is_told_from_a_broken_relay() {
    let (relay, portal, mut agent) = parts().await;
    let squid = Squid::inspecting(false).await;
    agent.trust(squid.ca_file());
    agent.configure(&format!("proxy = \"http://{}\"\n{}", squid.place(), samba(&dc().ldaps_url())));
    let said = agent.enroll(&portal.invite().await).await;
    assert_eq!(said.status, 0, "{said:?}");
    agent.start();
    eventually("it says what is in the way", || async {
        let events = agent.events();
        let said = events.iter().filter(|event| event["event_id"] == 31034).filter_map(|e| e["message"].as_str());
        said.into_iter().any(|said| said.contains("takes WebSocket upgrades away"))
    })
    .await;
    drop(relay);
}
