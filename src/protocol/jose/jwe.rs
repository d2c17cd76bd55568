//! JWE compact (RFC 7516) with `ECDH-ES` on P-256 (RFC 7518 §4.6) and `A256GCM` (§5.3).
//!
//! No maintained crate does this without a second cryptographic library, so it stands here on aws-lc-rs, proved
//! against RFC 7518 appendix C and against the JOSE libraries of other languages.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::kdf;
use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use super::jwk::PrivateJwk;
use super::{JoseError, PublicKey, Thumbprint, base64url, from_base64url};
use crate::clock::Random;
use crate::protocol::json;

/// A private P-256 key that opens what was sealed to its public half.
pub struct SealingKey {
    private: PrivateKey,
    public: PublicKey,
    kid: Thumbprint,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    enc: String,
    kid: Option<String>,
    epk: PublicKey,
    apu: Option<String>,
    apv: Option<String>,
    crit: Option<IgnoredAny>,
    zip: Option<IgnoredAny>,
}

impl SealingKey {
    /// A new key.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn generate() -> Result<Self, JoseError> {
        Self::from_private(PrivateKey::generate(&ECDH_P256).map_err(|_| JoseError::Key("no key could be made"))?)
    }

    fn from_private(private: PrivateKey) -> Result<Self, JoseError> {
        let point = private.compute_public_key().map_err(|_| JoseError::Key("no private key of P-256"))?;
        let point = point.as_ref().try_into().map_err(|_| JoseError::Key("no private key of P-256"))?;
        let public = PublicKey::p256(point)?;
        Ok(Self { private, kid: public.thumbprint(), public })
    }

    /// Reads a private JWK (RFC 7518 §6.2).
    ///
    /// # Errors
    /// If it is not a P-256 key, or its halves don't belong together.
    pub fn from_jwk(text: &str) -> Result<Self, JoseError> {
        const EXPECTED: JoseError = JoseError::Key("a private JWK of P-256 is expected");
        let jwk: PrivateJwk = json::read(text.as_bytes()).map_err(|_| EXPECTED)?;
        let public = jwk.public().map_err(|_| EXPECTED)?;
        let scalar = Zeroizing::new(from_base64url(jwk.d())?);
        let key = Self::from_private(PrivateKey::from_private_key(&ECDH_P256, &scalar).map_err(|_| EXPECTED)?)?;
        if key.public != public {
            return Err(JoseError::Key("x and y do not belong to d"));
        }
        Ok(key)
    }

    /// The private JWK, to be kept in a file that only its owner reads.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn to_jwk(&self) -> Result<Zeroizing<String>, JoseError> {
        let scalar: EcPrivateKeyBin<'_> =
            self.private.as_be_bytes().map_err(|_| JoseError::Key("the private key can't be written"))?;
        let d = Zeroizing::new(base64url(scalar.as_ref()));
        let public = serde_json::to_string(&self.public).map_err(|_| JoseError::UNWRITABLE)?;
        Ok(Zeroizing::new(format!(r#"{},"d":"{}"}}"#, public.trim_end_matches('}'), &*d)))
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

    /// Opens a compact JWE.
    ///
    /// # Errors
    /// If it is malformed, of other algorithms, for another key, or altered.
    pub fn open(&self, jwe: &str) -> Result<Zeroizing<Vec<u8>>, JoseError> {
        let parts: Vec<&str> = jwe.split('.').collect();
        let [protected, encrypted_key, iv, ciphertext, tag] = parts[..] else {
            return Err(JoseError::Malformed("not five parts"));
        };
        let header: Header = json::read(&from_base64url(protected)?)
            .map_err(|_| JoseError::Malformed("the protected header is not one of ECDH-ES"))?;
        if header.crit.is_some() || header.zip.is_some() {
            return Err(JoseError::Critical);
        }
        if (header.alg.as_str(), header.enc.as_str()) != ("ECDH-ES", "A256GCM") || !encrypted_key.is_empty() {
            return Err(JoseError::Algorithm);
        }
        if header.kid.as_deref() != Some(self.kid.as_str()) {
            return Err(JoseError::UnknownKey);
        }
        let party = |info: Option<&str>| info.map_or(Ok(Vec::new()), from_base64url);
        let (apu, apv) = (party(header.apu.as_deref())?, party(header.apv.as_deref())?);
        let key = agree(&self.private, &header.epk, "A256GCM", &apu, &apv, 32)?;
        let iv: [u8; 12] = from_base64url(iv)?.try_into().map_err(|_| JoseError::Malformed("iv is not 12 bytes"))?;
        let tag: [u8; 16] = from_base64url(tag)?.try_into().map_err(|_| JoseError::Malformed("tag is not 16 bytes"))?;
        let mut plaintext = Zeroizing::new(from_base64url(ciphertext)?);
        plaintext.extend(tag);
        let length = cipher(&key)?
            .open_in_place(Nonce::assume_unique_for_key(iv), Aad::from(protected.as_bytes()), &mut plaintext)
            .map_err(|_| JoseError::Signature)?
            .len();
        plaintext.truncate(length);
        Ok(plaintext)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.kid)
    }
}

/// Seals `plaintext` to `recipient` as a compact JWE.
///
/// # Errors
/// If `recipient` is not a P-256 key, or the library refuses.
pub fn seal(plaintext: &[u8], recipient: &PublicKey, random: &dyn Random) -> Result<String, JoseError> {
    let ephemeral = SealingKey::generate()?;
    let epk = serde_json::to_string(&ephemeral.public).map_err(|_| JoseError::UNWRITABLE)?;
    let kid = recipient.thumbprint();
    let protected = base64url(format!(r#"{{"alg":"ECDH-ES","enc":"A256GCM","kid":"{kid}","epk":{epk}}}"#).as_bytes());
    let key = agree(&ephemeral.private, recipient, "A256GCM", &[], &[], 32)?;
    let mut iv = [0; 12];
    random.fill(&mut iv);
    let mut buffer = Zeroizing::new(plaintext.to_vec());
    let tag = cipher(&key)?
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(iv), Aad::from(protected.as_bytes()), &mut buffer)
        .map_err(|_| JoseError::Key("the cipher refused"))?;
    Ok(format!("{protected}..{}.{}.{}", base64url(&iv), base64url(&buffer), base64url(tag.as_ref())))
}

fn cipher(key: &[u8]) -> Result<LessSafeKey, JoseError> {
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).map_err(|_| JoseError::Key("the cipher refused"))?))
}

/// ECDH and the Concat KDF of RFC 7518 §4.6.2.
fn agree(
    private: &PrivateKey,
    peer: &PublicKey,
    algorithm_id: &str,
    apu: &[u8],
    apv: &[u8],
    length: usize,
) -> Result<Zeroizing<Vec<u8>>, JoseError> {
    let PublicKey::P256 { point } = peer else { return Err(JoseError::Key("a P-256 key is expected")) };
    let peer = UnparsedPublicKey::new(&ECDH_P256, point);
    agreement::agree(private, peer, JoseError::Key("the key agreement failed"), |shared| {
        derive(shared, algorithm_id, apu, apv, length)
    })
}

fn derive(
    shared: &[u8],
    algorithm_id: &str,
    apu: &[u8],
    apv: &[u8],
    length: usize,
) -> Result<Zeroizing<Vec<u8>>, JoseError> {
    const REFUSED: JoseError = JoseError::Key("the key derivation failed");
    let big_endian = |n: usize| u32::try_from(n).map(u32::to_be_bytes).map_err(|_| REFUSED);
    let mut other_info = Vec::with_capacity(64);
    for part in [algorithm_id.as_bytes(), apu, apv] {
        other_info.extend(big_endian(part.len())?);
        other_info.extend(part);
    }
    other_info.extend(big_endian(length * 8)?);
    let mut key = Zeroizing::new(vec![0; length]);
    let sha256 = kdf::get_sskdf_digest_algorithm(kdf::SskdfDigestAlgorithmId::Sha256).ok_or(REFUSED)?;
    kdf::sskdf_digest(sha256, shared, &other_info, &mut key).map_err(|_| REFUSED)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;

    #[test]
    fn the_key_derivation_is_rfc_7518_appendix_cs() {
        let alice = r#"{"kty":"EC","crv":"P-256","x":"gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0","y":"SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps","d":"0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo"}"#;
        let bob = r#"{"kty":"EC","crv":"P-256","x":"weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ","y":"e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck"}"#;
        let alice = SealingKey::from_jwk(alice).unwrap();
        let bob: PublicKey = json::read(bob.as_bytes()).unwrap();
        let key = agree(&alice.private, &bob, "A128GCM", b"Alice", b"Bob", 16).unwrap();
        assert_eq!(base64url(&key), "VqqN6vgjbSBcIijNcacQGg");
    }

    #[test]
    fn a_key_survives_its_file_and_opens_what_was_sealed_to_it() {
        let key = SealingKey::from_jwk(&SealingKey::generate().unwrap().to_jwk().unwrap()).unwrap();
        let jwe = seal(b"secret", key.public(), &System).unwrap();
        assert_eq!(&key.open(&jwe).unwrap()[..], b"secret");
        assert_eq!(SealingKey::generate().unwrap().open(&jwe), Err(JoseError::UnknownKey));
    }

    #[test]
    fn every_altered_byte_is_refused() {
        let key = SealingKey::generate().unwrap();
        let jwe = seal(b"secret", key.public(), &System).unwrap();
        for i in 0..jwe.len() {
            let mut bytes = jwe.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            assert!(key.open(std::str::from_utf8(&bytes).unwrap()).is_err(), "byte {i}");
        }
    }
}
