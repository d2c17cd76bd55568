//! Finding the one account.

use writeback_relay::agent::directory::Directory;
use writeback_relay::agent::directory::active_directory::ActiveDirectory;
use writeback_relay::protocol::command::Subject;
use writeback_relay::protocol::outcome::Code;
use writeback_relay::protocol::password::Password;

use super::{NEW, OLD, config, directory, in_time, password, refused, unavailable, upn};
use crate::support::samba::{Ou, dc};

#[tokio::test]
async fn an_account_is_found_by_its_upn_and_by_its_guid() {
    let user = dc().create_user("alice", Ou::Staff, OLD).await;
    let by_upn = directory().find(&upn(&user.upn)).await.unwrap();
    assert_eq!((by_upn.object_guid, by_upn.dn.as_str()), (user.guid, user.dn.as_str()));
    assert_eq!(format!("ldaps://{}", by_upn.controller), dc().ldaps_url());
    assert_eq!(by_upn.pwd_last_set.to_string(), dc().attribute(&user, "pwdLastSet").await);
    assert_eq!(directory().find(&Subject::ObjectGuid(user.guid)).await.unwrap(), by_upn);
}

#[tokio::test]
async fn special_characters_in_a_upn_are_searched_for_as_they_are() {
    for name in ["o(neil*", r"back\slash", "a)(objectClass=*", "jürgen", "o'neil & sons", "😀"] {
        let user = dc().create_user(name, Ou::Staff, OLD).await;
        let account = directory().find(&upn(&user.upn)).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(account.object_guid, user.guid, "{name}");
    }
    // Unescaped, this would find every account.
    assert_eq!(refused(directory().find(&upn("*@example.test")).await).0, Code::UserNotFound);
}

#[tokio::test]
async fn who_is_not_there_is_not_found() {
    let nobody = upn("nobody@example.test");
    assert_eq!(refused(directory().find(&nobody).await).0, Code::UserNotFound);
    let nobody = Subject::object_guid("6f2c1a52-1b7f-4d5e-9a53-0c9d2f1f0a11").unwrap();
    assert_eq!(refused(directory().find(&nobody).await).0, Code::UserNotFound);
}

#[tokio::test]
async fn a_disabled_account_is_refused_until_it_is_enabled() {
    let user = dc().create_user("dora", Ou::Staff, OLD).await;
    dc().disable(&user).await;
    assert_eq!(refused(directory().find(&upn(&user.upn)).await).0, Code::AccountDisabled);
    dc().enable(&user).await;
    directory().find(&upn(&user.upn)).await.unwrap();
}

#[tokio::test]
async fn only_accounts_below_the_base_dn_are_found() {
    let mut staff_only = config();
    staff_only.base_dn = vec![format!("OU=Staff,{}", dc().base_dn())];
    let staff_only = ActiveDirectory::new(&staff_only).unwrap();
    let inside = dc().create_user("inside", Ou::Staff, OLD).await;
    let outside = dc().create_user("outside", Ou::Other, OLD).await;
    staff_only.find(&upn(&inside.upn)).await.unwrap();
    assert_eq!(refused(staff_only.find(&upn(&outside.upn)).await).0, Code::UserNotFound);
}

#[tokio::test]
async fn a_base_dn_that_is_not_there_is_named() {
    let mut config = config();
    config.base_dn = vec![format!("OU=Stuff,{}", dc().base_dn())];
    let error = unavailable(ActiveDirectory::new(&config).unwrap().find(&upn("a@example.test")).await);
    assert!(error.contains("base_dn") && error.contains("OU=Stuff"), "{error}");
}

#[tokio::test]
async fn an_account_that_moves_after_it_was_found_is_still_the_same() {
    let directory = directory();
    let user = dc().create_user("nomad", Ou::Other, OLD).await;
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    dc().move_to(&user, Ou::Staff).await;
    directory.reset_password(&account, &password(NEW), Default::default(), &in_time()).await.unwrap();
    assert!(directory.pwd_last_set(&account).await.unwrap() > account.pwd_last_set);
    let new: Password = password(NEW);
    let check = directory.try_password(&account, &new).await.unwrap();
    assert_eq!(check, writeback_relay::agent::directory::PasswordCheck::Right);
}
