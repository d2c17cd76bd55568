//! Why a JOSE object is refused.

use std::borrow::Cow;

use crate::protocol::json;

/// Why a JOSE object is refused. It never repeats the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoseError {
    /// Not the form the standard gives it.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A claim is missing, or not of its form.
    #[error("{0}")]
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
    /// `exp` is further from `iat` than allowed, or not after it.
    #[error("exp: 1 to {max_seconds} s after iat is expected")]
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
    /// A claim contradicts what the object is for, or belongs to.
    #[error("{claim}: {expected}")]
    Mismatch {
        /// Which.
        claim: &'static str,
        /// What has to stand there.
        expected: Cow<'static, str>,
    },
}

impl JoseError {
    /// What was to be written is no JSON.
    pub(super) const UNWRITABLE: Self = Self::Malformed("it can't be written as JSON");

    /// A claim that contradicts what the object is for: what is expected there, and never what was sent.
    pub fn mismatch(claim: &'static str, expected: impl Into<Cow<'static, str>>) -> Self {
        Self::Mismatch { claim, expected: expected.into() }
    }

    /// Claims that are not of their form.
    pub(super) fn claims(error: json::Error) -> Self {
        Self::Claims(match error {
            json::Error::Form(said) => said,
            json::Error::NotUtf8 => "the claims are not UTF-8".to_owned(),
            json::Error::Syntax { column, .. } => {
                format!("the claims are no JSON object: look near character {column}")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Claims {
        #[expect(dead_code, reason = "only its form matters")]
        exp: i64,
    }

    fn error(json: &str) -> String {
        JoseError::claims(json::read::<Claims>(json.as_bytes()).unwrap_err()).to_string()
    }

    #[test]
    fn a_claims_error_names_the_claim_and_what_is_expected_and_repeats_no_value() {
        assert_eq!(error("{}"), "missing field `exp`");
        assert_eq!(error(r#"{"exp":"hunter2"}"#), "exp: i64 is expected");
        assert_eq!(error(r#"{"exp":"hunter2, expected hunter2"}"#), "exp: i64 is expected");
        assert_eq!(error(r#"{"exp":["hunter2"]}"#), "exp: i64 is expected");
        assert_eq!(error(r#"{"a\nb\u202e":1}"#), r"a\nb\u202e: unknown field `a\nb\u202e`, expected `exp`");
        assert_eq!(error(r#"{"exp":hunter2}"#), "the claims are no JSON object: look near character 8");
        assert_eq!(error(r#"{"exp":1,"exp":2}"#), "exp: a name stands twice in one object");
        assert_eq!(error(r#""hunter2""#), "struct Claims is expected");
    }
}
