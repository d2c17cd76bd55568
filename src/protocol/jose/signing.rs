//! Our signing key: Ed25519.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde::Serialize;
use zeroize::Zeroizing;

use super::jwk::PrivateJwk;
use super::{JoseError, PublicKey, Thumbprint, base64url, from_base64url};
use crate::clock::Random;
use crate::protocol::json;

/// A private Ed25519 key that signs JWS as `EdDSA` (RFC 8037 §3.1).
#[derive(Clone)]
pub struct SigningKey {
    seed: Zeroizing<[u8; 32]>,
    encoding: EncodingKey,
    public: PublicKey,
    kid: Thumbprint,
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn generate(random: &dyn Random) -> Result<Self, JoseError> {
        let mut seed = Zeroizing::new([0; 32]);
        random.fill(&mut seed[..]);
        Self::from_seed(seed)
    }

    fn from_seed(seed: Zeroizing<[u8; 32]>) -> Result<Self, JoseError> {
        let refused = |_| JoseError::Key("no private key of Ed25519");
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed[..]).map_err(refused)?;
        let pkcs8 = pair.to_pkcs8().map_err(|_| JoseError::Key("no private key of Ed25519"))?;
        let mut x = [0; 32];
        x.copy_from_slice(pair.public_key().as_ref());
        let public = PublicKey::Ed25519 { x };
        Ok(Self { seed, encoding: EncodingKey::from_ed_der(pkcs8.as_ref()), kid: public.thumbprint(), public })
    }

    /// Reads a private JWK (RFC 8037 §2).
    ///
    /// # Errors
    /// If it is not an Ed25519 key, or its halves don't belong together.
    pub fn from_jwk(text: &str) -> Result<Self, JoseError> {
        const EXPECTED: JoseError = JoseError::Key("a private JWK of Ed25519 is expected");
        let jwk: PrivateJwk = json::read(text.as_bytes()).map_err(|_| EXPECTED)?;
        let PublicKey::Ed25519 { x } = jwk.public().map_err(|_| EXPECTED)? else { return Err(EXPECTED) };
        let seed = Zeroizing::new(from_base64url(jwk.d())?);
        let seed = seed[..].try_into().map_err(|_| JoseError::Key("d is not 32 bytes"))?;
        let key = Self::from_seed(Zeroizing::new(seed))?;
        if *key.public.as_bytes() != x {
            return Err(JoseError::Key("x does not belong to d"));
        }
        Ok(key)
    }

    /// The private JWK, to be kept in a file that only its owner reads.
    #[must_use]
    pub fn to_jwk(&self) -> Zeroizing<String> {
        let (x, d) = (base64url(self.public.as_bytes()), Zeroizing::new(base64url(&self.seed[..])));
        Zeroizing::new(format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","d":"{}"}}"#, &*d))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The thumbprint of the public half.
    #[must_use]
    pub fn kid(&self) -> &Thumbprint {
        &self.kid
    }

    /// Signs `claims` as a compact JWS with this `typ`.
    ///
    /// # Errors
    /// If the claims can't be written as JSON or the library refuses.
    pub fn sign<C: Serialize>(&self, typ: &str, claims: &C) -> Result<String, JoseError> {
        let header = format!(r#"{{"alg":"EdDSA","typ":"{typ}","kid":"{}"}}"#, self.kid);
        let payload = serde_json::to_vec(claims).map_err(|_| JoseError::UNWRITABLE)?;
        let mut jws = format!("{}.{}", base64url(header.as_bytes()), base64url(&payload));
        let signature =
            crypto::sign(jws.as_bytes(), &self.encoding, Algorithm::EdDSA).map_err(|_| JoseError::Signature)?;
        jws.push('.');
        jws.push_str(&signature);
        Ok(jws)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.kid)
    }
}
