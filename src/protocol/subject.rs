//! Whose account: a subject identifier (RFC 9493) that is a UPN or an objectGUID.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::account::FoldedName;
use super::json::{Rules, Strict};

/// An account in the directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "RawSubject")]
pub enum Subject {
    /// By userPrincipalName: `{"format":"account","uri":"acct:jane@corp.example"}`.
    Upn(String),
    /// By objectGUID: `{"format":"opaque","id":"6f2c…"}`, lowercase and hyphenated.
    ObjectGuid(uuid::Uuid),
}

/// Why a subject identifier is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubject {
    /// Not a UPN.
    #[error("a user principal name is user@domain, at most 1024 bytes, without control characters")]
    Upn,
    /// Not an `acct:` URI (RFC 7565).
    #[error("an acct: URI with percent-encoded UTF-8 is expected")]
    Uri,
    /// Not an objectGUID.
    #[error("an objectGUID as lowercase hyphenated text is expected")]
    Guid,
    /// A name without a domain.
    #[error(
        "a user principal name (UPN) is expected, such as jane@corp.example: the \"User logon name\" in Active Directory, with \
         what stands behind it from the @ on. A name without its domain says too little; an objectGUID is taken, too"
    )]
    BareName,
    /// `DOMAIN\user`.
    #[error(
        "a user principal name (UPN) is expected, such as jane@corp.example: the \"User logon name\" in Active Directory. \
         DOMAIN\\user is the logon name from before Windows 2000, which is not taken; an objectGUID is"
    )]
    DownLevelName,
}

/// As it stands in JSON. A struct, for a tagged enum would be read from an array, too.
#[derive(Clone, Serialize, Deserialize)]
#[serde(expecting = "an object with the format `account` or `opaque`")]
struct RawSubject {
    format: Format,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", expecting = "`account` or `opaque`")]
enum Format {
    Account,
    Opaque,
}

/// Everything but the unreserved characters of RFC 3986 §2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Subject {
    /// An account by its user principal name.
    ///
    /// # Errors
    /// If it is not of the form `user@domain`.
    pub fn upn(text: &str) -> Result<Self, InvalidSubject> {
        let (user, domain) = text.rsplit_once('@').ok_or(InvalidSubject::Upn)?;
        if user.is_empty() || domain.is_empty() || text.len() > 1024 || text.chars().any(char::is_control) {
            return Err(InvalidSubject::Upn);
        }
        Ok(Self::Upn(text.to_owned()))
    }

    /// An account by its objectGUID.
    ///
    /// # Errors
    /// If it is not lowercase hyphenated text.
    pub fn object_guid(text: &str) -> Result<Self, InvalidSubject> {
        let guid = uuid::Uuid::try_parse(text).map_err(|_| InvalidSubject::Guid)?;
        if guid.hyphenated().to_string() != text {
            return Err(InvalidSubject::Guid);
        }
        Ok(Self::ObjectGuid(guid))
    }

    /// A UPN if there is an `@`, else an objectGUID: what people type.
    ///
    /// # Errors
    /// If it is neither.
    pub fn from_text(text: &str) -> Result<Self, InvalidSubject> {
        if text.contains('@') {
            return Self::upn(text);
        }
        Self::object_guid(&text.to_ascii_lowercase()).map_err(|error| {
            let looks_like_one = text.len() >= 32 && text.chars().all(|c| c.is_ascii_hexdigit() || "-{}".contains(c));
            match text.contains('\\') {
                _ if looks_like_one => error,
                true => InvalidSubject::DownLevelName,
                false => InvalidSubject::BareName,
            }
        })
    }

    /// What to compare accounts by, and to key something by: names that are one account's come to the same.
    #[must_use]
    pub fn folded(&self) -> FoldedName {
        FoldedName::of(&self.to_string())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upn(upn) => f.write_str(upn),
            Self::ObjectGuid(guid) => guid.hyphenated().fmt(f),
        }
    }
}

impl From<Subject> for RawSubject {
    fn from(subject: Subject) -> Self {
        match subject {
            Subject::Upn(upn) => {
                let (user, domain) = upn.rsplit_once('@').unwrap_or((&upn, ""));
                let (user, domain) = (utf8_percent_encode(user, ENCODED), utf8_percent_encode(domain, ENCODED));
                Self { format: Format::Account, uri: Some(format!("acct:{user}@{domain}")), id: None }
            }
            Subject::ObjectGuid(guid) => {
                Self { format: Format::Opaque, uri: None, id: Some(guid.hyphenated().to_string()) }
            }
        }
    }
}

impl TryFrom<RawSubject> for Subject {
    type Error = InvalidSubject;

    fn try_from(raw: RawSubject) -> Result<Self, InvalidSubject> {
        match raw.format {
            Format::Opaque => Self::object_guid(&raw.id.ok_or(InvalidSubject::Guid)?),
            Format::Account => {
                let uri = raw.uri.ok_or(InvalidSubject::Uri)?;
                let encoded = uri.strip_prefix("acct:").ok_or(InvalidSubject::Uri)?;
                Self::upn(&percent_decode_str(encoded).decode_utf8().map_err(|_| InvalidSubject::Uri)?)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Subject {
    /// Strict wherever it stands.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        RawSubject::deserialize(Strict::new(from, Rules::OURS))?.try_into().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    #[test]
    fn a_upn_is_percent_encoded_and_comes_back() {
        let subject = Subject::upn("jürgen o'neil@corp.example").unwrap();
        let json = serde_json::to_string(&subject).unwrap();
        assert_eq!(json, r#"{"format":"account","uri":"acct:j%C3%BCrgen%20o%27neil@corp.example"}"#);
        assert_eq!(json::read::<Subject>(json.as_bytes()).unwrap(), subject);
    }

    #[test]
    fn an_object_guid_has_one_spelling() {
        let json = r#"{"format":"opaque","id":"6f2c1a52-1b7f-4d5e-9a53-0c9d2f1f0a11"}"#;
        assert_eq!(serde_json::to_string(&json::read::<Subject>(json.as_bytes()).unwrap()).unwrap(), json);
        for bad in [
            r#"{"format":"opaque","id":"6F2C1A52-1B7F-4D5E-9A53-0C9D2F1F0A11"}"#,
            r#"{"format":"opaque","id":"6f2c1a521b7f4d5e9a530c9d2f1f0a11"}"#,
            r#"{"format":"account","uri":"mailto:jane@corp.example"}"#,
            r#"{"format":"account","uri":"acct:jane"}"#,
            r#"{"format":"account","uri":"acct:%FF@corp.example"}"#,
            r#"{"format":"email","email":"jane@corp.example"}"#,
        ] {
            assert!(json::read::<Subject>(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
