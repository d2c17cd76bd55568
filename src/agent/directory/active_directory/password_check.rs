//! Whether a password is the account's, from a bind as the account.

use ldap3::LdapResult;

use super::answer::{bind_data, is_about_the_account};
use crate::agent::directory::PasswordCheck;

/// What the answer to the bind says; none if it is about the controller alone. Active Directory checks the password before
/// it looks whether the account may log on, so most of its reasons mean that the password was right; only a lock is looked
/// at before.
pub(super) fn verdict(result: &LdapResult) -> Option<PasswordCheck> {
    if !is_about_the_account(result) {
        return None;
    }
    if result.rc == 0 {
        return Some(PasswordCheck::Right);
    }
    Some(match bind_data(result).as_deref() {
        Some("52e") => PasswordCheck::Wrong,
        // Not at this hour, not from this host, password expired, disabled, account expired, must be changed.
        Some("530" | "531" | "532" | "533" | "701" | "773") => PasswordCheck::Right,
        _ => PasswordCheck::Unclear,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_verdict() {
        let bind = |rc, data: &str| {
            let text =
                format!("80090308: LdapErr: DSID-0C09042A, comment: AcceptSecurityContext error, data {data}, v1");
            verdict(&LdapResult { rc, matched: String::new(), text, refs: vec![], ctrls: vec![] })
        };
        assert_eq!(bind(0, "0"), Some(PasswordCheck::Right));
        assert_eq!(bind(49, "52e"), Some(PasswordCheck::Wrong));
        for right in ["530", "531", "532", "533", "701", "773"] {
            assert_eq!(bind(49, right), Some(PasswordCheck::Right), "{right}");
        }
        for unclear in ["525", "568", "775", ""] {
            assert_eq!(bind(49, unclear), Some(PasswordCheck::Unclear), "{unclear}");
        }
        for trouble in [1, 51, 52, 53, 80] {
            assert_eq!(bind(trouble, "52e"), None, "{trouble}");
        }
    }
}
