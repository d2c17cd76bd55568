//! Outcomes that nobody has asked for, of an agent that nobody has approved, or that anybody has.

use std::io;
use std::sync::Arc;

use futures_util::FutureExt;
use writeback_relay::clock::System;
use writeback_relay::protocol::frame::{FromAgent, v1};
use writeback_relay::protocol::ids::InstanceId;
use writeback_relay::protocol::outcome::Code;

use crate::attack::{Attack, By, Node, Variant};
use crate::attacker::Attacker;
use crate::support::raw_agent::RawAgent;
use crate::wire::websocket::{WebSocket, message};

const FLOODS: &[Variant] = &[
    Variant { name: "a pending agent's", act: |attacker| attacker.crowd(4, pending).boxed() },
    Variant { name: "an approved agent's", act: |attacker| attacker.crowd(4, approved).boxed() },
];

pub(super) static FLOOD: Attack = Attack {
    name: "outcomes of commands that nobody sent",
    by: By::Tenant { pending: 4, approved: 4 },
    node: Node::EMBEDDED,
    variants: FLOODS,
};

pub(super) static FLOOD_OF_REDIS: Attack = Attack {
    name: "the same, with a Redis of 32 MiB",
    by: By::Tenant { pending: 4, approved: 4 },
    node: Node::SMALL_REDIS,
    variants: FLOODS,
};

pub(super) static UNREAD: Attack = Attack {
    name: "one outcome again and again, answers unread",
    by: By::Tenant { pending: 4, approved: 4 },
    node: Node::EMBEDDED,
    variants: &[
        Variant { name: "by a pending agent", act: |attacker| attacker.crowd(1, pending_unread).boxed() },
        Variant { name: "by an approved agent", act: |attacker| attacker.crowd(1, approved_unread).boxed() },
    ],
};

/// An outcome of a command that nobody has sent, to this portal, so long.
fn outcome(attacker: &Attacker, agent: &RawAgent, portal: &str, detail: usize) -> Vec<u8> {
    let tenant = attacker.tenant();
    let mut command = tenant.portal.command(agent.agent, "jane@corp.example");
    (command.tenant, command.iss) = (tenant.tenant.clone(), portal.parse().unwrap());
    let mut outcome = agent.outcome(&command, Code::PasswordReset);
    outcome.detail = "x".repeat(detail).into();
    let jws = outcome.sign(&agent.signing).unwrap();
    message(FromAgent::Outcome(v1::Outcome { command: command.jti.to_string(), jws }))
}

/// As large as frames may be; every second one for a portal that does not exist.
async fn flood(attacker: &Attacker, agent: &RawAgent) -> io::Result<()> {
    let mut session = WebSocket::session(&attacker.dialer, agent, InstanceId::new(&System, &System)).await?;
    loop {
        for portal in ["portal-2", "nobody"] {
            session.send(&outcome(attacker, agent, portal, 11_000)).await?;
            session.discard_what_came()?;
        }
    }
}

async fn unread(attacker: &Attacker, agent: &RawAgent) -> io::Result<()> {
    let mut session = WebSocket::narrow_session(&attacker.dialer, agent).await?;
    let many = outcome(attacker, agent, "portal-2", 10).repeat(100);
    loop {
        session.send(&many).await?;
    }
}

async fn pending(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    flood(&attacker, &attacker.tenant().pending[hand % 4]).await
}

async fn approved(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    flood(&attacker, &attacker.tenant().approved[hand % 4]).await
}

async fn pending_unread(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    unread(&attacker, &attacker.tenant().pending[hand % 4]).await
}

async fn approved_unread(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    unread(&attacker, &attacker.tenant().approved[hand % 4]).await
}
