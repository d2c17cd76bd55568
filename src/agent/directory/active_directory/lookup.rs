//! Finding the one account.

use ldap3::{LdapResult, Scope, SearchEntry, ldap_escape};
use uuid::Uuid;

use super::answer::refusal;
use super::connection::Search;
use super::controller::{Bound, Found};
use crate::agent::directory::{Account, DirectoryError};
use crate::protocol::command::Subject;
use crate::protocol::outcome::Code;

/// `ADS_UF_ACCOUNTDISABLE` in `userAccountControl`.
const ACCOUNT_DISABLED: u32 = 0x2;

const ATTRIBUTES: &[&str] = &["objectGUID", "pwdLastSet", "userAccountControl"];

/// `sizeLimitExceeded`: there are more than the two that were asked for.
const SIZE_LIMIT: u32 = 4;

/// The search for a subject. Only people: a computer's or a group's GUID finds nothing.
pub(super) fn by_subject(subject: &Subject, bound: &Bound) -> Search {
    let (attribute, value) = match subject {
        Subject::Upn(upn) => ("userPrincipalName", ldap_escape(upn.as_str()).into_owned()),
        Subject::ObjectGuid(guid) => ("objectGUID", escaped(guid)),
    };
    Search {
        base: bound.base_dn.clone(),
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

/// The one account that was found, and whether it is disabled.
pub(super) fn only(found: &Found, controller: &str) -> Result<(Account, bool), DirectoryError> {
    let refused = |code, detail: &str| DirectoryError::Refused { code, detail: format!("{controller}: {detail}") };
    match (found.entries.as_slice(), &found.result) {
        ([_, _, ..], _) | ([..], LdapResult { rc: SIZE_LIMIT, .. }) => {
            Err(refused(Code::AmbiguousUser, "more than one account has this name"))
        }
        ([], LdapResult { rc: 0, .. }) => {
            Err(refused(Code::UserNotFound, "there is no such account, or the service account may not see it"))
        }
        ([entry], LdapResult { rc: 0, .. }) => account(entry, controller).ok_or_else(|| {
            let missing = "the service account may not read the account's pwdLastSet and userAccountControl";
            refused(Code::InsufficientRights, missing)
        }),
        (_, result) => Err(refusal(result, controller, "find the account")),
    }
}

fn account(entry: &SearchEntry, controller: &str) -> Option<(Account, bool)> {
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
    };
    // Written as a signed number; the flags are its bits.
    let flags = text("userAccountControl")?.parse::<i32>().ok()?.cast_unsigned();
    Some((account, flags & ACCOUNT_DISABLED != 0))
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

    #[test]
    fn a_guid_of_letters_is_read_too() {
        let text = |value: &str| vec![value.to_owned()];
        let entry = SearchEntry {
            dn: "CN=a".to_owned(),
            attrs: HashMap::from([
                ("objectGUID".to_owned(), text("abcdefghijklmnop")),
                ("pwdLastSet".to_owned(), text("0")),
                ("userAccountControl".to_owned(), text("514")),
            ]),
            bin_attrs: HashMap::new(),
        };
        let (account, disabled) = account(&entry, "dc1").unwrap();
        assert_eq!(account.object_guid.to_bytes_le(), *b"abcdefghijklmnop");
        assert!(disabled);
    }
}
