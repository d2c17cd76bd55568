//! A portal that registers without end: invitations, agents, new keys, approvals.

use std::io;
use std::sync::Arc;

use futures_util::FutureExt;
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::api::NewInvitation;
use writeback_relay::protocol::enrollment::AgentKeys;
use writeback_relay::protocol::enrolment_code::{EnrolmentCode, Secret};
use writeback_relay::protocol::ids::{AgentId, InvitationId, JournalId, ObjectId};
use writeback_relay::protocol::jose::{SealingKey, SigningKey};
use writeback_relay::protocol::limits::INVITATION_LIFETIME;
use writeback_relay::protocol::rotation::{About, AgentRotation};

use crate::attack::{Attack, By, Node, Variant};
use crate::attacker::Attacker;
use crate::wire::http1::{Http1, request};

pub(super) static ATTACK: Attack = Attack {
    name: "registrations without end",
    by: By::Tenant { pending: 0, approved: 4 },
    node: Node::EMBEDDED,
    variants: &[
        Variant { name: "invitations", act: |attacker| attacker.crowd(4, invitations).boxed() },
        Variant { name: "agents", act: |attacker| attacker.crowd(4, agents).boxed() },
        Variant { name: "rotations", act: |attacker| attacker.crowd(4, rotations).boxed() },
        Variant { name: "approvals of unknown agents", act: |attacker| attacker.crowd(4, approvals).boxed() },
    ],
};

const JSON: &str = "content-type: application/json";

/// A code that the relay knows.
async fn invite(attacker: &Attacker, http: &mut Http1) -> io::Result<EnrolmentCode> {
    let tenant = attacker.tenant();
    let id = InvitationId::new(&System, &System);
    let mut token = [0; 32];
    writeback_relay::clock::Random::fill(&System, &mut token);
    let code = EnrolmentCode {
        relay: attacker.url.clone(),
        tenant: tenant.tenant.clone(),
        invitation: id,
        token: Secret::new(token),
        portal: tenant.portal.id.clone(),
        portal_key: tenant.portal.key.kid().clone(),
        secret: Secret::new(token),
    };
    let expires_at = System.now().plus(INVITATION_LIFETIME);
    let invitation = NewInvitation { id, token_sha256: code.token.hash(), expires_at };
    let (path, body) =
        (format!("/v1/tenants/{}/invitations", tenant.tenant), serde_json::to_string(&invitation).unwrap());
    http.ask(&request("POST", &path, &[&tenant.authorization(), JSON], &body)).await?;
    Ok(code)
}

async fn invitations(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut http = Http1::new(attacker.dialer.http1().await?);
    loop {
        invite(&attacker, &mut http).await?;
    }
}

async fn agents(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut http = Http1::new(attacker.dialer.http1().await?);
    let mut agent = attacker.unknown_agent();
    loop {
        let code = invite(&attacker, &mut http).await?;
        (agent.agent, agent.journal) = (AgentId::new(&System, &System), JournalId::new(&System, &System));
        let body = serde_json::to_string(&agent.enrollment(&code)).unwrap();
        http.ask(&request("POST", "/v1/enrollments", &[JSON], &body)).await?;
    }
}

/// Each is followed: they are in order, and signed by the key before.
async fn rotations(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    let tenant = attacker.tenant();
    let agent = &tenant.approved[hand % tenant.approved.len()];
    let mut http = Http1::new(attacker.dialer.http1().await?);
    let (mut key, mut keys) = (agent.signing.clone(), agent.keys());
    for seq in 1.. {
        let new = SigningKey::generate(&System).unwrap();
        let next =
            AgentKeys { signing: new.public().clone(), sealing: SealingKey::generate().unwrap().public().clone() };
        let about = About {
            iss: agent.agent,
            relay: attacker.url.clone(),
            tenant: Some(tenant.tenant.clone()),
            jti: ObjectId::new(&System, &System),
            iat: System.now(),
        };
        let rotation = AgentRotation::new(about, seq, keys, next.clone(), &new).unwrap().sign(&key).unwrap();
        http.ask(&request("POST", "/v1/agent/rotations", &["content-type: application/jose"], &rotation)).await?;
        (key, keys) = (new, next);
    }
    Ok(())
}

async fn approvals(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let tenant = attacker.tenant();
    let mut http = Http1::new(attacker.dialer.http1().await?);
    loop {
        let unknown = AgentId::new(&System, &System);
        let path = format!("/v1/tenants/{}/agents/{unknown}/approval", tenant.tenant);
        http.ask(&request("POST", &path, &[&tenant.authorization()], "")).await?;
    }
}
