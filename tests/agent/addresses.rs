//! A relay, or a proxy, whose name has several addresses, and something else answers at one of them: agent and portal find
//! the others, whatever it is that answers there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::support::agent::{Agent, demo};
use crate::support::hosts::Hosts;
use crate::support::portal_cli::PortalCli;
use crate::support::relay::{Relay, TENANT};
use crate::support::squid::Squid;
use crate::support::stranger::{AWAY, Manner, PAGE, REDIRECT, Stranger};
use crate::support::{eventually, own_address};

const JANE: &str = "jane@corp.example";

/// An address that the resolver names before the relay's: nearer to 127.0.0.1 (RFC 6724, rule 9).
fn nearer() -> Ipv4Addr {
    let [_, _, c, d] = own_address().octets();
    Ipv4Addr::new(127, 0, c, d)
}

/// A portal and an agent that know the relay's name by these addresses.
async fn parts(relay: &Relay, hosts: &Hosts) -> (PortalCli, Agent) {
    let mut portal = PortalCli::init(relay).await;
    portal.knowing(hosts);
    let mut agent = Agent::new(relay);
    agent.knowing(hosts);
    (portal, agent)
}

/// The agent enrols, comes online, and resets a password; how long the slowest of the three took.
async fn works(portal: &PortalCli, agent: &mut Agent) -> Duration {
    let mut slowest = Duration::ZERO;
    let mut timed = |begun: Instant| slowest = slowest.max(begun.elapsed());
    let begun = Instant::now();
    let code = portal.invite().await;
    timed(begun);
    let begun = Instant::now();
    let said = agent.enroll(&code).await;
    assert_eq!(said.status, 0, "{said:?}");
    timed(begun);
    let fingerprint = said.out.lines().find_map(|line| line.strip_prefix("fingerprint")).unwrap().trim().to_owned();
    let said = portal.approve(agent.id(), &fingerprint).await;
    assert_eq!(said.status, 0, "{said:?}");
    let begun = Instant::now();
    agent.start();
    eventually("a session is open", || async { agent.event_ids().contains(&31017) }).await;
    timed(begun);
    let said = portal.reset(JANE, "N3w-Passw0rd-2026", &[]).await;
    assert!(said.out.starts_with("done: password_reset"), "{said:?}\n{}", agent.log());
    assert!(agent.terminate().await.success());
    slowest
}

#[tokio::test]
async fn whatever_answers_at_one_of_the_relays_addresses_the_others_are_found() {
    for manner in [
        Manner::Silent,
        Manner::Closes,
        Manner::Says("HTTP/1.1 400 Bad Request\r\n\r\n"),
        Manner::Says("SSH-2.0-OpenSSH_9.2\r\n"),
        Manner::SilentInTls,
        Manner::ClosesInTls,
        Manner::SaysInTls(PAGE),
        Manner::SaysInTls(REDIRECT),
        Manner::SaysInTls(AWAY),
    ] {
        let relay = Relay::named("relay.test").await;
        let other = nearer();
        let stranger = Stranger::at((other, 8443).into(), manner, &relay.data_dir()).await;
        let hosts = Hosts::of("relay.test", &[other.into(), relay.own_addr().ip()]);
        let (portal, mut agent) = parts(&relay, &hosts).await;
        agent.configure(&demo(&agent.home(), &[JANE], 0));
        let slowest = works(&portal, &mut agent).await;
        // Invitation, enrolment and session: each process met it first.
        assert!(stranger.accepted() >= 3, "{manner:?}: it was met {} times", stranger.accepted());
        assert!(slowest < Duration::from_secs(25), "{manner:?}: {slowest:?}");
    }
}

#[tokio::test]
async fn whatever_answers_at_one_of_a_proxys_addresses_the_others_are_found() {
    for manner in [
        Manner::Silent,
        Manner::Closes,
        Manner::Says("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"),
        Manner::Says(PAGE),
        Manner::Says(REDIRECT),
        Manner::Says("220 mail.corp.example ESMTP\r\n"),
    ] {
        let relay = Relay::named("relay.test").await;
        let IpAddr::V4(address) = relay.own_addr().ip() else { panic!() };
        let squid = Squid::with_password_and_host("relay.test", address).await;
        let place: SocketAddr = squid.place().parse().unwrap();
        let other = nearer();
        let stranger = Stranger::at((other, place.port()).into(), manner, &relay.data_dir()).await;
        let hosts = Hosts::of("proxy.test", &[other.into(), place.ip()]);
        let (mut portal, mut agent) = parts(&relay, &hosts).await;
        let url = format!("http://{}@proxy.test:{}", squid.login(), place.port());
        portal.proxied(&url);
        agent.set("HTTPS_PROXY", &url);
        agent.configure(&demo(&agent.home(), &[JANE], 0));
        let slowest = works(&portal, &mut agent).await;
        assert!(stranger.accepted() >= 3, "{manner:?}: it was met {} times", stranger.accepted());
        assert!(slowest < Duration::from_secs(25), "{manner:?}: {slowest:?}");
    }
}

#[tokio::test]
async fn what_answers_in_place_of_the_only_relay_is_said_in_one_sentence_by_agent_portal_and_check() {
    for (manner, seen) in [
        (Manner::Says(PAGE), "it does not speak TLS"),
        (Manner::SaysInTls(PAGE), "it answers 200 with \"text/html\""),
        (Manner::SaysInTls(REDIRECT), "it answers 302 and leads to \"http://guest.example/login\""),
        (Manner::SaysInTls(AWAY), "as a load balancer or a proxy does whose server is away"),
    ] {
        let relay = Relay::named("relay.test").await;
        let hosts = Hosts::of("relay.test", &[relay.own_addr().ip()]);
        let (portal, mut agent) = parts(&relay, &hosts).await;
        agent.configure(&demo(&agent.home(), &[JANE], 0));
        let (code, spare) = (portal.invite().await, portal.invite().await);
        assert_eq!(agent.enroll(&code).await.status, 0);
        let (other, place) = (Agent::new(&relay), relay.own_addr());
        let folder = relay.data_dir();
        let certificate = tempfile::tempdir().unwrap();
        for file in ["dev-cert.pem", "dev-key.pem"] {
            std::fs::copy(folder.join(file), certificate.path().join(file)).unwrap();
        }
        let ca_file = certificate.path().join("ca.pem");
        std::fs::copy(relay.ca_file(), &ca_file).unwrap();
        portal.trust(&ca_file);
        let mut other = other;
        other.knowing(&hosts);
        for agent in [&mut agent, &mut other] {
            agent.trust(ca_file.clone());
            agent.configure(&demo(&agent.home(), &[JANE], 0));
        }
        drop(relay);
        let _stranger = Stranger::at(place, manner, certificate.path()).await;
        let tells = |said: &str| {
            // In a pipe the log is JSON.
            let said = said.replace("\\\"", "\"");
            let line = said.lines().find(|line| line.contains("what answers there is no relay: "));
            let line = line.unwrap_or_else(|| panic!("{manner:?}: {said}"));
            assert!(
                line.contains(seen) && line.contains("if this network wants a log-on in a browser first"),
                "{line}"
            );
        };
        tells(&portal.run(&["availability", TENANT]).await.err);
        tells(&other.enroll(&spare).await.err);
        tells(&agent.call(&["check"]).await.out);
        agent.start();
        eventually("the agent says so", || async {
            let events = agent.events();
            let said = events.iter().filter(|event| event["event_id"] == 31034).filter_map(|e| e["message"].as_str());
            said.into_iter().any(|said| said.contains("what answers there is no relay: ") && said.contains(seen))
        })
        .await;
    }
}
