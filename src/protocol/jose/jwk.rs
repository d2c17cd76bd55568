//! Public keys as JWK (RFC 7517), named by their thumbprint (RFC 7638).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use curve25519_dalek::edwards::CompressedEdwardsY;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{JoseError, base64url, from_base64url, sha256};
use crate::protocol::json::{Rules, Strict};

/// A public key: Ed25519 for signatures, P-256 for signatures or for sealing.
///
/// One that is read from outside is a point of its curve, in the one spelling that it has, and not of small order. One that
/// a store kept from before that was asked ([`stored`]) may be another; it verifies nothing ([`PublicKey::check`]).
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(into = "RawJwk")]
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
    #[serde(skip_serializing)]
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

    /// Whether it is a point that a key can be (RFC 8032 §5.1.7; SEC 1 §3.2.2.1).
    ///
    /// # Errors
    /// If it is not on the curve, not in the one spelling that a point has, or of small order.
    pub fn check(&self) -> Result<(), JoseError> {
        self.check_order()?;
        // P-256 was looked at when it was read.
        let Self::Ed25519 { x } = self else { return Ok(()) };
        let point = CompressedEdwardsY(*x).decompress().ok_or(JoseError::Key("no point of Ed25519"))?;
        if point.compress().0 == *x { Ok(()) } else { Err(JoseError::Key("another spelling of a point of Ed25519")) }
    }

    /// Whether what verifies by it was signed by somebody: with a point of small order anybody's signature fits.
    pub(super) fn check_order(&self) -> Result<(), JoseError> {
        let Self::Ed25519 { x } = self else { return Ok(()) };
        let mut y = *x;
        let [.., sign] = &mut y;
        *sign &= 0x7f;
        if SMALL_ORDER.contains(&y) { Err(JoseError::Key("a point of small order")) } else { Ok(()) }
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

/// The y coordinates of Ed25519's eight points of small order, in each spelling that a reader may take.
const SMALL_ORDER: [[u8; 32]; 7] = {
    const fn near_p(low: u8) -> [u8; 32] {
        let mut y = [0xff; 32];
        (y[0], y[31]) = (low, 0x7f);
        y
    }
    let (zero, mut one) = ([0; 32], [0; 32]);
    one[0] = 1;
    let of_order_8 = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ];
    let its_negative = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ];
    [zero, one, of_order_8, its_negative, near_p(0xec), near_p(0xed), near_p(0xee)]
};

fn coordinate(text: &str) -> Result<[u8; 32], JoseError> {
    from_base64url(text)?.try_into().map_err(|_| JoseError::Key("a coordinate is not 32 bytes"))
}

impl<'de> Deserialize<'de> for PublicKey {
    /// Strict wherever it stands.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let key = stored::key(from)?;
        key.check().map_err(D::Error::custom)?;
        Ok(key)
    }
}

/// Keys in what was stored before they were looked at, or is shown in a list in which one must not hide all others. Whoever
/// believes one of them asks [`PublicKey::check`].
pub mod stored {
    use super::*;

    /// One key, for `deserialize_with`.
    ///
    /// # Errors
    /// If it is no public key by its form.
    pub fn key<'de, D: Deserializer<'de>>(from: D) -> Result<PublicKey, D::Error> {
        RawJwk::deserialize(Strict::new(from, Rules::OURS))?.into_key().map_err(D::Error::custom)
    }

    /// A list of them.
    ///
    /// # Errors
    /// As [`key`].
    pub fn keys<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PublicKey>, D::Error> {
        #[derive(Deserialize)]
        struct Key(#[serde(deserialize_with = "key")] PublicKey);
        Ok(Vec::<Key>::deserialize(from)?.into_iter().map(|Key(key)| key).collect())
    }
}

/// A private key as it stands in a file.
#[derive(Deserialize)]
pub(super) struct PrivateJwk {
    kty: String,
    crv: String,
    x: String,
    y: Option<String>,
    d: Zeroizing<String>,
}

impl PrivateJwk {
    /// The public half that stands beside it.
    pub(super) fn public(&self) -> Result<PublicKey, JoseError> {
        let Self { kty, crv, x, y, d: _ } = self;
        RawJwk { kty: kty.clone(), crv: crv.clone(), x: x.clone(), y: y.clone(), d: None }.into_key()
    }

    /// The private number, base64url.
    pub(super) fn d(&self) -> &str {
        &self.d
    }
}

impl RawJwk {
    fn into_key(self) -> Result<PublicKey, JoseError> {
        let raw = self;
        if raw.d.is_some() {
            return Err(JoseError::Key("a private key was given where a public one is expected"));
        }
        match (raw.kty.as_str(), raw.crv.as_str(), raw.y) {
            ("OKP", "Ed25519", None) => Ok(PublicKey::Ed25519 { x: coordinate(&raw.x)? }),
            ("EC", "P-256", Some(y)) => {
                let mut point = [4; 65];
                let (x, y) = (coordinate(&raw.x)?, coordinate(&y)?);
                for (to, from) in point.iter_mut().skip(1).zip(x.into_iter().chain(y)) {
                    *to = from;
                }
                PublicKey::p256(point)
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
    use curve25519_dalek::constants::EIGHT_TORSION;

    use super::*;
    use crate::protocol::json;

    #[test]
    fn the_thumbprint_is_rfc_8037_appendix_a3s() {
        let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let key: PublicKey = json::read(jwk.as_bytes()).unwrap();
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
            assert!(json::read::<PublicKey>(jwk.as_bytes()).is_err(), "{jwk}");
        }
    }

    fn ed25519(x: [u8; 32]) -> String {
        format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, base64url(&x))
    }

    fn read(jwk: &str) -> Result<PublicKey, String> {
        json::read(jwk.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_point_of_small_order_is_refused_in_every_spelling_and_verifies_nothing_from_a_store() {
        let canonical = EIGHT_TORSION.map(|point| point.compress().0);
        let mut spellings: Vec<[u8; 32]> = canonical.to_vec();
        // Zero and one, written with p more, and each with the other sign.
        spellings.extend(SMALL_ORDER);
        for y in spellings.clone() {
            let mut other_sign = y;
            other_sign[31] ^= 0x80;
            spellings.push(other_sign);
        }
        for x in spellings {
            let jwk = ed25519(x);
            assert!(read(&jwk).unwrap_err().contains("small order"), "{jwk}");
            let kept = stored::key(&mut serde_json::Deserializer::from_str(&jwk)).unwrap();
            assert!(kept.check_order().is_err());
        }
        // All of them, and no other.
        let known = canonical.map(|mut y| {
            y[31] &= 0x7f;
            y
        });
        assert!(known.iter().all(|y| SMALL_ORDER.contains(y)));
    }

    #[test]
    fn an_ed25519_key_is_a_point_in_its_one_spelling() {
        let on_curve = (0..=255_u8).map(|n| [n; 32]).filter(|x| CompressedEdwardsY(*x).decompress().is_some()).count();
        let taken = (0..=255_u8).filter(|n| read(&ed25519([*n; 32])).is_ok()).count();
        assert_eq!(taken, on_curve - 2, "all but that of zeros, of small order, and that of ones, which is above p");
        // y = p + 3 is y = 3, which is on the curve.
        let (mut three, mut three_and_p) = ([0; 32], [0xff; 32]);
        (three[0], three_and_p[0], three_and_p[31]) = (3, 0xf0, 0x7f);
        assert!(read(&ed25519(three)).is_ok());
        assert!(read(&ed25519(three_and_p)).unwrap_err().contains("spelling"));
    }

    #[test]
    fn a_p256_key_is_a_point_with_coordinates_below_the_prime() {
        let jwk = |x: &[u8], y: &[u8]| {
            format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, base64url(x), base64url(y))
        };
        let of_5 = from_base64url("RZJDuapYGAb-kTvOmYF63hHKUDxk2aPFM0FcCDJI-8w").unwrap();
        let mut x = [0; 32];
        x[31] = 5;
        assert!(read(&jwk(&x, &of_5)).is_ok());
        // p + 5: the same point, if it were taken.
        let p_and_5 = from_base64url("_____wAAAAEAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAQ").unwrap();
        assert!(read(&jwk(&p_and_5, &of_5)).is_err());
        x[31] = 7;
        assert!(read(&jwk(&x, &of_5)).is_err(), "not on the curve");
        assert!(read(&jwk(&[0; 32], &[0; 32])).is_err(), "the point at infinity, as some write it");
        assert!(read(&jwk(&x[1..], &of_5)).is_err(), "without the zeros in front");
        assert!(read(&jwk(&[&[0], &x[..]].concat(), &of_5)).is_err(), "with one more");
    }
}
