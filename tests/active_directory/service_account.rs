//! What the check says of the service account itself.

use std::collections::HashSet;

use ldap3::Mod;
use writeback_relay::agent::directory::active_directory::Config;
use writeback_relay::agent::directory::{Check, Finding};
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::api::PreflightState::{Failed, Ok as Green, Warning};
use writeback_relay::storage::PrivateFile;

use super::config;
use super::preflight::preflight;
use crate::support::eventually;
use crate::support::samba::{SERVICE_PASSWORD, User, dc};

fn as_service(user: &User, password_file: &std::path::Path, base_dn: Vec<String>) -> Config {
    Config { bind_user: user.upn.clone(), bind_password_file: password_file.to_owned(), base_dn, ..config() }
}

async fn finding(config: &Config, check: Check) -> Finding {
    let found = preflight(config).await;
    found.iter().find(|finding| finding.check == check).unwrap_or_else(|| panic!("{found:#?}")).clone()
}

/// As the directory has it, so many days from now.
fn in_days(days: i64) -> String {
    ((System.now().0 + days * 24 * 3600 + 3600 + 11_644_473_600) * 10_000_000).to_string()
}

fn staff() -> Vec<String> {
    vec![format!("OU=Staff,{}", dc().base_dn())]
}

#[tokio::test]
async fn an_account_that_ends_soon_is_a_warning_and_one_that_has_ended_a_failure() {
    let service = dc().create_service("svc-ends").await;
    let config = as_service(&service.user, &service.password_file, staff());
    assert_eq!(finding(&config, Check::ServiceAccountExpiry).await.state, Green);
    dc().replace(&service.user, "accountExpires", &in_days(20)).await;
    assert_eq!(finding(&config, Check::ServiceAccountExpiry).await.state, Green);
    dc().replace(&service.user, "accountExpires", &in_days(5)).await;
    let soon = finding(&config, Check::ServiceAccountExpiry).await;
    assert!(soon.state == Warning && soon.detail.contains("in 5 days") && soon.remedy.is_some(), "{soon:?}");
    assert_eq!(soon.target, service.user.upn);
    dc().replace(&service.user, "accountExpires", &in_days(-2)).await;
    let over = finding(&config, Check::Bind).await;
    assert!(over.state == Failed && over.detail.contains("the account has expired"), "{over:?}");
}

#[tokio::test]
async fn a_password_that_ends_soon_is_a_warning_and_one_that_never_does_is_not() {
    let service = dc().create_service("svc-password-ends").await;
    let config = as_service(&service.user, &service.password_file, staff());
    dc().replace(&service.user, "userAccountControl", "66048").await;
    let never = finding(&config, Check::ServiceAccountPassword).await;
    assert!(never.state == Green && never.detail.contains("does not expire"), "{never:?}");
    dc().replace(&service.user, "userAccountControl", "512").await;
    dc().set_maximum_age(&service.user, 6).await;
    // Within the second in which it was set, six whole days are left.
    eventually("it ends in less than six days", async || {
        finding(&config, Check::ServiceAccountPassword).await.detail.contains("in 5 days")
    })
    .await;
    let soon = finding(&config, Check::ServiceAccountPassword).await;
    assert!(soon.state == Warning && soon.remedy.is_some(), "{soon:?}");
    let days_42 = dc().create_service("svc-password-holds").await;
    let config = as_service(&days_42.user, &days_42.password_file, staff());
    let holds = finding(&config, Check::ServiceAccountPassword).await;
    assert_eq!(holds.state, Green, "{holds:?}");
}

#[tokio::test]
async fn too_many_rights_are_a_warning_directly_and_through_a_group() {
    for (name, group) in [("direct", "CN=Domain Admins,CN=Users"), ("builtin", "CN=Backup Operators,CN=Builtin")] {
        let service = dc().create_service(&format!("svc-mighty-{name}")).await;
        let config = as_service(&service.user, &service.password_file, staff());
        let harmless = finding(&config, Check::ServiceAccountRights).await;
        assert_eq!(harmless.state, Green, "{harmless:?}");
        let inner = dc().create_group(&format!("mighty-{name}"), &[&service.user.dn]).await;
        let add = Mod::Add("member", HashSet::from([inner.as_str()]));
        let group = format!("{group},{}", dc().base_dn());
        dc().administrator().await.modify(&group, vec![add]).await.unwrap().success().unwrap();
        let mighty = finding(&config, Check::ServiceAccountRights).await;
        let called = group.strip_prefix("CN=").and_then(|rest| rest.split(',').next()).unwrap();
        assert!(mighty.state == Warning && mighty.detail.contains(called) && mighty.remedy.is_some(), "{mighty:?}");
        dc().remove_member(&group, &inner).await;
        assert_eq!(finding(&config, Check::ServiceAccountRights).await.state, Green);
    }
}

#[tokio::test]
async fn a_service_account_below_a_unit_that_is_served_is_told() {
    let unit = dc().create_unit("with-its-own", dc().base_dn()).await;
    let service = dc().create_user_in("svc-inside", &unit, SERVICE_PASSWORD).await;
    let dir = tempfile::tempdir().unwrap();
    let file = PrivateFile::new(dir.path().join("password"));
    file.replace(SERVICE_PASSWORD).unwrap();
    let place = async |base_dn| finding(&as_service(&service, file.path(), base_dn), Check::ServiceAccountUnit).await;
    let inside = place([staff(), vec![unit.clone()]].concat()).await;
    assert!(inside.state == Warning && inside.detail.contains(&unit) && inside.remedy.is_some(), "{inside:?}");
    // Every account is in the domain; nothing is to be done about that.
    let everywhere = place(Vec::new()).await;
    assert!(everywhere.state == Green && everywhere.detail.contains("refuses"), "{everywhere:?}");
    let outside = place(staff()).await;
    assert!(outside.state == Green && outside.detail.contains("outside"), "{outside:?}");
}
