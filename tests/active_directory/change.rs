//! A change with the current password, and what the directory says to it.

use writeback_relay::agent::directory::{Account, Directory, DirectoryError, Written};
use writeback_relay::protocol::outcome::Code;

use super::{NEW, OLD, directory, in_time, password, refused, upn};
use crate::support::samba::{Ou, User, dc};

const WRONG: &str = "Wrong-Passw0rd-9";

async fn account(user: &User) -> Account {
    directory().find(&upn(&user.upn)).await.unwrap()
}

async fn change(user: &User, current: &str, new: &str) -> Result<Written, DirectoryError> {
    directory().change_password(&account(user).await, &password(current), &password(new), &in_time()).await
}

#[tokio::test]
async fn with_the_current_password_only_the_new_one_logs_on() {
    let user = dc().create_user("chris", Ou::Staff, OLD).await;
    let before = account(&user).await;
    change(&user, OLD, NEW).await.unwrap();
    assert_eq!(dc().bind(&user.upn, NEW).await, Ok(()));
    assert!(dc().kinit(&user.upn, NEW) && !dc().kinit(&user.upn, OLD));
    assert_eq!(dc().bind(&user.upn, OLD).await, Err("52e".to_owned()));
    assert!(directory().pwd_last_set(&before).await.unwrap() > before.pwd_last_set);
}

#[tokio::test]
async fn passwords_of_any_script_are_changed_as_they_are() {
    let user = dc().create_user("carmen", Ou::Staff, OLD).await;
    let mut current = OLD.to_owned();
    for new in ["Pässwörd-日本語-1A", "Emoji-😀-𝔘nicode-1", " \"quoted\" and Sp4ces "] {
        change(&user, &current, new).await.unwrap();
        assert_eq!(dc().bind(&user.upn, new).await, Ok(()), "{new}");
        current = new.to_owned();
    }
}

#[tokio::test]
async fn a_wrong_current_password_is_said_and_counts_until_the_account_is_locked() {
    let user = dc().create_user("wanda", Ou::Staff, OLD).await;
    for tried in ["1", "2", "3"] {
        let (code, detail) = refused(change(&user, WRONG, NEW).await);
        assert_eq!(code, Code::IncorrectPassword, "{detail}");
        assert!(!detail.contains(WRONG) && !detail.contains(NEW), "{detail}");
        assert_eq!(dc().attribute(&user, "badPwdCount").await, tried);
    }
    // The right one does not help any more.
    let (code, detail) = refused(change(&user, OLD, NEW).await);
    assert_eq!(code, Code::AccountLocked, "{detail}");
    assert!(detail.contains("unlock it first"), "{detail}");
    directory().unlock_account(&account(&user).await, &in_time()).await.unwrap();
    change(&user, OLD, NEW).await.unwrap();
}

#[tokio::test]
async fn a_wrong_current_password_with_a_weak_new_one_is_a_wrong_one() {
    let user = dc().create_user("willy", Ou::Staff, OLD).await;
    assert_eq!(refused(change(&user, WRONG, "weak").await).0, Code::IncorrectPassword);
}

#[tokio::test]
async fn length_complexity_and_history_are_the_policy() {
    let user = dc().create_user("paul", Ou::Staff, OLD).await;
    change(&user, OLD, NEW).await.unwrap();
    for (refused_by_policy, why) in [("Ab1!", "too short"), ("aaaaaaaaaaaaaa", "complexity"), (OLD, "history")] {
        let (code, detail) = refused(change(&user, NEW, refused_by_policy).await);
        assert_eq!(code, Code::PasswordPolicy, "{detail}");
        assert!(detail.contains(why), "{detail}");
    }
    assert_eq!(dc().bind(&user.upn, NEW).await, Ok(()));
}

#[tokio::test]
async fn a_password_that_is_too_young_is_the_policy_unless_it_must_be_changed() {
    let user = dc().create_user("yvonne", Ou::Staff, OLD).await;
    dc().set_minimum_age(&user, 1).await;
    let (code, detail) = refused(change(&user, OLD, NEW).await);
    assert_eq!(code, Code::PasswordPolicy);
    assert!(detail.contains("too young"), "{detail}");
    // A reset is not asked for the age of what it replaces.
    directory().reset_password(&account(&user).await, &password(NEW), Default::default(), &in_time()).await.unwrap();
    dc().replace(&user, "pwdLastSet", "0").await;
    change(&user, NEW, "Another-Passw0rd-3").await.unwrap();
}

#[tokio::test]
async fn a_user_who_must_change_his_password_can() {
    let user = dc().create_user("mona", Ou::Staff, OLD).await;
    dc().replace(&user, "pwdLastSet", "0").await;
    assert_eq!(dc().bind(&user.upn, OLD).await, Err("773".to_owned()));
    change(&user, OLD, NEW).await.unwrap();
    assert_eq!(dc().bind(&user.upn, NEW).await, Ok(()));
}
