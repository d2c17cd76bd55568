//! When the domain controller is away, hangs, or breaks off: nothing hangs, and nobody says more than is known.

use tokio::net::TcpListener;
use writeback_relay::agent::directory::active_directory::{ActiveDirectory, Config};
use writeback_relay::agent::directory::{Directory, DirectoryError, PasswordCheck, Written};
use writeback_relay::protocol::command::Options;
use writeback_relay::storage::PrivateFile;

use super::{NEW, OLD, config, directory, in_time, password, unavailable, uncertain, upn};
use crate::support::deadline;
use crate::support::ldap_proxy::{LdapProxy, Request, When};
use crate::support::proxy::{Mode, Proxy};
use crate::support::samba::{Ou, dc};

const PLAIN: Options = Options { unlock: false, force_change_at_next_logon: false, enforce_history: false };

/// Short patience, and a proxy on the way.
pub(super) async fn behind_a_proxy() -> (Proxy, Config) {
    let proxy = Proxy::start(dc().ldaps_address()).await;
    let mut config = config();
    config.url = vec![format!("ldaps://localhost:{}", proxy.port())];
    config.operation_timeout_seconds = 2;
    (proxy, config)
}

/// The same, with a proxy that knows requests from each other.
async fn behind_an_ldap_proxy() -> (LdapProxy, ActiveDirectory) {
    let proxy = LdapProxy::start().await;
    let config = Config { url: vec![proxy.url()], operation_timeout_seconds: 2, ..config() };
    (proxy, ActiveDirectory::new(&config).unwrap())
}

#[tokio::test]
async fn a_write_whose_connection_breaks_is_uncertain_and_the_truth_can_be_found_out() {
    let (proxy, directory) = behind_an_ldap_proxy().await;
    let user = dc().create_user("una", Ou::Staff, OLD).await;
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    proxy.cut(Request::Modify, When::After);
    let error = uncertain(directory.reset_password(&account, &password(NEW), PLAIN, &in_time()).await);
    assert!(error.contains(&account.controller) && !error.contains(NEW), "{error}");
    proxy.all_closed().await; // the doubtful connection is not used again
    assert!(directory.pwd_last_set(&account).await.unwrap() > account.pwd_last_set);
    assert_eq!(directory.try_password(&account, &password(NEW)).await.unwrap(), PasswordCheck::Right);
}

#[tokio::test]
async fn a_write_without_an_answer_is_under_way_as_long_as_its_connection_stands_and_others_get_a_new_one() {
    let (proxy, directory) = behind_an_ldap_proxy().await;
    let user = dc().create_user("ulla", Ou::Staff, OLD).await;
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    proxy.hold(Request::Modify, When::After);
    let written = directory.reset_password(&account, &password(NEW), PLAIN, &in_time()).await;
    let Ok(Written::UnderWay(answer)) = written else { panic!("{written:?}") };
    // What it has done can be seen, although nobody says so.
    assert!(directory.pwd_last_set(&account).await.unwrap() > account.pwd_last_set);
    assert_eq!(directory.try_password(&account, &password(NEW)).await.unwrap(), PasswordCheck::Right);
    proxy.cut(Request::Modify, When::After);
    let answer = deadline("the end of the connection", answer).await;
    assert!(matches!(&answer, Err(DirectoryError::Uncertain(why)) if !why.contains(NEW)), "{answer:?}");
}

#[tokio::test]
async fn trouble_before_the_write_leaves_the_old_password_and_says_so() {
    for trouble in [Mode::HoldAfter(0), Mode::CutAfter(0), Mode::Cut] {
        let (proxy, config) = behind_a_proxy().await;
        let directory = ActiveDirectory::new(&config).unwrap();
        let user = dc().create_user("uma", Ou::Staff, OLD).await;
        let account = directory.find(&upn(&user.upn)).await.unwrap();
        proxy.set(trouble);
        let error = unavailable(directory.reset_password(&account, &password(NEW), PLAIN, &in_time()).await);
        assert!(error.contains(&account.controller), "{trouble:?}: {error}");
        assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()), "{trouble:?}");
    }
}

#[tokio::test]
async fn a_write_never_goes_to_another_controller_than_the_accounts_own() {
    let (proxy, mut config) = behind_a_proxy().await;
    config.url.push(dc().ldaps_url());
    let directory = ActiveDirectory::new(&config).unwrap();
    let user = dc().create_user("ida", Ou::Staff, OLD).await;
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    assert!(account.controller.starts_with("localhost"), "{}", account.controller);
    proxy.set(Mode::Cut);
    proxy.all_closed().await;
    // Finding an account may go on to the next one, which is connected from here on.
    assert!(directory.find(&upn(&user.upn)).await.unwrap().controller.starts_with("127."));
    unavailable(directory.reset_password(&account, &password(NEW), PLAIN, &in_time()).await);
    unavailable(directory.pwd_last_set(&account).await);
    unavailable(directory.try_password(&account, &password(OLD)).await);
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_replaced() {
    let (proxy, config) = behind_a_proxy().await;
    let directory = ActiveDirectory::new(&config).unwrap();
    let user = dc().create_user("ines", Ou::Staff, OLD).await;
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    proxy.set(Mode::Cut);
    proxy.all_closed().await;
    proxy.set(Mode::Pass);
    directory.reset_password(&account, &password(NEW), PLAIN, &in_time()).await.unwrap();
    assert_eq!(dc().bind(&user.upn, NEW).await, Ok(()));
}

#[tokio::test]
async fn a_connection_that_a_firewall_forgot_is_replaced() {
    let (proxy, config) = behind_a_proxy().await;
    let directory = ActiveDirectory::new(&config).unwrap();
    let user = dc().create_user("fiona", Ou::Staff, OLD).await;
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    proxy.set(Mode::HoldOpen);
    directory.reset_password(&account, &password(NEW), PLAIN, &in_time()).await.unwrap();
    assert_eq!(dc().bind(&user.upn, NEW).await, Ok(()));
}

#[tokio::test]
async fn one_connection_serves_many_questions() {
    let (proxy, config) = behind_a_proxy().await;
    let directory = ActiveDirectory::new(&config).unwrap();
    let user = dc().create_user("olga", Ou::Staff, OLD).await;
    let subject = upn(&user.upn);
    futures_util::future::join_all((0..8).map(|_| directory.find(&subject))).await;
    assert_eq!(proxy.accepted(), 1);
    drop(directory);
    proxy.all_closed().await;
}

#[tokio::test]
async fn a_host_that_accepts_and_never_speaks_costs_no_more_than_the_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config();
    config.url = vec![format!("ldaps://{}", silent.local_addr().unwrap())];
    config.connect_timeout_seconds = 1;
    let error = unavailable(ActiveDirectory::new(&config).unwrap().find(&upn("a@example.test")).await);
    assert!(error.contains(&silent.local_addr().unwrap().to_string()) && error.contains("1 s"), "{error}");
}

#[tokio::test]
async fn an_account_of_a_controller_that_is_not_configured_any_more_is_left_alone() {
    let user = dc().create_user("olaf", Ou::Staff, OLD).await;
    let mut account = directory().find(&upn(&user.upn)).await.unwrap();
    account.controller = "dc9.example.test".to_owned();
    let error = unavailable(directory().reset_password(&account, &password(NEW), PLAIN, &in_time()).await);
    assert!(error.contains("dc9.example.test"), "{error}");
}

#[tokio::test]
async fn a_wrong_service_password_does_not_lock_the_service_account() {
    let dir = tempfile::tempdir().unwrap();
    let file = PrivateFile::new(dir.path().join("password"));
    file.replace("Wrong-Passw0rd-1\n").unwrap();
    let service = dc().create_user("svc-two", Ou::Other, OLD).await;
    let mut config = config();
    (config.bind_user, config.bind_password_file) = (service.upn.clone(), file.path().to_owned());
    let directory = ActiveDirectory::new(&config).unwrap();
    let user = dc().create_user("somebody", Ou::Other, OLD).await;
    for _ in 0..5 {
        let error = unavailable(directory.find(&upn(&user.upn)).await);
        assert!(error.contains(&service.upn) && error.contains("password"), "{error}");
        assert!(!error.contains("Wrong-Passw0rd-1"), "{error}");
    }
    // Not locked: a new password in the file is tried at once, and is right.
    file.replace(&format!("{OLD}\r\n")).unwrap();
    directory.find(&upn(&user.upn)).await.unwrap();
}
