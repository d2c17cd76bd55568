//! Whether an account's own user may change its password: "User cannot change password" of Microsoft's tools is an entry in
//! the account's access list that denies *Change Password* to Everyone and to the account itself.

use std::collections::HashSet;

use ldap3::{Scope, SearchEntry};

use super::class::{Class, Classes};
use super::connection::{Connection, RequestError, Search};
use super::entry::bytes;
use super::protection::of_every_logon;
use super::right::Right;
use super::security_descriptor::{SecurityDescriptor, Sid, Verdict};

/// Whether he may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnPassword {
    /// He may.
    Changeable,
    /// An entry denies it to him.
    Denied,
    /// Nothing gives it to him.
    NotGranted,
    /// The access list can't be read.
    NotShown,
}

/// Asks for one account. The groups of an account are told only for itself.
pub(super) async fn look(connection: &Connection, dn: &str) -> Result<OwnPassword, RequestError> {
    let search = Search {
        base: dn.to_owned(),
        scope: Scope::Base,
        filter: "(objectClass=*)".to_owned(),
        attributes: &["objectClass", "nTSecurityDescriptor", "objectSid", "tokenGroups"],
    };
    let (found, _) = connection.sample(1, &search).await?;
    let Some(entry) = found.first() else { return Ok(OwnPassword::NotShown) };
    let descriptor =
        bytes(entry, "nTSecurityDescriptor").first().and_then(|value| SecurityDescriptor::read(value).ok());
    let class = Classes::of_every_schema().of(entry);
    Ok(descriptor.map_or(OwnPassword::NotShown, |descriptor| OwnPassword::of(entry, &class, &descriptor)))
}

impl OwnPassword {
    /// Of an account of this class with its access list; with its groups, as far as the entry has them.
    pub(super) fn of(entry: &SearchEntry, class: &Class, descriptor: &SecurityDescriptor) -> Self {
        let own = bytes(entry, "objectSid").into_iter().chain(bytes(entry, "tokenGroups"));
        let own = own.filter_map(|sid| Sid::read(&sid));
        let token: HashSet<Sid> = own.chain(of_every_logon()).chain([Sid::myself()]).collect();
        match Right::ChangePassword.verdict(descriptor, &token, class) {
            Verdict::Granted => Self::Changeable,
            Verdict::Denied(_) => Self::Denied,
            Verdict::NotGranted => Self::NotGranted,
        }
    }
}
