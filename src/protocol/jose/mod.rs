//! JOSE, pinned: which key, which algorithm and which `typ` go together is fixed here and never chosen by a message.
//!
//! Signatures: `EdDSA` (Ed25519) is emitted, `EdDSA` and `ES256` are accepted; `HS256` only for attestations, with a
//! key type of its own. Encryption: `ECDH-ES` on P-256 with `A256GCM`. See RFC 8725 for why. Only operators' access tokens,
//! which others make, may be signed with RSA, too: [`IssuerKeys`].

mod error;
mod issuer_keys;
mod jwe;
mod jwk;
mod jws;
mod signing;
mod validity;

pub use error::JoseError;
pub use issuer_keys::IssuerKeys;
pub use jwe::{SealingKey, seal};
pub use jwk::{PublicKey, RawJwk, Thumbprint, stored};
pub use jws::{Jws, sign_hs256, verify_hs256};
pub use signing::SigningKey;
pub use validity::Validity;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// base64url without padding (RFC 7515 §2).
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes base64url without padding; other spellings of the same bytes are refused.
///
/// # Errors
/// If `text` is not base64url.
pub fn from_base64url(text: &str) -> Result<Vec<u8>, JoseError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JoseError::Malformed("not base64url"))
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}
