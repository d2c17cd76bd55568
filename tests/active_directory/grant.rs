//! The delegation, as commands and carried out.

use writeback_relay::agent::directory::active_directory::grant::{Administrator, Grant};
use writeback_relay::agent::directory::active_directory::{Config, DomainConfig};
use writeback_relay::protocol::api::PreflightState::Failed;
use zeroize::Zeroizing;

use super::preflight::preflight;
use super::{OLD, config};
use crate::support::samba::dc;

/// Two units, a user in each, and a service account that may do nothing with them.
async fn without_rights(name: &str) -> Config {
    let service = dc().create_service(&format!("svc-{name}")).await;
    let mut units = Vec::new();
    for number in 1..=2 {
        let unit = dc().create_unit(&format!("{name} \"{number}'s\""), dc().base_dn()).await;
        dc().create_user_in(name, &unit, OLD).await;
        units.push(unit);
    }
    let (bind_user, bind_password_file) = (service.user.upn, service.password_file);
    Config { bind_user, bind_password_file, base_dn: units, ..config() }
}

async fn failures(config: &Config) -> usize {
    preflight(config).await.iter().filter(|finding| finding.state == Failed).count()
}

fn administrator(name: &str, password: &str) -> Administrator {
    Administrator { name: name.to_owned(), password: Zeroizing::new(password.to_owned()) }
}

#[tokio::test]
async fn the_commands_give_the_rights_as_they_are_printed() {
    let config = without_rights("printed").await;
    assert_eq!(failures(&config).await, 6);
    let text = Grant::prepare(&config, None, None).await.unwrap().commands();
    let command = |line: &&str| line.starts_with("samba-tool dsacl set");
    let (needed, _) = text.split_once("Only if").unwrap();
    let commands: Vec<_> = needed.lines().map(str::trim).filter(command).collect();
    assert_eq!(commands.len(), 2, "{text}");
    for command in commands {
        dc().run(command).await;
    }
    assert_eq!(failures(&config).await, 0);
    let dsacls = format!("/I:S /G \"{}:CA;Reset Password;user\"", config.bind_user);
    assert_eq!(text.matches(&dsacls).count(), 2, "{text}");
}

#[tokio::test]
async fn an_administrators_credentials_give_the_rights_and_touch_nothing_else() {
    let config = without_rights("applied").await;
    let (name, password) = dc().administrator_account();
    let grant = Grant::prepare(&config, None, Some(&administrator(name, password))).await.unwrap();
    let before = dc().sddl(&config.base_dn[0]).await;
    let said = grant.apply().await.unwrap();
    assert!(config.base_dn.iter().all(|unit| said.contains(&format!("below {unit}"))), "{said}");
    assert_eq!(failures(&config).await, 0);
    let after = dc().sddl(&config.base_dn[0]).await;
    let entries = |sddl: &str| sddl.split('(').skip(1).map(str::to_owned).collect::<Vec<_>>();
    let (old, new) = (entries(&before), entries(&after));
    assert_eq!(new.iter().filter(|entry| !old.contains(entry)).count(), 4, "{before}\n{after}");
    assert!(old.iter().all(|entry| new.contains(entry)), "{before}\n{after}");
    // Once more changes nothing.
    let said = grant.apply().await.unwrap();
    assert!(said.contains("had the four rights"), "{said}");
    assert_eq!(dc().sddl(&config.base_dn[0]).await, after);
}

#[tokio::test]
async fn who_may_not_give_rights_is_told_and_a_wrong_password_is_too() {
    let config = without_rights("refused").await;
    let user = dc().create_service("svc-nobody").await.user;
    let grant = Grant::prepare(&config, None, Some(&administrator(&user.upn, "Service-Passw0rd1"))).await.unwrap();
    let error = grant.apply().await.unwrap_err().to_string();
    assert!(error.contains(&config.base_dn[0]) && error.contains("can't be changed"), "{error}");
    assert_eq!(failures(&config).await, 6);
    for wrong in ["", "Wrong-Passw0rd-9"] {
        let error =
            Grant::prepare(&config, None, Some(&administrator(&user.upn, wrong))).await.err().unwrap().to_string();
        assert!(error.contains(&user.upn) && error.contains("can't log on"), "{error}");
        assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
    }
}

#[tokio::test]
async fn each_domain_of_a_forest_gets_its_own_commands_and_its_own_administrator() {
    let one = without_rights("forest").await;
    let domain = |name: &str, unit: &str| DomainConfig {
        name: name.to_owned(),
        upn_suffixes: Vec::new(),
        url: one.url.clone(),
        sites: Vec::new(),
        base_dn: vec![unit.to_owned()],
        protected_groups: None,
        ca_file: None,
        bind_user: None,
        bind_password_file: None,
    };
    // Two of the forest, both at the same controller, each with a unit of its own.
    let domains = vec![domain("one.test", &one.base_dn[0]), domain("two.test", &one.base_dn[1])];
    let forest = Config { url: Vec::new(), base_dn: Vec::new(), domains, ..one.clone() };
    let text = Grant::prepare(&forest, None, None).await.unwrap().commands();
    assert_eq!(text.matches("== DC=example,DC=test ==").count(), 2, "{text}");
    assert_eq!(text.matches("dsacls \"").count(), 2 * 4, "{text}");

    let (name, password) = dc().administrator_account();
    let only = Grant::prepare(&forest, Some("TWO.test"), Some(&administrator(name, password))).await.unwrap();
    let said = only.apply().await.unwrap();
    assert!(said.contains(&one.base_dn[1]) && !said.contains(&one.base_dn[0]), "{said}");
    assert_eq!(failures(&one).await, 3);
    let all = Grant::prepare(&forest, None, Some(&administrator(name, password))).await.unwrap();
    assert_eq!(all.apply().await.unwrap().lines().count(), 2);
    assert_eq!(failures(&one).await, 0);

    let error = Grant::prepare(&forest, Some("three.test"), None).await.err().unwrap().to_string();
    assert!(error.contains("three.test") && error.contains("one.test, two.test"), "{error}");
    let wrong = administrator(name, "Wrong-Passw0rd-9");
    let error = Grant::prepare(&forest, None, Some(&wrong)).await.err().unwrap().to_string();
    assert!(error.starts_with("one.test: ") && error.contains("--domain one.test"), "{error}");
}
