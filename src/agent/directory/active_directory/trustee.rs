//! The service account as an administrator would name it, for the commands that give it rights.

use ldap3::{Scope, SearchEntry, ldap_escape};

use super::connection::{Connection, RequestError, Search};
use super::entry::{bytes, text};
use super::security_descriptor::Sid;
use crate::protocol::account::FoldedName;

/// Who gets the rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trustee {
    /// As `dsacls` takes it: `svc-reset@corp.example`, `CORP\svc-reset`.
    pub(super) name: String,
    /// None if the account was not found.
    pub(super) sid: Option<Sid>,
}

impl Trustee {
    /// Finds the account by the name it logs on with, in any of the forms that Active Directory takes.
    pub(super) async fn find(connection: &Connection, domain: &str, name: &str) -> Result<Self, RequestError> {
        let (base, scope, filter) = match name.split_once('\\') {
            Some((_, account)) => (domain, Scope::Subtree, format!("(sAMAccountName={})", ldap_escape(account))),
            None if name.contains('=') => (name, Scope::Base, "(objectClass=*)".to_owned()),
            None => {
                // A name that was never written down is the account's own with the domain's.
                let account = name.split_once('@').map_or(name, |(account, _)| account);
                let (upn, account) = (ldap_escape(name), ldap_escape(account));
                (domain, Scope::Subtree, format!("(|(userPrincipalName={upn})(sAMAccountName={account}))"))
            }
        };
        let attributes = &["objectSid", "sAMAccountName", "userPrincipalName"];
        let search = Search { base: base.to_owned(), scope, filter, attributes };
        let (entries, _) = connection.search(&search).await?;
        let is = |entry: &&SearchEntry, attribute, name: &str| {
            text(entry, attribute).is_some_and(|own| FoldedName::of(own) == FoldedName::of(name))
        };
        // A directory finds more than is meant: names in other spellings.
        let entry = match name.split_once('\\') {
            Some((_, account)) => entries.iter().find(|entry| is(entry, "sAMAccountName", account)),
            None if name.contains('=') => entries.first(),
            None => {
                let account = name.split_once('@').map_or(name, |(account, _)| account);
                let by_upn = entries.iter().find(|entry| is(entry, "userPrincipalName", name));
                by_upn.or_else(|| entries.iter().find(|entry| is(entry, "sAMAccountName", account)))
            }
        };
        let sid = entry.and_then(|entry| Sid::read(bytes(entry, "objectSid").first()?));
        let account = entry.and_then(|entry| text(entry, "sAMAccountName"));
        let named = match account {
            Some(account) if name.contains('=') => format!("{account}@{}", dns_name(domain)),
            _ => name.to_owned(),
        };
        Ok(Self { name: named, sid })
    }

    /// For SDDL.
    pub(super) fn sid_text(&self) -> String {
        self.sid.as_ref().map_or_else(|| format!("SID-OF-{}", self.name), ToString::to_string)
    }
}

/// `DC=corp,DC=example` as `corp.example`.
pub(super) fn dns_name(domain: &str) -> String {
    let labels = domain.split(',').filter_map(|part| {
        let (name, label) = part.trim().split_once('=')?;
        name.eq_ignore_ascii_case("DC").then_some(label)
    });
    labels.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_a_dns_name() {
        assert_eq!(dns_name("DC=corp,DC=example"), "corp.example");
        assert_eq!(dns_name("OU=Staff, dc=corp , DC=example"), "corp.example");
    }
}
