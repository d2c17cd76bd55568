//! The account that is written is the one that was named, and stays the one that was found.

use std::sync::Arc;

use writeback_relay::agent::directory::active_directory::{ActiveDirectory, Config};
use writeback_relay::agent::directory::{Directory, PasswordCheck};
use writeback_relay::protocol::command::{Options, Subject};
use writeback_relay::protocol::outcome::Code;

use super::{NEW, OLD, config, directory, in_time, password, refused, upn};
use crate::support::ldap_proxy::{LdapProxy, Request, When};
use crate::support::samba::{Ou, User, dc};

fn behind(proxy: &LdapProxy) -> ActiveDirectory {
    ActiveDirectory::new(&Config { url: vec![proxy.url()], ca_file: Some(proxy.ca_file()), ..config() }).unwrap()
}

/// Spellings that Active Directory takes for this name, or might.
fn other_spellings(name: &str) -> Vec<String> {
    let (user, domain) = name.split_once('@').unwrap();
    let wide = |c: char| if c.is_ascii_lowercase() { char::from_u32(0xfee0 + u32::from(c)).unwrap() } else { c };
    vec![
        format!(" {name}"),
        format!("{name}  "),
        format!("{user} @{domain}"),
        format!("{user}@ {domain}"),
        format!("{name}."),
        name.replacen('a', "á", 1),
        name.replacen('a', "a\u{301}", 1),
        name.replacen('a', "\u{430}", 1),
        name.chars().map(wide).collect(),
        name.replacen('a', "a\u{200b}", 1),
        name.replacen('a', "a\u{ad}", 1),
        format!("\u{feff}{name}"),
        name.replacen("ss", "ß", 1),
    ]
}

#[tokio::test]
async fn a_spelling_that_the_directory_takes_for_another_accounts_name_finds_nobody() {
    let user = dc().create_user("cassandra", Ou::Staff, OLD).await;
    let folding = LdapProxy::start().await;
    let name = user.upn.clone().into_bytes();
    // It finds this account whoever is asked for, as Windows does by wide folds.
    folding.rewrite_searches(move |search| {
        if let Some(asked) = search.asserted("userPrincipalName") {
            asked.clone_from(&name);
        }
    });
    for directory in [directory(), behind(&folding)] {
        for other in other_spellings(&user.upn) {
            let (code, _) = refused(directory.find(&upn(&other)).await);
            assert_eq!(code, Code::UserNotFound, "{other:?}");
        }
        for same in [user.upn.clone(), user.upn.to_uppercase(), user.upn.replacen("cass", "CaSS", 1)] {
            let found = directory.find(&upn(&same)).await.unwrap();
            assert_eq!((found.object_guid, found.upn), (user.guid, Some(user.upn.clone())));
        }
    }
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
}

#[tokio::test]
async fn of_two_accounts_that_the_directory_takes_for_one_the_named_one_is_found() {
    let plain = dc().create_user("twin", Ou::Staff, OLD).await;
    let accented = dc().create_user("twin", Ou::Staff, OLD).await;
    let other = plain.upn.replacen('i', "í", 1);
    dc().replace(&accented, "userPrincipalName", &other).await;
    let folding = LdapProxy::start().await;
    // One account for one half of the questions, the other one for the other.
    let names = [plain.upn.clone(), other.clone()].map(String::into_bytes);
    folding.rewrite_searches(move |search| {
        if let Some(asked) = search.asserted("userPrincipalName") {
            let [plain, accented] = &names;
            let swapped = if asked == plain { accented.clone() } else { plain.clone() };
            *asked = swapped;
        }
    });
    for (name, guid) in [(&plain.upn, plain.guid), (&other, accented.guid)] {
        assert_eq!(directory().find(&upn(name)).await.unwrap().object_guid, guid);
        assert_eq!(refused(behind(&folding).find(&upn(name)).await).0, Code::UserNotFound);
    }
}

#[tokio::test]
async fn a_guid_that_is_answered_with_another_account_finds_nobody() {
    let (user, other) =
        (dc().create_user("right", Ou::Staff, OLD).await, dc().create_user("wrong", Ou::Staff, OLD).await);
    let proxy = LdapProxy::start().await;
    let guid = other.guid.to_bytes_le().to_vec();
    proxy.rewrite_searches(move |search| {
        if let Some(asked) = search.asserted("objectGUID") {
            asked.clone_from(&guid);
        }
    });
    let (code, _) = refused(behind(&proxy).find(&Subject::ObjectGuid(user.guid)).await);
    assert_eq!(code, Code::UserNotFound);
}

/// Somebody else gets the account's names.
async fn renamed_and_replaced(user: &User) -> (User, User) {
    let renamed = dc().rename(user, &format!("former {}", user.upn.replace('@', "-"))).await;
    let (name, _) = user.upn.split_once('@').unwrap();
    let (cn, unit) = user.dn.split_once(",OU=").unwrap();
    let successor = dc().create_user_in(name, &format!("OU={unit}"), OLD).await;
    let successor = dc().take_names(&successor, cn, &user.upn).await;
    assert_eq!((&successor.dn, &successor.upn), (&user.dn, &user.upn));
    (renamed, successor)
}

#[tokio::test]
async fn who_takes_the_name_of_an_account_between_look_and_write_is_not_written() {
    let proxy = LdapProxy::start().await;
    let directory = Arc::new(behind(&proxy));
    for operation in ["reset", "change", "unlock"] {
        let user = dc().create_user("renamed", Ou::Staff, OLD).await;
        let account = directory.find(&upn(&user.upn)).await.unwrap();
        dc().lock(&user).await;
        if operation == "change" {
            dc().replace(&user, "lockoutTime", "0").await;
        }
        proxy.hold(Request::Modify, When::Before);
        let (writing, writer) = (Arc::clone(&directory), account.clone());
        let write = tokio::spawn(async move {
            let (old, new, in_time) = (password(OLD), password(NEW), in_time());
            match operation {
                "reset" => writing.reset_password(&writer, &new, Options::default(), &in_time).await,
                "change" => writing.change_password(&writer, &old, &new, &in_time).await,
                _ => writing.unlock_account(&writer, &in_time).await,
            }
        });
        proxy.holds(Request::Modify).await;
        let (renamed, successor) = renamed_and_replaced(&user).await;
        proxy.pass(Request::Modify);
        write.await.unwrap().unwrap();
        assert_eq!(dc().bind(&successor.upn, OLD).await, Ok(()), "{operation}: the other account is as it was");
        match operation {
            "reset" => assert_eq!(dc().bind(&renamed.upn, NEW).await, Err("775".to_owned())),
            "change" => assert_eq!(dc().bind(&renamed.upn, NEW).await, Ok(())),
            _ => assert_eq!(dc().bind(&renamed.upn, OLD).await, Ok(())),
        }
    }
}

#[tokio::test]
async fn a_password_is_tried_at_the_account_that_was_found_and_not_at_who_has_its_name_now() {
    let user = dc().create_user("tried", Ou::Staff, OLD).await;
    let proxy = LdapProxy::start().await;
    let directory = Arc::new(behind(&proxy));
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    let trying = {
        proxy.hold(Request::Bind, When::Before);
        let (directory, account) = (Arc::clone(&directory), account.clone());
        tokio::spawn(async move { directory.try_password(&account, &password(NEW)).await })
    };
    proxy.holds(Request::Bind).await;
    let (renamed, successor) = renamed_and_replaced(&user).await;
    dc().set_password(&successor, NEW).await;
    proxy.pass(Request::Bind);
    assert_eq!(trying.await.unwrap(), Ok(PasswordCheck::Wrong));
    assert_eq!(dc().attribute(&renamed, "badPwdCount").await, "1");
    assert_eq!(directory.try_password(&account, &password(OLD)).await, Ok(PasswordCheck::Right));
}

#[tokio::test]
async fn an_account_that_is_gone_is_not_written_though_another_has_its_name() {
    let (directory, user) = (directory(), dc().create_user("gone", Ou::Staff, OLD).await);
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    dc().administrator().await.delete(&user.dn).await.unwrap().success().unwrap();
    let successor = dc().create_user("gone", Ou::Staff, OLD).await;
    let (cn, _) = user.dn.split_once(",OU=").unwrap();
    let successor = dc().take_names(&successor, cn, &user.upn).await;
    let written = directory.reset_password(&account, &password(NEW), Options::default(), &in_time()).await;
    assert_eq!(refused(written).0, Code::UserNotFound);
    assert_eq!(dc().bind(&successor.upn, OLD).await, Ok(()));
}
