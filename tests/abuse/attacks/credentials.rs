//! Credentials that do not hold, as fast as they can be shown.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::assertion::PortalAssertion;
use writeback_relay::protocol::enrolment_code::{EnrolmentCode, Secret};
use writeback_relay::protocol::ids::{InvitationId, ObjectId};
use writeback_relay::protocol::jose::{SigningKey, Validity};

use crate::attack::{Attack, By, Node, Variant};
use crate::attacker::Attacker;
use crate::support::relay::tenant;
use crate::wire::http1::{Http1, request};

pub(super) static ATTACK: Attack = Attack {
    name: "refused credentials",
    by: By::Stranger,
    node: Node::EMBEDDED,
    variants: &[
        Variant { name: "no assertion at all", act: |attacker| attacker.crowd(20, garbage).boxed() },
        Variant { name: "assertions by an unknown key", act: |attacker| attacker.crowd(10, unknown_key).boxed() },
        Variant { name: "guessed enrolment codes", act: |attacker| attacker.crowd(10, guessed_codes).boxed() },
    ],
};

const AGENTS: &str = "/v1/tenants/contoso/agents";
/// Then the connection is another one, perhaps from another address.
const REQUESTS: usize = 500;

async fn garbage(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut http = Http1::new(attacker.dialer.http1().await?);
    for _ in 0..REQUESTS {
        http.ask(&request("GET", AGENTS, &["authorization: Bearer x"], "")).await?;
    }
    Ok(())
}

async fn unknown_key(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let key = SigningKey::generate(&System).unwrap();
    let assertion = PortalAssertion {
        iss: "portal-1".parse().unwrap(),
        sub: "portal-1".parse().unwrap(),
        aud: attacker.url.clone(),
        jti: ObjectId::new(&System, &System),
        validity: Validity::starting(System.now(), Duration::from_secs(60)),
    };
    let bearer = format!("authorization: Bearer {}", assertion.sign(&key).unwrap());
    let mut http = Http1::new(attacker.dialer.http1().await?);
    for _ in 0..REQUESTS {
        http.ask(&request("GET", AGENTS, &[&bearer], "")).await?;
    }
    Ok(())
}

async fn guessed_codes(attacker: Arc<Attacker>, hand: usize) -> io::Result<()> {
    let agent = attacker.unknown_agent();
    let mut http = Http1::new(attacker.dialer.http1().await?);
    for guess in 0..REQUESTS {
        let mut token = [0; 32];
        token[..8].copy_from_slice(&(hand * REQUESTS + guess).to_be_bytes());
        let code = EnrolmentCode {
            relay: attacker.url.clone(),
            tenant: tenant(),
            invitation: InvitationId::new(&System, &System),
            token: Secret::new(token),
            portal: "portal-1".parse().unwrap(),
            portal_key: agent.signing.public().thumbprint(),
            secret: Secret::new(token),
        };
        let body = serde_json::to_string(&agent.enrollment(&code)).unwrap();
        http.ask(&request("POST", "/v1/enrollments", &["content-type: application/json"], &body)).await?;
    }
    Ok(())
}
