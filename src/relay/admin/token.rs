//! The admin credential: a static token from a file.

use std::path::Path;

use aws_lc_rs::constant_time;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use zeroize::Zeroizing;

use super::Ops;
use crate::clock::Random;
use crate::protocol::jose::{base64url, sha256};
use crate::protocol::problem::ProblemCode;
use crate::relay::http::problem::Refusal;
use crate::storage::{FileError, PrivateFile};

/// The admin token. Kept as a hash, so that comparing takes the same time whatever is sent.
pub struct AdminToken {
    sha256: [u8; 32],
}

impl AdminToken {
    /// Reads the token from `path`, or makes one there.
    ///
    /// # Errors
    /// If the file can't be read or written, or others may read it.
    pub fn open(path: &Path, random: &dyn Random) -> Result<Self, FileError> {
        let file = PrivateFile::new(path);
        if !file.exists() {
            let mut bytes = Zeroizing::new([0; 32]);
            random.fill(&mut bytes[..]);
            file.replace(&Zeroizing::new(base64url(&bytes[..])))?;
        }
        let text = file.read()?;
        if text.trim().len() < 32 {
            return Err(file.contents("an admin token has at least 32 characters"));
        }
        Ok(Self { sha256: sha256(text.trim().as_bytes()) })
    }
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

/// Lets only the operator through.
pub(super) async fn require(State(ops): State<Ops>, request: Request, next: Next) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let given = sha256(crate::relay::http::caller::bearer(&parts)?.as_bytes());
    constant_time::verify_slices_are_equal(&given, &ops.token.sha256)
        .map_err(|_| Refusal::new(ProblemCode::InvalidAssertion, "this is not the admin token"))?;
    Ok(next.run(Request::from_parts(parts, body)).await)
}
