//! Who operates a node, for the audit trail.

use tracing::{Span, info_span};

/// Who operates a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// Whoever holds the static token.
    StaticToken,
    /// Somebody whom an OpenID provider vouches for.
    Subject {
        /// `sub`: who it is, among those that the issuer knows.
        subject: String,
        /// `iss`.
        issuer: String,
    },
}

impl Operator {
    /// Around what an operator has done: each line of the audit trail in it says who.
    pub(super) fn span(&self) -> Span {
        match self {
            Self::StaticToken => info_span!(target: "audit", "operator", credential = "static token"),
            Self::Subject { subject, issuer } => info_span!(target: "audit", "operator", sub = subject, iss = issuer),
        }
    }
}
