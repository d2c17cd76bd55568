//! Unlocking alone.

use writeback_relay::agent::directory::Directory;
use writeback_relay::protocol::outcome::Code;

use super::{OLD, directory, in_time, refused, upn};
use crate::support::samba::{Ou, dc};

#[tokio::test]
async fn a_locked_account_logs_on_again_with_the_password_it_had() {
    let (directory, user) = (directory(), dc().create_user("uwe", Ou::Staff, OLD).await);
    dc().lock(&user).await;
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    assert_eq!(account.lockout_time.to_string(), dc().attribute(&user, "lockoutTime").await);
    assert!(account.lockout_time > 0);
    directory.unlock_account(&account, &in_time()).await.unwrap();
    assert_eq!(directory.lockout_time(&account).await.unwrap(), 0);
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
    assert_eq!(directory.pwd_last_set(&account).await.unwrap(), account.pwd_last_set);
}

#[tokio::test]
async fn an_account_that_was_never_locked_stays_so() {
    let (directory, user) = (directory(), dc().create_user("ulla", Ou::Staff, OLD).await);
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    assert_eq!(account.lockout_time, 0);
    directory.unlock_account(&account, &in_time()).await.unwrap();
    assert_eq!(directory.lockout_time(&account).await.unwrap(), 0);
}

#[tokio::test]
async fn outside_the_delegated_unit_the_right_is_missing() {
    let (directory, user) = (directory(), dc().create_user("ute", Ou::Other, OLD).await);
    dc().lock(&user).await;
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    let (code, detail) = refused(directory.unlock_account(&account, &in_time()).await);
    assert_eq!(code, Code::InsufficientRights);
    assert!(detail.contains("may not unlock"), "{detail}");
    assert_eq!(dc().bind(&user.upn, OLD).await, Err("775".to_owned()));
}
