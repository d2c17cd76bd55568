//! The enrolment code: one line of text that an administrator carries from the portal to the agent's host.
//!
//! `wb1.` + base64url(JSON) + `.` + base64url(the first 9 bytes of SHA-256 over everything before that dot). The
//! check finds a slip of the hand; what keeps the enrolment safe is the secret inside.

mod copied;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use self::copied::{Copied, copied};
use super::ids::{InvitationId, PortalId, TenantId};
use super::jose::{Thumbprint, base64url, from_base64url, sha256};
use super::json;

const PREFIX: &str = "wb1";
const CHECK_BYTES: usize = 9;
/// The same in base64url.
const CHECK_CHARS: usize = 12;

/// 32 bytes nobody else may know.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// Takes the bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes. Whoever calls this keeps them out of logs and errors.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What may be stored where the secret itself may not: its SHA-256, base64url.
    #[must_use]
    pub fn hash(&self) -> String {
        base64url(&sha256(&self.0[..]))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(base64url(&self.0[..])))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = Zeroizing::new(from_base64url(&text).map_err(serde::de::Error::custom)?);
        let bytes = bytes[..].try_into().map_err(|_| serde::de::Error::custom("32 bytes are expected"))?;
        Ok(Self::new(bytes))
    }
}

/// What an agent needs to enrol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentCode {
    /// The relay's public URL.
    pub relay: String,
    /// The organisation.
    pub tenant: TenantId,
    /// The invitation.
    pub invitation: InvitationId,
    /// The one-time token for the relay.
    pub token: Secret,
    /// The portal whose commands the agent will take.
    pub portal: PortalId,
    /// The thumbprint of that portal's signing key: the agent pins the key that has it.
    pub portal_key: Thumbprint,
    /// The secret of the attestation. It never reaches the relay.
    pub secret: Secret,
}

/// Why a text is not an enrolment code. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCode {
    /// Not of the form `wb1.….…`.
    #[error("this is not an enrolment code: it begins with \"wb1.\" and has three parts")]
    Form,
    /// Its end is missing.
    #[error("the enrolment code was not copied completely: {}", how_many(.arrived, .of))]
    Incomplete {
        /// So many characters are there.
        arrived: usize,
        /// Of so many, if those that are there say so.
        of: Option<usize>,
    },
    /// A character is wrong or missing.
    #[error("the enrolment code was not copied as it is: {}, and one is wrong or missing", how_many(.arrived, .of))]
    Check {
        /// So many characters are there.
        arrived: usize,
        /// Of so many, if those that are there say so.
        of: Option<usize>,
    },
    /// Copied right, but made by something else.
    #[error("the enrolment code is complete but has unexpected contents: use a newer agent")]
    Contents,
}

fn how_many(arrived: &usize, of: &Option<usize>) -> String {
    match of {
        Some(of) => format!("{arrived} of {of} characters arrived"),
        // So long they are: the relay's and the portal's names make the difference.
        None => format!("{arrived} of some 400 characters arrived"),
    }
}

fn check(text: &str) -> String {
    base64url(sha256(text.as_bytes()).get(..CHECK_BYTES).unwrap_or_default())
}

impl EnrolmentCode {
    /// The line of text. It is a secret until it has been redeemed.
    ///
    /// # Errors
    /// Never with values that came through their constructors.
    pub fn to_text(&self) -> Result<Zeroizing<String>, serde_json::Error> {
        let json = Zeroizing::new(serde_json::to_vec(self)?);
        let text = Zeroizing::new(format!("{PREFIX}.{}", base64url(&json)));
        let check = check(&text);
        Ok(Zeroizing::new(format!("{}.{check}", &*text)))
    }
}

impl FromStr for EnrolmentCode {
    type Err = InvalidCode;

    fn from_str(text: &str) -> Result<Self, InvalidCode> {
        let Copied { text, of } = copied(text).ok_or(InvalidCode::Form)?;
        let arrived = text.len();
        let missing = InvalidCode::Incomplete { arrived, of };
        let wrong = InvalidCode::Check { arrived, of };
        let (_, behind) = text.split_once('.').ok_or(InvalidCode::Form)?;
        let (contents, given) = behind.split_once('.').ok_or(missing)?;
        if given.len() < CHECK_CHARS {
            return Err(missing);
        }
        if check(text.strip_suffix(given).and_then(|body| body.strip_suffix('.')).unwrap_or_default()) != given {
            return Err(if of.is_some_and(|of| arrived < of) { missing } else { wrong });
        }
        let contents = Zeroizing::new(from_base64url(contents).map_err(|_| wrong)?);
        let code: Self = json::read(&contents).map_err(|_| InvalidCode::Contents)?;
        // It is shown, and stands in messages: a URL is of visible ASCII (RFC 3986 §2).
        let is_url = code.relay.bytes().all(|b| b.is_ascii_graphic());
        if is_url { Ok(code) } else { Err(InvalidCode::Contents) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;
    use crate::protocol::jose::SigningKey;

    #[test]
    fn it_comes_back_and_every_altered_byte_is_found() {
        let code = EnrolmentCode {
            relay: "https://relay.example".into(),
            tenant: "contoso".parse().unwrap(),
            invitation: InvitationId::new(&System, &System),
            token: Secret::new([1; 32]),
            portal: "portal-1".parse().unwrap(),
            portal_key: SigningKey::generate(&System).unwrap().kid().clone(),
            secret: Secret::new([2; 32]),
        };
        let text = code.to_text().unwrap();
        assert_eq!(text.parse::<EnrolmentCode>().unwrap(), code);
        for i in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[i] = if bytes[i] == b'x' { b'y' } else { b'x' };
            assert!(String::from_utf8(bytes).unwrap().parse::<EnrolmentCode>().is_err(), "byte {i}");
            assert!(text[..i].parse::<EnrolmentCode>().is_err(), "cut at {i}");
        }
        assert!(!format!("{code:?}").contains(&base64url(&[2; 32])));
    }
}
