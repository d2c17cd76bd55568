//! What a refusal says to whoever writes a portal: which claim, and what is expected there. Never what was sent.

use serde_json::{Value, json};
use writeback_relay::protocol::command::{COMMAND_TYP, Command, Operation};
use writeback_relay::protocol::jose::Validity;

use crate::support::raw_agent::RawAgent;
use crate::support::relay::{Relay, TestPortal, now};

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
        ("sub_id", json!({"format": "hunter2"}), "sub_id: ", "`account` or `opaque` is expected"),
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
