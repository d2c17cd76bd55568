//! Errors over HTTPS: `application/problem+json` (RFC 9457) with a stable `code`.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::untrusted::Untrusted;

/// The media type.
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident, $code:literal, $status:literal, $retry_safe:literal, $title:literal;)*) => {
        /// What went wrong. Each code has one status, one title, and one answer to "may I ask again?".
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProblemCode { $($(#[$doc])* $name,)* }

        impl ProblemCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As it stands in `code`, and at the end of `type`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The HTTP status.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// Whether nothing was done that a new request could do twice.
            #[must_use]
            pub fn retry_safe(self) -> bool {
                match self { $(Self::$name => $retry_safe,)* }
            }

            /// For people.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

problems! {
    /// Not of the form that was asked for.
    Malformed, "malformed", 400, true, "The request is malformed";
    /// No usable `Authorization` header, or an assertion that does not hold.
    InvalidAssertion, "invalid_assertion", 401, true, "The assertion is not valid";
    /// The assertion was used before.
    AssertionUsed, "assertion_used", 401, true, "The assertion was used before";
    /// A command by a key the relay does not know.
    UnknownKey, "unknown_key", 401, true, "The signing key is not known";
    /// `alg` is not the key's algorithm.
    WrongAlgorithm, "wrong_algorithm", 401, true, "The algorithm is not the key's";
    /// A signature that does not fit.
    BadSignature, "bad_signature", 401, true, "The signature does not fit";
    /// An enrolment token or proof that does not hold.
    InvalidEnrollment, "invalid_enrollment", 401, true, "The enrolment is not valid";
    /// An operator's call without a token.
    TokenMissing, "token_missing", 401, true, "A token is expected";
    /// An operator's token that does not hold.
    InvalidToken, "invalid_token", 401, true, "The token is not valid";
    /// A token that holds, and not an operator's.
    InsufficientScope, "insufficient_scope", 403, true, "The token is not an operator's";
    /// The portal does not serve this tenant.
    TenantNotGranted, "tenant_not_granted", 403, true, "The portal was not granted this tenant";
    /// The agent was revoked and has to stop.
    AgentRevoked, "agent_revoked", 403, true, "The agent was revoked";
    /// Nothing there.
    NotFound, "not_found", 404, true, "There is nothing here";
    /// No such agent in this tenant.
    UnknownAgent, "unknown_agent", 404, true, "The agent is not known";
    /// Not with this method.
    MethodNotAllowed, "method_not_allowed", 405, true, "The method is not allowed here";
    /// The request's body did not come in time.
    RequestTimeout, "request_timeout", 408, true, "The request took too long";
    /// The same `jti` with another body.
    CommandConflict, "command_conflict", 409, false, "The command id was used with another body";
    /// The invitation was redeemed.
    InvitationUsed, "invitation_used", 409, true, "The invitation was used";
    /// New keys that do not lead on from the known ones, or a key that has to stay.
    RotationRefused, "rotation_refused", 409, true, "The keys can not change in this way";
    /// There is one by this id, and it is another.
    AlreadyExists, "already_exists", 409, true, "There is one by this id already";
    /// Nobody has approved the agent.
    AgentPending, "agent_pending", 409, true, "The agent is not approved yet";
    /// A body over the limit.
    TooLarge, "too_large", 413, true, "The body is too large";
    /// Another media type is expected.
    UnsupportedMediaType, "unsupported_media_type", 415, true, "The media type is not supported";
    /// `exp` has passed and the command was never seen.
    Expired, "expired", 422, true, "The command has expired";
    /// Signed and well formed, yet it asks for something that can't be.
    Unprocessable, "unprocessable", 422, true, "The request contradicts itself or a rule";
    /// The invitation's time is over.
    InvitationExpired, "invitation_expired", 422, true, "The invitation has expired";
    /// A WebSocket upgrade with the right subprotocol is expected.
    UpgradeRequired, "upgrade_required", 426, true, "A WebSocket upgrade is expected";
    /// The agent's version is below what the relay takes: it comes back, slowly, and works again when it is upgraded.
    AgentTooOld, "agent_too_old", 426, true, "The agent is too old";
    /// Too many requests.
    RateLimited, "rate_limited", 429, true, "Too many requests";
    /// A fault of the relay.
    Internal, "internal", 500, false, "The relay failed";
    /// The agent is not connected, or was not in service when the command came: nothing was written to any socket.
    NoAgent, "no_agent", 503, true, "The agent could not be reached";
    /// The agent's queue is full: nothing was written to any socket.
    AgentBusy, "agent_busy", 503, true, "The agent is busy";
    /// The node is stopping: nothing was written to any socket.
    Draining, "draining", 503, true, "The node is stopping";
    /// The store is away. Whether the request took effect is not known: send the same again.
    StoreUnavailable, "store_unavailable", 503, false, "The store is not available";
    /// The store is there, and takes no writes: this one was refused whole, and nothing was stored or sent.
    StoreNotWritable, "store_not_writable", 503, true, "The store takes no writes";
    /// The registry came back empty, or older than it was, and does not have what would have answered this. Nothing was done.
    RegistryLost, "registry_lost", 503, true, "The relay has lost its registry";
    /// The keys of the operators' issuer can't be had.
    IssuerUnavailable, "issuer_unavailable", 503, true, "The token's issuer is not available";
    /// Too many connections at once.
    Overloaded, "overloaded", 503, true, "The relay is overloaded";
    /// `exp` has passed and the agent has not answered.
    OutcomeUnknown, "outcome_unknown", 504, false, "The outcome is not known yet";
}

/// The body of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:writeback:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: Untrusted,
    /// For people; always the same for one code, and shown only where the code is not known.
    pub title: Untrusted,
    /// The HTTP status.
    pub status: u16,
    /// For people: what was wrong this time, and what to do.
    pub detail: Untrusted,
    /// For programs.
    pub code: Untrusted,
    /// Whether nothing was done that a new request could do twice.
    pub retry_safe: bool,
    /// The request's W3C trace id: the support code.
    pub trace_id: Untrusted,
}

impl Problem {
    /// Of this code.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<Untrusted>, trace_id: impl Into<Untrusted>) -> Self {
        Self {
            kind: format!("urn:writeback:problem:{}", code.as_str()).into(),
            title: code.title().into(),
            status: code.status(),
            detail: detail.into(),
            code: code.as_str().into(),
            retry_safe: code.retry_safe(),
            trace_id: trace_id.into(),
        }
    }

    /// The code, if it is known here.
    #[must_use]
    pub fn known(&self) -> Option<ProblemCode> {
        ProblemCode::ALL.iter().copied().find(|known| self.code == *known.as_str())
    }
}

impl std::error::Error for Problem {}

/// One line for people: what it is, its code, and what whoever wrote it says.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some(code) => write!(f, "{} ({})", code.title(), code.as_str())?,
            None => write!(f, "{} ({})", self.title.quoted(), self.code.cell())?,
        }
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail.quoted()) }
    }
}
