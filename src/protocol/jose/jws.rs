//! JWS compact (RFC 7515), read in two steps: look who claims to have signed, then verify with that key.

use aws_lc_rs::constant_time;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::{JoseError, PublicKey, base64url, from_base64url};
use crate::protocol::json;

/// A JWS that has the right form and `typ`, and is not verified yet.
#[derive(Debug)]
pub struct Jws<'a> {
    signing_input: &'a str,
    signature: &'a str,
    payload: Vec<u8>,
    header: Header,
}

/// Header parameters that are looked at; others are ignored.
#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

impl<'a> Jws<'a> {
    /// Takes `token` apart and checks its `typ` (RFC 8725 §3.11).
    ///
    /// # Errors
    /// If it is not a compact JWS, has another `typ`, or a `crit` header.
    pub fn parse(token: &'a str, typ: &'static str) -> Result<Self, JoseError> {
        let jws = Self::read(token)?;
        if jws.header.typ.as_deref() != Some(typ) {
            return Err(JoseError::WrongType { expected: typ });
        }
        Ok(jws)
    }

    /// The same for an access token of an OpenID provider: `at+jwt` (RFC 9068 §2.1), or `JWT` as those that are older
    /// than it have it. A media type is the same in small letters and with `application/` (RFC 7515 §4.1.9).
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn access_token(token: &'a str) -> Result<Self, JoseError> {
        let jws = Self::read(token)?;
        let typ = jws.header.typ.as_deref().unwrap_or_default().to_ascii_lowercase();
        match typ.strip_prefix("application/").unwrap_or(&typ) {
            "at+jwt" | "jwt" => Ok(jws),
            _ => Err(JoseError::WrongType { expected: "at+jwt (or JWT)" }),
        }
    }

    fn read(token: &'a str) -> Result<Self, JoseError> {
        let (signing_input, signature) = token.rsplit_once('.').ok_or(JoseError::Malformed("not three parts"))?;
        let (header, payload) = signing_input.split_once('.').ok_or(JoseError::Malformed("not three parts"))?;
        // Judged as form, before anything is looked up. A dot that is left in the payload is no base64url either.
        from_base64url(signature)?;
        let header: Header = json::read(&from_base64url(header)?)
            .map_err(|_| JoseError::Malformed("the header is not a JSON object with alg, and each name once"))?;
        if header.crit.is_some() {
            return Err(JoseError::Critical);
        }
        Ok(Self { signing_input, signature, payload: from_base64url(payload)?, header })
    }

    /// The `kid` header.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// The `alg` header.
    pub(super) fn alg(&self) -> &str {
        &self.header.alg
    }

    /// Whether the signature is one by this key.
    pub(super) fn is_signed(&self, key: &DecodingKey, algorithm: Algorithm) -> bool {
        matches!(crypto::verify(self.signature, self.signing_input.as_bytes(), key, algorithm), Ok(true))
    }

    /// Takes as long as to find that a signature does not fit.
    pub fn verify_in_vain(&self) {
        /// The base point, whose secret key is nobody's: any point will do.
        const NOBODYS: [u8; 32] = [
            0x58, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
            0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
        ];
        std::hint::black_box(self.is_signed(&DecodingKey::from_ed_der(&NOBODYS), Algorithm::EdDSA));
    }

    /// The claims as they stand, *not verified*: to find out whose key to verify with.
    ///
    /// # Errors
    /// If they are not of the form `C`.
    pub fn unverified<C: DeserializeOwned>(&self) -> Result<C, JoseError> {
        json::read(&self.payload).map_err(JoseError::claims)
    }

    /// The claims of a token that others make: `null` is what is absent there.
    pub(super) fn unverified_with_nulls<C: DeserializeOwned>(&self) -> Result<C, JoseError> {
        json::read_with_nulls(&self.payload).map_err(JoseError::claims)
    }

    /// Verifies with whichever of `keys` the `kid` names, and gives the claims.
    ///
    /// # Errors
    /// If no key has that `kid`, `alg` is not the key's, the signature does not fit, or the claims are malformed.
    pub fn verify<'k, C, K>(&self, keys: K) -> Result<C, JoseError>
    where
        C: DeserializeOwned,
        K: IntoIterator<Item = &'k PublicKey>,
    {
        self.verified_by(keys).map(|(claims, _)| claims)
    }

    /// The same, and which key it was.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verified_by<'k, C, K>(&self, keys: K) -> Result<(C, &'k PublicKey), JoseError>
    where
        C: DeserializeOwned,
        K: IntoIterator<Item = &'k PublicKey>,
    {
        let kid = self.kid().ok_or(JoseError::UnknownKey)?;
        let key = keys.into_iter().find(|key| key.thumbprint().as_str() == kid).ok_or(JoseError::UnknownKey)?;
        let (algorithm, decoding) = decoding_key(key)?;
        if self.header.alg != name(algorithm) {
            return Err(JoseError::Algorithm);
        }
        if self.is_signed(&decoding, algorithm) { Ok((self.unverified()?, key)) } else { Err(JoseError::Signature) }
    }
}

fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::ES256 => "ES256",
        _ => "EdDSA",
    }
}

pub(super) fn decoding_key(key: &PublicKey) -> Result<(Algorithm, DecodingKey), JoseError> {
    key.check_order()?;
    match key {
        PublicKey::Ed25519 { x } => Ok((Algorithm::EdDSA, DecodingKey::from_ed_der(x))),
        PublicKey::P256 { point } => Ok((Algorithm::ES256, DecodingKey::from_ec_der(point))),
    }
}

/// Signs `claims` with a shared secret. For attestations only.
///
/// # Errors
/// If the claims can't be written as JSON or the library refuses.
pub fn sign_hs256<C: Serialize>(typ: &str, kid: &str, claims: &C, secret: &[u8; 32]) -> Result<String, JoseError> {
    let header = format!(r#"{{"alg":"HS256","typ":"{typ}","kid":"{kid}"}}"#);
    let payload = serde_json::to_vec(claims).map_err(|_| JoseError::UNWRITABLE)?;
    let mut jws = format!("{}.{}", base64url(header.as_bytes()), base64url(&payload));
    let key = EncodingKey::from_secret(secret);
    let mac = crypto::sign(jws.as_bytes(), &key, Algorithm::HS256).map_err(|_| JoseError::Signature)?;
    jws.push('.');
    jws.push_str(&mac);
    Ok(jws)
}

/// Verifies what [`sign_hs256`] made.
///
/// # Errors
/// As [`Jws::verify`].
pub fn verify_hs256<C: DeserializeOwned>(jws: &Jws<'_>, kid: &str, secret: &[u8; 32]) -> Result<C, JoseError> {
    if jws.kid() != Some(kid) {
        return Err(JoseError::UnknownKey);
    }
    if jws.header.alg != "HS256" {
        return Err(JoseError::Algorithm);
    }
    let key = EncodingKey::from_secret(secret);
    let expected =
        crypto::sign(jws.signing_input.as_bytes(), &key, Algorithm::HS256).map_err(|_| JoseError::Signature)?;
    constant_time::verify_slices_are_equal(expected.as_bytes(), jws.signature.as_bytes())
        .map_err(|_| JoseError::Signature)?;
    jws.unverified()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::SigningKey;
    use super::*;
    use crate::clock::System;

    fn with_header(token: &str, header: &str) -> String {
        let (_, rest) = token.split_once('.').unwrap();
        format!("{}.{rest}", base64url(header.as_bytes()))
    }

    #[test]
    fn what_is_signed_verifies_and_every_altered_byte_is_refused() {
        let key = SigningKey::generate(&System).unwrap();
        let token = key.sign("t+jwt", &json!({"a": 1})).unwrap();
        let open = |t: &str| Jws::parse(t, "t+jwt").and_then(|j| j.verify::<Value, _>([key.public()]));
        assert_eq!(open(&token).unwrap(), json!({"a": 1}));
        for i in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            assert!(open(std::str::from_utf8(&bytes).unwrap()).is_err(), "byte {i}");
        }
    }

    #[test]
    fn the_header_chooses_neither_type_nor_algorithm_nor_extension() {
        let key = SigningKey::generate(&System).unwrap();
        let token = key.sign("t+jwt", &json!({})).unwrap();
        let kid = key.kid();
        let open = |header: String| {
            let token = with_header(&token, &header);
            Jws::parse(&token, "t+jwt").and_then(|j| j.verify::<Value, _>([key.public()])).unwrap_err()
        };
        assert_eq!(open(format!(r#"{{"alg":"none","typ":"t+jwt","kid":"{kid}"}}"#)), JoseError::Algorithm);
        assert_eq!(open(format!(r#"{{"alg":"HS256","typ":"t+jwt","kid":"{kid}"}}"#)), JoseError::Algorithm);
        assert_eq!(open(format!(r#"{{"alg":"ES256","typ":"t+jwt","kid":"{kid}"}}"#)), JoseError::Algorithm);
        assert_eq!(open(format!(r#"{{"alg":"EdDSA","typ":"t+jwt","kid":"{kid}","crit":[]}}"#)), JoseError::Critical);
        assert_eq!(
            open(format!(r#"{{"alg":"EdDSA","typ":"u+jwt","kid":"{kid}"}}"#)),
            JoseError::WrongType { expected: "t+jwt" }
        );
        assert_eq!(open(r#"{"alg":"EdDSA","typ":"t+jwt","kid":"x"}"#.into()), JoseError::UnknownKey);
        assert_eq!(open(r#"{"alg":"EdDSA","typ":"t+jwt"}"#.into()), JoseError::UnknownKey);
        let twice = format!(r#"{{"alg":"none","alg":"EdDSA","typ":"t+jwt","kid":"{kid}"}}"#);
        assert!(matches!(open(twice), JoseError::Malformed(_)));
    }

    #[test]
    fn a_shared_secret_verifies_only_its_own() {
        let token = sign_hs256("a+jwt", "k", &json!({"a": 1}), &[7; 32]).unwrap();
        let jws = Jws::parse(&token, "a+jwt").unwrap();
        assert_eq!(verify_hs256::<Value>(&jws, "k", &[7; 32]).unwrap(), json!({"a": 1}));
        assert_eq!(verify_hs256::<Value>(&jws, "k", &[8; 32]), Err(JoseError::Signature));
        assert_eq!(verify_hs256::<Value>(&jws, "l", &[7; 32]), Err(JoseError::UnknownKey));
    }
}
