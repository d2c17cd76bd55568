//! Why an operator's token is not taken: a sentence that repeats nothing of it, a status, and a metric label.

use std::time::Duration;

use crate::protocol::jose::JoseError;
use crate::protocol::problem::ProblemCode;
use crate::relay::http::problem::Refusal;

/// Why an operator's token is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::relay::admin) enum TokenRefused {
    /// Its form, its `typ`, its algorithm, or its signature.
    #[error("the token does not hold: {0}")]
    Token(#[from] JoseError),
    /// Another issuer's.
    #[error("iss of the token is not {expected:?}")]
    Issuer {
        /// Who it has to be.
        expected: String,
    },
    /// No key by its `kid`, and it is too soon to ask once more.
    #[error(
        "the token is signed with a key that the issuer did not have when it was last asked; it is asked again in {} s",
        .again.as_secs() + 1
    )]
    UnknownKey {
        /// When it can be asked again.
        again: Duration,
    },
    /// For somebody else.
    #[error("aud of the token is not {expected:?}: ask the issuer for a token for this relay")]
    Audience {
        /// Who it has to be.
        expected: String,
    },
    /// Its time is over.
    #[error("exp of the token has passed: get a new one; if it was made just now, compare the clocks")]
    Expired,
    /// Its time has not come.
    #[error("nbf of the token lies ahead: compare the clocks")]
    NotYet,
    /// A claim that each token has.
    #[error("the token has no {0}, or it is not of its form (RFC 9068)")]
    Claim(&'static str),
    /// Somebody whom the issuer knows, and no operator.
    #[error("who operates this relay has {value:?} in the claim {claim:?}, and the token does not")]
    NoOperator {
        /// Where it is looked for.
        claim: String,
        /// What is looked for.
        value: String,
    },
    /// The keys can't be had.
    #[error("tokens can't be checked now: {why}")]
    Away {
        /// Why.
        why: String,
        /// When it can be tried again.
        again: Duration,
    },
}

impl TokenRefused {
    /// As a metric has it.
    fn reason(&self) -> &'static str {
        match self {
            Self::Token(JoseError::WrongType { .. }) => "typ",
            Self::Token(JoseError::Critical) => "crit",
            Self::Token(JoseError::Algorithm | JoseError::Key(_)) => "algorithm",
            Self::Token(JoseError::Signature) => "signature",
            Self::Token(JoseError::UnknownKey) | Self::UnknownKey { .. } => "unknown_key",
            Self::Token(_) => "malformed",
            Self::Issuer { .. } => "issuer",
            Self::Audience { .. } => "audience",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Claim(_) => "claims",
            Self::NoOperator { .. } => "no_operator",
            Self::Away { .. } => "issuer_away",
        }
    }
}

impl From<TokenRefused> for Refusal {
    fn from(refused: TokenRefused) -> Self {
        let (code, again) = match &refused {
            TokenRefused::NoOperator { .. } => (ProblemCode::InsufficientScope, None),
            TokenRefused::Away { again, .. } => (ProblemCode::IssuerUnavailable, Some(*again)),
            _ => (ProblemCode::InvalidToken, None),
        };
        Self { reason: Some(refused.reason()), retry_after: again, ..Self::new(code, refused.to_string()) }
    }
}
