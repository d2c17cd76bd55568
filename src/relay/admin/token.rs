//! A static token from a file.

use std::path::Path;

use aws_lc_rs::constant_time;
use zeroize::Zeroizing;

use crate::clock::Random;
use crate::protocol::jose::{base64url, sha256};
use crate::storage::{FileError, PrivateFile};

/// The admin token. Kept as a hash, so that comparing takes the same time whatever is sent.
pub(super) struct AdminToken {
    sha256: [u8; 32],
}

/// Whether a token has three parts: the form of a signed JWT (RFC 7519 §3).
pub(super) fn is_like_a_jwt(token: &str) -> bool {
    token.matches('.').count() == 2
}

impl AdminToken {
    /// Reads the token from `path`, or makes one there if that is `ours`. Where JWTs are taken, too, it may not look like one.
    ///
    /// # Errors
    /// If the file can't be read or written, or others may read it.
    pub(super) fn open(path: &Path, ours: bool, beside_jwts: bool, random: &dyn Random) -> Result<Self, FileError> {
        let file = PrivateFile::new(path);
        if ours && !file.exists() {
            let mut bytes = Zeroizing::new([0; 32]);
            random.fill(&mut bytes[..]);
            file.replace(&Zeroizing::new(base64url(&bytes[..])))?;
        }
        let text = file.read()?;
        if text.trim().len() < 32 {
            return Err(file.contents("an admin token has at least 32 characters"));
        }
        if beside_jwts && is_like_a_jwt(text.trim()) {
            return Err(file.contents("it has two dots and would be taken for a JWT of [admin.oidc]"));
        }
        Ok(Self { sha256: sha256(text.trim().as_bytes()) })
    }

    /// Whether it is this one.
    pub(super) fn is(&self, given: &str) -> bool {
        constant_time::verify_slices_are_equal(&sha256(given.as_bytes()), &self.sha256).is_ok()
    }
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;

    #[test]
    fn a_token_is_made_where_it_is_the_nodes_own_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        assert!(AdminToken::open(&path, false, false, &System).is_err());
        assert!(!path.exists(), "an operator who has named another file by mistake has no token that he does not know");
        assert!(AdminToken::open(&path, true, false, &System).is_ok());
        let made = std::fs::read_to_string(&path).unwrap();
        assert!(AdminToken::open(&path, false, false, &System).unwrap().is(made.trim()));
    }
}
