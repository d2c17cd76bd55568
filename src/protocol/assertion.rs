//! Assertions: `Authorization: Bearer` with a JWT the caller signed itself, in the sense of RFC 7523.

use serde::{Deserialize, Serialize};

use super::ids::{AgentId, ObjectId, PortalId, TenantId};
use super::jose::{JoseError, Jws, PublicKey, SigningKey, Validity};
use super::limits::MAX_ASSERTION_LIFETIME;
use crate::clock::UnixTime;

/// The `typ` of what an agent opens a session with.
pub const AGENT_ASSERTION_TYP: &str = "writeback-agent-assertion+jwt";
/// The `typ` of what a portal makes a call with.
pub const PORTAL_ASSERTION_TYP: &str = "writeback-portal-assertion+jwt";

/// "I am this agent." Its `jti` opens one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentAssertion {
    /// The agent.
    pub iss: AgentId,
    /// The agent again.
    pub sub: AgentId,
    /// The relay's public URL.
    pub aud: String,
    /// The organisation the agent is enrolled in.
    pub tenant: TenantId,
    /// Used once.
    pub jti: ObjectId,
    /// `iat` and `exp`, at most 300 s apart.
    #[serde(flatten)]
    pub validity: Validity,
}

/// "I am this portal."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalAssertion {
    /// The portal.
    pub iss: PortalId,
    /// The portal again.
    pub sub: PortalId,
    /// The relay's public URL.
    pub aud: String,
    /// Its id.
    pub jti: ObjectId,
    /// `iat` and `exp`, at most 300 s apart.
    #[serde(flatten)]
    pub validity: Validity,
}

/// What every token has to hold that its signer vouches for itself with: about itself, for this relay, now.
pub(super) fn check<T: PartialEq>(
    (iss, sub): (&T, &T),
    aud: &str,
    validity: Validity,
    public_url: &str,
    now: UnixTime,
) -> Result<(), JoseError> {
    if aud != public_url {
        return Err(JoseError::Audience { expected: public_url.to_owned() });
    }
    validity.check_lifetime(MAX_ASSERTION_LIFETIME)?;
    validity.check_now(now)?;
    if iss == sub { Ok(()) } else { Err(JoseError::mismatch("sub", "the same as iss is expected")) }
}

impl AgentAssertion {
    /// Signs it.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn sign(&self, key: &SigningKey) -> Result<String, JoseError> {
        key.sign(AGENT_ASSERTION_TYP, self)
    }

    /// Who it claims to be from; nothing is verified yet.
    ///
    /// # Errors
    /// If it is not a JWS of this type and form.
    pub fn parse(token: &str) -> Result<(Jws<'_>, Self), JoseError> {
        let jws = Jws::parse(token, AGENT_ASSERTION_TYP)?;
        let claims = jws.unverified()?;
        Ok((jws, claims))
    }

    /// Verifies with the agent's registered key.
    ///
    /// # Errors
    /// If the signature, `sub`, `aud` or the times don't hold.
    pub fn verify(jws: &Jws<'_>, key: &PublicKey, public_url: &str, now: UnixTime) -> Result<Self, JoseError> {
        let claims: Self = jws.verify([key])?;
        check((&claims.iss, &claims.sub), &claims.aud, claims.validity, public_url, now)?;
        Ok(claims)
    }
}

impl PortalAssertion {
    /// Signs it.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn sign(&self, key: &SigningKey) -> Result<String, JoseError> {
        key.sign(PORTAL_ASSERTION_TYP, self)
    }

    /// Who it claims to be from; nothing is verified yet.
    ///
    /// # Errors
    /// If it is not a JWS of this type and form.
    pub fn parse(token: &str) -> Result<(Jws<'_>, Self), JoseError> {
        let jws = Jws::parse(token, PORTAL_ASSERTION_TYP)?;
        let claims = jws.unverified()?;
        Ok((jws, claims))
    }

    /// Verifies with the portal's registered keys.
    ///
    /// # Errors
    /// If the signature, `sub`, `aud` or the times don't hold.
    pub fn verify<'k>(
        jws: &Jws<'_>,
        keys: impl IntoIterator<Item = &'k PublicKey>,
        public_url: &str,
        now: UnixTime,
    ) -> Result<Self, JoseError> {
        let (claims, _) = Self::signed_by(jws, keys)?;
        claims.check(public_url, now)?;
        Ok(claims)
    }

    /// Verifies the signature alone: the claims, and which key it was. [`Self::check`] is still to come.
    ///
    /// # Errors
    /// As [`Jws::verify`].
    pub fn signed_by<'k>(
        jws: &Jws<'_>,
        keys: impl IntoIterator<Item = &'k PublicKey>,
    ) -> Result<(Self, &'k PublicKey), JoseError> {
        jws.verified_by(keys)
    }

    /// Whether a verified assertion is one for this relay, now.
    ///
    /// # Errors
    /// If `sub`, `aud` or the times don't hold.
    pub fn check(&self, public_url: &str, now: UnixTime) -> Result<(), JoseError> {
        check((&self.iss, &self.sub), &self.aud, self.validity, public_url, now)
    }
}
