//! Changes and unlocks, and what keeps an account from being written.

use super::{NEW, OLD, Stage, only_new_logs_on};
use crate::support::cli::Said;
use crate::support::samba::{Ou, dc};

#[track_caller]
fn assert_said(said: &Said, status: i32, headline: &str) {
    assert!(said.status == status && said.out.starts_with(headline), "{said:?}");
    assert!(said.out.contains("signed by agent "), "{}", said.out);
}

#[tokio::test]
async fn a_user_changes_his_password_with_the_current_one() {
    let stage = Stage::new().await;
    let user = dc().create_user("change", Ou::Staff, OLD).await;
    let wrong = stage.portal.change(&user.upn, "Wrong-Passw0rd-9", NEW).await;
    assert_said(&wrong, 2, "refused by the directory: incorrect_password (event 33007)\n");
    let weak = stage.portal.change(&user.upn, OLD, "weak").await;
    assert_said(&weak, 2, "refused by the directory: password_policy (event 33008)\n");
    assert_said(&stage.portal.change(&user.upn, OLD, NEW).await, 0, "done: password_changed (event 31007)\n");
    only_new_logs_on(&user.upn).await;
    let events = [31006, 33007, 31008, 31006, 33008, 31008, 31006, 31007];
    assert_eq!(stage.agent.event_ids_about(&user.upn), events);
}

#[tokio::test]
async fn what_still_keeps_a_user_from_logging_on_is_shown_and_data() {
    let stage = Stage::new().await;
    let user = dc().create_user("hindered", Ou::Staff, OLD).await;
    dc().replace(&user, "accountExpires", "116444736000000000").await; // 1970
    dc().lock(&user).await;
    let said = stage.portal.reset(&user.upn, NEW, &[]).await;
    assert_said(&said, 0, "done: password_reset (event 31002)\n");
    for hindrance in ["the account is locked by wrong passwords", "the account has expired"] {
        let line = format!("BUT the user may not be able to log on: {hindrance}");
        assert!(said.out.contains(&line), "{}", said.out);
    }
    let said = stage.portal.reset(&user.upn, NEW, &["--unlock", "--json"]).await;
    let answer: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(answer["outcome"]["hindrances"], serde_json::json!(["account_expired"]), "{answer}");
    let free = dc().create_user("free", Ou::Staff, OLD).await;
    let said = stage.portal.reset(&free.upn, NEW, &["--json"]).await;
    let answer: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(answer["outcome"]["hindrances"], serde_json::json!([]), "{answer}");
    let never = dc().create_user("never", Ou::Staff, OLD).await;
    dc().replace(&never, "userAccountControl", "66048").await;
    let said = stage.portal.reset(&never.upn, NEW, &["--force-change"]).await;
    assert_said(&said, 2, "refused by the agent: unsupported (event 32003)\n");
    assert_eq!(dc().bind(&never.upn, OLD).await, Ok(()));
}

#[tokio::test]
async fn a_change_reads_two_lines_and_sends_nothing_with_fewer() {
    let stage = Stage::new().await;
    for (input, named) in
        [("only-one\n", "the new password: the password is empty"), ("", "the current password: the password is empty")]
    {
        let said = stage.portal.run_with(&["change", "contoso", "jane@example.test"], input.as_bytes()).await;
        assert!(said.status == 1 && said.err.contains(named), "{said:?}");
    }
    assert!(!stage.relay.log().contains("command_submitted"));
}

#[tokio::test]
async fn a_password_that_is_too_young_is_refused_by_the_policy() {
    let stage = Stage::new().await;
    let user = dc().create_user("young", Ou::Staff, OLD).await;
    dc().set_minimum_age(&user, 1).await;
    let said = stage.portal.change(&user.upn, OLD, NEW).await;
    assert_said(&said, 2, "refused by the directory: password_policy (event 33008)\n");
    assert!(said.out.contains("too young"), "{}", said.out);
}

#[tokio::test]
async fn a_locked_user_is_unlocked_and_keeps_his_password() {
    let stage = Stage::new().await;
    let user = dc().create_user("unlock", Ou::Staff, OLD).await;
    dc().lock(&user).await;
    let locked = stage.portal.change(&user.upn, OLD, NEW).await;
    assert_said(&locked, 2, "refused by the directory: account_locked (event 33006)\n");
    assert_said(&stage.portal.unlock(&user.upn).await, 0, "done: account_unlocked (event 31002)\n");
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
    assert_eq!(stage.agent.event_ids_about(&user.upn), [31006, 33006, 31008, 31001, 31002]);
}

#[tokio::test]
async fn without_the_policy_hints_a_reset_that_asks_for_the_history_is_refused_and_writes_nothing() {
    let stage = Stage::new().await;
    let user = dc().create_user("history", Ou::Staff, OLD).await;
    let said = stage.portal.reset(&user.upn, NEW, &["--enforce-history"]).await;
    assert_said(&said, 2, "refused by the directory: history_unavailable (event 33009)\n");
    assert!(said.out.contains("2239") && said.out.contains("without enforce_history"), "{}", said.out);
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
}

#[tokio::test]
async fn an_account_of_a_protected_group_is_left_alone() {
    let stage = Stage::new().await;
    let user = dc().create_user("protected", Ou::Staff, OLD).await;
    dc().replace(&user, "adminCount", "1").await;
    dc().lock(&user).await;
    for said in [
        stage.portal.reset(&user.upn, NEW, &["--unlock"]).await,
        stage.portal.change(&user.upn, OLD, NEW).await,
        stage.portal.unlock(&user.upn).await,
    ] {
        assert_said(&said, 2, "refused by the directory: protected_account (event 33004)\n");
    }
    assert_eq!(dc().bind(&user.upn, OLD).await, Err("775".to_owned()));
}

#[tokio::test]
async fn the_sixth_reset_within_an_hour_is_refused_whatever_the_account_is_called_and_after_a_restart() {
    let mut stage = Stage::new().await;
    let user = dc().create_user("often", Ou::Staff, OLD).await;
    let guid = user.guid.hyphenated().to_string();
    // What the policy refuses does not count.
    assert_eq!(stage.portal.reset(&user.upn, "weak", &[]).await.status, 2);
    for name in [&user.upn, &guid, &user.upn.to_uppercase(), &guid, &user.upn] {
        assert_said(&stage.portal.reset(name, NEW, &[]).await, 0, "done: password_reset (event 31002)\n");
    }
    let refused = "refused by the agent: rate_limited (event 31003)\n";
    let said = stage.portal.reset(&user.upn, OLD, &[]).await;
    assert_said(&said, 2, refused);
    assert!(
        said.out.contains("Again in ") && said.out.contains("a new command may be sent: not before 20"),
        "{said:?}"
    );
    stage.agent.terminate().await;
    stage.agent.start();
    stage.checked().await;
    assert_said(&stage.portal.reset(&guid, OLD, &[]).await, 2, refused);
    only_new_logs_on(&user.upn).await;
    // Whoever has the current password may still change it.
    assert_eq!(stage.portal.change(&user.upn, NEW, "Changed-Passw0rd-6").await.status, 0);
}
