//! How an agent comes in.

use std::path::Path;

use tempfile::TempDir;
use writeback_relay::agent::home::Home;
use writeback_relay::agent::{EnrollError, Enrolment, enroll};
use writeback_relay::clock::System;
use writeback_relay::net::outbound::Access;
use writeback_relay::portal::Told;
use writeback_relay::protocol::enrolment_code::EnrolmentCode;
use writeback_relay::protocol::jose::SigningKey;
use writeback_relay::protocol::problem::ProblemCode;

use crate::support::raw_agent::RawAgent;
use crate::support::relay::{Relay, tenant};
use crate::support::scripted_relay::{Redeem, ScriptedRelay, event_ids};

async fn enrol(relay: &ScriptedRelay, home: &TempDir, code: &EnrolmentCode) -> Result<Enrolment, EnrollError> {
    let home = Home::new(home.path());
    enroll(&home, code, Some(&relay.ca_file), System::clock(), System::random()).await
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn it_pins_only_the_key_of_the_code_and_has_the_fingerprint_that_the_portal_sees() {
    let (relay, dir) = (ScriptedRelay::start().await, tempfile::tempdir().unwrap());
    let enrolled = enrol(&relay, &dir, &relay.code()).await.unwrap();
    let home = Home::new(dir.path());
    let identity = home.identity().unwrap().unwrap();
    assert_eq!(identity.portals[&enrolled.portal].key, *relay.portal.public());
    let seen = relay.agent();
    let keys = home.keys().unwrap().public();
    assert_eq!((&keys.signing, &keys.sealing), (&seen.signing_key, &seen.sealing_key));
    assert_eq!(enrolled.fingerprint, keys.fingerprint(seen.agent));
    assert_eq!(event_ids(dir.path()), [31004, 31018, 31005]);
    assert_eq!(
        files(dir.path()),
        ["audit.jsonl", "events.jsonl", "identity.json", "journal.redb", "sealing-key.jwk", "signing-key.jwk"]
    );
    assert!(matches!(enrol(&relay, &dir, &relay.code()).await, Err(EnrollError::Already { .. })));
    assert_eq!(relay.enrollments().len(), 1);
}

#[tokio::test]
async fn after_a_lost_answer_the_same_code_enrols_the_same_agent() {
    let (relay, dir) = (ScriptedRelay::start().await, tempfile::tempdir().unwrap());
    let code = relay.code();
    let good = Redeem::Keys(vec![relay.portal.public().clone()]);
    relay.redeem(Redeem::Lose);
    let error = enrol(&relay, &dir, &code).await.unwrap_err();
    assert!(matches!(error, EnrollError::NoAnswer { .. }), "{error}");
    assert_eq!(event_ids(dir.path()), [31004, 31018, 32001]);
    relay.redeem(good.clone());
    let enrolled = enrol(&relay, &dir, &code).await.unwrap();
    let asked = relay.enrollments();
    assert_eq!(asked.len(), 2);
    assert_eq!((asked[0].agent, asked[0].journal), (enrolled.agent, asked[1].journal));
    assert_eq!((&asked[0].signing_key, &asked[0].sealing_key), (&asked[1].signing_key, &asked[1].sealing_key));

    // Another code in between begins anew.
    let other = tempfile::tempdir().unwrap();
    relay.redeem(Redeem::Lose);
    enrol(&relay, &other, &code).await.unwrap_err();
    relay.redeem(good);
    enrol(&relay, &other, &relay.code()).await.unwrap();
    let asked = relay.enrollments();
    assert!(asked[2].agent != asked[3].agent && asked[2].signing_key != asked[3].signing_key);
}

#[tokio::test]
async fn a_relay_that_slips_in_another_portals_key_is_refused_and_nothing_is_kept() {
    let (relay, dir) = (ScriptedRelay::start().await, tempfile::tempdir().unwrap());
    relay.redeem(Redeem::Keys(vec![SigningKey::generate(&System).unwrap().public().clone()]));
    let error = enrol(&relay, &dir, &relay.code()).await.unwrap_err();
    assert!(matches!(error, EnrollError::Untrusted(_)), "{error}");
    assert_eq!(files(dir.path()), ["audit.jsonl", "events.jsonl"]);
}

#[tokio::test]
async fn a_refusal_is_shown_with_its_title_and_detail() {
    let (relay, dir) = (ScriptedRelay::start().await, tempfile::tempdir().unwrap());
    relay.redeem(Redeem::Refuse(ProblemCode::InvitationExpired));
    let error = enrol(&relay, &dir, &relay.code()).await.unwrap_err().to_string();
    assert!(error.contains("The invitation has expired") && error.contains("as the test asked"), "{error}");
    assert_eq!(event_ids(dir.path()), [31004, 31018, 32001]);
}

#[tokio::test]
async fn a_relay_whose_certificate_is_not_trusted_is_told_nothing() {
    let (relay, dir) = (ScriptedRelay::start().await, tempfile::tempdir().unwrap());
    let home = Home::new(dir.path());
    let error = enroll(&home, &relay.code(), Access::default(), System::clock(), System::random())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains(&relay.url) && error.contains("certificate"), "{error}");
    assert!(relay.enrollments().is_empty());
}

#[tokio::test]
async fn files_of_another_agent_are_left_alone() {
    let (relay, dir) = (ScriptedRelay::start().await, tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("journal.redb"), "precious").unwrap();
    let error = enrol(&relay, &dir, &relay.code()).await.unwrap_err();
    assert!(matches!(error, EnrollError::Leftover { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(dir.path().join("journal.redb")).unwrap(), "precious");
    assert!(relay.enrollments().is_empty());
}

#[tokio::test]
async fn an_agent_whose_invitation_needs_no_approval_is_available_before_anybody_looks() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    assert!(!portal.portal.availability(&tenant()).await.unwrap().available);
    let agent = RawAgent::new(&relay);
    let code = portal.portal.invite(&tenant(), true).await.unwrap();
    assert_eq!(agent.redeem(&portal, &agent.enrollment(&code)).await.status, 201);
    let _session = agent.open().await;
    let availability = portal.portal.availability(&tenant()).await.unwrap();
    assert!(availability.available && availability.agents == [agent.agent], "{availability:?}");
    // Whoever enrols by a code that needs approval is not let in by that.
    let second = RawAgent::new(&relay);
    let code = portal.portal.invite(&tenant(), false).await.unwrap();
    assert_eq!(second.redeem(&portal, &second.enrollment(&code)).await.status, 201);
    let _other = second.open().await;
    assert!(matches!(portal.portal.revoke(&tenant(), agent.agent).await.unwrap(), Told::Yes));
    assert!(!portal.portal.availability(&tenant()).await.unwrap().available);
}
