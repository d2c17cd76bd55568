//! Frames that an agent may send, as many and as large as it can.

use std::io;
use std::sync::Arc;

use futures_util::FutureExt;
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::frame::{FromAgent, v1};
use writeback_relay::protocol::ids::{CommandId, InstanceId};

use crate::attack::{Attack, By, Node, Variant};
use crate::attacker::Attacker;
use crate::wire::websocket::{WebSocket, message};

const AGENTS: usize = 8;

pub(super) static ATTACK: Attack = Attack {
    name: "an agent's frames",
    by: By::Tenant { pending: 0, approved: AGENTS },
    node: Node::EMBEDDED,
    variants: &[
        Variant { name: "Preflight of 16 KiB", act: |attacker| attacker.crowd(2, preflights).boxed() },
        Variant { name: "Received", act: |attacker| attacker.crowd(2, received).boxed() },
        Variant { name: "Heartbeat", act: |attacker| attacker.crowd(2, heartbeats).boxed() },
        Variant { name: "Acknowledgement", act: |attacker| attacker.crowd(2, acknowledgements).boxed() },
        Variant { name: "Hello with 400 unfinished commands", act: |attacker| attacker.crowd(2, hellos).boxed() },
    ],
};

/// The same frame as fast as the node takes it; `first` is the first agent of these hands.
async fn flood(attacker: &Attacker, agent: usize, frame: FromAgent) -> io::Result<()> {
    let agent = &attacker.tenant().approved[agent % AGENTS];
    let mut session = WebSocket::session(&attacker.dialer, agent, InstanceId::new(&System, &System)).await?;
    let many = message(frame).repeat(10);
    loop {
        session.send(&many).await?;
        session.discard_what_came()?;
    }
}

async fn preflights(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    let row = |n| v1::PreflightRow {
        check: "reset_password".into(),
        target: format!("OU=Unit {n},DC=corp,DC=example"),
        state: 3,
        detail: "x".repeat(400),
        remedy: "x".repeat(400),
        remedy_code: String::new(),
        scope: None,
    };
    let preflight = v1::Preflight { checked_at: System.now().0, rows: (0..18).map(row).collect(), domains: Vec::new() };
    flood(&attacker, hand, FromAgent::Preflight(preflight)).await
}

async fn received(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    let command = CommandId::new(&System, &System).to_string();
    flood(&attacker, hand + 2, FromAgent::Received(v1::Received { command })).await
}

async fn heartbeats(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    flood(&attacker, hand + 4, FromAgent::Heartbeat(v1::Heartbeat::default())).await
}

async fn acknowledgements(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    let jws = format!("{}.{}.{}", "x".repeat(100), "x".repeat(10_000), "x".repeat(86));
    flood(&attacker, hand + 6, FromAgent::Acknowledgement(v1::Acknowledgement { jws })).await
}

async fn hellos(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    let agent = &attacker.tenant().approved[(hand + 6) % AGENTS];
    let mut socket = WebSocket::upgrade(&attacker.dialer, agent).await?;
    let FromAgent::Hello(mut hello) = agent.hello(InstanceId::new(&System, &System)) else { unreachable!() };
    hello.unfinished = (0..400).map(|_| CommandId::new(&System, &System).to_string()).collect();
    socket.send(&message(FromAgent::Hello(hello))).await?;
    socket.next().await.map(drop)
}
