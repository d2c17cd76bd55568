//! Sessions that are opened and dropped at once, again and again.

use std::io;
use std::sync::Arc;

use futures_util::FutureExt;
use writeback_relay::clock::System;
use writeback_relay::protocol::ids::InstanceId;

use crate::attack::{Attack, By, Node, Variant};
use crate::attacker::Attacker;
use crate::wire::websocket::WebSocket;

const AGENTS: usize = 8;

pub(super) static ATTACK: Attack = Attack {
    name: "sessions opened and dropped",
    by: By::Tenant { pending: AGENTS, approved: 0 },
    node: Node::EMBEDDED,
    variants: &[
        Variant { name: "after Welcome", act: |attacker| attacker.crowd(40, welcomed).boxed() },
        Variant { name: "before Hello", act: |attacker| attacker.crowd(40, mute).boxed() },
    ],
};

async fn welcomed(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    let agent = &attacker.tenant().pending[hand % AGENTS];
    WebSocket::session(&attacker.dialer, agent, InstanceId::new(&System, &System)).await.map(drop)
}

/// It keeps what an upgrade takes until the node misses its `Hello`.
async fn mute(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    let agent = &attacker.tenant().pending[hand % AGENTS];
    WebSocket::upgrade(&attacker.dialer, agent).await?.drain().await
}
