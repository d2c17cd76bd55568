//! The keys of an OpenID provider: a JWK set (RFC 7517 §5), and what is signed with one of it. Each key has the algorithms
//! of its type and takes no other, whatever a token says.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::jws::decoding_key;
use super::{JoseError, Jws, PublicKey, from_base64url};
use crate::protocol::json;

/// More keys than any provider has at a time.
const MAX_KEYS: usize = 100;
/// RSA keys of 2048 to 8192 bits, in bytes. Shorter ones are weak (RFC 7518 §3.3), longer ones slow.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// What a `alg` header may be, and which algorithm that is. `Ed25519` is the newer name of what `EdDSA` is with such a key
/// (RFC 9864).
const RSA: &[(&str, Algorithm)] = &[("RS256", Algorithm::RS256), ("PS256", Algorithm::PS256)];
const P256: &[(&str, Algorithm)] = &[("ES256", Algorithm::ES256)];
const ED25519: &[(&str, Algorithm)] = &[("EdDSA", Algorithm::EdDSA), ("Ed25519", Algorithm::EdDSA)];

/// The keys of an OpenID provider.
pub struct IssuerKeys(Vec<Key>);

struct Key {
    kid: String,
    /// By the key's type, and by its own `alg` if it has one.
    algorithms: Vec<(&'static str, Algorithm)>,
    decoding: DecodingKey,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The members that say what a key is for.
#[derive(Deserialize)]
struct Meant {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl IssuerKeys {
    /// Reads a JWK set. Keys without a `kid`, of other types, or for something else are left out (RFC 7517 §5).
    ///
    /// # Errors
    /// If it is no set, or no key is left.
    pub fn parse(set: &[u8]) -> Result<Self, JoseError> {
        let set: Set = json::read_with_nulls(set).map_err(|_| JoseError::Malformed("no JWK set"))?;
        let keys: Vec<_> = set.keys.into_iter().take(MAX_KEYS).filter_map(Key::read).collect();
        if keys.is_empty() {
            return Err(JoseError::Key("the set has no key for RS256, PS256, ES256 or EdDSA with a kid"));
        }
        Ok(Self(keys))
    }

    /// Verifies a token with the key that its `kid` names, and gives its claims.
    ///
    /// # Errors
    /// [`JoseError::UnknownKey`] if there is no such key yet; anything else will stay as it is: `alg` is not the key's, the
    /// signature does not fit, or the claims are malformed.
    pub fn verify<C: DeserializeOwned>(&self, token: &Jws<'_>) -> Result<C, JoseError> {
        if ![RSA, P256, ED25519].concat().iter().any(|(name, _)| *name == token.alg()) {
            return Err(JoseError::Algorithm);
        }
        let kid = token.kid().ok_or(JoseError::Malformed("there is no kid header"))?;
        let mut named = self.0.iter().filter(|key| key.kid == kid).peekable();
        named.peek().ok_or(JoseError::UnknownKey)?;
        let fitting = |key: &Key| {
            let (_, algorithm) = key.algorithms.iter().find(|(name, _)| *name == token.alg())?;
            Some((key.decoding.clone(), *algorithm))
        };
        let (key, algorithm) = named.find_map(fitting).ok_or(JoseError::Algorithm)?;
        if token.is_signed(&key, algorithm) { token.unverified_with_nulls() } else { Err(JoseError::Signature) }
    }
}

impl Key {
    fn read(jwk: Value) -> Option<Self> {
        let meant = Meant::deserialize(&jwk).ok()?;
        let for_signatures = meant.usage.as_deref().is_none_or(|usage| usage == "sig")
            && meant.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !for_signatures {
            return None;
        }
        let (algorithms, decoding) = if meant.kty == "RSA" {
            (RSA, rsa(&meant.n?, &meant.e?)?)
        } else {
            let key = PublicKey::deserialize(jwk).ok()?;
            let algorithms = if matches!(key, PublicKey::Ed25519 { .. }) { ED25519 } else { P256 };
            (algorithms, decoding_key(&key).ok()?.1)
        };
        let meant_for = |name: &str| meant.alg.as_deref().is_none_or(|alg| alg == name);
        let algorithms: Vec<_> = algorithms.iter().filter(|(name, _)| meant_for(name)).copied().collect();
        (!algorithms.is_empty()).then_some(Self { kid: meant.kid, algorithms, decoding })
    }
}

fn rsa(n: &str, e: &str) -> Option<DecodingKey> {
    let number = |text| {
        let bytes = from_base64url(text).ok()?;
        // Some providers write a zero in front, so that the number is not negative.
        Some(bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>())
    };
    let (n, e) = (number(n)?, number(e)?);
    RSA_BYTES.contains(&n.len()).then(|| DecodingKey::from_rsa_raw_components(&n, &e))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::SigningKey;
    use super::*;
    use crate::clock::System;

    fn set(jwk: &Value) -> Result<IssuerKeys, JoseError> {
        IssuerKeys::parse(json!({ "keys": [jwk] }).to_string().as_bytes())
    }

    #[test]
    fn a_key_is_used_for_what_it_is_meant_for_and_with_the_algorithm_of_its_type_alone() {
        let key = SigningKey::generate(&System).unwrap();
        let token = key.sign("at+jwt", &json!({"a": 1})).unwrap();
        let token = Jws::access_token(&token).unwrap();
        let with = |change: Value| {
            let mut jwk = serde_json::to_value(key.public()).unwrap();
            jwk["kid"] = json!(key.kid());
            jwk.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            set(&jwk).and_then(|keys| keys.verify::<Value>(&token))
        };
        for good in [json!({}), json!({"use": "sig"}), json!({"alg": "EdDSA"}), json!({"key_ops": ["verify"]})] {
            assert_eq!(with(good), Ok(json!({"a": 1})));
        }
        for other in [
            json!({"use": "enc"}),
            json!({"alg": "ES256"}),
            json!({"key_ops": ["sign"]}),
            json!({"kty": "oct"}),
            json!({"crv": "X25519"}),
            json!({"d": "AAAA"}),
            json!({"kid": null}),
        ] {
            assert!(matches!(with(other.clone()), Err(JoseError::Key(_))), "{other}");
        }
        assert_eq!(with(json!({"kid": "another"})), Err(JoseError::UnknownKey));
        assert_eq!(with(json!({"alg": "Ed25519"})), Err(JoseError::Algorithm), "the key's own alg is another name");
        let p256 = json!({"kty":"EC","crv":"P-256","x":"gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0",
            "y":"SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps","kid":key.kid()});
        assert_eq!(set(&p256).unwrap().verify::<Value>(&token), Err(JoseError::Algorithm));
    }

    #[test]
    fn a_short_rsa_key_is_left_out_and_what_is_no_set_is_said() {
        let rsa = |bytes: usize| {
            set(&json!({"kty": "RSA", "kid": "a", "e": "AQAB", "n": super::super::base64url(&vec![0xc1; bytes])}))
        };
        assert!(rsa(256).is_ok() && rsa(255).is_err() && rsa(1025).is_err());
        for text in ["", "{}", "[]", "{\"keys\":{}}", "{\"keys\":[]}", "{\"keys\":[1,null,{}]}"] {
            assert!(IssuerKeys::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn an_access_token_says_what_it_is() {
        let key = SigningKey::generate(&System).unwrap();
        for (typ, good) in [
            ("at+jwt", true),
            ("JWT", true),
            ("application/at+jwt", true),
            ("writeback-portal-assertion+jwt", false),
            ("", false),
        ] {
            let token = key.sign(typ, &json!({})).unwrap();
            assert_eq!(Jws::access_token(&token).is_ok(), good, "{typ}");
        }
    }
}
