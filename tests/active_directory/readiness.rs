//! One bad place of several: a unit that was renamed, a domain that is away, a right that is missing. Whoever is elsewhere
//! is served, and the check says what is out, in such a way that everybody judges it alike.

use writeback_relay::agent::directory::active_directory::{ActiveDirectory, Config, DomainConfig};
use writeback_relay::agent::directory::{Check, Directory};
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::api::PreflightReport;
use writeback_relay::protocol::api::PreflightState::Failed;
use writeback_relay::protocol::command::Operation::{self, ChangePassword, ResetPassword, UnlockAccount};
use writeback_relay::protocol::command::{Options, Subject};
use writeback_relay::protocol::outcome::Code;
use writeback_relay::protocol::readiness::Readiness::{Degraded, NotReady, NotServed, Ready};
use writeback_relay::protocol::readiness::{Need, Readiness, judge};

use super::{NEW, OLD, config, in_time, password, refused, unavailable, upn};
use crate::support::proxy::{Mode, Proxy};
use crate::support::samba::{Ou, dc};
use crate::support::samba_rights::Service;

const PLAIN: Options = Options { unlock: false, force_change_at_next_logon: false, enforce_history: false };
/// The four rights, as SDDL calls them.
const RIGHTS: [&str; 4] = [
    "CR;00299570-246d-11d0-a768-00aa006e0529",
    "CR;ab721a53-1e2f-11d0-9819-00aa0040529b",
    "WP;28630ebf-41d5-11d1-a9c1-0000f80367c1",
    "WP;bf967a0a-0de6-11d0-a285-00aa003049e2",
];

/// The report of a check, as the relay gets it.
async fn report(directory: &ActiveDirectory) -> PreflightReport {
    let rows = directory.preflight(&System).await.into_iter().map(Into::into).collect();
    PreflightReport { checked_at: System.now(), rows, domains: directory.domains() }
}

fn judged(report: &PreflightReport, account: &str, operation: Operation) -> Readiness {
    judge(report, Need::command(&Subject::from_text(account).unwrap(), operation))
}

/// A new unit, with these rights of the service account on the users below.
async fn unit(name: &str, service: &Service, rights: &[&str]) -> String {
    let unit = dc().create_unit(name, dc().base_dn()).await;
    let entry = |right: &&str| format!("(OA;CIIO;{right};bf967aba-0de6-11d0-a285-00aa003049e2;{})", service.sid);
    if !rights.is_empty() {
        dc().permit(&unit, &rights.iter().map(entry).collect::<String>()).await;
    }
    unit
}

fn serving(service: &Service, units: &[&String]) -> Config {
    Config {
        bind_user: service.user.upn.clone(),
        bind_password_file: service.password_file.clone(),
        base_dn: units.iter().map(|unit| (*unit).clone()).collect(),
        ..config()
    }
}

async fn rename(unit: &str, name: &str) {
    let renamed = dc().administrator().await.modifydn(unit, &format!("OU={name}"), true, None).await;
    renamed.unwrap().success().unwrap();
}

#[tokio::test]
async fn a_unit_that_was_renamed_hides_nobody_of_the_others_wherever_it_stands_in_the_list() {
    let service = dc().create_service("svc-renamed").await;
    let (gone, kept) = (unit("will-move", &service, &RIGHTS).await, unit("stays", &service, &RIGHTS).await);
    let there = dc().create_user_in("there", &kept, OLD).await;
    let away = dc().create_user_in("away", &gone, OLD).await;
    let orders =
        [[&gone, &kept], [&kept, &gone]].map(|order| ActiveDirectory::new(&serving(&service, &order)).unwrap());
    rename(&gone, "moved").await;
    for directory in &orders {
        let account = directory.find(&upn(&there.upn)).await.unwrap();
        assert_eq!(account.object_guid, there.guid);
        directory.find(&Subject::ObjectGuid(there.guid)).await.unwrap();
        // Whether there is such an account is not known: it may stand in the unit that is not seen.
        for missing in [upn(&away.upn), upn("nobody@example.test"), Subject::ObjectGuid(away.guid)] {
            let why = unavailable(directory.find(&missing).await);
            assert!(why.contains(&format!("base_dn: {gone} is not there")), "{why}");
        }
        let report = report(directory).await;
        let failed: Vec<_> = report.rows.iter().filter(|row| row.state == Failed).collect();
        assert!(matches!(failed[..], [row] if row.target == *gone && row.check == "base_dn"), "{failed:#?}");
        assert_eq!(judge(&report, Need::default()), Degraded);
    }
    let account = orders[0].find(&upn(&there.upn)).await.unwrap();
    orders[0].reset_password(&account, &password(NEW), PLAIN, &in_time()).await.unwrap();
    assert_eq!(dc().bind(&there.upn, NEW).await, Ok(()));

    rename("OU=moved,DC=example,DC=test", "will-move").await;
    for directory in &orders {
        assert_eq!(directory.find(&upn(&away.upn)).await.unwrap().object_guid, away.guid);
        assert_eq!(refused(directory.find(&upn("nobody@example.test")).await).0, Code::UserNotFound);
        assert_eq!(judge(&report(directory).await, Need::default()), Ready);
    }
}

#[tokio::test]
async fn without_any_of_its_units_a_domain_is_out() {
    let service = dc().create_service("svc-nowhere").await;
    let nowhere = ["OU=Nowhere", "OU=Neither"].map(|unit| format!("{unit},{}", dc().base_dn()));
    let directory = ActiveDirectory::new(&serving(&service, &[&nowhere[0], &nowhere[1]])).unwrap();
    let why = unavailable(directory.find(&upn("nobody@example.test")).await);
    assert!(nowhere.iter().all(|unit| why.contains(unit)), "{why}");
    assert_eq!(judge(&report(&directory).await, Need::default()), NotReady);
}

#[tokio::test]
async fn each_missing_right_stops_its_own_operation_in_its_own_unit() {
    let service = dc().create_service("svc-apart").await;
    let [reset, change, lockout, last_set] = RIGHTS;
    let good = unit("apart-good", &service, &RIGHTS).await;
    dc().create_user_in("apart", &good, OLD).await;
    for (number, (rights, expected)) in [
        // What an unlock needs, and nothing else.
        (vec![lockout], [NotReady, Ready, Ready]),
        (vec![reset, change, last_set], [Ready, Ready, NotReady]),
        // Options of a reset alone.
        (vec![reset, change, lockout], [Degraded, Ready, Ready]),
    ]
    .into_iter()
    .enumerate()
    {
        let bad = unit(&format!("apart-{number}"), &service, &rights).await;
        let user = dc().create_user_in("apart", &bad, OLD).await;
        let operations = [ResetPassword, ChangePassword, UnlockAccount];
        let of = |report: &PreflightReport| operations.map(|operation| judged(report, &user.upn, operation));
        let alone = ActiveDirectory::new(&serving(&service, &[&bad])).unwrap();
        let found = report(&alone).await;
        assert_eq!(of(&found), expected, "{rights:?}: {found:#?}");
        assert_eq!(judge(&found, Need::default()), Degraded);
        // Beside a good unit, nothing is out: the unit answers for itself.
        let both = ActiveDirectory::new(&serving(&service, &[&bad, &good])).unwrap();
        let expected = expected.map(|readiness| if readiness == NotReady { Degraded } else { readiness });
        assert_eq!(of(&report(&both).await), expected, "{rights:?}");
        let account = both.find(&upn(&user.upn)).await.unwrap();
        let unlocked = both.unlock_account(&account, &in_time()).await;
        assert_eq!(unlocked.is_ok(), rights.contains(&lockout), "{rights:?}: {unlocked:?}");
    }
}

#[tokio::test]
async fn a_domain_that_is_away_keeps_the_other_one_from_nothing() {
    let (one, other) = (Proxy::start(dc().ldaps_address()).await, Proxy::start(dc().ldaps_address()).await);
    let domain = |name: &str, proxy: &Proxy| DomainConfig {
        protected_groups: None,
        name: name.to_owned(),
        upn_suffixes: vec![format!("mail.{name}")],
        url: vec![format!("ldaps://localhost:{}", proxy.port())],
        sites: Vec::new(),
        base_dn: vec![format!("OU=Staff,{}", dc().base_dn())],
        ca_file: None,
        bind_user: None,
        bind_password_file: None,
    };
    let domains = vec![domain("away.test", &other), domain("example.test", &one)];
    let directory = ActiveDirectory::new(&Config { url: Vec::new(), domains, ..config() }).unwrap();
    other.set(Mode::Cut);
    let found = report(&directory).await;
    let user = dc().create_user("forester", Ou::Staff, OLD).await;
    for (account, expected) in [
        (user.upn.as_str(), Ready),
        ("jane@MAIL.example.test", Ready),
        ("jane@away.test", NotReady),
        ("jane@mail.away.test", NotReady),
        ("jane@elsewhere.test", NotServed),
        (&user.guid.hyphenated().to_string(), Degraded),
    ] {
        assert_eq!(judged(&found, account, ResetPassword), expected, "{account}: {found:#?}");
    }
    assert_eq!(judge(&found, Need::default()), Degraded);
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    directory.reset_password(&account, &password(NEW), PLAIN, &in_time()).await.unwrap();
    other.set(Mode::Pass);
    assert_eq!(judge(&report(&directory).await, Need::default()), Ready);
    // Its findings name the domain that they are about.
    let unnamed: Vec<_> = directory.preflight(&System).await.into_iter().filter(|f| f.domain.is_none()).collect();
    assert!(unnamed.is_empty() && !Check::ALL.is_empty(), "{unnamed:#?}");
}
