//! Why the service account lacks a right on an account.

use std::collections::HashMap;

use ldap3::Scope;

use super::super::connection::Search;
use super::super::delegation::{Reach, read_dacl};
use super::super::distinguished_name::parent;
use super::super::entry::text;
use super::super::right::Right;
use super::super::security_descriptor::{Ace, SecurityDescriptor, Sid, Verdict};
use super::Viewpoint;
use crate::agent::directory::Mending;
use crate::protocol::remedy::Remedy;
use crate::protocol::untrusted::Untrusted;

/// Why a right is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing gives it.
    NotGranted,
    /// An entry takes it.
    Denied {
        /// Where the entry stands.
        at: String,
        /// Whom it is about.
        who: Sid,
        /// Whether it reaches users from above.
        from_above: bool,
    },
    /// This object takes nothing from above.
    Blocked { at: String, is_user: bool },
    /// The account's permissions can't be read.
    Unreadable,
}

/// The access lists above accounts, each read once.
#[derive(Default)]
pub(super) struct Above {
    read: HashMap<String, Option<SecurityDescriptor>>,
}

impl Above {
    async fn at(&mut self, viewpoint: &Viewpoint<'_>, dn: &str) -> Option<&SecurityDescriptor> {
        if !self.read.contains_key(dn) {
            let descriptor = read_dacl(viewpoint.connection, dn).await.ok();
            self.read.insert(dn.to_owned(), descriptor);
        }
        self.read.get(dn)?.as_ref()
    }

    /// Why the account at `dn`, below `base_dn`, lacks a right.
    pub(super) async fn cause(
        &mut self,
        viewpoint: &Viewpoint<'_>,
        right: Right,
        base_dn: &str,
        dn: &str,
        descriptor: Option<&SecurityDescriptor>,
    ) -> Cause {
        let Some(descriptor) = descriptor else { return Cause::Unreadable };
        match descriptor.verdict(&viewpoint.token, right.wanted()) {
            Verdict::Denied(entry) => self.denied(viewpoint, dn, entry).await,
            // The domain controller says no all the same.
            Verdict::Granted => Cause::NotGranted,
            Verdict::NotGranted if descriptor.is_protected() => Cause::Blocked { at: dn.to_owned(), is_user: true },
            Verdict::NotGranted => self.blocked(viewpoint, base_dn, dn).await,
        }
    }

    /// Where the entry that denies was written.
    async fn denied(&mut self, viewpoint: &Viewpoint<'_>, dn: &str, entry: &Ace) -> Cause {
        let who = entry.rule.as_ref().map(|rule| rule.trustee.clone());
        let Some(who) = who else { return Cause::NotGranted };
        let mut at = dn;
        while entry.is_inherited()
            && let Some(parent) = parent(at).filter(|_| !at.eq_ignore_ascii_case(viewpoint.domain))
        {
            at = parent;
            let above = self.at(viewpoint, at).await;
            if above.is_some_and(|above| above.own_entries().any(|own| own.rule == entry.rule)) {
                break;
            }
        }
        Cause::Denied { at: at.to_owned(), who, from_above: entry.is_inherited() }
    }

    /// Whether a unit between the account and `base_dn` takes nothing from above.
    async fn blocked(&mut self, viewpoint: &Viewpoint<'_>, base_dn: &str, dn: &str) -> Cause {
        let mut at = dn;
        while let Some(parent) = parent(at).filter(|parent| !parent.eq_ignore_ascii_case(base_dn)) {
            // A base DN in another spelling is passed by; above the domain there is nothing.
            if parent.eq_ignore_ascii_case(viewpoint.domain) {
                break;
            }
            at = parent;
            if self.at(viewpoint, at).await.is_some_and(SecurityDescriptor::is_protected) {
                return Cause::Blocked { at: at.to_owned(), is_user: false };
            }
        }
        Cause::NotGranted
    }
}

impl Cause {
    /// What it is, and how it is mended.
    pub(super) async fn explain(&self, viewpoint: &Viewpoint<'_>, right: Right, base_dn: &str) -> (String, Mending) {
        let Viewpoint { tool, trustee, .. } = viewpoint;
        let (why, remedy, how) = match self {
            Self::NotGranted => {
                let why = format!("nothing gives it to {} or its groups", trustee.name);
                (why, Remedy::GrantRight, tool.grant(right, trustee, base_dn, Reach::UsersBelow))
            }
            Self::Denied { at, who, from_above } => {
                let name = name_of(viewpoint, who).await;
                let sddl = right.sddl("OD", &who.to_string(), *from_above);
                let why = format!("an entry on {} denies it to {}", quoted(at), quoted(&name));
                (why, Remedy::RemoveDenial, tool.remove_deny(at, &name, &sddl))
            }
            Self::Blocked { at, is_user } => {
                let reach = if *is_user { Reach::Object } else { Reach::UsersBelow };
                let why = format!("{} takes no permissions from above (inheritance is blocked)", quoted(at));
                (why, Remedy::AllowInheritance, tool.let_in(right, trustee, at, reach))
            }
            Self::Unreadable => {
                let why = "the permissions of the accounts can't be read (Read Permissions is missing)".to_owned();
                (why, Remedy::GrantRight, tool.grant(right, trustee, base_dn, Reach::UsersBelow))
            }
        };
        (why, Mending { remedy, how })
    }
}

/// A name as the directory has it.
fn quoted(name: &str) -> String {
    Untrusted::from(name).quoted().to_string()
}

/// As people know it; its SID, if it has no name here.
async fn name_of(viewpoint: &Viewpoint<'_>, sid: &Sid) -> String {
    let search = Search {
        // An alternative form of a DN: [MS-ADTS] 3.1.1.3.1.2.4.
        base: format!("<SID={sid}>"),
        scope: Scope::Base,
        filter: "(objectClass=*)".to_owned(),
        attributes: &["sAMAccountName"],
    };
    let found = viewpoint.connection.search(&search).await.ok();
    let entry = found.and_then(|(entries, _)| entries.into_iter().next());
    entry.and_then(|entry| text(&entry, "sAMAccountName").map(str::to_owned)).unwrap_or_else(|| sid.to_string())
}
