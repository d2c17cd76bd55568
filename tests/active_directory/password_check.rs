//! Whether a password is the account's, whatever else keeps the account from logging on.

use writeback_relay::agent::directory::PasswordCheck::{self, Right, Unclear, Wrong};
use writeback_relay::agent::directory::{Account, Directory};

use super::{OLD, directory, password, upn};
use crate::support::samba::{Ou, User, dc};

const OTHER: &str = "Another-Passw0rd-3";

async fn account(name: &str) -> (User, Account) {
    let user = dc().create_user(name, Ou::Staff, OLD).await;
    let account = directory().find(&upn(&user.upn)).await.unwrap();
    (user, account)
}

async fn check(account: &Account, text: &str) -> PasswordCheck {
    directory().try_password(account, &password(text)).await.unwrap()
}

#[tokio::test]
async fn the_right_and_the_wrong_password_are_told_apart() {
    let (_, account) = account("vera").await;
    assert_eq!(check(&account, OLD).await, Right);
    assert_eq!(check(&account, OTHER).await, Wrong);
}

#[tokio::test]
async fn a_password_that_must_be_changed_is_right() {
    let (user, account) = account("mia").await;
    dc().replace(&user, "pwdLastSet", "0").await;
    assert_eq!(check(&account, OLD).await, Right);
    assert_eq!(check(&account, OTHER).await, Wrong);
}

#[tokio::test]
async fn a_disabled_accounts_password_is_still_right_or_wrong() {
    let (user, account) = account("dan").await;
    dc().disable(&user).await;
    assert_eq!(check(&account, OLD).await, Right);
    assert_eq!(check(&account, OTHER).await, Wrong);
}

#[tokio::test]
async fn an_expired_accounts_password_is_still_right_or_wrong() {
    let (user, account) = account("eve").await;
    dc().replace(&user, "accountExpires", "116444736000000000").await; // 1970
    assert_eq!(check(&account, OLD).await, Right);
    assert_eq!(check(&account, OTHER).await, Wrong);
}

#[tokio::test]
async fn a_locked_account_says_nothing() {
    let (user, account) = account("lars").await;
    dc().lock(&user).await;
    assert_eq!(check(&account, OLD).await, Unclear);
    assert_eq!(check(&account, OTHER).await, Unclear);
}
