//! What still keeps a user from logging on after a success: the agent says what a domain controller answers to the logon.

use writeback_relay::agent::directory::Directory;
use writeback_relay::agent::directory::active_directory::ActiveDirectory;
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::command::{Operation, Options};
use writeback_relay::protocol::hindrance::Hindrance;

use super::ldap_proxy::through;
use super::{NEW, OLD, directory, in_time, password, upn};
use crate::support::eventually;
use crate::support::ldap_proxy::LdapProxy;
use crate::support::samba::{Ou, User, dc};

const PLAIN: Options = Options { unlock: false, force_change_at_next_logon: false, enforce_history: false };

/// In the attribute, the hour before which there are so many from Sunday on, and no other. Never the eighth of a byte, so that
/// the value is text.
fn only_hour(of_week: usize) -> String {
    let hour = if of_week % 8 == 7 { (of_week + 1) % 168 } else { of_week % 168 };
    let mut bytes = vec![0_u8; 21];
    bytes[hour / 8] = 1 << (hour % 8);
    String::from_utf8(bytes).unwrap()
}

/// The hour of the week that it is now, in UTC: 1970 began on a Thursday.
fn hour_now() -> usize {
    usize::try_from((System.now().0 / 3600 + 96) % 168).unwrap()
}

async fn said(user: &User, operation: Operation) -> Vec<Hindrance> {
    let account = directory().find(&upn(&user.upn)).await.unwrap();
    account.logon.unwrap().hindrances(System.now(), operation, PLAIN)
}

#[tokio::test]
async fn each_hindrance_is_said_where_a_logon_with_the_new_password_is_refused_for_it() {
    let reset = Operation::ResetPassword;
    for (attribute, value, hindrance, logon) in [
        ("description", "nothing", None, Ok(())),
        ("accountExpires", "116444736000000000".to_owned().as_str(), Some(Hindrance::AccountExpired), Err("701")),
        ("accountExpires", "9223372036854775807", None, Ok(())),
        ("logonHours", "\0".repeat(21).as_str(), Some(Hindrance::NoLogonHours), Err("530")),
        ("logonHours", only_hour(hour_now() + 80).as_str(), Some(Hindrance::OutsideLogonHours), Err("530")),
        ("userWorkstations", "NOWHERE", Some(Hindrance::WorkstationsLimited), Err("531")),
    ] {
        let user = dc().create_user("hindered", Ou::Staff, OLD).await;
        dc().replace(&user, attribute, value).await;
        assert_eq!(said(&user, reset).await, hindrance.into_iter().collect::<Vec<_>>(), "{attribute}");
        let account = directory().find(&upn(&user.upn)).await.unwrap();
        directory().reset_password(&account, &password(NEW), PLAIN, &in_time()).await.unwrap();
        assert_eq!(dc().bind(&user.upn, NEW).await, logon.map_err(str::to_owned), "{attribute}");
    }
}

#[tokio::test]
async fn a_lock_is_a_hindrance_until_it_is_ended() {
    let user = dc().create_user("held", Ou::Staff, OLD).await;
    dc().lock(&user).await;
    assert_eq!(said(&user, Operation::ResetPassword).await, [Hindrance::Locked]);
    assert_eq!(said(&user, Operation::UnlockAccount).await, []);
    // One whose time is over is none, although the attribute stays as it was.
    let user = dc().create_user("briefly", Ou::Staff, OLD).await;
    dc().set_lock_seconds(&user, 20).await;
    dc().lock(&user).await;
    assert_eq!(said(&user, Operation::ResetPassword).await, [Hindrance::Locked]);
    eventually("the end of the lock", async || said(&user, Operation::ResetPassword).await.is_empty()).await;
    assert_ne!(dc().attribute(&user, "lockoutTime").await, "0");
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
}

/// Samba takes a password of less than a day for one that never ends, so a proxy makes it old.
#[tokio::test]
async fn a_password_that_is_too_old_is_a_hindrance_for_whoever_keeps_it() {
    let (proxy, user) = (LdapProxy::start().await, dc().create_user("oldie", Ou::Staff, OLD).await);
    let name = user.dn.clone();
    proxy.rewrite_entries(move |entry| {
        if entry.dn == name {
            entry.set("msDS-User-Account-Control-Computed", &["8388608"]);
        }
    });
    let account = ActiveDirectory::new(&through(&[&proxy])).unwrap().find(&upn(&user.upn)).await.unwrap();
    let hindrances = |operation| account.logon.as_ref().unwrap().hindrances(System.now(), operation, PLAIN);
    assert_eq!(hindrances(Operation::UnlockAccount), [Hindrance::PasswordExpired]);
    assert_eq!(hindrances(Operation::ResetPassword), []);
}

#[tokio::test]
async fn a_password_that_must_be_changed_and_a_smart_card_are_hindrances() {
    let user = dc().create_user("musty", Ou::Staff, OLD).await;
    dc().replace(&user, "pwdLastSet", "0").await;
    assert_eq!(said(&user, Operation::UnlockAccount).await, [Hindrance::PasswordMustChange]);
    assert_eq!(dc().bind(&user.upn, OLD).await, Err("773".to_owned()));
    assert_eq!(said(&user, Operation::ResetPassword).await, []);
    // Nothing asks for another one if it never expires.
    dc().replace(&user, "userAccountControl", "66048").await;
    assert_eq!(said(&user, Operation::UnlockAccount).await, []);
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
    dc().replace(&user, "userAccountControl", "262656").await;
    assert_eq!(said(&user, Operation::ResetPassword).await, [Hindrance::SmartCardRequired]);
}
