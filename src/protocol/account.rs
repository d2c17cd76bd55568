//! Accounts: when two names are one, and which account an agent has found by a name.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::untrusted::Untrusted;

/// A name of an account under the one fold that everybody here uses: Unicode lower case, the full mapping, of no language.
/// Nothing is trimmed, and neither accents nor widths are lost: a directory that is kinder than that finds accounts which
/// nobody has named. Whoever compares names, or keys something by them, does it by this.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FoldedName(String);

impl FoldedName {
    /// Of a name as somebody wrote it.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self(name.to_lowercase())
    }

    /// The folded text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, for good.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for FoldedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names longer than this, in bytes as JSON writes them, are left off: the outcome has to fit into a frame, and half a name
/// is another one.
const MAX_NAME_BYTES: usize = 1500;

/// The account that an agent has found, as the directory names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundAccount {
    /// What never changes about it; lowercase and hyphenated.
    #[serde(deserialize_with = "one_spelling")]
    #[schema(value_type = String, format = "uuid")]
    pub object_guid: Uuid,
    /// Its `userPrincipalName`, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upn: Option<Untrusted>,
    /// Where it stands: its distinguished name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dn: Option<Untrusted>,
}

impl FoundAccount {
    /// With those of its names that are not too long.
    #[must_use]
    pub fn new(object_guid: Uuid, upn: Option<&str>, dn: &str) -> Self {
        Self { object_guid, upn: upn.and_then(bounded), dn: bounded(dn) }
    }
}

impl fmt::Display for FoundAccount {
    /// For people, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in self.upn.iter().chain(&self.dn) {
            write!(f, "{}, ", name.quoted())?;
        }
        write!(f, "objectGUID {}", self.object_guid.hyphenated())
    }
}

fn bounded(name: &str) -> Option<Untrusted> {
    let written = serde_json::to_string(name).ok()?;
    (!name.is_empty() && written.len() <= MAX_NAME_BYTES).then(|| name.into())
}

fn one_spelling<'de, D: Deserializer<'de>>(from: D) -> Result<Uuid, D::Error> {
    let text = String::deserialize(from)?;
    let refused = || serde::de::Error::custom("an objectGUID as lowercase hyphenated text is expected");
    let guid = Uuid::try_parse(&text).map_err(|_| refused())?;
    if guid.hyphenated().to_string() == text { Ok(guid) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    #[test]
    fn names_that_differ_in_case_are_one_and_all_others_are_several() {
        let same = |a: &str, b: &str| FoldedName::of(a) == FoldedName::of(b);
        assert!(same("Jane@Corp.Example", "jANE@corp.example") && same("JÜRGEN@x", "jürgen@x"));
        // At the end of a word, a sigma has another form; the mapping knows that.
        assert!(same("ΟΔΥΣΣΕΥΣ@x", "οδυσσευς@x"));
        for other in [
            " jane@x",
            "jane@x ",
            "jane @x",
            "ja\u{301}ne@x",
            "jáne@x",
            "ｊａｎｅ@x",
            "ja\u{ad}ne@x",
            "ja\u{200b}ne@x",
            "jаne@x",
            "jane@x.",
        ] {
            assert!(!same("jane@x", other), "{other:?}");
        }
        assert!(!same("strasse@x", "straße@x") && !same("j\u{e1}ne@x", "ja\u{301}ne@x"));
    }

    #[test]
    fn a_name_that_would_not_fit_is_left_off_and_never_cut() {
        let guid = Uuid::from_u128(1);
        let long = "x".repeat(MAX_NAME_BYTES);
        let found = FoundAccount::new(guid, Some(&long), &"\\".repeat(MAX_NAME_BYTES / 2));
        assert_eq!((found.upn, found.dn), (None, None));
        let found = FoundAccount::new(guid, None, "CN=Jane");
        let json = r#"{"object_guid":"00000000-0000-0000-0000-000000000001","dn":"CN=Jane"}"#;
        assert_eq!(serde_json::to_string(&found).unwrap(), json);
        assert_eq!(json::read::<FoundAccount>(json.as_bytes()).unwrap(), found);
        assert_eq!(found.to_string(), r#""CN=Jane", objectGUID 00000000-0000-0000-0000-000000000001"#);
    }

    #[test]
    fn a_guid_of_another_spelling_is_refused() {
        for guid in ["00000000-0000-0000-0000-00000000000A", "0000000000000000000000000000000a", "jane"] {
            assert!(json::read::<FoundAccount>(format!(r#"{{"object_guid":"{guid}"}}"#).as_bytes()).is_err(), "{guid}");
        }
    }
}
