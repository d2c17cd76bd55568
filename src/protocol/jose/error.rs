//! Why a JOSE object is refused.

/// Why a JOSE object is refused. It never repeats the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoseError {
    /// Not the form the standard gives it.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A claim is missing, or not of its form.
    #[error("a claim is missing or not of its form: {0}")]
    Claims(String),
    /// The `typ` header is another one.
    #[error("the typ header is not {expected:?}")]
    WrongType {
        /// What it has to be.
        expected: &'static str,
    },
    /// A `crit` header (or `zip`, in a JWE): it asks for something that is not understood (RFC 7515 §4.1.11).
    #[error("a crit or zip header asks for something that is not understood")]
    Critical,
    /// The `alg` header is not the key's.
    #[error("the alg header is not the algorithm of the key")]
    Algorithm,
    /// A JWK that is not one of the kinds taken.
    #[error("the key is not usable: {0}")]
    Key(&'static str),
    /// No key by this `kid`.
    #[error("the kid header names no known key")]
    UnknownKey,
    /// The signature, or the authentication tag, does not fit.
    #[error("the signature does not fit")]
    Signature,
    /// `exp` has passed.
    #[error("exp has passed; if it was made just now, compare the clocks")]
    Expired,
    /// `exp` is further from `iat` than allowed, or before it.
    #[error("exp is more than {max_seconds} s after iat, or before it")]
    Lifetime {
        /// The allowed distance.
        max_seconds: u64,
    },
    /// `iat` lies more than 60 s ahead.
    #[error("iat is more than 60 s ahead; compare the clocks")]
    NotYet,
    /// `aud` is somebody else.
    #[error("aud is not {expected:?}")]
    Audience {
        /// Who it has to be.
        expected: String,
    },
    /// `iss`, `sub`, `tenant` or another claim contradicts what it belongs to.
    #[error("the claim {0:?} does not fit what the object is for")]
    Mismatch(&'static str),
}

impl JoseError {
    /// Claims that are not of their form. serde's message names a member that is missing, unknown or twice; other
    /// messages may repeat a value, so they are not passed on.
    pub(super) fn claims(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let names = ["missing field", "unknown field", "duplicate field"].iter().any(|start| text.starts_with(start));
        Self::Claims(if names { text } else { format!("a value of the wrong form, near character {}", error.column()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claims_error_names_what_is_missing_and_repeats_no_value() {
        #[derive(Debug, serde::Deserialize)]
        struct Claims {
            #[expect(dead_code, reason = "only its form matters")]
            exp: i64,
        }
        let error = |json| JoseError::claims(&serde_json::from_str::<Claims>(json).unwrap_err()).to_string();
        assert!(error("{}").contains("`exp`"));
        assert!(!error(r#"{"exp":"hunter2"}"#).contains("hunter2"));
    }
}
