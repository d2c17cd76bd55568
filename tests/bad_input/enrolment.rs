use writeback_relay::clock::{Clock, System, UnixTime};
use writeback_relay::protocol::api::{Enrollment, NewInvitation};
use writeback_relay::protocol::enrolment_code::{EnrolmentCode, Secret};
use writeback_relay::protocol::ids::{AgentId, InvitationId};
use writeback_relay::protocol::jose::{SealingKey, SigningKey};

use super::{audited, counted};
use crate::support::raw_agent::RawAgent;
use crate::support::relay::{Relay, TENANT, TestPortal, tenant};

async fn refused(relay: &Relay, portal: &TestPortal, agent: &RawAgent, enrollment: &Enrollment, code: &str) {
    let answered = counted(relay, code, agent.redeem(portal, enrollment)).await;
    assert_eq!(answered.problem(), code, "{}", answered.text());
}

#[tokio::test]
async fn an_invitation_is_used_once_and_the_same_request_is_answered_again() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let code = portal.portal.invite(&tenant(), false).await.unwrap();
    let (first, second) = (RawAgent::new(&relay), RawAgent::new(&relay));
    let good = first.enrollment(&code);
    assert_eq!(first.redeem(&portal, &good).await.status, 201);
    assert_eq!(first.redeem(&portal, &good).await.status, 201, "its answer may have been lost");
    refused(&relay, &portal, &second, &second.enrollment(&code), "invitation_used").await;
    audited(&relay, "enrollment_refused", "invitation_used");
    assert_eq!(portal.portal.agents(&tenant()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_enrolment_that_does_not_hold_leaves_the_invitation_open() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let code = portal.portal.invite(&tenant(), false).await.unwrap();
    let agent = RawAgent::new(&relay);
    let good = || agent.enrollment(&code);
    let other_key = SigningKey::generate(&System).unwrap();

    let wrong_token = EnrolmentCode { token: Secret::new([9; 32]), ..code.clone() };
    let elsewhere = EnrolmentCode { relay: "https://other.example".into(), ..code.clone() };
    let other_tenant = EnrolmentCode { tenant: "fabrikam".parse().unwrap(), ..code.clone() };
    let unknown = EnrolmentCode { invitation: InvitationId::new(&System, &System), ..code.clone() };
    for bad in [
        agent.enrollment(&wrong_token),
        agent.enrollment(&elsewhere),
        agent.enrollment(&other_tenant),
        agent.enrollment(&unknown),
        Enrollment { agent: AgentId::new(&System, &System), ..good() },
        Enrollment { signing_key: other_key.public().clone(), ..good() },
        Enrollment { sealing_key: SealingKey::generate().unwrap().public().clone(), ..good() },
        Enrollment { proof: good().attestation, ..good() },
    ] {
        refused(&relay, &portal, &agent, &bad, "invalid_enrollment").await;
    }
    let no_sealing_key = Enrollment { sealing_key: other_key.public().clone(), ..good() };
    refused(&relay, &portal, &agent, &no_sealing_key, "unprocessable").await;
    refused(&relay, &portal, &agent, &Enrollment { attestation: "x".into(), ..good() }, "malformed").await;
    assert_eq!(agent.redeem(&portal, &good()).await.status, 201, "the invitation was never used");
}

#[tokio::test]
async fn an_invitation_that_lies_too_far_ahead_or_behind_is_refused() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let invite = |seconds: i64, token_sha256: &str| {
        let id = InvitationId::new(&System, &System);
        let expires_at = UnixTime(System.now().0 + seconds);
        let new = NewInvitation { id, token_sha256: token_sha256.to_owned(), expires_at };
        let (raw, bearer) = (&portal.raw, portal.raw.assertion().sign(&portal.raw.key).unwrap());
        async move {
            raw.send(|http, relay| {
                http.post(format!("{relay}/v1/tenants/{TENANT}/invitations")).bearer_auth(bearer).json(&new)
            })
            .await
        }
    };
    let hash = Secret::new([1; 32]).hash();
    assert_eq!(invite(60, &hash).await.status, 201);
    for (seconds, token) in [(0, &*hash), (-5, &hash), (25 * 3600, &hash), (60, "short"), (60, "")] {
        assert_eq!(invite(seconds, token).await.problem(), "unprocessable");
    }
}

#[tokio::test]
async fn an_attestation_by_another_secret_is_found_by_the_portal() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let code = portal.portal.invite(&tenant(), true).await.unwrap();
    let agent = RawAgent::new(&relay);
    // A relay that slips in an agent of its own knows the token, and not the secret.
    let forged = EnrolmentCode { secret: Secret::new([3; 32]), ..code };
    assert_eq!(agent.redeem(&portal, &agent.enrollment(&forged)).await.status, 201);
    let listed = portal.portal.agents(&tenant()).await.unwrap();
    assert!(listed[0].standing.is_none(), "it is not trusted, although the invitation says auto-approve");
    assert!(listed[0].warnings[0].to_string().contains("DOES NOT HOLD"), "{:?}", listed[0].warnings);
    let fingerprint = agent.keys().fingerprint(agent.agent);
    assert!(portal.portal.approve(&tenant(), agent.agent, &fingerprint).await.is_err());
    let still_open = portal.portal.availability(&tenant()).await.unwrap();
    assert!(!still_open.available);
}
