//! Bodies and keys that a kind reader would take: each is refused, whoever brings it, and named.

use std::process::{Command as Process, Stdio};

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use writeback_relay::clock::System;
use writeback_relay::protocol::api::NewInvitation;
use writeback_relay::protocol::enrollment::Proof;
use writeback_relay::protocol::enrolment_code::Secret;
use writeback_relay::protocol::ids::InvitationId;
use writeback_relay::protocol::jose::{PublicKey, base64url};
use writeback_relay::relay::registry::{PortalLater, PortalRecord};

use super::counted;
use crate::support::raw_agent::RawAgent;
use crate::support::relay::{Answered, Relay, TENANT, TestPortal, now, tenant};

async fn posted(portal: &TestPortal, path: &str, body: Vec<u8>) -> Answered {
    let bearer = portal.raw.assertion().sign(&portal.raw.key).unwrap();
    let send = |http: &reqwest::Client, relay: &str| {
        http.post(format!("{relay}{path}"))
            .bearer_auth(bearer)
            .header(CONTENT_TYPE, "Application/JSON; charset=utf-8")
            .body(body)
    };
    portal.raw.send(send).await
}

/// The same object, with one thing wrong, and what is said of it.
fn wrong(good: &Value, member: &str) -> Vec<(Vec<u8>, &'static str)> {
    let text = good.to_string();
    let values: Vec<&Value> = good.as_object().unwrap().values().collect();
    let within = |member: &str, value: Value| {
        let mut changed = good.clone();
        changed[member] = value;
        changed.to_string().into_bytes()
    };
    let behind = |more: &str| format!("{}{more}", text).into_bytes();
    vec![
        (json!(values).to_string().into_bytes(), "is expected"),
        (text.replacen('{', &format!("{{{}:{},", json!(member), good[member]), 1).into_bytes(), "twice"),
        (within(member, Value::Null), "is expected"),
        (within(member, json!(["hunter2"])), "is expected"),
        (within("hunter", json!("hunter2")), "unknown field"),
        (behind("{}"), "not JSON"),
        (behind("hunter2"), "not JSON"),
        (behind("\u{0}"), "not JSON"),
        ([&b"\xff"[..], text.as_bytes()].concat(), "not UTF-8"),
        ([&b"\xef\xbb\xbf"[..], text.as_bytes()].concat(), "not JSON"),
        (Vec::new(), "not JSON"),
    ]
}

#[tokio::test]
async fn a_body_is_read_to_its_last_byte() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::new(&relay);
    let code = portal.portal.invite(&tenant(), false).await.unwrap();
    let id = InvitationId::new(&System, &System);
    let expires_at = writeback_relay::clock::UnixTime(now().0 + 60);
    let invitation = json!(NewInvitation { id, token_sha256: Secret::new([1; 32]).hash(), expires_at });
    let enrolment = json!(agent.enrollment(&code));
    let invitations = format!("/v1/tenants/{TENANT}/invitations");
    for (path, good, member) in [(&*invitations, &invitation, "id"), ("/v1/enrollments", &enrolment, "invitation")] {
        for (body, says) in wrong(good, member) {
            let shown = String::from_utf8_lossy(&body).into_owned();
            let refused = counted(&relay, "malformed", posted(&portal, path, body)).await;
            assert_eq!((refused.status, refused.problem().as_str()), (400, "malformed"), "{shown}");
            let detail = refused.detail();
            assert!(detail.starts_with("the body: ") && detail.contains(says), "{shown}: {detail}");
            assert!(!detail.contains("hunter2") || says == "unknown field", "{detail}");
        }
        let taken = posted(&portal, path, good.to_string().into_bytes()).await;
        assert_eq!(taken.status, 201, "{}", taken.text());
    }
    let as_text = portal.raw.send(|http, relay| http.post(format!("{relay}/v1/enrollments")).body("{}")).await;
    assert_eq!(as_text.problem(), "unsupported_media_type");
}

/// The neutral point: `SIGNATURE` fits whatever is said to be signed with it.
fn neutral() -> PublicKey {
    let mut x = [0; 32];
    x[0] = 1;
    PublicKey::Ed25519 { x }
}

#[tokio::test]
async fn an_agent_does_not_enrol_with_a_key_by_which_anybody_could_sign() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::new(&relay);
    let code = portal.portal.invite(&tenant(), false).await.unwrap();
    let mut enrolment = agent.enrollment(&code);
    let key = neutral();
    let about = json!(Proof {
        iss: agent.agent,
        sub: agent.agent,
        aud: code.relay.clone(),
        jti: agent.assertion().jti,
        validity: agent.assertion().validity,
        tenant: code.tenant.clone(),
        invitation: code.invitation,
        journal: agent.journal,
        signing_key: key.thumbprint(),
        sealing_key: agent.sealing.kid().clone(),
    });
    let header = json!({ "alg": "EdDSA", "typ": "writeback-enrollment+jwt", "kid": key.thumbprint() });
    let forged = [key.as_bytes(), &[0; 32]].concat();
    let part = |object: &Value| base64url(object.to_string().as_bytes());
    enrolment.proof = format!("{}.{}.{}", part(&header), part(&about), base64url(&forged));
    enrolment.signing_key = key;
    let refused = agent.redeem(&portal, &enrolment).await;
    assert_eq!((refused.status, refused.problem().as_str()), (400, "malformed"));
    assert!(
        refused.detail().contains("signing_key: ") && refused.detail().contains("small order"),
        "{}",
        refused.text()
    );
    assert!(portal.portal.agents(&tenant()).await.unwrap().is_empty());
    assert_eq!(agent.redeem(&portal, &agent.enrollment(&code)).await.status, 201, "the invitation was never used");
}

#[tokio::test]
async fn an_operator_registers_and_imports_no_key_that_is_none() {
    let relay = Relay::start().await;
    relay.portal("portal-1").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let run = |arguments: &[&str]| {
        let mut operator = Process::new(env!("CARGO_BIN_EXE_writeback-relay"));
        operator.args(arguments).arg("--ops-url").arg(relay.ops_url());
        operator.arg("--admin-token-file").arg(relay.data_dir().join("admin.token"));
        let output = operator.stdin(Stdio::null()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let path = file.to_str().unwrap();
    let off_the_curve = PublicKey::Ed25519 { x: [2; 32] };
    let off_the_curve = if off_the_curve.check().is_ok() { PublicKey::Ed25519 { x: [3; 32] } } else { off_the_curve };
    for (key, says) in [(neutral(), "small order"), (off_the_curve, "no point of Ed25519")] {
        std::fs::write(&file, json!(key).to_string()).unwrap();
        let (done, said) = run(&["portal", "add", "portal-2", "--tenant", TENANT, "--key", path]);
        assert!(!done && said.contains(says) && said.contains(path), "{said}");
        // Whoever calls without our program.
        let (portal, tenants) = ("portal-2".parse().unwrap(), vec![tenant()]);
        let record = PortalRecord { portal, keys: vec![key], tenants, later: PortalLater::default() };
        let refused = relay.admin().put_portal(&record).await.unwrap_err().to_string();
        assert!(refused.contains("portal portal-2") && refused.contains(says), "{refused}");
    }
    assert_eq!(relay.admin().portals().await.unwrap().len(), 1);

    assert!(run(&["registry", "export", path]).0);
    assert!(run(&["registry", "import", path]).0, "what was exported is taken, with null for what is absent");
    let mut exported: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    exported["portals"][0]["keys"][0] = json!(neutral());
    std::fs::write(&file, exported.to_string()).unwrap();
    let (done, said) = run(&["registry", "import", path]);
    assert!(!done && said.contains("portal portal-1") && said.contains("small order"), "{said}");
    std::fs::write(&file, exported.to_string().replacen('{', "{\"version\":1,", 1)).unwrap();
    let (done, said) = run(&["registry", "import", path]);
    assert!(!done && said.contains("twice") && said.contains(path), "{said}");
}
