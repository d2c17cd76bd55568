//! What one connection of each kind costs a node, and what follows for nodes that are larger than this machine.

use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::sleep;
use writeback_relay::clock::System;
use writeback_relay::protocol::ids::InstanceId;

use crate::support::raw_agent::RawAgent;
use crate::support::relay::Relay;
use crate::watch::resident;
use crate::wire::http1::{Http1, request};
use crate::wire::http2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, Http2, Method, NOTHING, STREAMS, frame, head, stream as id,
};
use crate::wire::websocket::WebSocket;
use crate::wire::{Dialer, Sources};

/// So many are held at a time: enough that a page or two count for nothing.
const HELD: usize = 1000;
const SETTLE: Duration = Duration::from_secs(1);
const MIB: u64 = 1024 * 1024;
/// A node with as many files as Linux lets a process have.
const FILES: u64 = MIB;

/// What is held. Each is closed when it is dropped.
type Held = Box<dyn std::any::Any + Send>;

async fn one(kind: &str, dialer: &Dialer, agent: &RawAgent) -> io::Result<Held> {
    let asked = frame(HEADERS, END_HEADERS | END_STREAM, id(0), &head(Method::Get, "/v1/x", &[]));
    Ok(match kind {
        "TCP without a byte" => Box::new(dialer.tcp().await?),
        "TLS, nothing asked" => Box::new(dialer.http1().await?),
        "HTTP/1.1 after a request" => {
            let mut http = Http1::new(dialer.http1().await?);
            http.ask(&request("GET", "/v1/x", &[], "")).await?;
            Box::new(http)
        }
        "HTTP/2, nothing asked" => Box::new(Http2::open(dialer, &[]).await?),
        "HTTP/2 after a request" => {
            let mut connection = Http2::open(dialer, &[]).await?;
            connection.send(&asked).await?;
            Box::new(connection)
        }
        "HTTP/2 with 128 bodies of one byte" => {
            let mut connection = Http2::open(dialer, &[]).await?;
            let head = head(Method::Post, "/v1/enrollments", &[]);
            let body = |n| [frame(HEADERS, END_HEADERS, id(n), &head), frame(DATA, NOTHING, id(n), b"{")].concat();
            connection.send(&(0..STREAMS).flat_map(body).collect::<Vec<_>>()).await?;
            Box::new(connection)
        }
        "WebSocket before Hello" => Box::new(WebSocket::upgrade(dialer, agent).await?),
        "agent's session" => {
            // All of one agent: one process of it has more than one.
            Box::new(WebSocket::session(dialer, agent, InstanceId::new(&System, &System)).await?)
        }
        other => panic!("{other}"),
    })
}

/// Resident memory of a fresh node for each of these, in bytes.
async fn cost(kind: &str, count: usize) -> u64 {
    let relay = Relay::start_after("export RUST_LOG=warn && ", "[limits]\ntenant_sessions = 10000\n").await;
    let portal = relay.portal("portal-1").await;
    let mut agents = Vec::new();
    let own_agents = if kind == "agent's session" { count } else { 1 };
    for _ in 0..own_agents {
        agents.push(RawAgent::enrolled(&relay, &portal).await);
    }
    let dialer = Dialer::new(relay.public_addr(), &relay.ca_file(), Sources::Many, 0);
    // The first ones pay for what all share.
    let warm = one(kind, &dialer, &agents[0]).await.unwrap();
    sleep(SETTLE).await;
    let before = resident(relay.pid());
    let opening = (0..count).map(|n| one(kind, &dialer, &agents[n % own_agents]));
    let held: Vec<_> = stream::iter(opening).buffer_unordered(16).map(Result::unwrap).collect().await;
    sleep(SETTLE).await;
    let cost = resident(relay.pid()).saturating_sub(before) / u64::try_from(count).unwrap();
    drop((warm, held));
    cost
}

/// The table.
pub(crate) async fn measure() -> String {
    let mut table = format!(
        "| held | KiB for each | of them in 380 MiB | GiB for {FILES} files | MiB for 5,000 behind one address |\n\
         |---|---:|---:|---:|---:|\n"
    );
    for kind in [
        "TCP without a byte",
        "TLS, nothing asked",
        "HTTP/1.1 after a request",
        "HTTP/2, nothing asked",
        "HTTP/2 after a request",
        "HTTP/2 with 128 bodies of one byte",
        "WebSocket before Hello",
        "agent's session",
    ] {
        let count = if kind.contains("128") || kind.contains("agent") { HELD / 5 } else { HELD };
        let cost = cost(kind, count).await;
        #[expect(clippy::cast_precision_loss, reason = "sizes of memory")]
        let (each, gib) = (cost as f64 / 1024.0, (cost * FILES) as f64 / (1024 * MIB) as f64);
        table.push_str(&format!(
            "| {kind} | {each:.1} | {} | {gib:.1} | {} |\n",
            380 * MIB / cost.max(1),
            5000 * cost / MIB
        ));
    }
    table
}
