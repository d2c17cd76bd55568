//! Finding the one account.

use ldap3::{LdapResult, Scope, SearchEntry, ldap_escape};
use uuid::Uuid;

use super::answer::{Asked, refusal};
use super::connection::Search;
use super::controller::{Bound, Controller, ControllerError, Found};
use super::entry::{bytes, text};
use super::protection;
use super::security_descriptor::Sid;
use crate::agent::directory::{Account, DirectoryError, Logon};
use crate::protocol::account::FoldedName;
use crate::protocol::command::Subject;
use crate::protocol::outcome::Code;

/// What everybody reads of an account.
const ATTRIBUTES: &[&str] =
    &["objectGUID", "objectSid", "userPrincipalName", "pwdLastSet", "userAccountControl", "lockoutTime"];
/// The same; what it is judged by; and whether its user may log on.
const TO_JUDGE: &[&str] = &[
    "objectGUID",
    "userPrincipalName",
    "pwdLastSet",
    "lockoutTime",
    protection::ATTRIBUTES[0],
    protection::ATTRIBUTES[1],
    protection::ATTRIBUTES[2],
    protection::ATTRIBUTES[3],
    protection::ATTRIBUTES[4],
    "msDS-User-Account-Control-Computed",
    "accountExpires",
    "logonHours",
    "userWorkstations",
];

/// `sizeLimitExceeded`: there are more than the two that were asked for.
const SIZE_LIMIT: u32 = 4;

/// What is found of a subject in all places where accounts are looked for, and the last of them. It ends at a place that
/// is not there.
pub(super) async fn find(controller: &Controller, subject: &Subject) -> Result<(Found, String), ControllerError> {
    let base_dn = |bound: &Bound, place: usize| bound.base_dns.get(place).cloned().unwrap_or_default();
    let mut found = controller.search(|bound| by_subject(subject, base_dn(bound, 0))).await?;
    let mut place = 0;
    while found.result.rc == 0 && place + 1 < found.bound.base_dns.len() {
        place += 1;
        let before = found.entries;
        found = controller.search(|bound| by_subject(subject, base_dn(bound, place))).await?;
        // One place may lie within another.
        let new = |entry: &SearchEntry| before.iter().all(|known| known.dn != entry.dn);
        found.entries.retain(new);
        found.entries.extend(before);
    }
    let base_dn = base_dn(&found.bound, place);
    Ok((found, base_dn))
}

/// The search for a subject. Only people: a computer's or a group's GUID finds nothing.
fn by_subject(subject: &Subject, base: String) -> Search {
    let (attribute, value) = match subject {
        Subject::Upn(upn) => ("userPrincipalName", ldap_escape(upn.as_str()).into_owned()),
        Subject::ObjectGuid(guid) => ("objectGUID", escaped(guid)),
    };
    Search {
        base,
        scope: Scope::Subtree,
        filter: format!("(&(objectCategory=person)(objectClass=user)({attribute}={value}))"),
        attributes: ATTRIBUTES,
    }
}

/// The search for an account that was found before, wherever it stands now: outside the base DN, too.
pub(super) fn by_guid(guid: Uuid) -> Search {
    Search { base: entry_of(guid), scope: Scope::Base, filter: "(objectClass=user)".to_owned(), attributes: ATTRIBUTES }
}

/// The same, with what the account is judged by.
pub(super) fn to_judge(guid: Uuid) -> Search {
    Search { attributes: TO_JUDGE, ..by_guid(guid) }
}

/// An account by what never changes, in place of its DN: [MS-ADTS] 3.1.1.3.1.2.4.
pub(super) fn entry_of(guid: Uuid) -> String {
    format!("<GUID={}>", guid.hyphenated())
}

/// An account by what never changes, as the name of a simple bind ([MS-ADTS] 5.1.1.1.1). Samba takes no GUID there.
pub(super) fn bind_name_of(entry: &SearchEntry) -> Option<String> {
    Some(Sid::read(bytes(entry, "objectSid").first()?)?.to_string())
}

/// Of what was found, what the subject names. A directory finds more by a name: other spellings of it, with other accents,
/// widths and spaces, which are other people's.
pub(super) fn named(entries: Vec<SearchEntry>, subject: &Subject) -> Vec<SearchEntry> {
    let is_meant = |entry: &SearchEntry| match subject {
        Subject::Upn(upn) => {
            text(entry, "userPrincipalName").is_some_and(|own| FoldedName::of(own) == FoldedName::of(upn))
        }
        Subject::ObjectGuid(guid) => object_guid(entry) == Some(*guid),
    };
    entries.into_iter().filter(is_meant).collect()
}

/// A GUID in a filter: each byte escaped (RFC 4515 §3), the first three groups in little-endian order.
fn escaped(guid: &Uuid) -> String {
    guid.to_bytes_le().iter().map(|byte| format!("\\{byte:02x}")).collect()
}

/// The one account in an answer.
pub(super) fn only(entries: &[SearchEntry], result: &LdapResult, controller: &str) -> Result<Account, DirectoryError> {
    let refused = |code, detail: &str| Err(DirectoryError::Refused { code, detail: format!("{controller}: {detail}") });
    match (entries, result.rc) {
        ([_, _, ..], _) | (_, SIZE_LIMIT) => refused(Code::AmbiguousUser, "more than one account has this name"),
        ([], 0) => refused(Code::UserNotFound, "there is no such account, or the service account may not see it"),
        ([entry], 0) => account(entry, controller).map_or_else(
            || {
                let missing = "the service account may not read the account's pwdLastSet and userAccountControl";
                refused(Code::InsufficientRights, missing)
            },
            Ok,
        ),
        _ => Err(refusal(result, controller, Asked::Find, &[])),
    }
}

fn account(entry: &SearchEntry, controller: &str) -> Option<Account> {
    // Written as a signed number; the flags are its bits.
    let flags = text(entry, "userAccountControl")?.parse::<i32>().ok()?.cast_unsigned();
    let pwd_last_set = text(entry, "pwdLastSet")?.parse().ok()?;
    // Absent on an account that was never locked.
    let lockout_time = text(entry, "lockoutTime").map_or(Some(0), |time| time.parse().ok())?;
    Some(Account {
        object_guid: object_guid(entry)?,
        dn: entry.dn.clone(),
        upn: text(entry, "userPrincipalName").map(str::to_owned),
        controller: controller.to_owned(),
        pwd_last_set,
        lockout_time,
        logon: Some(Logon::of(entry, flags, pwd_last_set, lockout_time)),
    })
}

fn object_guid(entry: &SearchEntry) -> Option<Uuid> {
    Some(Uuid::from_bytes_le(bytes(entry, "objectGUID").first()?.as_slice().try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_guid_is_written_in_the_order_of_active_directory() {
        let guid = Uuid::parse_str("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        assert_eq!(escaped(&guid), r"\33\22\11\00\55\44\77\66\88\99\aa\bb\cc\dd\ee\ff");
    }

    fn answer(rc: u32) -> LdapResult {
        LdapResult { rc, matched: String::new(), text: String::new(), refs: vec![], ctrls: vec![] }
    }

    fn entry(attributes: &[(&str, &str)]) -> SearchEntry {
        let attrs = attributes.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]));
        SearchEntry { dn: "CN=a".to_owned(), attrs: attrs.collect(), bin_attrs: HashMap::new() }
    }

    const PLAIN: [(&str, &str); 3] =
        [("objectGUID", "abcdefghijklmnop"), ("pwdLastSet", "0"), ("userAccountControl", "512")];

    fn plain() -> SearchEntry {
        entry(&PLAIN)
    }

    #[test]
    fn a_guid_of_letters_is_read_too_and_an_account_is_locked_by_its_lockout_time() {
        let account = only(&[plain()], &answer(0), "dc1").unwrap();
        assert_eq!((account.object_guid.to_bytes_le(), account.lockout_time), (*b"abcdefghijklmnop", 0));
        let locked = entry(&[&PLAIN[..], &[("lockoutTime", "9"), ("userPrincipalName", "a@b")]].concat());
        let account = only(&[locked], &answer(0), "dc1").unwrap();
        assert_eq!((account.lockout_time, account.upn.as_deref()), (9, Some("a@b")));
    }

    #[test]
    fn of_what_the_directory_finds_only_the_name_that_was_asked_for_is_meant() {
        let found = |names: &[&str]| {
            let entries = names.iter().map(|name| entry(&[("userPrincipalName", *name)])).collect();
            let meant = named(entries, &Subject::upn("Jane@corp.example").unwrap());
            meant.iter().map(|entry| text(entry, "userPrincipalName").unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(found(&["jáne@corp.example", "jane@CORP.example"]), ["jane@CORP.example"]);
        assert!(found(&[" jane@corp.example", "jane@corp.example ", "jane@corp.example."]).is_empty());
        let guid = Subject::ObjectGuid(Uuid::from_bytes_le(*b"abcdefghijklmnop"));
        assert_eq!(named(vec![plain(), entry(&[])], &guid).len(), 1);
    }

    #[test]
    fn none_several_and_unreadable_accounts_are_refused() {
        let unreadable = entry(&[("objectGUID", "abcdefghijklmnop")]);
        for (entries, rc, expected) in [
            (vec![], 0, Code::UserNotFound),
            (vec![plain(), plain()], 0, Code::AmbiguousUser),
            (vec![plain(), plain()], SIZE_LIMIT, Code::AmbiguousUser),
            (vec![unreadable], 0, Code::InsufficientRights),
            (vec![], 32, Code::UserNotFound),
            (vec![plain()], 1, Code::Internal),
        ] {
            match only(&entries, &answer(rc), "dc1").unwrap_err() {
                DirectoryError::Refused { code, .. } => assert_eq!(code, expected, "{rc}"),
                other => panic!("{other}"),
            }
        }
    }
}
