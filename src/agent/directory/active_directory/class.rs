//! The classes of people's accounts: `user`, and those that are derived from it, such as `inetOrgPerson`. An entry of an
//! access list that is for the accounts below a unit names one class, and reaches objects of that class alone: those of a
//! derived one need an entry of their own ([MS-DTYP] 2.5.3.4.1: the class that is compared is the new object's own).

use ldap3::{Scope, SearchEntry, ldap_escape};
use uuid::{Uuid, uuid};

use super::connection::{Connection, RequestError, Search};
use super::entry::{bytes, text};

/// `user`.
pub(super) const USER: Uuid = uuid!("bf967aba-0de6-11d0-a285-00aa003049e2");
/// `inetOrgPerson` (RFC 2798), which Active Directory derives from `user`.
pub(super) const INET_ORG_PERSON: Uuid = uuid!("4828cc14-1437-45bc-9b07-ad6f015e5f28");
/// Derived from `user`, too, and nobody's account.
const COMPUTER: &str = "computer";

/// As many derived classes are looked at: a schema has a handful.
const MOST: i32 = 50;
/// Classes of classes of classes: no schema goes as deep.
const DEEPEST: usize = 5;

/// A class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Class {
    /// Its `lDAPDisplayName`, as objects and `dsacls` name it.
    pub(super) name: String,
    /// Its `schemaIDGUID`, as access lists name it.
    pub(super) id: Uuid,
}

impl Class {
    /// The one that most accounts have.
    pub(super) fn user() -> Self {
        Self { name: "user".to_owned(), id: USER }
    }
}

/// Each class of people's accounts, with the one that it is derived from.
#[derive(Clone, Debug)]
pub(super) struct Classes(Vec<(Class, String)>);

impl Classes {
    /// The two that every schema has.
    pub(super) fn of_every_schema() -> Self {
        let derived = Class { name: "inetOrgPerson".to_owned(), id: INET_ORG_PERSON };
        Self(vec![(Class::user(), String::new()), (derived, "user".to_owned())])
    }

    /// As the schema has them; without one that can be read, the two that every schema has.
    pub(super) async fn of_schema(connection: &Connection) -> Result<Self, RequestError> {
        let root = Search {
            base: String::new(),
            scope: Scope::Base,
            filter: "(objectClass=*)".to_owned(),
            attributes: &["schemaNamingContext"],
        };
        let (root, _) = connection.search(&root).await?;
        let mut found = vec![(Class::user(), String::new())];
        let mut parents = vec!["user".to_owned()];
        if let Some(schema) = root.first().and_then(|root| text(root, "schemaNamingContext")) {
            for _ in 0..DEEPEST {
                let derived = derived(connection, schema, &parents).await?;
                let new = |class: &Class| found.iter().all(|(known, _)| known.name != class.name);
                let derived: Vec<_> = derived.into_iter().filter(|(class, _)| new(class)).collect();
                parents = derived.iter().map(|(class, _)| class.name.clone()).collect();
                found.extend(derived);
                if parents.is_empty() {
                    break;
                }
            }
        }
        if found.iter().all(|(class, _)| class.id != INET_ORG_PERSON) {
            found.push((Class { name: "inetOrgPerson".to_owned(), id: INET_ORG_PERSON }, "user".to_owned()));
        }
        Ok(Self(found))
    }

    /// The class of an object: the last one that it names is its own ([MS-ADTS] 3.1.1.1.4).
    pub(super) fn of(&self, entry: &SearchEntry) -> Class {
        let own = entry.attrs.get("objectClass").and_then(|names| names.last());
        let known = self.0.iter().map(|(class, _)| class).find(|class| own == Some(&class.name));
        known.cloned().unwrap_or_else(Class::user)
    }

    /// Those that there are accounts of below `base`. None: there is nobody, or nobody is shown.
    pub(super) async fn below(&self, connection: &Connection, base: &str) -> Result<Vec<Class>, RequestError> {
        let mut found = Vec::new();
        for (class, _) in &self.0 {
            let derived = self.0.iter().filter(|(_, parent)| *parent == class.name);
            let others = derived.map(|(other, _)| format!("(!(objectClass={}))", ldap_escape(&*other.name)));
            let others = others.collect::<String>();
            let search = Search {
                base: base.to_owned(),
                scope: Scope::Subtree,
                filter: format!("(&(objectCategory=person)(objectClass={}){others})", ldap_escape(&*class.name)),
                attributes: &["objectClass"],
            };
            let (entries, _) = connection.sample(1, &search).await?;
            if !entries.is_empty() {
                found.push(class.clone());
            }
        }
        Ok(found)
    }
}

/// The classes that are derived from one of `parents`, with that one.
async fn derived(
    connection: &Connection,
    schema: &str,
    parents: &[String],
) -> Result<Vec<(Class, String)>, RequestError> {
    let of_one = parents.iter().map(|parent| format!("(subClassOf={})", ldap_escape(parent.as_str())));
    let search = Search {
        base: schema.to_owned(),
        scope: Scope::OneLevel,
        filter: format!("(&(objectClass=classSchema)(|{}))", of_one.collect::<String>()),
        attributes: &["lDAPDisplayName", "schemaIDGUID", "subClassOf"],
    };
    let (entries, _) = connection.sample(MOST, &search).await?;
    let class = |entry: &SearchEntry| {
        let id = Uuid::from_bytes_le(bytes(entry, "schemaIDGUID").first()?.as_slice().try_into().ok()?);
        let class = Class { name: text(entry, "lDAPDisplayName")?.to_owned(), id };
        Some((class, text(entry, "subClassOf")?.to_owned()))
    };
    Ok(entries.iter().filter_map(class).filter(|(class, _)| class.name != COMPUTER).collect())
}

/// As a sentence names their accounts: "user and inetOrgPerson".
pub(super) fn spoken(classes: &[Class]) -> String {
    let names: Vec<_> = classes.iter().map(|class| class.name.as_str()).collect();
    match names.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn an_object_is_of_the_last_class_that_it_names_and_of_user_if_that_is_not_known() {
        let person = Class { name: "inetOrgPerson".to_owned(), id: INET_ORG_PERSON };
        let classes = Classes(vec![(Class::user(), String::new()), (person.clone(), "user".to_owned())]);
        let of = |names: &[&str]| {
            let values = names.iter().map(|name| (*name).to_owned()).collect();
            let attrs = [("objectClass".to_owned(), values)].into();
            classes.of(&SearchEntry { dn: "CN=a".to_owned(), attrs, bin_attrs: HashMap::new() })
        };
        assert_eq!(of(&["top", "person", "user"]), Class::user());
        assert_eq!(of(&["top", "person", "user", "inetOrgPerson"]), person);
        assert_eq!(of(&["top", "user", "unheardOf"]), Class::user());
        assert_eq!(of(&[]), Class::user());
    }

    #[test]
    fn classes_are_named_as_people_do() {
        let class = |name: &str| Class { name: name.to_owned(), id: USER };
        assert_eq!(spoken(&[class("a")]), "a");
        assert_eq!(spoken(&[class("a"), class("b"), class("c")]), "a, b and c");
    }
}
