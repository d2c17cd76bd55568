//! Accounts that are left alone: by what they are and may, at once, in every operation.

use writeback_relay::agent::directory::active_directory::{ActiveDirectory, Config};
use writeback_relay::agent::directory::{Account, Check, Directory, DirectoryError};
use writeback_relay::clock::System;
use writeback_relay::protocol::api::PreflightState::{Failed, Ok as Green};
use writeback_relay::protocol::command::{Options, Subject};
use writeback_relay::protocol::outcome::Code;

use super::{NEW, OLD, config, directory, in_time, password, refused, upn};
use crate::support::samba::{Ou, User, dc};
use crate::support::samba_rights::Service;

/// A unit of a test's own: no other test counts its users, or works with its service account.
struct Place {
    unit: String,
    service: Service,
    config: Config,
}

impl Place {
    async fn new(name: &str) -> Self {
        let unit = dc().create_unit(name, dc().base_dn()).await;
        let service = dc().create_service(&format!("svc-{name}")).await;
        let rights = "CR;00299570-246d-11d0-a768-00aa006e0529 CR;ab721a53-1e2f-11d0-9819-00aa0040529b \
                      WP;28630ebf-41d5-11d1-a9c1-0000f80367c1 WP;bf967a0a-0de6-11d0-a285-00aa003049e2";
        let user = "bf967aba-0de6-11d0-a285-00aa003049e2";
        let entries = rights.split(' ').map(|right| format!("(OA;CIIO;{right};{user};{})", service.sid));
        dc().permit(&unit, &entries.collect::<String>()).await;
        let config = Config {
            bind_user: service.user.upn.clone(),
            bind_password_file: service.password_file.clone(),
            base_dn: vec![unit.clone()],
            ..config()
        };
        Self { unit, service, config }
    }

    async fn user(&self, name: &str) -> User {
        dc().create_user_in(name, &self.unit, OLD).await
    }

    fn directory(&self) -> ActiveDirectory {
        ActiveDirectory::new(&self.config).unwrap()
    }
}

/// Refused however it is named, and at the write if it has been found before; what was said.
async fn assert_protected(directory: &ActiveDirectory, user: &User, found: Option<&Account>) -> String {
    let mut said = String::new();
    for subject in [upn(&user.upn), Subject::ObjectGuid(user.guid)] {
        match directory.find(&subject).await.unwrap_err() {
            DirectoryError::LeftAlone { account, code, detail } => {
                assert_eq!((code, code.event().id()), (Code::ProtectedAccount, 33004), "{detail}");
                assert_eq!(account.object_guid, user.guid);
                said = detail;
            }
            other => panic!("{}: {other:?}", user.upn),
        }
    }
    if let Some(account) = found {
        let (new, old) = (password(NEW), password(OLD));
        let written = directory.reset_password(account, &new, Options::default(), &in_time()).await;
        assert_eq!(refused(written).0, Code::ProtectedAccount);
        assert_eq!(refused(directory.change_password(account, &old, &new, &in_time()).await).0, Code::ProtectedAccount);
        assert_eq!(refused(directory.unlock_account(account, &in_time()).await).0, Code::ProtectedAccount);
    }
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()), "nothing was written");
    said
}

async fn assert_free(directory: &ActiveDirectory, user: &User) -> Account {
    directory.find(&upn(&user.upn)).await.unwrap_or_else(|error| panic!("{}: {error}", user.upn))
}

fn group(name: &str) -> String {
    format!("CN={name},{}", dc().base_dn())
}

#[tokio::test]
async fn an_account_with_the_mark_is_refused_by_a_code_of_its_own() {
    let place = Place::new("marked").await;
    let (user, directory) = (place.user("marked").await, place.directory());
    let found = assert_free(&directory, &user).await;
    dc().replace(&user, "adminCount", "1").await;
    let said = assert_protected(&directory, &user, Some(&found)).await;
    assert!(said.contains("adminCount"), "{said}");
    dc().replace(&user, "adminCount", "0").await;
    assert_free(&directory, &user).await;
}

#[tokio::test]
async fn a_member_of_a_protected_group_is_refused_at_once_direct_nested_or_by_the_primary_group() {
    let place = Place::new("members").await;
    let directory = place.directory();
    for (name, protected) in [
        ("Administrators", group("Administrators,CN=Builtin")),
        ("Account Operators", group("Account Operators,CN=Builtin")),
        ("Server Operators", group("Server Operators,CN=Builtin")),
        ("Print Operators", group("Print Operators,CN=Builtin")),
        ("Backup Operators", group("Backup Operators,CN=Builtin")),
        ("Replicator", group("Replicator,CN=Builtin")),
        ("Domain Admins", group("Domain Admins,CN=Users")),
        ("Enterprise Admins", group("Enterprise Admins,CN=Users")),
        ("Schema Admins", group("Schema Admins,CN=Users")),
        ("Cert Publishers", group("Cert Publishers,CN=Users")),
    ] {
        let user = place.user("member").await;
        let found = assert_free(&directory, &user).await;
        dc().add_member(&protected, &user.dn).await;
        let said = assert_protected(&directory, &user, Some(&found)).await;
        // Replicator and the like are themselves in no other group; Domain Admins is in Administrators.
        assert!(said.contains(name) || said.contains("Administrators"), "{name}: {said}");
        dc().remove_member(&protected, &user.dn).await;
        assert_free(&directory, &user).await;
    }

    let nested = place.user("nested").await;
    let inner = dc().create_group("protected-inner", &[&nested.dn]).await;
    let outer = dc().create_group("protected-outer", &[&inner]).await;
    let found = assert_free(&directory, &nested).await;
    dc().add_member(&group("Domain Admins,CN=Users"), &outer).await;
    assert_protected(&directory, &nested, Some(&found)).await;
    dc().remove_member(&group("Domain Admins,CN=Users"), &outer).await;
    assert_free(&directory, &nested).await;

    let primary = place.user("primary").await;
    dc().add_member(&group("Domain Admins,CN=Users"), &primary.dn).await;
    dc().replace(&primary, "primaryGroupID", "512").await;
    assert_protected(&directory, &primary, None).await;
}

#[tokio::test]
async fn the_domains_own_accounts_of_that_kind_are_protected() {
    // krbtgt is disabled, which is said first.
    for (name, expected) in [("Administrator", Code::ProtectedAccount), ("krbtgt", Code::AccountDisabled)] {
        let dn = format!("CN={name},CN=Users,{}", dc().base_dn());
        let guid = dc().guid(&dn).await;
        let (code, _) = refused(directory().find(&Subject::ObjectGuid(guid)).await);
        assert_eq!(code, expected, "{name}");
    }
}

#[tokio::test]
async fn the_service_account_does_not_serve_itself_whatever_it_is_called() {
    let mut place = Place::new("itself").await;
    // Where it works, and may reset.
    place.config.base_dn = vec![format!("OU=Service,{}", dc().base_dn())];
    let own = place.service.user.clone();
    let account = dc().attribute(&own, "sAMAccountName").await;
    for name in [own.upn.clone(), format!("EXAMPLE\\{account}"), own.dn.clone()] {
        place.config.bind_user = name.clone();
        let directory = place.directory();
        for subject in [upn(&own.upn), upn(&own.upn.to_uppercase()), Subject::ObjectGuid(own.guid)] {
            let (code, said) = refused(directory.find(&subject).await);
            assert_eq!(code, Code::ProtectedAccount, "{name}: {said}");
            assert!(said.contains("own service account"), "{name}: {said}");
        }
    }
}

#[tokio::test]
async fn who_could_take_over_the_service_account_or_its_units_is_protected_like_it() {
    let place = Place::new("paths").await;
    let directory = place.directory();
    let service = &place.service.user.dn;
    let above = format!("OU=Service,{}", dc().base_dn());
    let reset = "CR;00299570-246d-11d0-a768-00aa006e0529";
    for (dn, kind, right) in [
        (service, "A", "GA;;"),
        (service, "A", "WD;;"),
        (service, "A", "WO;;"),
        (service, "A", "GW;;"),
        (service, "A", "CR;;"),
        (service, "A", "WP;;"),
        (service, "OA", &format!("{reset};")[..]),
        // msDS-KeyCredentialLink
        (service, "OA", "WP;5b47d60f-6090-40b2-9f37-2a4de88f3063;"),
        (&place.unit, "A", "GA;;"),
        (&place.unit, "A", "WD;;"),
        (&place.unit, "A", "WO;;"),
        (&above, "A", "WD;;"),
    ] {
        let before = dc().sddl(dn).await;
        let (user, member) = (place.user("path").await, place.user("path").await);
        let through = dc().create_group(&format!("paths-{}", member.upn.replace('@', "-")), &[&member.dn]).await;
        let found = assert_free(&directory, &user).await;
        for who in [dc().sid(&user.dn).await, dc().sid(&through).await] {
            dc().permit(dn, &format!("({kind};;{right};{who})")).await;
        }
        let said = assert_protected(&directory, &user, Some(&found)).await;
        assert!(said.contains(dn.as_str()), "{right} on {dn}: {said}");
        assert_protected(&directory, &member, None).await;
        dc().set_sddl(dn, &before).await;
        assert_free(&directory, &user).await;
        assert_free(&directory, &member).await;
    }
}

#[tokio::test]
async fn who_owns_the_service_account_or_a_unit_is_protected_and_who_may_do_other_things_is_not() {
    let place = Place::new("owner").await;
    let directory = place.directory();
    let user = place.user("owner").await;
    let sid = dc().sid(&user.dn).await;
    for dn in [&place.service.user.dn, &place.unit] {
        dc().set_sddl(dn, &format!("O:{sid}")).await;
        assert_protected(&directory, &user, None).await;
        dc().set_sddl(dn, "O:DA").await;
        assert_free(&directory, &user).await;
    }
    // To read all of it, and to write what nobody logs on with.
    let description = "bf967950-0de6-11d0-a285-00aa003049e2";
    for dn in [&place.service.user.dn, &place.unit] {
        dc().permit(dn, &format!("(A;;GR;;;{sid})(OA;;WP;{description};;{sid})(OD;;CR;;;{sid})")).await;
    }
    // What is for the users below is not for the unit.
    dc().permit(&place.unit, &format!("(A;CIIO;GA;;;{sid})")).await;
    assert_free(&directory, &user).await;
}

#[tokio::test]
async fn where_everybody_may_change_a_unit_nobody_is_reset_and_the_check_says_why() {
    let place = Place::new("everybody").await;
    let (directory, user) = (place.directory(), place.user("everybody").await);
    assert_free(&directory, &user).await;
    dc().permit(&place.unit, "(A;;WD;;;AU)").await;
    assert_protected(&directory, &user, None).await;
    let found = directory.preflight(&System).await;
    let row = found.iter().find(|row| row.check == Check::ProtectedAccounts && row.state == Failed);
    let row = row.unwrap_or_else(|| panic!("{found:#?}"));
    assert!(row.detail.contains(&place.unit) && row.remedy.is_some(), "{row:?}");
}

#[tokio::test]
async fn permissions_that_cant_be_read_are_refused_and_fail_the_check() {
    let place = Place::new("hidden").await;
    let (directory, user) = (place.directory(), place.user("hidden").await);
    let found = assert_free(&directory, &user).await;
    dc().permit(&place.unit, &format!("(D;;RC;;;{})", place.service.sid)).await;
    for error in [
        directory.find(&upn(&user.upn)).await.map(drop),
        directory.reset_password(&found, &password(NEW), Options::default(), &in_time()).await.map(drop),
    ] {
        let (code, said) = refused(error);
        assert_eq!(code, Code::InsufficientRights, "{said}");
        assert!(said.contains(&place.unit) && said.contains("Read Permissions"), "{said}");
    }
    let rows = directory.preflight(&System).await;
    assert!(rows.iter().any(|row| row.check == Check::ProtectedAccounts && row.state == Failed), "{rows:#?}");
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
}

#[tokio::test]
async fn named_groups_are_found_by_name_dn_and_sid_and_protect_their_members() {
    let mut place = Place::new("named").await;
    let (user, other) = (place.user("named").await, place.user("other").await);
    let inner = dc().create_group("named-inner", &[&user.dn]).await;
    let dn = dc().create_group("Named VIPs", &[&inner]).await;
    for written in ["Named VIPs", "NAMED vips", dn.as_str(), dc().sid(&dn).await.as_str()] {
        place.config.protected_groups = Some(vec![written.to_owned()]);
        let directory = place.directory();
        let said = assert_protected(&directory, &user, None).await;
        assert!(said.contains("protected_groups"), "{written}: {said}");
        assert_free(&directory, &other).await;
        let rows = directory.preflight(&System).await;
        let row = rows.iter().find(|row| row.check == Check::ProtectedAccounts);
        let row = row.unwrap_or_else(|| panic!("{written}: {rows:#?}"));
        let account = dc().attribute(&user, "sAMAccountName").await;
        assert!(row.state == Green && row.detail.contains(&account), "{written}: {row:?}");
    }
}

#[tokio::test]
async fn a_named_group_that_is_not_found_fails_the_check_and_protects_everybody() {
    let mut place = Place::new("unnamed").await;
    let user = place.user("unnamed").await;
    let list = format!("CN=Unnamed List,OU=Service,{}", dc().base_dn());
    let global_distribution = [("objectClass", "group"), ("sAMAccountName", "Unnamed List"), ("groupType", "2")];
    dc().add(&list, &global_distribution).await;
    let no_group = user.dn.clone();
    let no_sid = format!("{}9999", dc().sid(&user.dn).await);
    for written in ["Unnamed VIPs", " Unnamed List ", "Unnamed List", "CN=x,DC=nowhere", "", "*", &no_group, &no_sid] {
        place.config.protected_groups = Some(vec!["Domain Admins".to_owned(), written.to_owned()]);
        let directory = place.directory();
        let said = assert_protected(&directory, &user, None).await;
        assert!(said.contains("protected_groups"), "{written:?}: {said}");
        let rows = directory.preflight(&System).await;
        let failed: Vec<_> = rows.iter().filter(|row| row.state == Failed).collect();
        assert_eq!(failed.len(), 1, "{written:?}: {rows:#?}");
        assert!(failed[0].check == Check::ProtectedAccounts && failed[0].remedy.is_some(), "{written:?}: {failed:?}");
    }
}

#[tokio::test]
async fn the_check_counts_members_and_not_marks() {
    let place = Place::new("counted").await;
    let (user, direct, nested) = (place.user("plain").await, place.user("direct").await, place.user("nested").await);
    let inner = dc().create_group("counted-inner", &[&nested.dn]).await;
    for member in [&direct.dn, &inner] {
        dc().add_member(&group("Backup Operators,CN=Builtin"), member).await;
    }
    let rows = place.directory().preflight(&System).await;
    let row = rows.iter().find(|row| row.check == Check::ProtectedAccounts).unwrap_or_else(|| panic!("{rows:#?}"));
    assert_eq!(row.state, Green);
    for (user, counted) in [(&user, false), (&direct, true), (&nested, true)] {
        let account = dc().attribute(user, "sAMAccountName").await;
        assert_eq!(row.detail.contains(&format!("\"{account}\"")), counted, "{row:?}");
    }
    let looked_at = rows.iter().find(|row| row.check == Check::BaseDn).unwrap();
    assert!(looked_at.detail.starts_with("1 "), "only the plain user is looked at: {looked_at:?}");
}

#[tokio::test]
async fn an_account_that_becomes_an_administrators_after_it_was_found_is_not_written() {
    let (directory, user) = (directory(), dc().create_user("becomes", Ou::Other, OLD).await);
    let found = directory.find(&upn(&user.upn)).await.unwrap();
    dc().add_member(&group("Server Operators,CN=Builtin"), &user.dn).await;
    assert_protected(&directory, &user, Some(&found)).await;
}
