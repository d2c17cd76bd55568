//! The groups that the administrator protects: by name, distinguished name or SID, as the domain controller knows them.

use ldap3::{Scope, SearchEntry, ldap_escape};

use super::super::connection::Search;
use super::super::entry::{bytes, text};
use super::super::security_descriptor::Sid;
use super::Ground;
use crate::agent::directory::DirectoryError;
use crate::protocol::account::FoldedName;
use crate::protocol::untrusted::Untrusted;

/// A group that is protected.
pub(in super::super) struct Group {
    /// As the administrator has written it.
    pub(in super::super) written: String,
    pub(in super::super) sid: Sid,
    pub(in super::super) dn: String,
}

/// Why it is not known which group is meant.
#[derive(Debug)]
pub(in super::super) struct Unresolved(pub(in super::super) String);

const ATTRIBUTES: &[&str] = &["objectSid", "groupType", "sAMAccountName", "cn"];
const GROUP: &str = "(objectClass=group)";

/// Finds the group. The outer error is the controller's, which may be asked again.
pub(super) async fn resolve(ground: &Ground<'_>, written: &str) -> Result<Result<Group, Unresolved>, DirectoryError> {
    if written.is_empty() {
        return Ok(Err(Unresolved("protected_groups in agent.toml names a group without a name".to_owned())));
    }
    let base = |base: String| Search { base, scope: Scope::Base, filter: GROUP.to_owned(), attributes: ATTRIBUTES };
    let (search, by_name) = if let Some(sid) = Sid::parse(written) {
        // An alternative form of a DN: [MS-ADTS] 3.1.1.3.1.2.4.
        (base(format!("<SID={sid}>")), false)
    } else if written.contains('=') {
        (base(written.to_owned()), false)
    } else {
        let name = ldap_escape(written);
        let filter = format!("(&{GROUP}(|(sAMAccountName={name})(cn={name})))");
        let base = ground.identity.domain.clone();
        (Search { base, scope: Scope::Subtree, filter, attributes: ATTRIBUTES }, true)
    };
    let unavailable = |why: String| DirectoryError::Unavailable(format!("{}: {why}", ground.controller));
    let (entries, _) = ground.connection.search(&search).await.map_err(|error| unavailable(error.to_string()))?;
    // A directory finds more than is meant: names in other spellings.
    let wanted = FoldedName::of(written);
    let is_meant = |entry: &&SearchEntry| {
        let mut names = ["sAMAccountName", "cn"].into_iter().filter_map(|name| text(entry, name));
        !by_name || names.any(|name| FoldedName::of(name) == wanted)
    };
    let meant: Vec<&SearchEntry> = entries.iter().filter(is_meant).collect();
    let unresolved = |why: &str| {
        let written = Untrusted::from(written);
        Unresolved(format!("protected_groups in agent.toml names {}, {why}", written.quoted()))
    };
    Ok(match meant.as_slice() {
        [group] => {
            let sid = bytes(group, "objectSid").first().and_then(|sid| Sid::read(sid));
            let kind = text(group, "groupType").and_then(|kind| kind.parse::<i32>().ok());
            match (sid, kind) {
                (Some(sid), Some(..0)) => Ok(Group { written: written.to_owned(), sid, dn: group.dn.clone() }),
                // It is no part of anybody's token.
                (Some(_), Some(_)) => Err(unresolved("which is a distribution group: name a security group")),
                _ => Err(unresolved("and the service account may not read its objectSid and groupType")),
            }
        }
        [] => Err(unresolved(
            "and this domain has no such group (or the service account does not see it); write its name, its distinguished \
             name or its SID",
        )),
        _ => Err(unresolved("which several groups are called; write the distinguished name or the SID")),
    })
}
