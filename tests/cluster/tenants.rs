//! Tenants and portals that share nodes, and know nothing of each other whichever node they come by.

use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::frame::{FromAgent, v1};
use writeback_relay::protocol::ids::TenantId;
use writeback_relay::protocol::jose::Validity;
use writeback_relay::protocol::limits::MAX_CLOCK_AHEAD;
use writeback_relay::protocol::outcome::{Code, Outcome};

use super::{JANE, NEW, command, conclude, stored};
use crate::support::cluster::Cluster;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::redis::Redis;
use crate::support::relay::{Answered, RawPortal, TestPortal, now};

/// Two nodes. The agent of the first tenant is at the first, that of the second at the second.
struct Stage {
    cluster: Cluster,
    portals: [TestPortal; 2],
    agents: [RawAgent; 2],
    sessions: [RawSession; 2],
}

fn second() -> TenantId {
    "fabrikam".parse().unwrap()
}

impl Stage {
    async fn set() -> Self {
        let cluster = Cluster::start(2, Redis::single().await).await;
        let node = &cluster.nodes[0];
        node.admin().add_tenant(second()).await.unwrap();
        let portals = [node.portal("portal-1").await, node.portal("portal-2").await];
        node.grant(&portals[1].raw.id, portals[1].raw.key.public(), &["fabrikam"]).await;
        let agents =
            [RawAgent::enrolled(node, &portals[0]).await, RawAgent::enrolled_in(second(), node, &portals[1]).await];
        let one = agents[0].open().await;
        cluster.choose(1);
        let sessions = [one, agents[1].open().await];
        cluster.choose(0);
        Self { cluster, portals, agents, sessions }
    }
}

/// Submits to a tenant by its path.
async fn submit_to(portal: &RawPortal, tenant: &str, jws: String, wait: u64) -> Answered {
    let bearer = portal.assertion().sign(&portal.key).unwrap();
    portal
        .send(|http, relay| {
            let request = http.post(format!("{relay}/v1/tenants/{tenant}/commands")).bearer_auth(bearer).body(jws);
            request.header("content-type", "application/jose").header("prefer", format!("wait={wait}"))
        })
        .await
}

#[tokio::test]
async fn a_portal_reaches_no_agent_of_another_tenant_by_any_node() {
    let Stage { cluster, portals, agents, mut sessions } = Stage::set().await;
    for node in [0, 1] {
        cluster.choose(node);
        let foreign = |tenant: &str| {
            let mut claims = portals[0].raw.command(agents[1].agent, JANE);
            claims.tenant = tenant.parse().unwrap();
            // As late as it can be: of older ones a Redis that has just begun does not know whether it has lost them.
            claims.validity = Validity { iat: now().plus(MAX_CLOCK_AHEAD), exp: now().plus(MAX_CLOCK_AHEAD * 2) };
            portals[0].raw.sealed(claims, agents[1].sealing.public(), NEW).1
        };
        for (path, claimed, refusal) in [
            ("fabrikam", "fabrikam", "tenant_not_granted"),
            ("fabrikam", "contoso", "tenant_not_granted"),
            ("contoso", "fabrikam", "unprocessable"),
            ("contoso", "contoso", "unknown_agent"),
        ] {
            let answered = submit_to(&portals[0].raw, path, foreign(claimed), 0).await;
            assert_eq!(answered.problem(), refusal, "node {node}: {path}, {claimed}");
        }
        let mut claims = portals[1].raw.command(agents[1].agent, JANE);
        claims.tenant = second();
        let (own, jws) = portals[1].raw.sealed(claims, agents[1].sealing.public(), NEW);
        let submitting = submit_to(&portals[1].raw, "fabrikam", jws, 30);
        let (answered, got) = tokio::join!(submitting, conclude(&agents[1], &mut sessions[1]));
        assert_eq!((answered.status, got), (200, own.jti), "it gets its own portal's, and nothing else");
    }
}

#[tokio::test]
async fn an_outcome_of_another_tenants_agent_at_another_node_says_nothing_about_a_command() {
    let Stage { cluster, portals, agents, mut sessions } = Stage::set().await;
    let (asked, jws) = portals[0].raw.reset(agents[0].agent, agents[0].sealing.public(), JANE, NEW);
    assert_eq!(portals[0].raw.submit(&jws, 0).await.status, 202);
    assert_eq!(command(&mut sessions[0]).await.1.jti, asked.jti);
    cluster.choose(1);
    let said = |outcome: Outcome| {
        let jws = outcome.sign(&agents[1].signing).unwrap();
        FromAgent::Outcome(v1::Outcome { command: asked.jti.to_string(), jws })
    };
    // In its own name and tenant: it is kept where it belongs, and nobody asks for it there.
    let own =
        Outcome { tenant: second(), aud: portals[1].raw.id.clone(), ..agents[1].outcome(&asked, Code::PasswordReset) };
    sessions[1].send(said(own)).await;
    stored(&mut sessions[1]).await;
    let still_open = || async {
        let view: CommandView = portals[0].raw.follow(asked.jti, 0).await.json();
        assert!(view.outcome.is_none() && view.state != CommandState::Concluded, "{view:?}");
    };
    still_open().await;
    let foreign_tenant = agents[1].outcome(&asked, Code::PasswordReset);
    let foreign_name = Outcome { iss: agents[0].agent, ..agents[1].outcome(&asked, Code::PasswordReset) };
    for outcome in [foreign_tenant, foreign_name] {
        let mut session = agents[1].open().await;
        session.send(said(outcome)).await;
        refused(&mut session).await;
        still_open().await;
    }
    // Of the same tenant, and not the agent that was asked.
    let colleague = RawAgent::enrolled(&cluster.nodes[0], &portals[0]).await;
    let mut session = colleague.open().await;
    session.send(colleague.outcome_frame(&asked, Code::PasswordReset)).await;
    refused(&mut session).await;
    still_open().await;

    sessions[0].send(agents[0].outcome_frame(&asked, Code::PasswordReset)).await;
    stored(&mut sessions[0]).await;
    let view = portals[0].raw.concluded(asked.jti).await;
    let outcome = crate::guarantees::outcome(&view, &asked, agents[0].signing.public());
    assert_eq!(outcome.iss, agents[0].agent);
}

/// The relay closes, because of the outcome.
async fn refused(session: &mut RawSession) {
    let (code, reason) = session.closed().await;
    assert!(code == 1008 && reason.starts_with("foreign_outcome: "), "{code} {reason}");
}
