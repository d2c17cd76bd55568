//! Who has, or does, too much is told so, and when to come back; nobody else notices.

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite;
use writeback_relay::net::tls_client;
use writeback_relay::protocol::api::CommandView;
use writeback_relay::protocol::frame::SUBPROTOCOL;
use writeback_relay::protocol::outcome::Code;
use writeback_relay::relay::config::LimitsConfig;
use writeback_relay::telemetry::limit::Limit;

use super::{counted, counter, counting};
use crate::support::deadline;
use crate::support::raw_agent::RawAgent;
use crate::support::relay::{Answered, Relay, TestPortal};

struct Stage {
    relay: Relay,
    portal: TestPortal,
    agent: RawAgent,
}

async fn stage(settings: &str) -> Stage {
    let relay = Relay::start_with(settings).await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    Stage { relay, portal, agent }
}

impl Stage {
    fn reset(&self) -> String {
        self.portal.raw.reset(self.agent.agent, self.agent.sealing.public(), "jane@corp.example", "Pass-Word-2026").1
    }

    async fn submit(&self, jws: &str) -> Answered {
        self.portal.raw.submit(jws, 0).await
    }

    /// The relay has too much of this, counts it, and says when to come back.
    async fn too_much(&self, jws: &str, limit: &str) {
        let hits = format!("writeback_limits_hits_total{{limit=\"{limit}\"}}");
        let answered = counted(&self.relay, "rate_limited", counting(&self.relay, &hits, self.submit(jws))).await;
        told_to_come_back(&answered);
    }
}

fn told_to_come_back(answered: &Answered) {
    assert_eq!((answered.status, answered.problem().as_str()), (429, "rate_limited"), "{}", answered.text());
    let seconds: u32 = answered.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&seconds));
}

#[tokio::test]
async fn commands_of_a_tenant_that_come_too_fast_are_answered_429_and_what_was_taken_before_is_answered_as_before() {
    // Two in a moment, and the next in a second.
    let stage = stage("[limits]\ntenant_commands_per_second = 1").await;
    let taken = stage.reset();
    let known = stage.submit(&taken).await.problem();
    assert_eq!(known, "no_agent");
    let refused = loop {
        let jws = stage.reset();
        let answered = stage.submit(&jws).await;
        if answered.problem() == "rate_limited" {
            told_to_come_back(&answered);
            break jws;
        }
    };
    // Nothing is known of one that was refused: it may be sent again, and is refused again or taken.
    assert!(["rate_limited", "no_agent"].contains(&stage.submit(&refused).await.problem().as_str()));
    for _ in 0..5 {
        assert_eq!(stage.submit(&taken).await.problem(), known, "its end is known");
    }
    assert!(counter(&stage.relay, "writeback_limits_hits_total{limit=\"tenant_rate\"}").await > 0);
}

#[tokio::test]
async fn a_tenant_whose_commands_are_not_answered_gets_no_more_of_them_in_until_one_is() {
    let stage = stage("[limits]\ntenant_in_flight = 1").await;
    let mut session = stage.agent.open().await;
    let held = stage.submit(&stage.reset()).await;
    assert_eq!(held.status, 202, "{}", held.text());
    let asked = session.delivery().await;
    let next = stage.reset();
    stage.too_much(&next, "tenant_in_flight").await;
    let command = writeback_relay::protocol::command::Command::parse(&asked.command_jws).unwrap().unverified().unwrap();
    session.send(stage.agent.outcome_frame(&command, Code::PasswordReset)).await;
    stage.portal.raw.concluded(held.json::<CommandView>().command).await;
    crate::support::eventually("there is room again", || async { stage.submit(&next).await.status == 202 }).await;
}

#[tokio::test]
async fn a_tenant_has_so_many_sessions_and_whoever_comes_then_is_told_to_come_back() {
    let stage = stage("[limits]\ntenant_sessions = 1").await;
    let mut session = stage.agent.open().await;
    let hits = "writeback_limits_hits_total{limit=\"tenant_sessions\"}";
    let bearer = stage.agent.assertion().sign(&stage.agent.signing).unwrap();
    let upgrade = counting(&stage.relay, hits, stage.agent.upgrade(&bearer, SUBPROTOCOL));
    let Err(tungstenite::Error::Http(answer)) = upgrade.await else { panic!("it was not refused") };
    assert_eq!(answer.status(), 429);
    assert!(answer.headers().contains_key("retry-after"));
    session.0.close(None).await.unwrap();
    crate::support::eventually("there is room again", || async {
        let bearer = stage.agent.assertion().sign(&stage.agent.signing).unwrap();
        stage.agent.upgrade(&bearer, SUBPROTOCOL).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn who_guesses_credentials_is_not_heard_for_a_while_whatever_he_shows() {
    let settings = "[limits]\naddress_rejections_per_minute = 3\n[client_address]\nfrom = \"connection\"";
    let stage = stage(settings).await;
    let guess =
        || stage.portal.raw.send(|http, relay| http.get(format!("{relay}/v1/tenants/contoso/agents")).bearer_auth("x"));
    let rejected = "writeback_credentials_rejected_total{kind=\"portal\",reason=\"invalid_assertion\"}";
    for _ in 0..4 {
        assert_eq!(counting(&stage.relay, rejected, guess()).await.problem(), "invalid_assertion");
    }
    stage.too_much(&stage.reset(), "address_rejections").await;
    // The operator is not one of them.
    assert!(stage.relay.admin().tenants().await.is_ok());
}

#[tokio::test]
async fn connections_beyond_the_files_of_the_process_are_dropped_and_counted_and_the_others_live_on() {
    // Eight are left, of which two may be without a credential, and two portals'.
    let relay = Relay::start_with_files(264).await;
    let portal = relay.portal("portal-1").await;
    let agents = [RawAgent::enrolled(&relay, &portal).await, RawAgent::enrolled(&relay, &portal).await];
    drop(portal);
    let hits = "writeback_limits_hits_total{limit=\"connections\"}";
    let mut held = Vec::new();
    for _ in 0..4 {
        for agent in &agents {
            held.push(agent.open().await);
        }
    }
    let mut beyond = TcpStream::connect(relay.public_addr()).await.unwrap();
    // It is closed, or reset: either way at once, and nothing was said.
    let said = deadline("it is dropped", beyond.read(&mut [0; 1])).await;
    assert!(matches!(said, Ok(0) | Err(_)), "{said:?}");
    assert_eq!(counter(&relay, hits).await, 1);
    held.iter_mut().for_each(|session| assert!(session.0.get_ref().get_ref().0.peer_addr().is_ok()));
    drop(held);
    crate::support::eventually("there is room again", || gets_through(&relay, b"")).await;
}

/// What a load balancer says of a client.
fn proxy_header(client: Ipv4Addr) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(client.octets());
    header.extend([10, 0, 0, 1, 0x12, 0x34, 0x20, 0xfb]);
    header
}

/// Whether this client, behind the load balancer, gets through with TLS.
async fn gets_through(relay: &Relay, header: &[u8]) -> bool {
    let mut tcp = TcpStream::connect(relay.public_addr()).await.unwrap();
    tcp.write_all(header).await.unwrap();
    let tls = TlsConnector::from(Arc::new(tls_client(Some(&relay.ca_file())).unwrap()));
    let name = rustls::pki_types::ServerName::from(relay.public_addr().ip());
    deadline("the relay answers, or ends the connection", tls.connect(name, tcp)).await.is_ok()
}

#[tokio::test]
async fn behind_a_load_balancer_the_client_that_shakes_hands_too_often_is_cut_off_and_the_others_are_not() {
    let settings = "[limits]\naddress_handshakes_per_second = 1\n[client_address]\nfrom = \"proxy_protocol\"\n\
                    trusted_proxies = [\"127.0.0.0/8\"]";
    let relay = Relay::start_with(settings).await;
    let [eager, calm] = [7, 8].map(|last| proxy_header(Ipv4Addr::new(192, 0, 2, last)));
    let mut cut_off = false;
    // Ten in a moment, and one more each second that this takes.
    for _ in 0..100 {
        cut_off |= !gets_through(&relay, &eager).await;
    }
    assert!(cut_off);
    assert!(counter(&relay, "writeback_limits_hits_total{limit=\"address_handshakes\"}").await > 0);
    assert!(gets_through(&relay, &calm).await);
    assert!(!gets_through(&relay, b"").await, "nobody knows who that is");
}

#[test]
fn the_runbook_has_a_line_for_each_limit_with_its_default() {
    let runbook = include_str!("../../docs/operations.md");
    let (_, section) = runbook.split_once("\n## Limits\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows: Vec<&str> =
        section.lines().filter(|line| line.starts_with("| `") && !line.starts_with("| `limit`")).collect();
    let row = |limit: &str| {
        let row = rows.iter().find(|row| row.starts_with(&format!("| `{limit}` |")));
        *row.unwrap_or_else(|| panic!("docs/operations.md has no row for {limit}"))
    };
    for limit in Limit::ALL {
        assert_eq!(
            row(limit.as_str()).split(" | ").count(),
            4,
            "{}: its default, meaning, and what to do",
            limit.as_str()
        );
    }
    assert_eq!(rows.len(), Limit::ALL.len(), "one row for each");
    let config = LimitsConfig::default();
    for (limit, field, default) in [
        (Limit::TenantRate, "tenant_commands_per_second", config.tenant_commands_per_second),
        (Limit::TenantInFlight, "tenant_in_flight", config.tenant_in_flight),
        (Limit::TenantSessions, "tenant_sessions", config.tenant_sessions),
        (Limit::TenantStored, "tenant_stored_mib", config.tenant_stored_mib),
        (Limit::AgentForgotten, "agent_forgotten_outcomes", config.agent_forgotten_outcomes),
        (Limit::SessionFrames, "session_frames_per_second", config.session_frames_per_second),
        (Limit::TenantInvitations, "tenant_invitations", config.tenant_invitations),
        (Limit::TenantAgents, "tenant_agents", config.tenant_agents),
        (Limit::TenantUnapprovedAgents, "tenant_unapproved_agents", config.tenant_unapproved_agents),
        (Limit::TlsHandshakes, "tls_handshakes", config.tls_handshakes),
        (Limit::SessionOpenings, "session_openings", config.session_openings),
        (Limit::PortalRequests, "portal_requests", config.portal_requests),
        (Limit::Requests, "requests", config.requests),
        (Limit::PortalConnections, "portal_connections", config.portal_connections),
        (Limit::AddressConnections, "address_connections", config.address_connections),
        (Limit::AddressHandshakes, "address_handshakes_per_second", config.address_handshakes_per_second),
        (Limit::AddressRejections, "address_rejections_per_minute", config.address_rejections_per_minute),
    ] {
        let said = format!("`{field} = {default}`");
        assert!(row(limit.as_str()).contains(&said), "docs/operations.md, {}: {said}", limit.as_str());
    }
}
