//! Public keys as JWK (RFC 7517), named by their thumbprint (RFC 7638).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{JoseError, base64url, from_base64url, sha256};

/// A public key: Ed25519 for signatures, P-256 for signatures or for sealing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawJwk", into = "RawJwk")]
pub enum PublicKey {
    /// `{"kty":"OKP","crv":"Ed25519"}` (RFC 8037).
    Ed25519 {
        /// The point, 32 bytes.
        x: [u8; 32],
    },
    /// `{"kty":"EC","crv":"P-256"}` (RFC 7518 §6.2).
    P256 {
        /// The uncompressed point (SEC 1 §2.3.3): 0x04, x, y.
        point: [u8; 65],
    },
}

/// A public key as it stands in JSON. Members that are not listed are ignored.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Jwk)]
pub struct RawJwk {
    /// `OKP` or `EC`.
    kty: String,
    /// `Ed25519` or `P-256`.
    // A key of another kind has none, and is told which kinds are taken.
    #[serde(default)]
    #[schema(required)]
    crv: String,
    /// base64url.
    #[serde(default)]
    #[schema(required)]
    x: String,
    /// base64url; for `EC` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    /// A private key has no place where a public one is asked for: its presence is an error.
    #[serde(default, skip_serializing)]
    #[schema(ignore)]
    d: Option<serde::de::IgnoredAny>,
}

impl PublicKey {
    /// The point in the form that signature and agreement algorithms take.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519 { x } => x,
            Self::P256 { point } => point,
        }
    }

    /// P-256 from an uncompressed point; checked to lie on the curve.
    pub(super) fn p256(point: [u8; 65]) -> Result<Self, JoseError> {
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| JoseError::Key("no point of P-256"))?;
        Ok(Self::P256 { point })
    }

    /// The JWK thumbprint with SHA-256 (RFC 7638 §3).
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        let RawJwk { kty, crv, x, y, .. } = self.clone().into();
        let members = match y {
            None => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}"}}"#),
            Some(y) => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#),
        };
        Thumbprint(base64url(&sha256(members.as_bytes())))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.thumbprint())
    }
}

fn coordinate(text: &str) -> Result<[u8; 32], JoseError> {
    from_base64url(text)?.try_into().map_err(|_| JoseError::Key("a coordinate is not 32 bytes"))
}

impl TryFrom<RawJwk> for PublicKey {
    type Error = JoseError;

    fn try_from(raw: RawJwk) -> Result<Self, JoseError> {
        if raw.d.is_some() {
            return Err(JoseError::Key("a private key was given where a public one is expected"));
        }
        match (raw.kty.as_str(), raw.crv.as_str(), raw.y) {
            ("OKP", "Ed25519", None) => {
                let x = coordinate(&raw.x)?;
                ParsedPublicKey::new(&ED25519, x).map_err(|_| JoseError::Key("no point of Ed25519"))?;
                Ok(Self::Ed25519 { x })
            }
            ("EC", "P-256", Some(y)) => {
                let mut point = [4; 65];
                let (x, y) = (coordinate(&raw.x)?, coordinate(&y)?);
                for (to, from) in point.iter_mut().skip(1).zip(x.into_iter().chain(y)) {
                    *to = from;
                }
                Self::p256(point)
            }
            _ => Err(JoseError::Key("Ed25519 (kty OKP, x) or P-256 (kty EC, x and y) is expected")),
        }
    }
}

impl From<PublicKey> for RawJwk {
    fn from(key: PublicKey) -> Self {
        let (kty, crv, x, y) = match key {
            PublicKey::Ed25519 { x } => ("OKP", "Ed25519", base64url(&x), None),
            PublicKey::P256 { point } => {
                let (x, y) = point.split_at(33);
                ("EC", "P-256", base64url(x.get(1..).unwrap_or_default()), Some(base64url(y)))
            }
        };
        Self { kty: kty.into(), crv: crv.into(), x, y, d: None }
    }
}

/// The name of a key: SHA-256 of its members, base64url, 43 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String")]
pub struct Thumbprint(String);

impl Thumbprint {
    /// As text: the `kid` of everything the key signs or opens.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 32 bytes of the hash.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        from_base64url(&self.0).unwrap_or_default()
    }
}

impl TryFrom<String> for Thumbprint {
    type Error = JoseError;
    fn try_from(text: String) -> Result<Self, JoseError> {
        match from_base64url(&text)?.len() {
            32 => Ok(Self(text)),
            _ => Err(JoseError::Key("a thumbprint is 32 bytes as base64url")),
        }
    }
}

impl FromStr for Thumbprint {
    type Err = JoseError;
    fn from_str(text: &str) -> Result<Self, JoseError> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_rfc_8037_appendix_a3s() {
        let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let key: PublicKey = serde_json::from_str(jwk).unwrap();
        assert_eq!(key.thumbprint().as_str(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(serde_json::to_string(&key).unwrap(), jwk);
    }

    #[test]
    fn private_keys_foreign_curves_and_points_off_the_curve_are_refused() {
        for jwk in [
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","d":"AAAA"}"#,
            r#"{"kty":"OKP","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            r#"{"kty":"EC","crv":"P-256","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            r#"{"kty":"EC","crv":"P-256","x":"gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0","y":"gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0"}"#,
        ] {
            assert!(serde_json::from_str::<PublicKey>(jwk).is_err(), "{jwk}");
        }
    }
}
