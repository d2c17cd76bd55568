//! A portal whose credential holds, and that has others wait for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::try_join_all;
use tokio::time::timeout;
use writeback_relay::clock::System;
use writeback_relay::protocol::frame::{FromAgent, v1};
use writeback_relay::protocol::ids::{CommandId, InstanceId};

use crate::attack::{Attack, By, Node, Variant};
use crate::attacker::{Attacker, Tenant};
use crate::support::raw_agent::RawAgent;
use crate::wire::http1::{Http1, request};
use crate::wire::http2::{END_HEADERS, END_STREAM, HEADERS, Http2, Method, STREAMS, frame, head, stream};
use crate::wire::websocket::{WebSocket, message};

pub(super) static ATTACK: Attack = Attack {
    name: "a portal that waits",
    by: By::Tenant { pending: 0, approved: 2 },
    node: Node::EMBEDDED,
    variants: &[
        Variant { name: "for a command, thousands of times", act: |attacker| attacker.crowd(1, follow).boxed() },
        Variant { name: "for an agent that is away", act: |attacker| attacker.crowd(8, absent).boxed() },
    ],
};

/// A reset for this agent, sealed and signed, and its id.
fn reset(tenant: &Tenant, agent: &RawAgent) -> (CommandId, String) {
    let mut command = tenant.portal.command(agent.agent, "jane@corp.example");
    command.tenant = tenant.tenant.clone();
    let (command, jws) = tenant.portal.sealed(command, agent.sealing.public(), "New-Passw0rd-2026");
    (command.jti, jws)
}

fn submission(tenant: &Tenant, jws: &str, wait: &str) -> Vec<u8> {
    let path = format!("/v1/tenants/{}/commands", tenant.tenant);
    let headers = [&tenant.authorization(), "content-type: application/jose", wait];
    request("POST", &path, &headers, jws)
}

/// So many connections wait, with as many streams as they may have.
const CONNECTIONS: usize = 24;

/// An agent takes a command and never answers it; everybody waits.
async fn follow(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let tenant = attacker.tenant();
    let agent = &tenant.approved[0];
    let mut session = WebSocket::session(&attacker.dialer, agent, InstanceId::new(&System, &System)).await?;
    let (command, jws) = reset(tenant, agent);
    let mut http = Http1::new(attacker.dialer.http1().await?);
    let answer = http.ask(&submission(tenant, &jws, "prefer: wait=0")).await?;
    if answer.status != 202 {
        return Err(answer.error());
    }
    let path = format!("/v1/tenants/{}/commands/{command}", tenant.tenant);
    let mut waiting = try_join_all((0..CONNECTIONS).map(|_| wait(&attacker, &path))).boxed();
    loop {
        session.send(&message(FromAgent::Heartbeat(v1::Heartbeat::default()))).await?;
        if let Ok(ended) = timeout(Duration::from_secs(5), &mut waiting).await {
            return ended.map(drop);
        }
    }
}

async fn wait(attacker: &Attacker, path: &str) -> io::Result<()> {
    let authorization = attacker.tenant().authorization();
    let authorization = authorization.trim_start_matches("authorization: ");
    let head = head(Method::Get, path, &[("authorization", authorization), ("prefer", "wait=300")]);
    let mut connection = Http2::open(&attacker.dialer, &[]).await?;
    let request = |n| frame(HEADERS, END_HEADERS | END_STREAM, stream(n), &head);
    connection.send(&(0..STREAMS).flat_map(request).collect::<Vec<_>>()).await?;
    connection.keep().await
}

async fn absent(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let tenant = attacker.tenant();
    let mut http = Http1::new(attacker.dialer.http1().await?);
    loop {
        let (_, jws) = reset(tenant, &tenant.approved[1]);
        http.ask(&submission(tenant, &jws, "prefer: wait=300")).await?;
    }
}
