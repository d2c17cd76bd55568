//! What somebody may do with one account, as its domain controller says.

use std::collections::HashSet;

use ldap3::{Scope, SearchEntry};

use super::class::{Class, Classes};
use super::connection::{Connection, RequestError, Search};
use super::entry::bytes;
use super::right::Right;
use super::security_descriptor::{SecurityDescriptor, Sid, Verdict};

/// What has to be read for it, with the control that asks for the access list alone.
pub(super) const ATTRIBUTES: [&str; 3] = ["objectClass", "allowedAttributesEffective", "nTSecurityDescriptor"];

/// What the service account may write, and who may do what.
pub(super) struct Effective {
    /// Of the account: access lists name classes.
    pub(super) class: Class,
    /// In lower case: what the domain controller says may be written.
    writable: HashSet<String>,
    /// None if it may not be read.
    pub(super) descriptor: Option<SecurityDescriptor>,
}

impl Effective {
    /// Of an account whose class is one of these.
    pub(super) fn of(entry: &SearchEntry, classes: &Classes) -> Self {
        let writable = entry.attrs.get("allowedAttributesEffective").into_iter().flatten();
        let writable = writable.map(|name| name.to_ascii_lowercase()).collect();
        let descriptor = bytes(entry, "nTSecurityDescriptor").first().map(|value| SecurityDescriptor::read(value));
        Self { class: classes.of(entry), writable, descriptor: descriptor.and_then(Result::ok) }
    }

    /// What may be written is the domain controller's word; it has none for extended rights, so the access list is judged
    /// for everything that the logon belongs to.
    pub(super) fn grants(&self, token: &HashSet<Sid>, right: Right) -> bool {
        match right {
            Right::WriteLockoutTime => self.writable.contains("lockouttime"),
            Right::WritePwdLastSet => self.writable.contains("pwdlastset"),
            Right::ReadAccount
            | Right::ReadTokenGroups
            | Right::ResetPassword
            | Right::ChangePassword
            | Right::UnexpirePassword => {
                let descriptor = self.descriptor.as_ref();
                descriptor.is_some_and(|own| right.verdict(own, token, &self.class) == Verdict::Granted)
            }
        }
    }
}

/// Those of `needed` that the service account, with all that its logon belongs to, lacks on the account at `dn`. None of them,
/// if that can't be read.
pub(super) async fn lacking(
    connection: &Connection,
    token: &HashSet<Sid>,
    dn: &str,
    needed: &[Right],
) -> Result<Vec<Right>, RequestError> {
    let (found, _) = connection.sample(1, &of(dn)).await?;
    let Some(entry) = found.first() else { return Ok(Vec::new()) };
    let effective = Effective::of(entry, &Classes::of_every_schema());
    Ok(needed.iter().copied().filter(|right| !effective.grants(token, *right)).collect())
}

fn of(dn: &str) -> Search {
    Search { base: dn.to_owned(), scope: Scope::Base, filter: "(objectClass=*)".to_owned(), attributes: &ATTRIBUTES }
}
