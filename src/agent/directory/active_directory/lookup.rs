//! Finding the one account.

use ldap3::{LdapResult, Scope, SearchEntry, ldap_escape};
use uuid::Uuid;

use super::answer::refusal;
use super::connection::Search;
use super::controller::{Bound, Controller, ControllerError, Found};
use crate::agent::directory::{Account, DirectoryError};
use crate::protocol::command::Subject;
use crate::protocol::outcome::Code;

/// `ADS_UF_ACCOUNTDISABLE` in `userAccountControl`.
const ACCOUNT_DISABLED: u32 = 0x2;

const ATTRIBUTES: &[&str] = &["objectGUID", "pwdLastSet", "userAccountControl", "lockoutTime", "adminCount"];

/// Why an account is left alone, whatever rights the service account has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Barred {
    /// It may not log on.
    Disabled,
    /// `adminCount` is 1: it is or was in a protected group ([MS-ADTS] 3.1.1.6.1).
    Protected,
}

impl Barred {
    pub(super) fn refusal(self, controller: &str) -> DirectoryError {
        let (code, why) = match self {
            Self::Disabled => (Code::AccountDisabled, "the account is disabled"),
            Self::Protected => (
                Code::ProtectedAccount,
                "the account is or was in a protected group such as Domain Admins (adminCount is 1), and is not touched from \
                 outside; if it is in none any more, an administrator clears adminCount and turns the inheritance of its \
                 rights on again",
            ),
        };
        DirectoryError::Refused { code, detail: format!("{controller}: {why}") }
    }
}

/// `sizeLimitExceeded`: there are more than the two that were asked for.
const SIZE_LIMIT: u32 = 4;

/// `noSuchObject`: the place to search is not there.
const NO_SUCH_OBJECT: u32 = 32;

/// What is found of a subject in all the places where accounts are looked for, and those of them that are not there: one
/// that was renamed hides nobody of the others.
pub(super) async fn find(controller: &Controller, subject: &Subject) -> Result<(Found, Vec<String>), ControllerError> {
    let base_dn = |bound: &Bound, place: usize| bound.base_dns.get(place).cloned().unwrap_or_default();
    let (mut entries, mut missing, mut place) = (Vec::<SearchEntry>::new(), Vec::new(), 0);
    loop {
        let mut found = controller.search(|bound| by_subject(subject, base_dn(bound, place))).await?;
        let places = found.bound.base_dns.len();
        if found.result.rc == NO_SUCH_OBJECT {
            missing.push(base_dn(&found.bound, place));
            found.result.rc = 0;
            found.entries.clear();
        }
        // One place may lie within another.
        found.entries.retain(|entry| entries.iter().all(|known| known.dn != entry.dn));
        entries.append(&mut found.entries);
        place += 1;
        if found.result.rc != 0 || place >= places {
            found.entries = entries;
            return Ok((found, missing));
        }
    }
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
    Search {
        // An alternative form of a DN: [MS-ADTS] 3.1.1.3.1.2.4.
        base: format!("<GUID={}>", guid.hyphenated()),
        scope: Scope::Base,
        filter: "(objectClass=user)".to_owned(),
        attributes: ATTRIBUTES,
    }
}

/// A GUID in a filter: each byte escaped (RFC 4515 §3), the first three groups in little-endian order.
fn escaped(guid: &Uuid) -> String {
    guid.to_bytes_le().iter().map(|byte| format!("\\{byte:02x}")).collect()
}

/// The one account in an answer, and what speaks against writing it.
pub(super) fn only(
    entries: &[SearchEntry],
    result: &LdapResult,
    controller: &str,
) -> Result<(Account, Option<Barred>), DirectoryError> {
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
        _ => Err(refusal(result, controller, "find the account")),
    }
}

fn account(entry: &SearchEntry, controller: &str) -> Option<(Account, Option<Barred>)> {
    let text = |name| entry.attrs.get(name)?.first();
    // A GUID whose bytes happen to be UTF-8 is handed out as text.
    let guid = match entry.bin_attrs.get("objectGUID").and_then(|values| values.first()) {
        Some(bytes) => bytes.as_slice(),
        None => text("objectGUID")?.as_bytes(),
    };
    let account = Account {
        object_guid: Uuid::from_bytes_le(guid.try_into().ok()?),
        dn: entry.dn.clone(),
        controller: controller.to_owned(),
        pwd_last_set: text("pwdLastSet")?.parse().ok()?,
        // Absent on an account that was never locked.
        lockout_time: text("lockoutTime").map_or(Some(0), |time| time.parse().ok())?,
    };
    // Written as a signed number; the flags are its bits.
    let flags = text("userAccountControl")?.parse::<i32>().ok()?.cast_unsigned();
    let barred = if flags & ACCOUNT_DISABLED != 0 {
        Some(Barred::Disabled)
    } else {
        text("adminCount").is_some_and(|count| count != "0").then_some(Barred::Protected)
    };
    Some((account, barred))
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

    fn disabled() -> SearchEntry {
        entry(&[("objectGUID", "abcdefghijklmnop"), ("pwdLastSet", "0"), ("userAccountControl", "514")])
    }

    #[test]
    fn a_guid_of_letters_is_read_too() {
        let (account, barred) = only(&[disabled()], &answer(0), "dc1").unwrap();
        assert_eq!(account.object_guid.to_bytes_le(), *b"abcdefghijklmnop");
        assert_eq!(barred, Some(Barred::Disabled));
    }

    #[test]
    fn an_account_is_protected_by_any_admin_count_but_0_and_locked_by_its_lockout_time() {
        let with = |more: &[(&str, &str)]| {
            let usual = [("objectGUID", "abcdefghijklmnop"), ("pwdLastSet", "7"), ("userAccountControl", "512")];
            let (account, barred) = only(&[entry(&[&usual, more].concat())], &answer(0), "dc1").unwrap();
            (account.lockout_time, barred)
        };
        assert_eq!(with(&[]), (0, None));
        assert_eq!(with(&[("adminCount", "0"), ("lockoutTime", "9")]), (9, None));
        assert_eq!(with(&[("adminCount", "1")]), (0, Some(Barred::Protected)));
    }

    #[test]
    fn none_several_and_unreadable_accounts_are_refused() {
        let unreadable = entry(&[("objectGUID", "abcdefghijklmnop")]);
        for (entries, rc, expected) in [
            (vec![], 0, Code::UserNotFound),
            (vec![disabled(), disabled()], 0, Code::AmbiguousUser),
            (vec![disabled(), disabled()], SIZE_LIMIT, Code::AmbiguousUser),
            (vec![unreadable], 0, Code::InsufficientRights),
            (vec![], 32, Code::UserNotFound),
            (vec![disabled()], 1, Code::Internal),
        ] {
            match only(&entries, &answer(rc), "dc1").unwrap_err() {
                DirectoryError::Refused { code, .. } => assert_eq!(code, expected, "{rc}"),
                other => panic!("{other}"),
            }
        }
    }
}
