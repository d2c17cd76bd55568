//! The write, and what the directory says to it.

use writeback_relay::agent::directory::{Account, Directory};
use writeback_relay::protocol::command::{Options, Subject};
use writeback_relay::protocol::outcome::Code;

use super::{NEW, OLD, directory, in_time, password, refused, upn};
use crate::support::samba::{Ou, User, dc};

const UNLOCK: Options = Options { unlock: true, force_change_at_next_logon: false, enforce_history: false };
const FORCE: Options = Options { unlock: false, force_change_at_next_logon: true, enforce_history: false };

async fn account(user: &User) -> Account {
    directory().find(&upn(&user.upn)).await.unwrap()
}

async fn assert_logs_on(user: &User, new: &str) {
    assert_eq!(dc().bind(&user.upn, new).await, Ok(()));
    assert!(dc().kinit(&user.upn, new));
}

async fn assert_only_the_new_password_logs_on(user: &User) {
    assert_logs_on(user, NEW).await;
    assert_eq!(dc().bind(&user.upn, OLD).await, Err("52e".to_owned()));
    assert!(!dc().kinit(&user.upn, OLD));
}

#[tokio::test]
async fn after_a_reset_by_upn_only_the_new_password_logs_on() {
    let (directory, user) = (directory(), dc().create_user("rita", Ou::Staff, OLD).await);
    assert_logs_on(&user, OLD).await;
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    directory.reset_password(&account, &password(NEW), Options::default(), &in_time()).await.unwrap();
    assert_only_the_new_password_logs_on(&user).await;
    assert!(directory.pwd_last_set(&account).await.unwrap() > account.pwd_last_set);
}

#[tokio::test]
async fn after_a_reset_by_guid_only_the_new_password_logs_on() {
    let (directory, user) = (directory(), dc().create_user("gus", Ou::Staff, OLD).await);
    let account = directory.find(&Subject::ObjectGuid(user.guid)).await.unwrap();
    directory.reset_password(&account, &password(NEW), Options::default(), &in_time()).await.unwrap();
    assert_only_the_new_password_logs_on(&user).await;
}

#[tokio::test]
async fn passwords_of_any_script_log_on_as_they_are() {
    let user = dc().create_user("unicode", Ou::Staff, OLD).await;
    let account = account(&user).await;
    let longest = format!("Aa1!{}", "ß".repeat(252));
    for new in ["Pässwörd-日本語-1A", "Emoji-😀-𝔘nicode-1", " \"quoted\" and Sp4ces ", &longest] {
        directory().reset_password(&account, &password(new), Options::default(), &in_time()).await.unwrap();
        assert_eq!(dc().bind(&user.upn, new).await, Ok(()), "{new}");
    }
}

#[tokio::test]
async fn a_password_against_the_policy_is_refused_and_the_old_one_stays() {
    let user = dc().create_user("paula", Ou::Staff, OLD).await;
    let account = account(&user).await;
    for (weak, why) in [("Ab1!", "too short"), ("aaaaaaaaaaaaaa", "complexity")] {
        let answer = directory().reset_password(&account, &password(weak), Options::default(), &in_time()).await;
        let (code, detail) = refused(answer);
        assert_eq!(code, Code::PasswordPolicy, "{detail}");
        assert!(detail.contains(why) && !detail.contains(weak), "{detail}");
    }
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
}

#[tokio::test]
async fn outside_the_delegated_unit_the_right_is_missing() {
    let user = dc().create_user("otto", Ou::Other, OLD).await;
    let answer =
        directory().reset_password(&account(&user).await, &password(NEW), Options::default(), &in_time()).await;
    assert_eq!(refused(answer).0, Code::InsufficientRights);
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
}

#[tokio::test]
async fn with_unlock_a_locked_account_logs_on() {
    let user = dc().create_user("leo", Ou::Staff, OLD).await;
    let account = account(&user).await;
    dc().lock(&user).await;
    directory().reset_password(&account, &password(NEW), UNLOCK, &in_time()).await.unwrap();
    assert_logs_on(&user, NEW).await;
}

#[tokio::test]
async fn without_unlock_a_locked_account_stays_locked() {
    let user = dc().create_user("lea", Ou::Staff, OLD).await;
    let account = account(&user).await;
    dc().lock(&user).await;
    directory().reset_password(&account, &password(NEW), Options::default(), &in_time()).await.unwrap();
    assert_eq!(dc().bind(&user.upn, NEW).await, Err("775".to_owned()));
}

#[tokio::test]
async fn with_force_change_the_next_logon_demands_another_password() {
    let (directory, user) = (directory(), dc().create_user("fay", Ou::Staff, OLD).await);
    let account = account(&user).await;
    directory.reset_password(&account, &password(NEW), FORCE, &in_time()).await.unwrap();
    assert_eq!(dc().bind(&user.upn, NEW).await, Err("773".to_owned()));
    assert_eq!(directory.pwd_last_set(&account).await.unwrap(), 0);
}

#[tokio::test]
async fn a_refused_reset_unlocks_nothing() {
    let user = dc().create_user("lou", Ou::Staff, OLD).await;
    let account = account(&user).await;
    dc().lock(&user).await;
    let answer = directory().reset_password(&account, &password("short"), UNLOCK, &in_time()).await;
    assert_eq!(refused(answer).0, Code::PasswordPolicy);
    assert_eq!(dc().bind(&user.upn, OLD).await, Err("775".to_owned()));
}

#[tokio::test]
async fn history_that_the_controller_does_not_offer_is_refused_and_nothing_is_written() {
    let user = dc().create_user("hal", Ou::Staff, OLD).await;
    let options = Options { enforce_history: true, ..Options::default() };
    let answer = directory().reset_password(&account(&user).await, &password(NEW), options, &in_time()).await;
    let (code, detail) = refused(answer);
    assert_eq!(code, Code::HistoryUnavailable);
    assert!(detail.contains("1.2.840.113556.1.4.2239") && detail.contains("nothing was changed"), "{detail}");
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
}

#[tokio::test]
async fn resets_at_the_same_time_share_a_connection_and_all_succeed() {
    let directory = directory();
    let resets = (0..8).map(async |_| {
        let user = dc().create_user("many", Ou::Staff, OLD).await;
        let account = directory.find(&upn(&user.upn)).await.unwrap();
        directory.reset_password(&account, &password(NEW), Options::default(), &in_time()).await.unwrap();
        assert_eq!(dc().bind(&user.upn, NEW).await, Ok(()));
    });
    futures_util::future::join_all(resets).await;
}
