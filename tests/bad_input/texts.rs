//! What a refusal says to whoever writes a portal: which claim, and what is expected there. Never what was sent.

use std::process::{Command as Process, Stdio};

use serde_json::{Value, json};
use writeback_relay::clock::System;
use writeback_relay::portal::report::rotation_table;
use writeback_relay::portal::{Acknowledging, RotationStatus};
use writeback_relay::protocol::command::{COMMAND_TYP, Command, Operation};
use writeback_relay::protocol::ids::AgentId;
use writeback_relay::protocol::jose::Validity;

use crate::support::raw_agent::RawAgent;
use crate::support::relay::{Answered, Relay, TENANT, TestPortal, now};

struct Stage {
    relay: Relay,
    portal: TestPortal,
    agent: RawAgent,
}

async fn stage() -> Stage {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    Stage { relay, portal, agent }
}

#[tokio::test]
async fn a_claim_of_the_wrong_form_is_named_with_what_is_expected() {
    let Stage { relay, portal, agent } = stage().await;
    let raw = &portal.raw;
    let command = raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026").0;
    let good = serde_json::to_value(command).unwrap();
    let uuid = "a UUID as lowercase hyphenated text is expected";
    let time = "a number of whole seconds since the Unix epoch is expected";
    let cases: Vec<(&str, Value, &str, &str)> = vec![
        ("aud", json!("https://hunter2.example"), "aud: ", uuid),
        ("aud", json!(["hunter2"]), "aud: ", "a string is expected"),
        ("jti", json!("hunter2"), "jti: ", uuid),
        ("jti", json!(agent.agent.to_string().to_uppercase()), "jti: ", uuid),
        ("tenant", json!("Hunter2"), "tenant: ", "a-z, 0-9 and inner hyphens are expected"),
        ("operation", json!("hunter2"), "operation: ", "one of `reset_password`, `change_password`, `unlock_account`"),
        ("options", json!({"unlock": "hunter2"}), "options.unlock: ", "a boolean is expected"),
        ("options", json!({"enforce_histroy": true}), "options.enforce_histroy: ", "unknown field `enforce_histroy`"),
        ("sub_id", json!("hunter2@corp.example"), "sub_id: ", "is expected"),
        ("sub_id", json!({"format": "hunter2"}), "sub_id.format: ", "`account` or `opaque` is expected"),
        ("sub_id", json!({"format": "account", "uri": "hunter2"}), "sub_id: ", "an acct: URI"),
        ("sub_id", json!({"format": "opaque", "id": "hunter2"}), "sub_id: ", "an objectGUID as lowercase"),
        ("exp", json!(1_900_000_000.5), "exp: ", time),
        ("exp", json!("hunter2"), "exp: ", time),
        ("iat", json!(null), "iat: ", time),
        ("sealed", json!(["hunter2"]), "sealed: ", "a string is expected"),
    ];
    for (claim, value, names, says) in cases {
        let mut claims = good.clone();
        claims[claim] = value.clone();
        let refused = raw.submit(&raw.key.sign(COMMAND_TYP, &claims).unwrap(), 0).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "malformed"));
        let detail = refused.detail();
        assert!(detail.contains(names) && detail.contains(says), "{claim} {value}: {detail}");
        assert!(!detail.to_lowercase().contains("hunter2"), "{claim}: {detail}");
    }
    for claim in ["iss", "aud", "tenant", "jti", "iat", "exp", "sub_id", "operation"] {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(claim);
        let detail = raw.submit(&raw.key.sign(COMMAND_TYP, &claims).unwrap(), 0).await.detail();
        assert!(detail.contains(&format!("missing field `{claim}`")), "{detail}");
    }
    assert!(!relay.log().to_lowercase().contains("hunter2"));
}

#[tokio::test]
async fn a_rule_that_a_command_breaks_is_told() {
    let Stage { relay: _relay, portal, agent } = stage().await;
    let (raw, key) = (&portal.raw, agent.sealing.public());
    let command = |operation| Command { operation, ..raw.command(agent.agent, "jane@corp.example") };
    let timed = |iat: i64, exp: i64| {
        let at = |seconds| writeback_relay::clock::UnixTime(now().0 + seconds);
        let validity = Validity { iat: at(iat), exp: at(exp) };
        raw.sealed(Command { validity, ..command(Operation::ResetPassword) }, key, "Pass-Word-2026").1
    };
    for (jws, says) in [
        (command(Operation::ResetPassword).sign(&raw.key).unwrap(), "sealed: reset_password needs it"),
        (command(Operation::ChangePassword).sign(&raw.key).unwrap(), "sealed: change_password needs it"),
        (raw.sealed(command(Operation::UnlockAccount), key, "x").1, "sealed: unlock_account has none"),
        (timed(0, 0), "exp: 1 to 300 s after iat is expected"),
        (timed(0, 301), "exp: 1 to 300 s after iat is expected"),
        (timed(0, -5), "exp: 1 to 300 s after iat is expected"),
    ] {
        let refused = raw.submit(&jws, 0).await;
        assert_eq!((refused.status, refused.problem().as_str()), (422, "unprocessable"), "{}", refused.text());
        assert!(refused.detail().contains(says), "{}: {says}", refused.detail());
    }
}

#[tokio::test]
async fn a_command_that_was_refused_before_is_not_said_to_be_for_an_agent_that_is_away() {
    let Stage { relay, portal, agent: _agent } = stage().await;
    let pending = RawAgent::pending(&relay, &portal).await;
    let _session = pending.open().await;
    let raw = &portal.raw;
    let (_, jws) = raw.reset(pending.agent, pending.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    assert_eq!(raw.submit(&jws, 0).await.problem(), "agent_pending");
    let fingerprint = pending.keys().fingerprint(pending.agent);
    let told = portal.portal.approve(&pending.tenant, pending.agent, &fingerprint).await.unwrap();
    assert!(matches!(told, writeback_relay::portal::Told::Yes));
    let again = raw.submit(&jws, 0).await;
    assert_eq!((again.status, again.problem().as_str()), (503, "no_agent"));
    assert!(!again.text().contains("is not connected"), "{}", again.text());
    assert!(again.detail().contains("when it was first submitted"), "{}", again.detail());
}

/// A question about an unknown agent's command, with these headers.
async fn asked(raw: &crate::support::relay::RawPortal, jws: &str, scheme: &str, prefer: &[&str]) -> Answered {
    let bearer = raw.assertion().sign(&raw.key).unwrap();
    let call = raw.send(|http, relay| {
        let call = http.post(format!("{relay}/v1/tenants/{TENANT}/commands"));
        let call =
            call.header("authorization", format!("{scheme} {bearer}")).header("content-type", "application/jose");
        prefer.iter().fold(call, |call, value| call.header("prefer", *value)).body(jws.to_owned())
    });
    call.await
}

#[tokio::test]
async fn the_name_of_the_scheme_has_no_case() {
    let Stage { relay, portal, agent } = stage().await;
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    let _session = agent.open().await;
    for scheme in ["bearer", "BEARER", "Bearer", "Bearer "] {
        assert_eq!(asked(&portal.raw, &jws, scheme, &["wait=0"]).await.status, 202, "{scheme}");
    }
    for scheme in ["Basic", "Bearer:", ""] {
        assert_eq!(asked(&portal.raw, &jws, scheme, &["wait=0"]).await.problem(), "invalid_assertion", "{scheme}");
    }
    let token = std::fs::read_to_string(relay.data_dir().join("admin.token")).unwrap();
    let http = crate::support::https_client(None).unwrap();
    let call = http.get(format!("{}/admin/v1/tenants", relay.ops_url()));
    let answer = call.header("authorization", format!("bearer {}", token.trim())).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
}

#[tokio::test]
async fn a_wait_is_kept_wherever_it_stands_and_the_answer_says_what_was_kept() {
    let Stage { relay: _relay, portal, agent } = stage().await;
    let mut session = agent.open().await;
    // Whoever waits hears the end: the agent answers after the relay has had time to answer at once.
    for prefer in [
        &["wait=20"][..],
        &["respond-async, wait=20"],
        &["wait=20, respond-async"],
        &["respond-async", "wait=20"],
        &["wait=20", "respond-async"],
        &["handling=lenient; x, RESPOND-ASYNC, Wait = \"20\"; y"],
    ] {
        let (command, jws) =
            portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
        let answering = async {
            session.delivery().await;
            portal.raw.follow(command.jti, 0).await;
            let code = writeback_relay::protocol::outcome::Code::PasswordReset;
            session.send(agent.outcome_frame(&command, code)).await;
            session.next().await;
        };
        let (answered, ()) = tokio::join!(asked(&portal.raw, &jws, "Bearer", prefer), answering);
        assert_eq!(answered.status, 200, "{prefer:?}");
        assert_eq!(answered.headers["preference-applied"], "wait=20", "{prefer:?}");
    }
    for (prefer, applied) in [
        (&["respond-async"][..], "respond-async"),
        (&["wait=0"], "wait=0"),
        (&["respond-async, wait=abc"], "respond-async"),
    ] {
        let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
        let answered = asked(&portal.raw, &jws, "Bearer", prefer).await;
        assert_eq!(answered.status, 202, "{prefer:?}");
        assert_eq!(answered.headers["preference-applied"], applied, "{prefer:?}");
        session.delivery().await;
    }
}

#[test]
fn what_is_given_in_place_of_a_code_or_a_key_is_told_what_would_do() {
    let dir = tempfile::tempdir().unwrap();
    let said = |program: &str, arguments: &[&str]| {
        let output = Process::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let home = dir.path().to_str().unwrap();
    let text = said(env!("CARGO_BIN_EXE_writeback-agent"), &["--home", home, "enroll", "hunter2.txt"]);
    assert!(text.contains("not an enrolment code") && text.contains("writeback-agent enroll - < FILE"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let jwk = dir.path().join("rsa.jwk");
    std::fs::write(&jwk, r#"{"kty":"RSA","n":"hunter2","e":"AQAB"}"#).unwrap();
    let arguments = ["portal", "add", "portal-1", "--tenant", TENANT, "--key", jwk.to_str().unwrap()];
    let text = said(env!("CARGO_BIN_EXE_writeback-relay"), &arguments);
    assert!(text.contains("Ed25519") && text.contains("P-256") && !text.contains("missing field"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn an_agent_that_was_told_of_a_key_a_moment_ago_is_not_said_to_be_too_old() {
    let agent = Acknowledging {
        tenant: TENANT.parse().unwrap(),
        agent: AgentId::new(&System, &System),
        name: None,
        online: true,
        refuses: false,
        acknowledged: false,
    };
    let said = rotation_table(&RotationStatus { seq: 1, finished: false, agents: vec![agent] });
    assert!(said.contains("WAITING (online, so it should take a moment; if it lasts,"), "{said}");
}
