//! Each right, and every way in which it may be there or not: what the preflight says, and what a reset then does. The
//! remedies are run as they are printed.

use writeback_relay::agent::directory::active_directory::{ActiveDirectory, Config};
use writeback_relay::agent::directory::{Check, Directory, DirectoryError, Finding, Written};
use writeback_relay::clock::System;
use writeback_relay::protocol::api::PreflightState::{Failed, Ok as Green, Warning};
use writeback_relay::protocol::command::Options;
use writeback_relay::protocol::outcome::Code;

use super::{NEW, OLD, config, in_time, password, refused, upn};
use crate::support::samba::{User, dc};
use crate::support::samba_rights::Service;

const USER: &str = "bf967aba-0de6-11d0-a285-00aa003049e2";
const CHANGE_PASSWORD: &str = "ab721a53-1e2f-11d0-9819-00aa0040529b";
const PLAIN: Options = Options { unlock: false, force_change_at_next_logon: false, enforce_history: false };

/// The four rights, as SDDL calls them.
const RIGHTS: [(Check, &str); 4] = [
    (Check::ResetPassword, "CR;00299570-246d-11d0-a768-00aa006e0529"),
    (Check::ChangePassword, "CR;ab721a53-1e2f-11d0-9819-00aa0040529b"),
    (Check::WriteLockoutTime, "WP;28630ebf-41d5-11d1-a9c1-0000f80367c1"),
    (Check::WritePwdLastSet, "WP;bf967a0a-0de6-11d0-a285-00aa003049e2"),
];

/// A unit and a service account of a test's own.
struct Place {
    unit: String,
    service: Service,
    directory: ActiveDirectory,
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
        let directory = ActiveDirectory::new(&config).unwrap();
        Self { unit, service, directory }
    }

    async fn user(&self, name: &str) -> User {
        dc().create_user_in(name, &self.unit, OLD).await
    }

    /// Gives some of the rights on the users below to somebody.
    async fn give(&self, to: &str, rights: impl Iterator<Item = Check>) {
        let entries = rights.map(|check| entry("OA", check, to)).collect::<String>();
        dc().permit(&self.unit, &entries).await;
    }

    async fn findings(&self) -> Vec<Finding> {
        self.directory.preflight(&System).await
    }

    /// What is wrong with rights, and nothing else is.
    async fn wrong(&self) -> Vec<Finding> {
        let found = self.findings().await;
        let wrong = found.into_iter().filter(|f| f.state != Green && f.check != Check::PolicyHints);
        let wrong: Vec<_> = wrong.collect();
        assert!(wrong.iter().all(|finding| finding.check.is_right()), "{wrong:#?}");
        wrong
    }

    async fn reset(&self, user: &User, options: Options) -> Result<Written, DirectoryError> {
        let account = self.directory.find(&upn(&user.upn)).await?;
        self.directory.reset_password(&account, &password(NEW), options, &in_time()).await
    }

    async fn change(&self, user: &User) -> Result<Written, DirectoryError> {
        let account = self.directory.find(&upn(&user.upn)).await?;
        self.directory.change_password(&account, &password(OLD), &password(NEW), &in_time()).await
    }

    /// Gives what is said.
    async fn may_not_reset(&self, user: &User, options: Options) -> String {
        let (code, detail) = refused(self.reset(user, options).await);
        assert_eq!(code, Code::InsufficientRights, "{detail}");
        assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
        detail
    }
}

fn entry(kind: &str, check: Check, to: &str) -> String {
    let (_, right) = RIGHTS.iter().find(|(right, _)| *right == check).unwrap();
    format!("({kind};CIIO;{right};{USER};{to})")
}

fn all() -> impl Iterator<Item = Check> {
    RIGHTS.iter().map(|(check, _)| *check)
}

/// Takes from an account what the schema gives to everybody: to change its password with the current one.
pub(super) async fn without_everybodys_right(user: &User) {
    let sddl = dc().sddl(&user.dn).await;
    let (head, entries) = sddl.split_once('(').unwrap();
    let kept = entries.split('(').filter(|entry| !entry.contains(CHANGE_PASSWORD) || entry.contains("ID;"));
    let kept = kept.map(|entry| format!("({entry}")).collect::<String>();
    dc().set_sddl(&user.dn, &format!("{head}{kept}")).await;
}

#[tokio::test]
async fn each_right_that_is_taken_away_alone_is_named_with_its_unit_and_given_back_by_the_command() {
    for (number, missing) in all().enumerate() {
        let place = Place::new(&format!("alone-{number}")).await;
        place.give(&place.service.sid, all().filter(|check| *check != missing)).await;
        let user = place.user("alone").await;
        if missing == Check::ChangePassword {
            without_everybodys_right(&user).await;
        }

        let wrong = place.wrong().await;
        let [finding] = &wrong[..] else { panic!("{missing:?}: {wrong:#?}") };
        assert_eq!((finding.check, finding.target.as_str(), finding.state), (missing, place.unit.as_str(), Failed));
        assert!(finding.detail.contains(missing.title()), "{finding:?}");
        // All that a reset can be asked for, so that the error alone does not tell which right it is.
        let options = Options { unlock: true, force_change_at_next_logon: true, ..PLAIN };
        // A reset needs no right to change.
        match missing {
            Check::ChangePassword => {
                let (code, detail) = refused(place.change(&user).await);
                assert_eq!(code, Code::InsufficientRights, "{detail}");
                assert!(detail.contains("the right \"Change Password\" is missing"), "{detail}");
            }
            _ => {
                let detail = place.may_not_reset(&user, options).await;
                let named = format!("the right {:?} is missing on this account", missing.title());
                assert!(detail.contains(&named), "{missing:?}: {detail}");
            }
        }

        dc().run(&finding.remedy.as_ref().unwrap().how).await;
        assert_eq!(place.wrong().await, [], "{missing:?}");
        match missing {
            Check::ChangePassword => place.change(&user).await.unwrap(),
            _ => place.reset(&user, options).await.unwrap(),
        };
    }
}

#[tokio::test]
async fn rights_through_a_nested_group_count_and_end_with_the_membership() {
    let place = Place::new("nested").await;
    let inner = dc().create_group("nested-inner", &[&place.service.user.dn]).await;
    let outer = dc().create_group("nested-outer", &[&inner]).await;
    place.give(&dc().sid(&outer).await, all()).await;
    let user = place.user("nested").await;
    assert_eq!(place.wrong().await, []);
    place.reset(&user, PLAIN).await.unwrap();

    let other = place.user("nested").await;
    dc().remove_member(&outer, &inner).await;
    // Everybody may change a password.
    let checks: Vec<_> = place.wrong().await.into_iter().map(|finding| (finding.check, finding.state)).collect();
    let three = [Check::ResetPassword, Check::WriteLockoutTime, Check::WritePwdLastSet];
    assert_eq!(checks, three.map(|check| (check, Failed)));
    place.may_not_reset(&other, PLAIN).await;
}

#[tokio::test]
async fn an_entry_that_denies_is_named_with_its_place_and_whom_it_is_about() {
    let place = Place::new("denied").await;
    let group = dc().create_group("denied-group", &[&place.service.user.dn]).await;
    place.give(&place.service.sid, all()).await;
    let user = place.user("denied").await;
    assert_eq!(place.wrong().await, []);
    let before = dc().sddl(&place.unit).await;
    dc().permit(&place.unit, &entry("OD", Check::ResetPassword, &dc().sid(&group).await)).await;

    let wrong = place.wrong().await;
    let [finding] = &wrong[..] else { panic!("{wrong:#?}") };
    assert_eq!((finding.check, finding.target.as_str(), finding.state), (Check::ResetPassword, &*place.unit, Failed));
    let said = format!("an entry on \"{}\" denies it to \"denied-group\"", place.unit);
    assert!(finding.detail.contains(&said), "{finding:?}");
    assert!(finding.remedy.as_ref().unwrap().how.contains(&entry("OD", Check::ResetPassword, &dc().sid(&group).await)));
    place.may_not_reset(&user, PLAIN).await;

    dc().set_sddl(&place.unit, &before).await;
    assert_eq!(place.wrong().await, []);
    place.reset(&user, PLAIN).await.unwrap();
}

#[tokio::test]
async fn a_user_and_a_unit_with_blocked_inheritance_are_named_and_the_others_are_not() {
    let place = Place::new("blocked").await;
    place.give(&place.service.sid, all()).await;
    let (good, bad) = (place.user("good").await, place.user("bad").await);
    block(&bad.dn).await;
    let wrong = place.wrong().await;
    let lacking = [
        Check::ReadAccount,
        Check::ReadTokenGroups,
        Check::ResetPassword,
        Check::WriteLockoutTime,
        Check::WritePwdLastSet,
    ];
    assert_eq!(
        wrong.iter().map(|finding| (finding.check, finding.state)).collect::<Vec<_>>(),
        lacking.map(|c| (c, Warning))
    );
    for finding in &wrong {
        assert!(finding.detail.contains("1 of 2") && finding.detail.contains(&bad.dn), "{finding:?}");
        assert!(!finding.detail.contains(&good.dn) && finding.detail.contains("inheritance is blocked"), "{finding:?}");
    }
    place.may_not_reset(&bad, PLAIN).await;
    place.reset(&good, PLAIN).await.unwrap();
    for finding in &wrong {
        dc().run(&finding.remedy.as_ref().unwrap().how).await;
    }
    assert_eq!(place.wrong().await, []);
    place.reset(&bad, PLAIN).await.unwrap();

    let below = dc().create_unit("walled", &place.unit).await;
    block(&below).await;
    let far = dc().create_user_in("far", &below, OLD).await;
    let wrong = place.wrong().await;
    assert_eq!(
        wrong.iter().map(|finding| (finding.check, finding.state)).collect::<Vec<_>>(),
        lacking.map(|c| (c, Warning))
    );
    assert!(
        wrong.iter().all(|finding| finding.detail.contains(&format!(": \"{below}\" takes no permissions"))),
        "{wrong:#?}"
    );
    place.may_not_reset(&far, PLAIN).await;
    for finding in &wrong {
        dc().run(&finding.remedy.as_ref().unwrap().how).await;
    }
    assert_eq!(place.wrong().await, []);
    place.reset(&far, PLAIN).await.unwrap();
}

/// Lets an object inherit nothing, and takes away what it has inherited.
async fn block(dn: &str) {
    let sddl = dc().sddl(dn).await;
    let (_, entries) = sddl.split_once('(').unwrap();
    let own = entries.split('(').filter(|entry| !entry.contains("ID;"));
    dc().set_sddl(dn, &format!("D:P{}", own.map(|entry| format!("({entry}")).collect::<String>())).await;
}

#[tokio::test]
async fn an_administrators_account_is_told_and_counts_for_nothing() {
    let place = Place::new("admins").await;
    place.give(&place.service.sid, all()).await;
    place.user("ordinary").await;
    let admin = place.user("adminic").await;
    dc().replace(&admin, "adminCount", "1").await;
    block(&admin.dn).await;
    // As AdminSDHolder has it.
    dc().permit(&admin.dn, "(A;;RPLCLORC;;;AU)").await;
    assert_eq!(place.wrong().await, []);
    let found = place.findings().await;
    let finding = found.iter().find(|finding| finding.check == Check::ProtectedAccounts).unwrap();
    let name = dc().attribute(&admin, "sAMAccountName").await;
    assert!(finding.state == Green && finding.detail.contains(&name), "{finding:?}");
}

#[tokio::test]
async fn a_unit_without_users_is_judged_by_what_a_new_one_would_get() {
    let place = Place::new("empty").await;
    let warned = |wrong: &[Finding]| wrong.iter().map(|finding| finding.check).collect::<Vec<_>>();
    let found = place.findings().await;
    let wrong: Vec<_> = found.into_iter().filter(|f| f.state != Green && f.check != Check::PolicyHints).collect();
    let expected = [Check::BaseDn, Check::ResetPassword, Check::WriteLockoutTime, Check::WritePwdLastSet];
    assert_eq!(warned(&wrong), expected);
    assert!(wrong.iter().all(|finding| finding.state == Warning), "{wrong:#?}");
    place.give(&place.service.sid, all()).await;
    let found = place.findings().await;
    assert!(found.iter().all(|f| f.state == Green || !f.check.is_right()), "{found:#?}");
}

#[tokio::test]
async fn all_extended_rights_a_property_set_and_full_control_are_rights_too() {
    let place = Place::new("sets").await;
    let user = place.user("sets").await;
    let sid = &place.service.sid;
    let wrong = async || place.wrong().await.into_iter().map(|finding| finding.check).collect::<Vec<_>>();
    place.give(sid, [Check::WriteLockoutTime].into_iter()).await;
    assert_eq!(wrong().await, [Check::ResetPassword, Check::WritePwdLastSet]);
    let restrictions = "4c164200-20c0-11d0-a768-00aa006e0529";
    dc().permit(&place.unit, &format!("(OA;CIIO;WP;{restrictions};{USER};{sid})")).await;
    assert_eq!(wrong().await, [Check::ResetPassword]);
    dc().permit(&place.unit, &format!("(OA;CIIO;CR;;{USER};{sid})")).await;
    assert_eq!(wrong().await, []);
    let options = Options { unlock: true, force_change_at_next_logon: true, enforce_history: false };
    place.reset(&user, options).await.unwrap();

    let place = Place::new("full").await;
    let user = place.user("full").await;
    dc().permit(&place.unit, &format!("(A;CI;GA;;;{})", place.service.sid)).await;
    assert_eq!(place.wrong().await, []);
    place.reset(&user, options).await.unwrap();
}
