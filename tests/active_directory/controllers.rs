//! More than one domain controller, and more than one domain. The controllers are TCP proxies before one Samba: they have
//! names of their own, break one by one, and are never behind each other in what they know.

use writeback_relay::agent::directory::active_directory::{ActiveDirectory, Config, DomainConfig, NameServer};
use writeback_relay::agent::directory::{Account, Directory};
use writeback_relay::clock::System;
use writeback_relay::protocol::api::PreflightState::{Failed, Ok as Green, Warning};
use writeback_relay::protocol::command::Subject;
use writeback_relay::protocol::outcome::Code;

use super::{NEW, OLD, config, in_time, password, refused, unavailable, upn};
use crate::support::dns::Dns;
use crate::support::fake_dc::{ACCOUNT, FakeDc};
use crate::support::proxy::{Mode, Proxy};
use crate::support::samba::{Ou, User, dc};

const DC1: &str = "dc1.example.test";
const DC2: &str = "dc2.example.test";

/// Two domain controllers that only DNS knows, over StartTLS: SRV records name LDAP's port.
struct Discovered {
    dns: Dns,
    dc1: Proxy,
    dc2: Proxy,
}

impl Discovered {
    /// The first is preferred.
    async fn start() -> Self {
        let (dns, ldap) = (Dns::start().await, dc().ldap_address());
        let (dc1, dc2) = (Proxy::start(ldap.clone()).await, Proxy::start(ldap).await);
        dns.controller(None, 10, DC2, dc2.port());
        dns.controller(None, 0, DC1, dc1.port());
        dns.host(DC1);
        dns.host(DC2);
        Self { dns, dc1, dc2 }
    }

    fn config(&self) -> Config {
        Config {
            url: Vec::new(),
            domain: Some("example.test".to_owned()),
            name_servers: vec![NameServer(self.dns.address())],
            start_tls: true,
            connect_timeout_seconds: 1,
            operation_timeout_seconds: 2,
            ..config()
        }
    }
}

async fn reset(directory: &ActiveDirectory, account: &Account, new: &str) {
    directory.reset_password(account, &password(new), Default::default(), &in_time()).await.unwrap();
}

async fn found(directory: &ActiveDirectory, user: &User) -> Account {
    directory.find(&upn(&user.upn)).await.unwrap()
}

#[tokio::test]
async fn dns_names_the_controllers_and_when_one_is_killed_the_next_serves() {
    let controllers = Discovered::start().await;
    let directory = ActiveDirectory::new(&controllers.config()).unwrap();
    let user = dc().create_user("dora", Ou::Staff, OLD).await;
    let first = found(&directory, &user).await;
    assert_eq!(first.controller, format!("{DC1}:{}", controllers.dc1.port()));
    reset(&directory, &first, NEW).await;
    assert_eq!(dc().bind(&user.upn, NEW).await, Ok(()));
    assert_eq!(controllers.dc2.accepted(), 0);

    controllers.dc1.set(Mode::Cut);
    controllers.dc1.all_closed().await;
    let second = found(&directory, &user).await;
    assert_eq!(second.controller, format!("{DC2}:{}", controllers.dc2.port()));
    reset(&directory, &second, "Third-Passw0rd-3").await;
    assert_eq!(dc().bind(&user.upn, "Third-Passw0rd-3").await, Ok(()));
    // What began at the first is followed up there, and nowhere else.
    let error = unavailable(directory.pwd_last_set(&first).await);
    assert!(error.starts_with(DC1), "{error}");
    assert_eq!(controllers.dns.asked(), ["_ldap._tcp.dc._msdcs.example.test"]);
}

#[tokio::test]
async fn one_that_was_down_is_tried_last_until_the_check_finds_that_it_is_back() {
    let controllers = Discovered::start().await;
    let directory = ActiveDirectory::new(&controllers.config()).unwrap();
    let user = dc().create_user("dino", Ou::Staff, OLD).await;
    controllers.dc1.set(Mode::Cut);
    assert!(found(&directory, &user).await.controller.starts_with(DC2));
    let tried = controllers.dc1.accepted();
    assert!(found(&directory, &user).await.controller.starts_with(DC2));
    assert_eq!(controllers.dc1.accepted(), tried, "one that is down does not cost each question a timeout");

    let rows = directory.preflight(&System).await;
    let of = |host: &str| rows.iter().filter(|row| row.target.starts_with(host)).map(|r| r.state).collect::<Vec<_>>();
    assert_eq!(of(DC1).last(), Some(&Warning));
    assert!(of(DC2).iter().all(|state| *state != Failed) && of(DC2).contains(&Green));
    controllers.dc1.set(Mode::Pass);
    directory.preflight(&System).await;
    assert!(found(&directory, &user).await.controller.starts_with(DC1));
}

#[tokio::test]
async fn a_silent_controller_costs_a_question_one_timeout_and_the_next_answers() {
    let controllers = Discovered::start().await;
    let directory = ActiveDirectory::new(&controllers.config()).unwrap();
    let user = dc().create_user("dina", Ou::Staff, OLD).await;
    found(&directory, &user).await;
    controllers.dc1.set(Mode::StopAfter(0));
    assert!(found(&directory, &user).await.controller.starts_with(DC2));
}

#[tokio::test]
async fn the_controllers_of_a_site_come_first_in_the_order_of_the_configuration() {
    let controllers = Discovered::start().await;
    controllers.dns.controller(Some("Berlin"), 0, DC2, controllers.dc2.port());
    controllers.dns.controller(Some("Hamburg"), 0, DC1, controllers.dc1.port());
    let user = dc().create_user("dirk", Ou::Staff, OLD).await;
    for (sites, first) in [(&["Berlin", "Hamburg"], DC2), (&["Hamburg", "Berlin"], DC1), (&["Atlantis", "Berlin"], DC2)]
    {
        let config = Config { sites: sites.map(str::to_owned).to_vec(), ..controllers.config() };
        let directory = ActiveDirectory::new(&config).unwrap();
        assert!(found(&directory, &user).await.controller.starts_with(first), "{sites:?}");
    }
    assert!(controllers.dns.asked().contains(&"_ldap._tcp.berlin._sites.dc._msdcs.example.test".to_owned()));
}

#[tokio::test]
async fn a_domain_that_dns_does_not_know_is_said_with_the_name_that_was_asked_for() {
    let dns = Dns::start().await;
    let config = Config {
        url: Vec::new(),
        domain: Some("typo.test".to_owned()),
        name_servers: vec![NameServer(dns.address())],
        ..config()
    };
    let directory = ActiveDirectory::new(&config).unwrap();
    let error = unavailable(directory.find(&upn("a@example.test")).await);
    assert!(error.contains("_ldap._tcp.dc._msdcs.typo.test") && error.contains("name servers"), "{error}");
    let rows = directory.preflight(&System).await;
    assert_eq!((rows.len(), rows[0].state, rows[0].target.as_str()), (1, Failed, "typo.test"));
}

/// A forest of two domains, each behind a controller of its own.
async fn forest() -> (Proxy, Proxy, Config) {
    let (example, branch) = (Proxy::start(dc().ldaps_address()).await, Proxy::start(dc().ldaps_address()).await);
    let domain = |name: &str, proxy: &Proxy| DomainConfig {
        name: name.to_owned(),
        upn_suffixes: Vec::new(),
        url: vec![format!("ldaps://localhost:{}", proxy.port())],
        sites: Vec::new(),
        base_dn: Vec::new(),
        protected_groups: None,
        ca_file: None,
        bind_user: None,
        bind_password_file: None,
    };
    let domains = vec![domain("example.test", &example), domain("branch.test", &branch)];
    (example, branch, Config { url: Vec::new(), domains, ..config() })
}

#[tokio::test]
async fn the_upn_suffix_says_which_domain_is_asked_and_an_unknown_one_is_answered_clearly() {
    let (example, branch, config) = forest().await;
    let directory = ActiveDirectory::new(&config).unwrap();
    let user = dc().create_user("fay", Ou::Staff, OLD).await;
    let upn_there = user.upn.replace("@example.test", "@Branch.Test");
    dc().replace(&user, "userPrincipalName", &upn_there).await;
    let account = directory.find(&upn(&upn_there)).await.unwrap();
    assert_eq!(account.controller, format!("localhost:{}", branch.port()));
    assert_eq!(example.accepted(), 0);
    reset(&directory, &account, NEW).await;
    assert_eq!(dc().bind(&upn_there, NEW).await, Ok(()));

    let (code, detail) = refused(directory.find(&upn("fay@elsewhere.test")).await);
    assert_eq!(code, Code::UserNotFound);
    for part in ["elsewhere.test", "example.test, branch.test", "upn_suffixes"] {
        assert!(detail.contains(part), "{detail}");
    }
    // A GUID says nothing of a domain: any may have it, and one that is away keeps nobody from looking into the others.
    example.set(Mode::Cut);
    let account = directory.find(&Subject::ObjectGuid(user.guid)).await.unwrap();
    assert_eq!(account.controller, format!("localhost:{}", branch.port()));
    // Unless none of the others has it: then the one that is away may.
    let error = unavailable(directory.find(&Subject::ObjectGuid(uuid::Uuid::from_u128(7))).await);
    assert!(error.contains(&format!("localhost:{}", example.port())), "{error}");
}

#[tokio::test]
async fn a_suffix_that_two_domains_share_finds_one_account_or_says_that_there_are_two() {
    let (example, _branch, mut config) = forest().await;
    for domain in &mut config.domains {
        domain.upn_suffixes = vec!["@shared.test".to_owned()];
    }
    // Only the first domain looks where the account is.
    config.domains[1].base_dn = vec!["OU=Other,DC=example,DC=test".to_owned()];
    let user = dc().create_user("fil", Ou::Staff, OLD).await;
    let shared = user.upn.replace("@example.test", "@shared.test");
    dc().replace(&user, "userPrincipalName", &shared).await;
    let directory = ActiveDirectory::new(&config).unwrap();
    assert_eq!(directory.find(&upn(&shared)).await.unwrap().object_guid, user.guid);
    // Without the first domain it can't be said that the account is the second's.
    example.set(Mode::Cut);
    unavailable(directory.find(&upn(&shared)).await);
    example.set(Mode::Pass);
    config.domains[1].base_dn.clear();
    let directory = ActiveDirectory::new(&config).unwrap();
    assert_eq!(refused(directory.find(&upn(&shared)).await).0, Code::AmbiguousUser);
}

#[tokio::test]
async fn a_domain_has_a_service_account_of_its_own_if_it_names_one() {
    let (_example, _branch, mut config) = forest().await;
    config.domains[1].bind_user = Some("nobody@branch.test".to_owned());
    let directory = ActiveDirectory::new(&config).unwrap();
    let user = dc().create_user("flo", Ou::Staff, OLD).await;
    found(&directory, &user).await;
    let error = unavailable(directory.find(&upn("flo@branch.test")).await);
    assert!(error.contains("nobody@branch.test can't log on"), "{error}");
}

/// Samba has no such controllers that could be had here, so this one only says that it is one.
#[tokio::test]
async fn a_read_only_controller_is_left_out_before_it_sees_the_service_accounts_password() {
    let read_only = FakeDc::offering(&[]).await;
    read_only.can("1.2.840.113556.1.4.1920");
    let mut config = config();
    (config.url, config.ca_file) = (vec![read_only.url.clone()], Some(read_only.ca_file.clone()));
    let directory = ActiveDirectory::new(&config).unwrap();
    let error = unavailable(directory.find(&upn(ACCOUNT)).await);
    assert!(error.contains("read-only domain controller"), "{error}");
    let error = unavailable(directory.find(&upn(ACCOUNT)).await);
    assert!(error.contains("every domain controller is read-only (localhost:"), "{error}");
    assert_eq!(read_only.binds(), 0);
    let row = directory.preflight(&System).await.pop().unwrap();
    assert_eq!(row.state, Failed);
    assert!(row.detail.contains("name a writable one"), "{}", row.detail);
    assert_eq!(read_only.binds(), 0);

    let writable = FakeDc::offering(&[]).await;
    config.url = vec![writable.url.clone()];
    config.ca_file = Some(writable.ca_file.clone());
    ActiveDirectory::new(&config).unwrap().find(&upn(ACCOUNT)).await.unwrap();
    assert_eq!(writable.binds(), 1);
}
