//! Accounts that are no plain users: an entry for `user` does not reach them, and what is advised does.

use writeback_relay::agent::directory::active_directory::grant::{Administrator, Grant};
use writeback_relay::agent::directory::active_directory::{ActiveDirectory, Config};
use writeback_relay::agent::directory::{Directory, Finding};
use writeback_relay::clock::System;
use writeback_relay::protocol::api::PreflightState::{Failed, Ok as Green, Warning};
use writeback_relay::protocol::command::{Options, Subject};
use zeroize::Zeroizing;

use super::{NEW, OLD, config, in_time, password};
use crate::support::samba::{User, dc};
use crate::support::samba_rights::Service;

const USER: &str = "bf967aba-0de6-11d0-a285-00aa003049e2";
const INET_ORG_PERSON: &str = "4828cc14-1437-45bc-9b07-ad6f015e5f28";
/// A password in clear text, beside what else a reset may do.
const BOTH: Options = Options { unlock: true, force_change_at_next_logon: true, enforce_history: false };

struct Place {
    unit: String,
    service: Service,
    config: Config,
}

impl Place {
    async fn new(name: &str) -> Self {
        let unit = dc().create_unit(name, dc().base_dn()).await;
        let service = dc().create_service(&format!("svc-{name}")).await;
        let config = Config {
            bind_user: service.user.upn.clone(),
            bind_password_file: service.password_file.clone(),
            base_dn: vec![unit.clone()],
            ..config()
        };
        Self { unit, service, config }
    }

    /// The four rights on the accounts of a class below.
    async fn give(&self, class: &str) {
        let rights = [
            "CR;00299570-246d-11d0-a768-00aa006e0529",
            "CR;ab721a53-1e2f-11d0-9819-00aa0040529b",
            "WP;28630ebf-41d5-11d1-a9c1-0000f80367c1",
            "WP;bf967a0a-0de6-11d0-a285-00aa003049e2",
        ];
        let entry = |right: &str| format!("(OA;CIIO;{right};{class};{})", self.service.sid);
        dc().permit(&self.unit, &rights.map(entry).concat()).await;
    }

    /// What is not as it should be with the rights.
    async fn wrong(&self) -> Vec<Finding> {
        let found = ActiveDirectory::new(&self.config).unwrap().preflight(&System).await;
        found.into_iter().filter(|f| f.state != Green && f.check.is_right()).collect()
    }

    async fn resets(&self, user: &User) {
        let directory = ActiveDirectory::new(&self.config).unwrap();
        let account = directory.find(&Subject::upn(&user.upn).unwrap()).await.unwrap();
        directory.reset_password(&account, &password(NEW), BOTH, &in_time()).await.unwrap();
    }

    async fn grant(&self) -> Grant {
        let (name, password) = dc().administrator_account();
        let administrator = Administrator { name: name.to_owned(), password: Zeroizing::new(password.to_owned()) };
        Grant::prepare(&self.config, None, Some(&administrator)).await.unwrap()
    }
}

#[tokio::test]
async fn a_unit_of_inet_org_persons_is_advised_what_it_lacks_and_the_commands_mend_it() {
    let place = Place::new("persons").await;
    place.give(USER).await;
    let person = dc().create_person_in("person", &place.unit, OLD).await;
    let wrong = place.wrong().await;
    assert!(wrong.len() >= 3 && wrong.iter().all(|finding| finding.state == Failed), "{wrong:#?}");
    for finding in &wrong {
        let how = &finding.remedy.as_ref().unwrap().how;
        // What is there already is not advised.
        assert!(how.contains(INET_ORG_PERSON) && !how.contains(USER), "{finding:?}");
        assert!(finding.detail.contains("on inetOrgPerson accounts"), "{finding:?}");
        dc().run(how).await;
    }
    assert_eq!(place.wrong().await, []);
    place.resets(&person).await;
}

#[tokio::test]
async fn in_a_mixed_unit_the_class_that_lacks_the_right_is_the_one_that_is_named() {
    let place = Place::new("mixed").await;
    place.give(USER).await;
    let (user, person) =
        (dc().create_user_in("plain", &place.unit, OLD).await, dc().create_person_in("mixed", &place.unit, OLD).await);
    let wrong = place.wrong().await;
    assert!(wrong.len() >= 3 && wrong.iter().all(|finding| finding.state == Warning), "{wrong:#?}");
    for finding in &wrong {
        assert!(finding.detail.contains(&person.dn) && !finding.detail.contains(&user.dn), "{finding:?}");
        assert!(!finding.remedy.as_ref().unwrap().how.contains(USER), "{finding:?}");
    }
    let grant = place.grant().await;
    let commands = grant.commands();
    assert!(commands.contains("CA;Reset Password;user\"") && commands.contains("CA;Reset Password;inetOrgPerson\""));
    // Each class is told of as it is.
    let said = grant.apply().await.unwrap();
    let expected = format!("the inetOrgPerson accounts below {}; on the user accounts it had them", place.unit);
    assert!(said.contains("now has the four rights on") && said.contains(&expected), "{said}");
    assert_eq!(place.wrong().await, []);
    place.resets(&user).await;
    place.resets(&person).await;
    let again = grant.apply().await.unwrap();
    assert!(again.contains("had the four rights on the user and inetOrgPerson accounts"), "{again}");
}

#[tokio::test]
async fn a_unit_without_accounts_is_granted_for_users_and_one_of_users_not_for_more() {
    let place = Place::new("plainly").await;
    let text = place.grant().await.commands();
    assert!(text.contains(";user\"") && !text.contains("inetOrgPerson"), "{text}");
    dc().create_user_in("plainly", &place.unit, OLD).await;
    let said = place.grant().await.apply().await.unwrap();
    assert!(said.contains("now has the four rights on the user accounts below"), "{said}");
    assert_eq!(place.wrong().await, []);
    // A new class makes something missing.
    dc().create_person_in("later", &place.unit, OLD).await;
    let said = place.grant().await.apply().await.unwrap();
    assert!(said.contains("now has the four rights on the inetOrgPerson accounts"), "{said}");
    assert_eq!(place.wrong().await, []);
}
