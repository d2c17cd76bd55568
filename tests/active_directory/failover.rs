//! A controller that says "not now", or anything but what it was asked, is left for the next one; only what it says of the
//! service account itself stops. The check and the commands go by one rule.

use std::time::Duration;

use tokio::time::Instant;
use writeback_relay::agent::directory::active_directory::{ActiveDirectory, Config};
use writeback_relay::agent::directory::{Check, Directory, Finding};
use writeback_relay::clock::System;
use writeback_relay::protocol::api::PreflightState::{Failed, Ok as Green, Warning};
use writeback_relay::storage::PrivateFile;

use super::ldap_proxy::through;
use super::{NEW, OLD, config, in_time, password, unavailable, upn};
use crate::support::ldap_proxy::{LdapProxy, Request, When};
use crate::support::samba::{Ou, dc};

/// Results that say nothing of what was asked: operations error, time limit, referral, admin limit, busy, unavailable,
/// unwilling, loop, other, and one that nobody knows.
const TROUBLE: [u8; 12] = [1, 2, 3, 8, 10, 11, 51, 52, 53, 54, 80, 123];

fn refused_logon(data: &str) -> String {
    format!("80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data {data}, v4563")
}

async fn two() -> (LdapProxy, LdapProxy) {
    (LdapProxy::start().await, LdapProxy::start().await)
}

fn of<'a>(findings: &'a [Finding], proxy: &LdapProxy, check: Check) -> Option<&'a Finding> {
    findings.iter().find(|finding| finding.target == proxy.name() && finding.check == check)
}

fn none_failed(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.state != Failed)
}

#[tokio::test]
async fn a_logon_or_a_search_that_is_answered_not_now_goes_to_the_next_controller() {
    let user = dc().create_user("notnow", Ou::Staff, OLD).await;
    for request in [Request::Bind, Request::Search, Request::RootDse] {
        for code in TROUBLE {
            let (dc1, dc2) = two().await;
            dc1.answer(request, code, "000020E1: SvcErr: DSID-00000000, problem 5002 (UNAVAILABLE), data 0");
            let both = ActiveDirectory::new(&through(&[&dc1, &dc2])).unwrap();
            let found = both.find(&upn(&user.upn)).await.unwrap_or_else(|e| panic!("{request:?} {code}: {e}"));
            assert_eq!((found.object_guid, found.controller), (user.guid, dc2.name()), "{request:?} {code}");
            let asked = dc1.asked(request);
            assert!(asked > 0, "{request:?} {code}");
            both.find(&upn(&user.upn)).await.unwrap();
            assert_eq!(dc1.asked(request), asked, "{request:?} {code}: one in trouble is asked last");
            let alone = ActiveDirectory::new(&through(&[&dc1])).unwrap();
            let why = unavailable(alone.find(&upn(&user.upn)).await);
            assert!(why.contains(&dc1.name()) && why.contains(&format!("LDAP result {code}:")), "{request:?}: {why}");
        }
    }
}

#[tokio::test]
async fn the_check_goes_by_the_same_rule_and_calls_it_what_it_is() {
    let user = dc().create_user("checked", Ou::Staff, OLD).await;
    let staff =
        |proxies: &[&LdapProxy]| Config { base_dn: vec![format!("OU=Staff,{}", dc().base_dn())], ..through(proxies) };
    for (request, check) in [(Request::Bind, Check::Bind), (Request::Search, Check::RootDse)] {
        for code in [1, 51, 53] {
            let (dc1, dc2) = two().await;
            dc1.answer(request, code, "");
            let both = ActiveDirectory::new(&staff(&[&dc1, &dc2])).unwrap();
            let found = both.preflight(&System).await;
            let row = of(&found, &dc1, check).unwrap();
            assert!(row.state == Warning && row.detail.contains("another domain controller"), "{code}: {row:?}");
            let advice = row.remedy.as_ref().map(|mending| mending.how.as_str()).unwrap_or_default();
            assert!(!advice.contains("bind_user"), "{code}: nothing is wrong with the account: {row:?}");
            assert!(none_failed(&found), "{code}: {found:#?}");
            assert_eq!(both.find(&upn(&user.upn)).await.unwrap().controller, dc2.name());
            let alone = ActiveDirectory::new(&staff(&[&dc1])).unwrap().preflight(&System).await;
            assert_eq!(of(&alone, &dc1, check).unwrap().state, Failed, "{code}");
            // It is well again when the check has seen it, and not before.
            dc1.pass(request);
            assert_eq!(both.find(&upn(&user.upn)).await.unwrap().controller, dc2.name());
            assert!(none_failed(&both.preflight(&System).await));
            assert_eq!(both.find(&upn(&user.upn)).await.unwrap().controller, dc1.name());
        }
    }
}

#[tokio::test]
async fn a_controller_that_goes_down_while_the_rights_are_looked_at_is_left_for_the_next() {
    let (dc1, dc2) = two().await;
    let both = Config { base_dn: vec![format!("OU=Staff,{}", dc().base_dn())], ..through(&[&dc1, &dc2]) };
    // It can be logged on to, and answers the search that shows that it answers searches.
    dc1.answer_after(2, Request::Search, 52, "");
    let found = ActiveDirectory::new(&both).unwrap().preflight(&System).await;
    assert!(none_failed(&found), "{found:#?}");
    let told = |finding: &&Finding| finding.target == dc1.name() && finding.state == Warning;
    assert!(found.iter().find(told).unwrap().detail.contains("LDAP result 52"), "{found:#?}");
    assert!(found.iter().any(|finding| finding.check == Check::ResetPassword && finding.state == Green), "{found:#?}");
}

#[tokio::test]
async fn a_controller_that_can_not_say_who_is_protected_is_left_for_the_next_and_asked_last() {
    let (dc1, dc2) = two().await;
    let place = Config { base_dn: vec![format!("OU=Staff,{}", dc().base_dn())], ..through(&[&dc1, &dc2]) };
    let directory = ActiveDirectory::new(&place).unwrap();
    let user = dc().create_user("askedfor", Ou::Staff, OLD).await;
    assert_eq!(directory.find(&upn(&user.upn)).await.unwrap().controller, dc1.name());
    // It finds the account, and shows it.
    dc1.answer_after(2, Request::Search, 51, "");
    assert_eq!(directory.find(&upn(&user.upn)).await.unwrap().controller, dc2.name());
    let asked = dc1.asked(Request::Search);
    assert_eq!(directory.find(&upn(&user.upn)).await.unwrap().controller, dc2.name());
    assert_eq!(dc1.asked(Request::Search), asked, "it is asked last");
}

#[tokio::test]
async fn a_controller_that_is_in_trouble_directly_before_a_change_is_left_for_the_next() {
    let (dc1, dc2) = two().await;
    let directory = ActiveDirectory::new(&through(&[&dc1, &dc2])).unwrap();
    let user = dc().create_user("trouble", Ou::Staff, OLD).await;
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    let asked = dc1.asked(Request::Search);
    directory.find(&upn(&user.upn)).await.unwrap();
    let looks = dc1.asked(Request::Search) - asked;
    // Looked at once more, one question less than by name; the next is whether its user may change the password.
    dc1.answer_after(looks - 1, Request::Search, 51, "");
    unavailable(directory.change_password(&account, &password(OLD), &password(NEW), &in_time()).await);
    assert_eq!(dc1.asked(Request::Modify), 0);
    assert_eq!(directory.find(&upn(&user.upn)).await.unwrap().controller, dc2.name());
}

#[tokio::test]
async fn what_is_said_of_the_service_account_itself_stops() {
    for (data, word) in [
        ("530", "hour"),
        ("531", "host"),
        ("532", "expired"),
        ("533", "disabled"),
        ("701", "expired"),
        ("773", "changed"),
        ("775", "locked"),
    ] {
        let (dc1, dc2) = two().await;
        dc1.answer(Request::Bind, 49, &refused_logon(data));
        let both = ActiveDirectory::new(&through(&[&dc1, &dc2])).unwrap();
        let why = unavailable(both.find(&upn("anybody@example.test")).await);
        assert!(why.starts_with(&dc1.name()) && why.contains("can't log on") && why.contains(word), "{data}: {why}");
        assert_eq!(dc2.asked(Request::Bind), 0, "{data}");
    }
}

#[tokio::test]
async fn a_write_that_a_controller_can_not_do_now_is_certainly_not_done_and_may_go_to_another() {
    let (dc1, dc2) = two().await;
    let directory = ActiveDirectory::new(&through(&[&dc1, &dc2])).unwrap();
    for code in [3, 10, 51, 52] {
        let user = dc().create_user("elsewhere", Ou::Staff, OLD).await;
        dc1.answer(Request::Modify, code, "");
        let there = directory.find(&upn(&user.upn)).await.unwrap();
        assert_eq!(there.controller, dc1.name());
        let (new, in_time) = (password(NEW), in_time());
        unavailable(directory.reset_password(&there, &new, Default::default(), &in_time).await);
        let here = directory.find(&upn(&user.upn)).await.unwrap();
        assert_eq!(here.controller, dc2.name(), "{code}");
        directory.reset_password(&here, &new, Default::default(), &in_time).await.unwrap();
        assert_eq!(dc().bind(&user.upn, NEW).await, Ok(()));
        dc1.pass(Request::Modify);
        directory.preflight(&System).await;
    }
}

/// Whoever asks later what became of a write goes on asking; "not now" tells nothing.
#[tokio::test]
async fn a_controller_that_can_not_say_now_what_became_of_a_write_has_not_said_it() {
    let proxy = LdapProxy::start().await;
    let directory = ActiveDirectory::new(&through(&[&proxy])).unwrap();
    let user = dc().create_user("later", Ou::Staff, OLD).await;
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    for code in [1, 51, 53] {
        proxy.answer(Request::Search, code, "");
        unavailable(directory.pwd_last_set(&account).await);
        unavailable(directory.lockout_time(&account).await);
        proxy.pass(Request::Search);
        directory.pwd_last_set(&account).await.unwrap();
        // The service account is logged on already.
        proxy.answer(Request::Bind, code, "");
        unavailable(directory.try_password(&account, &password(OLD)).await);
        proxy.pass(Request::Bind);
    }
}

/// A service account of its own, and a file with its password, or what is taken for it.
async fn service(written: &str) -> (Config, crate::support::samba::User, PrivateFile, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = PrivateFile::new(dir.path().join("password"));
    file.replace(written).unwrap();
    let account = dc().create_user("svc-rotated", Ou::Other, OLD).await;
    let config = Config { bind_user: account.upn.clone(), bind_password_file: file.path().to_owned(), ..config() };
    (config, account, file, dir)
}

#[tokio::test]
async fn one_controller_that_does_not_know_the_new_password_yet_is_asked_last_and_keeps_nobody_from_the_others() {
    let (dc1, dc2) = two().await;
    let user = dc().create_user("rotated", Ou::Staff, OLD).await;
    dc1.answer(Request::Bind, 49, &refused_logon("52e"));
    let both = ActiveDirectory::new(&through(&[&dc1, &dc2])).unwrap();
    for _ in 0..3 {
        assert_eq!(both.find(&upn(&user.upn)).await.unwrap().controller, dc2.name());
    }
    assert_eq!(dc1.asked(Request::Bind), 1);
    // The check says so, and does not try for ever: each trial counts as a bad logon.
    for _ in 0..4 {
        let found = both.preflight(&System).await;
        let row = of(&found, &dc1, Check::Bind).unwrap();
        assert!(row.state == Warning && row.detail.contains("may not have heard of it yet"), "{row:?}");
        assert_eq!(of(&found, &dc2, Check::Bind).unwrap().state, Green);
    }
    assert_eq!(dc1.asked(Request::Bind), 2);
}

#[tokio::test]
async fn a_stale_controller_that_has_caught_up_is_found_by_the_next_check() {
    let (dc1, dc2) = two().await;
    let user = dc().create_user("caughtup", Ou::Staff, OLD).await;
    dc1.answer_next(1, Request::Bind, 49, &refused_logon("52e"));
    let both = ActiveDirectory::new(&through(&[&dc1, &dc2])).unwrap();
    assert_eq!(both.find(&upn(&user.upn)).await.unwrap().controller, dc2.name());
    let found = both.preflight(&System).await;
    assert_eq!(of(&found, &dc1, Check::Bind).unwrap().state, Green);
    assert_eq!(both.find(&upn(&user.upn)).await.unwrap().controller, dc1.name());
}

#[tokio::test]
async fn a_wrong_password_is_not_tried_at_all_of_many_controllers_and_locks_nobody() {
    let mut controllers = Vec::new();
    for _ in 0..9 {
        controllers.push(LdapProxy::start().await);
    }
    let all: Vec<_> = controllers.iter().collect();
    let (service, account, file, _dir) = service("Wrong-Passw0rd-1").await;
    let Config { bind_user, bind_password_file, .. } = service;
    let directory = ActiveDirectory::new(&Config { bind_user, bind_password_file, ..through(&all) }).unwrap();
    let tried = || controllers.iter().map(|controller| controller.asked(Request::Bind)).sum::<usize>();
    for _ in 0..3 {
        let found = directory.preflight(&System).await;
        let rows: Vec<_> = found.iter().filter(|finding| finding.check == Check::Bind).collect();
        assert!(rows.len() == 9 && rows.iter().all(|row| row.state == Failed), "{found:#?}");
        assert_eq!(rows.iter().filter(|row| row.detail.contains("did not try to log on")).count(), 7, "{rows:#?}");
        let why = unavailable(directory.find(&upn(&account.upn)).await);
        assert!(why.contains(&account.upn) && why.contains("password") && !why.contains("Wrong-"), "{why}");
    }
    assert_eq!(tried(), 2);
    let user = dc().create_user("served", Ou::Staff, OLD).await;
    // Two of three wrong ones: it is not locked, and what is in the file now is tried at once.
    file.replace(OLD).unwrap();
    directory.find(&upn(&user.upn)).await.unwrap();
    // That all have taken it tells nothing of another one.
    directory.preflight(&System).await;
    dc().set_password(&account, NEW).await;
    let before = tried();
    directory.preflight(&System).await;
    assert_eq!(tried(), before + 2);
    file.replace(NEW).unwrap();
    directory.find(&upn(&user.upn)).await.unwrap();
}

#[tokio::test]
async fn a_controller_that_hangs_at_the_logon_costs_a_moment() {
    let (dc1, dc2) = two().await;
    let user = dc().create_user("hangs", Ou::Staff, OLD).await;
    dc1.hold(Request::Bind, When::Before);
    let patient = Config { operation_timeout_seconds: 30, ..through(&[&dc1, &dc2]) };
    let both = ActiveDirectory::new(&patient).unwrap();
    let (subject, began) = (upn(&user.upn), Instant::now());
    let (found, ()) = tokio::join!(both.find(&subject), dc1.holds(Request::Bind));
    assert_eq!(found.unwrap().controller, dc2.name());
    assert!(began.elapsed() < Duration::from_secs(patient.operation_timeout_seconds) / 2, "{:?}", began.elapsed());
    // It is waited for by nobody, and used as soon as it answers.
    dc1.pass(Request::Bind);
}
