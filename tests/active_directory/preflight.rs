//! What the preflight says of domain controllers and of the domain.

use tokio::net::TcpListener;
use writeback_relay::agent::directory::active_directory::{ActiveDirectory, Config};
use writeback_relay::agent::directory::{Check, Directory, Finding};
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::api::PreflightState::{self, Failed, Ok as Green, Warning};
use writeback_relay::storage::PrivateFile;

use super::{OLD, config};
use crate::support::samba::{Ou, dc};

pub(super) async fn preflight(config: &Config) -> Vec<Finding> {
    ActiveDirectory::new(config).unwrap().preflight(&System).await
}

/// With the staff's unit alone.
fn staff() -> Config {
    Config { base_dn: vec![format!("OU=Staff,{}", dc().base_dn())], ..config() }
}

fn states(findings: &[Finding]) -> Vec<(Check, PreflightState)> {
    findings.iter().map(|finding| (finding.check, finding.state)).collect()
}

#[tokio::test]
async fn all_that_is_looked_at_is_named_and_only_the_policy_hints_are_missing() {
    // Those of other tests may have password settings of their own.
    let unit = dc().create_unit("calm", &staff().base_dn[0]).await;
    dc().create_user_in("calm", &unit, OLD).await;
    let found = preflight(&Config { base_dn: vec![unit], ..config() }).await;
    assert_eq!(
        states(&found),
        [
            (Check::Tcp, Green),
            (Check::Tls, Green),
            (Check::Bind, Green),
            (Check::RootDse, Green),
            (Check::Clock, Green),
            (Check::BaseDn, Green),
            (Check::ReadAccount, Green),
            (Check::ReadTokenGroups, Green),
            (Check::ResetPassword, Green),
            (Check::ChangePassword, Green),
            (Check::WriteLockoutTime, Green),
            (Check::WritePwdLastSet, Green),
            (Check::UnexpirePassword, Green),
            (Check::MinimumPasswordAge, Green),
            (Check::LockoutPolicy, Green),
            (Check::PolicyHints, Warning),
        ],
        "{found:#?}"
    );
    let detail = |check| &found.iter().find(|finding| finding.check == check).unwrap().detail;
    // The certificate is made for 30 days, a moment ago.
    assert!(detail(Check::Tls).contains("29 days"), "{found:#?}");
    assert!(detail(Check::LockoutPolicy).contains("30 minutes after 3"), "{found:#?}");
}

#[tokio::test]
async fn a_name_is_resolved_and_compared_with_what_the_controller_calls_itself() {
    let mut by_name = staff();
    by_name.url = vec!["ldaps://no-such-host.invalid".to_owned()];
    let found = preflight(&by_name).await;
    assert_eq!(states(&found), [(Check::Dns, Failed)]);
    assert!(found[0].detail.contains("no-such-host.invalid") && found[0].remedy.is_some(), "{found:?}");
}

#[tokio::test]
async fn no_controller_is_a_failure_and_one_of_two_a_warning() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut config = staff();
    config.url = vec![format!("ldaps://{nobody}")];
    let found = preflight(&config).await;
    assert_eq!(states(&found), [(Check::Tcp, Failed)]);
    assert_eq!(found[0].target, nobody.to_string());
    config.url.push(dc().ldaps_url());
    let found = preflight(&config).await;
    assert_eq!((found[0].check, found[0].state), (Check::Tcp, Warning));
    assert!(found.iter().all(|finding| finding.state != Failed), "{found:#?}");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_and_a_host_without_tls_are_told_apart_from_no_connection() {
    let mut config = staff();
    config.ca_file = None;
    let found = preflight(&config).await;
    assert_eq!(states(&found), [(Check::Tcp, Green), (Check::Tls, Failed)]);
    assert!(found[1].detail.contains("ca_file"), "{found:?}");
}

#[tokio::test]
async fn a_unit_that_is_not_there_and_a_locked_service_account_are_named() {
    let mut nowhere = staff();
    nowhere.base_dn.push("OU=Nowhere,DC=example,DC=test".to_owned());
    let found = preflight(&nowhere).await;
    let failed: Vec<_> = found.iter().filter(|finding| finding.state == Failed).collect();
    assert!(matches!(failed[..], [Finding { check: Check::BaseDn, .. }]), "{failed:?}");
    assert_eq!(failed[0].target, "OU=Nowhere,DC=example,DC=test");

    let dir = tempfile::tempdir().unwrap();
    let file = PrivateFile::new(dir.path().join("password"));
    file.replace(OLD).unwrap();
    let service = dc().create_user("svc-three", Ou::Other, OLD).await;
    dc().lock(&service).await;
    let mut locked = config();
    (locked.bind_user, locked.bind_password_file) = (service.upn, file.path().to_owned());
    let found = preflight(&locked).await.pop().unwrap();
    assert_eq!((found.check, found.state), (Check::Bind, Failed));
    assert!(found.detail.contains("locked"), "{}", found.detail);
}

/// A clock that is wrong.
struct Wrong(i64);

impl Clock for Wrong {
    fn now_ms(&self) -> u64 {
        System.now_ms().saturating_add_signed(self.0 * 1000)
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_a_warning_with_the_difference() {
    let found = ActiveDirectory::new(&staff()).unwrap().preflight(&Wrong(-3600)).await;
    let clock = found.iter().find(|finding| finding.check == Check::Clock).unwrap();
    assert_eq!(clock.state, Warning);
    assert!(["3599", "3600", "3601"].iter().any(|seconds| clock.detail.contains(seconds)), "{}", clock.detail);
    assert!(clock.detail.contains("ahead"), "{}", clock.detail);
    let tls = ActiveDirectory::new(&staff()).unwrap().preflight(&Wrong(25 * 24 * 3600)).await;
    let tls = tls.into_iter().find(|finding| finding.check == Check::Tls).unwrap();
    assert!(tls.state == Warning && tls.detail.contains("4 days"), "{tls:?}");
}
