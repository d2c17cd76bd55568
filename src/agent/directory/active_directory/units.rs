//! Which units there are, and how many users they have: for whoever has to choose some.

use ldap3::Scope;

use super::ActiveDirectory;
use super::connection::{Connection, RequestError, Search};

/// As many units are looked at, those that stand highest first.
const UNITS: i32 = 40;
/// As many users are counted in each: what a domain controller gives for one question.
const COUNTED: i32 = 1000;

const UNIT_FILTER: &str = "(|(objectClass=organizationalUnit)(&(objectClass=container)(cn=Users)))";
const USER_FILTER: &str = "(&(objectCategory=person)(objectClass=user))";
/// No attributes (RFC 4511 §4.5.1.8).
const NONE: &[&str] = &["1.1"];

/// A unit, or the whole domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its distinguished name.
    pub dn: String,
    /// How many users are below it, as far as they were counted.
    pub users: usize,
    /// Whether there are more.
    pub more: bool,
}

impl ActiveDirectory {
    /// The domain itself, and the units in it that can be seen, as a tree is written. Nothing if no controller can say.
    pub async fn units(&self) -> Vec<Unit> {
        self.seen(look).await.unwrap_or_default()
    }
}

async fn look(connection: &Connection, domain: &str) -> Result<Vec<Unit>, RequestError> {
    let search = |base: &str, filter: &str| Search {
        base: base.to_owned(),
        scope: Scope::Subtree,
        filter: filter.to_owned(),
        attributes: NONE,
    };
    let (found, _) = connection.search_many(COUNTED, &search(domain, UNIT_FILTER)).await?;
    let mut names: Vec<_> = found.into_iter().map(|entry| entry.dn).collect();
    names.sort_by_key(|dn| parts(dn).len());
    names.truncate(usize::try_from(UNITS).unwrap_or_default());
    names.push(domain.to_owned());
    names.sort_by_cached_key(|dn| branch(dn));
    let mut units = Vec::with_capacity(names.len());
    for dn in names {
        let (users, result) = connection.search_many(COUNTED, &search(&dn, USER_FILTER)).await?;
        // sizeLimitExceeded
        units.push(Unit { dn, users: users.len(), more: result.rc == 4 });
    }
    Ok(units)
}

/// The parts of a distinguished name: a comma behind a backslash is none between two (RFC 4514).
fn parts(dn: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut from, mut escaped) = (0, false);
    for (at, c) in dn.char_indices() {
        if c == ',' && !escaped {
            found.push(dn.get(from..at).unwrap_or_default());
            from = at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    found.push(dn.get(from..).unwrap_or_default());
    found
}

/// From the root: so what is below something comes behind it.
fn branch(dn: &str) -> Vec<String> {
    parts(dn).into_iter().rev().map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_listed_as_a_tree_whatever_stands_in_their_names() {
        let mut names = [
            r"OU=B\, C,DC=corp,DC=example",
            "OU=Deep,OU=A,DC=corp,DC=example",
            "OU=a2,DC=corp,DC=example",
            "DC=corp,DC=example",
            "OU=A,DC=corp,DC=example",
        ];
        names.sort_by_cached_key(|dn| branch(dn));
        let first: Vec<_> = names.iter().map(|dn| parts(dn)[0]).collect();
        assert_eq!(first, ["DC=corp", "OU=A", "OU=Deep", "OU=a2", r"OU=B\, C"]);
    }
}
