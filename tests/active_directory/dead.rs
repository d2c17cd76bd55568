//! Controllers that are dead, and names of which one address is: they cost a moment, whoever asks.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;
use writeback_relay::agent::directory::active_directory::{ActiveDirectory, Config, NameServer};
use writeback_relay::agent::directory::{Check, Directory};
use writeback_relay::clock::System;
use writeback_relay::protocol::api::PreflightState::{Failed, Ok as Green, Warning};

use super::{NEW, OLD, config, in_time, password, unavailable, upn};
use crate::support::dns::Dns;
use crate::support::ldap_proxy::{LdapProxy, Request, When};
use crate::support::proxy::{Mode, Proxy};
use crate::support::samba::{Ou, dc};
use crate::support::stranger::{BAD_REQUEST, Manner, Stranger};
use crate::support::{eventually, own_address};

/// Of one connection; a dead controller costs none of them.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(6);

fn discovered(dns: &Dns) -> Config {
    Config {
        url: Vec::new(),
        domain: Some("example.test".to_owned()),
        name_servers: vec![NameServer(dns.address())],
        start_tls: true,
        connect_timeout_seconds: CONNECT_TIMEOUT.as_secs(),
        ..config()
    }
}

async fn silent() -> Stranger {
    Stranger::plain((Ipv4Addr::LOCALHOST, 0).into(), Manner::Silent).await
}

#[tokio::test]
async fn of_many_controllers_all_but_the_last_are_dead_and_a_command_waits_for_none_of_them() {
    let user = dc().create_user("survivor", Ou::Staff, OLD).await;
    for many in [9, 24] {
        let (dns, living) = (Dns::start().await, LdapProxy::start().await);
        let mut dead = Vec::new();
        for n in 1..many {
            let stranger = silent().await;
            let host = format!("dc{n}.example.test");
            dns.controller(None, n, &host, stranger.port());
            dns.host(&host);
            dead.push(stranger);
        }
        dns.controller(None, many, "last.example.test", living.port());
        dns.host("last.example.test");
        let directory = ActiveDirectory::new(&discovered(&dns)).unwrap();
        let began = Instant::now();
        for _ in 0..3 {
            directory.find(&upn(&user.upn)).await.unwrap();
        }
        // One that is waited for costs as much.
        assert!(began.elapsed() < CONNECT_TIMEOUT, "{many}: {:?}", began.elapsed());
        // When they are known to be dead, nobody tries them any more, however long ago that was.
        directory.preflight(&System).await;
        let tried = || dead.iter().map(Stranger::accepted).sum::<usize>();
        let before = tried();
        for _ in 0..3 {
            directory.find(&upn(&user.upn)).await.unwrap();
        }
        assert_eq!(tried(), before, "{many}");
        assert_eq!(living.accepted(), 2, "one of the commands, one of the check");
    }
}

#[tokio::test]
async fn among_equals_an_open_connection_is_used_and_across_sites_the_preferred_one() {
    let user = dc().create_user("equals", Ou::Staff, OLD).await;
    for equal in [true, false] {
        let (dns, ldap) = (Dns::start().await, dc().ldap_address());
        let (one, two) = (Proxy::start(ldap.clone()).await, Proxy::start(ldap).await);
        dns.controller(None, 0, "dc1.example.test", one.port());
        dns.controller(None, if equal { 0 } else { 1 }, "dc2.example.test", two.port());
        dns.host("dc1.example.test");
        dns.host("dc2.example.test");
        let directory = ActiveDirectory::new(&discovered(&dns)).unwrap();
        directory.preflight(&System).await;
        let asked = directory.find(&upn(&user.upn)).await.unwrap().controller;
        let (asked, other) = if asked.starts_with("dc1") { (&one, &two) } else { (&two, &one) };
        let (dialled, before) = (asked.accepted(), other.accepted());
        let (directory, subject, mut turn) = (&directory, &upn(&user.upn), 0);
        eventually("the end of a connection is noticed before it is used", || {
            turn += 1;
            let closes = turn % 2 == 1;
            async move {
                if closes {
                    // It closes what is idle; that is no trouble.
                    asked.set(Mode::Cut);
                    asked.all_closed().await;
                    asked.set(Mode::Pass);
                    return false;
                }
                let found = directory.find(subject).await.unwrap().controller;
                let at_the_other = found.ends_with(&format!(":{}", other.port()));
                if equal { at_the_other } else { !at_the_other && asked.accepted() > dialled }
            }
        })
        .await;
        assert_eq!(other.accepted(), before, "{equal}");
    }
}

/// One name with two addresses, the wrong one first.
async fn two_addresses(manner: Manner) -> (Dns, Stranger, LdapProxy, Config) {
    let (wrong, right) = (own_address(), own_address());
    let living = LdapProxy::start_at((right, 0).into()).await;
    let stranger = Stranger::plain(SocketAddr::from((wrong, living.port())), manner).await;
    let dns = Dns::start().await;
    dns.host_at("dc1.example.test", wrong);
    dns.host_at("dc1.example.test", right);
    let config = Config {
        url: vec![format!("ldaps://dc1.example.test:{}", living.port())],
        name_servers: vec![NameServer(dns.address())],
        base_dn: vec![format!("OU=Staff,{}", dc().base_dn())],
        connect_timeout_seconds: CONNECT_TIMEOUT.as_secs(),
        ..config()
    };
    (dns, stranger, living, config)
}

#[tokio::test]
async fn an_address_that_takes_connections_and_is_no_controller_is_passed_by_and_then_comes_last() {
    let user = dc().create_user("passedby", Ou::Staff, OLD).await;
    let mut met = 0;
    for manner in [Manner::Silent, Manner::Closes, Manner::Says(BAD_REQUEST)] {
        for start_tls in [false, true] {
            let (_dns, stranger, living, mut config) = two_addresses(manner).await;
            if start_tls {
                config.start_tls = true;
                config.url = vec![config.url[0].replace("ldaps://", "ldap://")];
            }
            let directory = ActiveDirectory::new(&config).unwrap();
            let began = Instant::now();
            let account = directory.find(&upn(&user.upn)).await.unwrap();
            directory.reset_password(&account, &password(NEW), Default::default(), &in_time()).await.unwrap();
            assert!(began.elapsed() < CONNECT_TIMEOUT / 2, "{manner:?}: {:?}", began.elapsed());
            assert!(stranger.accepted() <= 1, "{manner:?}");
            // The check takes the same way: what works is not called a failure, and the good address is first now.
            let before = stranger.accepted();
            let found = directory.preflight(&System).await;
            assert!(found.iter().all(|finding| finding.state != Failed), "{manner:?}: {found:#?}");
            assert_eq!(stranger.accepted(), before, "{manner:?}");
            assert!(living.accepted() >= 2);
            met += before;
        }
    }
    assert!(met > 0, "the wrong address was tried");
}

#[tokio::test]
async fn the_check_dials_as_resets_do_and_names_the_address_that_is_dead() {
    let (_dns, stranger, _living, config) = two_addresses(Manner::Silent).await;
    let found = ActiveDirectory::new(&config).unwrap().preflight(&System).await;
    assert!(found.iter().all(|finding| finding.state != Failed), "{found:#?}");
    let tcp = found.iter().find(|finding| finding.check == Check::Tcp).unwrap();
    // The name server may have named the good one first.
    assert_eq!(tcp.state, if stranger.accepted() > 0 { Warning } else { Green }, "{tcp:?}");
    let gone = Dns::start().await;
    let (dead, port) = (own_address(), config.url[0].rsplit_once(':').unwrap().1.to_owned());
    gone.host_at("dc1.example.test", dead);
    let config = Config { name_servers: vec![NameServer(gone.address())], ..config };
    let found = ActiveDirectory::new(&config).unwrap().preflight(&System).await;
    let tcp = found.last().unwrap();
    assert_eq!((tcp.check, tcp.state), (Check::Tcp, Failed), "{found:?}");
    assert!(tcp.detail.contains(&format!("{dead}:{port}")), "{tcp:?}");
}

#[tokio::test]
async fn an_address_where_ldap_hangs_behind_tls_comes_last_too() {
    let user = dc().create_user("behindtls", Ou::Staff, OLD).await;
    let (_dns, _stranger, living, config) = two_addresses(Manner::Silent).await;
    let hanging = own_address();
    let hung = LdapProxy::start_at(SocketAddr::from((hanging, living.port()))).await;
    hung.hold(Request::RootDse, When::Before);
    let dns = Dns::start().await;
    dns.host_at("dc1.example.test", hanging);
    dns.host_at("dc1.example.test", living_address(&living));
    let config = Config { name_servers: vec![NameServer(dns.address())], operation_timeout_seconds: 1, ..config };
    let directory = ActiveDirectory::new(&config).unwrap();
    directory.find(&upn(&user.upn)).await.unwrap();
    let tried = hung.accepted();
    let found = directory.preflight(&System).await;
    assert!(found.iter().all(|finding| finding.state != Failed), "{found:#?}");
    assert!(tried > 0 && hung.accepted() == tried, "{tried}");
}

fn living_address(living: &LdapProxy) -> Ipv4Addr {
    living.name().rsplit_once(':').unwrap().0.parse().unwrap()
}

/// Samba serves the global catalog at its own ports, and takes no writes there.
#[tokio::test]
async fn the_global_catalog_is_no_place_to_write_to() {
    let user = dc().create_user("catalog", Ou::Staff, OLD).await;
    let host = dc().ldaps_address();
    let (host, _) = host.rsplit_once(':').unwrap();
    for (url, start_tls) in [(format!("ldaps://{host}:3269"), false), (format!("ldap://{host}:3268"), true)] {
        let said = ActiveDirectory::new(&Config { url: vec![url], start_tls, ..config() }).err().unwrap().to_string();
        assert!(said.starts_with("url: ") && said.contains("global catalog"), "{said}");
    }
    // Wherever it is forwarded to.
    let forwarded = Proxy::start(format!("{host}:3269")).await;
    let config = Config { url: vec![format!("ldaps://localhost:{}", forwarded.port())], ..config() };
    let directory = ActiveDirectory::new(&config).unwrap();
    let row = directory.preflight(&System).await.pop().unwrap();
    assert!(row.state == Failed && row.detail.contains("global catalog"), "{row:?}");
    let said = unavailable(directory.find(&upn(&user.upn)).await);
    assert!(said.contains("read-only") || said.contains("global catalog"), "{said}");
}
