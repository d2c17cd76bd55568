//! The proxy that other tests put between the agent and Samba does what it says.

use writeback_relay::agent::directory::Directory;
use writeback_relay::agent::directory::active_directory::{ActiveDirectory, Config};

use super::{NEW, OLD, config, in_time, password, refused, uncertain, upn};
use crate::support::deadline;
use crate::support::ldap_proxy::{LdapProxy, Request, When};
use crate::support::samba::{Ou, dc};

pub(super) fn through(proxies: &[&LdapProxy]) -> Config {
    Config { url: proxies.iter().map(|proxy| proxy.url()).collect(), operation_timeout_seconds: 2, ..config() }
}

#[tokio::test]
async fn requests_pass_are_counted_and_can_be_held_cut_and_answered() {
    let proxy = LdapProxy::start().await;
    let directory = ActiveDirectory::new(&Config { ca_file: Some(proxy.ca_file()), ..through(&[&proxy]) }).unwrap();
    let user = dc().create_user("prox", Ou::Staff, OLD).await;
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    assert_eq!((&account.controller, account.object_guid), (&proxy.name(), user.guid));
    assert_eq!((proxy.accepted(), proxy.asked(Request::Bind), proxy.asked(Request::Modify)), (1, 1, 0));
    assert!(proxy.asked(Request::RootDse) > 0 && proxy.asked(Request::Search) > 0);

    let (new, in_time) = (password(NEW), in_time());
    let reset = || directory.reset_password(&account, &new, Default::default(), &in_time);
    proxy.answer_next(1, Request::Modify, 19, "0000052D: too young");
    refused(reset().await);
    proxy.hold(Request::Modify, When::Before);
    let (done, ()) = tokio::join!(reset(), async {
        proxy.holds(Request::Modify).await;
        assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
        proxy.pass(Request::Modify);
    });
    done.unwrap();
    assert_eq!(dc().bind(&user.upn, NEW).await, Ok(()));
    proxy.cut(Request::Modify, When::After);
    uncertain(deadline("an end", reset()).await);
    drop(directory);
    proxy.all_closed().await;
}

#[tokio::test]
async fn searches_and_entries_can_be_changed_over_starttls_too() {
    let proxy = LdapProxy::start().await;
    let config = Config { url: vec![proxy.start_tls_url()], start_tls: true, ..config() };
    let user = dc().create_user("folded", Ou::Staff, OLD).await;
    let name = user.upn.clone();
    proxy.rewrite_searches(move |search| {
        let read = search.attributes();
        if let Some(value) = search.asserted("userPrincipalName")
            && read.iter().any(|attribute| attribute == "pwdLastSet")
        {
            *value = name.clone().into_bytes();
            search.set_base("OU=Staff,DC=example,DC=test");
            assert!(search.base().starts_with("OU=Staff"));
        }
    });
    proxy.rewrite_entries(|entry| {
        if let Some(time) = entry.values("pwdLastSet") {
            *time = vec![b"7".to_vec()];
            entry.set("lockoutTime", &["9"]);
            entry.set("userPrincipalName", &["anybody@example.test"]);
            entry.dn = "CN=somebody".to_owned();
        }
    });
    let found = ActiveDirectory::new(&config).unwrap().find(&upn("anybody@example.test")).await.unwrap();
    assert_eq!((found.object_guid, found.pwd_last_set, found.lockout_time), (user.guid, 7, 9));
    assert_eq!(found.dn, "CN=somebody");
}
