//! Resets that succeed.

use serde_json::json;

use super::{NEW, OLD, Stage, only_new_logs_on};
use crate::support::cli::Said;
use crate::support::samba::{Ou, dc};

#[track_caller]
fn assert_done(said: &Said) {
    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.out.starts_with("done: password_reset (event 31002)\n"), "{}", said.out);
    assert!(said.out.contains("a new command may be sent: no") && said.out.contains("support code "), "{}", said.out);
}

#[tokio::test]
async fn after_a_reset_by_upn_or_by_guid_only_the_new_password_logs_on() {
    let stage = Stage::new().await;
    let by_upn = dc().create_user("whole", Ou::Staff, OLD).await;
    assert_eq!(dc().bind(&by_upn.upn, OLD).await, Ok(()));
    let said = stage.portal.reset(&by_upn.upn, NEW, &[]).await;
    assert_done(&said);
    assert!(said.out.contains(&format!("signed by agent {} for command ", stage.agent.id())), "{}", said.out);
    only_new_logs_on(&by_upn.upn).await;
    assert_eq!(stage.agent.event_ids_about(&by_upn.upn), [31001, 31002]);

    let by_guid = dc().create_user("whole", Ou::Staff, OLD).await;
    let guid = by_guid.guid.hyphenated().to_string();
    assert_done(&stage.portal.reset(&guid, NEW, &[]).await);
    only_new_logs_on(&by_guid.upn).await;
    assert_eq!(stage.agent.event_ids_about(&guid), [31001, 31002]);
}

#[tokio::test]
async fn the_account_that_was_found_stands_in_the_outcome_the_event_log_and_the_audit_and_none_if_none_was() {
    let stage = Stage::new().await;
    let user = dc().create_user("Found", Ou::Staff, OLD).await;
    let asked = user.upn.to_lowercase();
    let expected = json!({ "object_guid": user.guid.hyphenated().to_string(), "upn": user.upn, "dn": user.dn });
    let answer = stage.portal.reset(&asked, NEW, &["--json"]).await.json();
    assert_eq!(answer["outcome"]["account"], expected, "{answer}");
    let event = stage.agent.event(31002, &asked).await;
    assert_eq!((&event["found"], &event["account"]), (&expected, &json!(asked)));
    let said = stage.portal.reset(&asked, "short", &[]).await;
    assert!(said.out.contains("  the account: ") && said.out.contains(&user.dn), "{}", said.out);

    // Found, and left alone.
    dc().disable(&user).await;
    let answer = stage.portal.reset(&asked, NEW, &["--json"]).await.json();
    assert_eq!((&answer["outcome"]["code"], &answer["outcome"]["account"]), (&json!("account_disabled"), &expected));
    let answer = stage.portal.reset(&format!(" {asked}"), NEW, &["--json"]).await.json();
    assert_eq!((&answer["outcome"]["code"], &answer["outcome"]["account"]), (&json!("user_not_found"), &json!(null)));
}

#[tokio::test]
async fn a_reset_has_one_trace_id_from_the_portal_to_the_agents_event_log() {
    let stage = Stage::new().await;
    let user = dc().create_user("trace", Ou::Staff, OLD).await;
    let answer = stage.portal.reset(&user.upn, NEW, &["--json"]).await.json();
    let trace_id = answer["trace_id"].as_str().unwrap();
    assert_eq!(trace_id.len(), 32);
    assert_eq!(stage.agent.event(31002, &user.upn).await["trace_id"], trace_id);
    assert_eq!(stage.agent.event(31002, &user.upn).await["portal"], "portal-1");
    let audited = |line: &str| line.contains("\"action\":\"command_submitted\"") && line.contains(trace_id);
    assert!(stage.relay.log().lines().any(audited));
}

#[tokio::test]
async fn passwords_of_any_script_log_on_as_they_are() {
    let stage = Stage::new().await;
    let user = dc().create_user("script", Ou::Staff, OLD).await;
    for new in ["Pässwörd-日本語-1A", "Emoji-😀-𝔘nicode-1", " \"quoted\" and Sp4ces "] {
        assert_done(&stage.portal.reset(&user.upn, new, &[]).await);
        assert_eq!(dc().bind(&user.upn, new).await, Ok(()), "{new}");
    }
    assert!(dc().kinit(&user.upn, " \"quoted\" and Sp4ces "));
}

#[tokio::test]
async fn a_locked_user_logs_on_after_a_reset_with_unlock_and_only_then() {
    let stage = Stage::new().await;
    let user = dc().create_user("locked", Ou::Staff, OLD).await;
    dc().lock(&user).await;
    assert_done(&stage.portal.reset(&user.upn, "First-Passw0rd-3", &[]).await);
    assert_eq!(dc().bind(&user.upn, "First-Passw0rd-3").await, Err("775".to_owned()));
    assert_done(&stage.portal.reset(&user.upn, NEW, &["--unlock"]).await);
    only_new_logs_on(&user.upn).await;
}

#[tokio::test]
async fn after_force_change_the_next_logon_demands_another_password() {
    let stage = Stage::new().await;
    let user = dc().create_user("forced", Ou::Staff, OLD).await;
    assert_done(&stage.portal.reset(&user.upn, NEW, &["--force-change"]).await);
    assert_eq!(dc().bind(&user.upn, NEW).await, Err("773".to_owned()));
}
