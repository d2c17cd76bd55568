//! Frames that RFC 6455 forbids, or allows without end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::sleep;
use writeback_relay::clock::System;
use writeback_relay::protocol::ids::InstanceId;

use crate::attack::{Attack, By, Node, Variant};
use crate::attacker::Attacker;
use crate::wire::websocket::{BINARY, CONTINUATION, FIN, PING, RSV1, WebSocket, frame};

const AGENTS: usize = 8;

pub(super) static ATTACK: Attack = Attack {
    name: "WebSocket frames",
    by: By::Tenant { pending: AGENTS, approved: 0 },
    node: Node::EMBEDDED,
    variants: &[
        Variant { name: "fragments without an end", act: |attacker| attacker.crowd(100, fragments).boxed() },
        Variant { name: "empty fragments", act: |attacker| attacker.crowd(2, empty_fragments).boxed() },
        Variant { name: "pings, answers unread", act: |attacker| attacker.crowd(2, pings).boxed() },
        Variant { name: "16 KiB byte by byte", act: |attacker| attacker.crowd(100, trickled).boxed() },
        Variant { name: "compressed", act: |attacker| attacker.crowd(2, compressed).boxed() },
        Variant { name: "not masked", act: |attacker| attacker.crowd(2, unmasked).boxed() },
    ],
};

/// Of an agent that no other hand of these variants has: the same one would displace itself.
async fn session(attacker: &Attacker, hand: usize) -> io::Result<WebSocket> {
    let agent = &attacker.tenant().pending[hand % AGENTS];
    WebSocket::session(&attacker.dialer, agent, InstanceId::new(&System, &System)).await
}

/// One byte less than a frame may have, and no end: before `Hello`, so that nobody has to leave for it.
async fn fragments(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    let mut socket = WebSocket::upgrade(&attacker.dialer, &attacker.tenant().pending[hand % AGENTS]).await?;
    socket.send(&frame(BINARY, true, &[0; 8192])).await?;
    socket.send(&frame(CONTINUATION, true, &[0; 8191])).await?;
    socket.drain().await
}

async fn empty_fragments(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    let mut socket = session(&attacker, hand).await?;
    socket.send(&frame(BINARY, true, &[])).await?;
    let many = frame(CONTINUATION, true, &[]).repeat(1000);
    loop {
        socket.send(&many).await?;
    }
}

async fn pings(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    let agent = &attacker.tenant().pending[(hand + 2) % AGENTS];
    let mut socket = WebSocket::narrow_session(&attacker.dialer, agent).await?;
    let many = frame(FIN | PING, true, &[0; 125]).repeat(100);
    loop {
        socket.send(&many).await?;
    }
}

async fn trickled(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    let mut socket = WebSocket::upgrade(&attacker.dialer, &attacker.tenant().pending[hand % AGENTS]).await?;
    for byte in frame(FIN | BINARY, true, &[0; 16 * 1024]) {
        socket.send(&[byte]).await?;
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn compressed(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    let mut socket = session(&attacker, hand + 4).await?;
    socket.send(&frame(FIN | RSV1 | BINARY, true, &[0; 1000])).await?;
    socket.drain().await
}

async fn unmasked(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    let mut socket = session(&attacker, hand + 6).await?;
    socket.send(&frame(FIN | BINARY, false, &[0; 1000])).await?;
    socket.drain().await
}
