//! How an agent comes in: a one-time token for the relay, a proof that it holds its signing key, and an attestation
//! that only the portal can check, so that a relay can't slip in a key of its own.

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::assertion;
use super::ids::{AgentId, InvitationId, JournalId, ObjectId, TenantId};
use super::jose::{JoseError, Jws, PublicKey, SigningKey, Thumbprint, Validity, sign_hs256, stored, verify_hs256};
use crate::clock::UnixTime;

/// The `typ` of the proof of possession.
pub const PROOF_TYP: &str = "writeback-enrollment+jwt";
/// The `typ` of the attestation.
pub const ATTESTATION_TYP: &str = "writeback-attestation+jwt";

/// The proof, signed by the new signing key: who enrols, where, with which keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The agent.
    pub iss: AgentId,
    /// The agent again.
    pub sub: AgentId,
    /// The relay's public URL.
    pub aud: String,
    /// Its id.
    pub jti: ObjectId,
    /// `iat` and `exp`, at most 300 s apart.
    #[serde(flatten)]
    pub validity: Validity,
    /// The organisation.
    pub tenant: TenantId,
    /// The invitation that is redeemed.
    pub invitation: InvitationId,
    /// The agent's journal.
    pub journal: JournalId,
    /// The thumbprint of the signing key.
    pub signing_key: Thumbprint,
    /// The thumbprint of the sealing key.
    pub sealing_key: Thumbprint,
}

impl Proof {
    /// Signs it.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn sign(&self, key: &SigningKey) -> Result<String, JoseError> {
        key.sign(PROOF_TYP, self)
    }

    /// Verifies it with the key it is about.
    ///
    /// # Errors
    /// If the signature, `sub`, `aud`, the times or the thumbprints don't hold.
    pub fn verify(token: &str, keys: &AgentKeys, public_url: &str, now: UnixTime) -> Result<Self, JoseError> {
        let proof: Self = Jws::parse(token, PROOF_TYP)?.verify([&keys.signing])?;
        assertion::check((&proof.iss, &proof.sub), &proof.aud, proof.validity, public_url, now)?;
        let thumbprint = |claim| JoseError::mismatch(claim, "the thumbprint of the key that is enrolled is expected");
        if proof.signing_key != keys.signing.thumbprint() {
            return Err(thumbprint("signing_key"));
        }
        if proof.sealing_key != keys.sealing.thumbprint() { Err(thumbprint("sealing_key")) } else { Ok(proof) }
    }
}

/// The public keys of an agent. They are read as they were stored, or as a list shows them: [`Self::check`] comes before
/// anything is believed of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentKeys {
    /// Verifies its outcomes and assertions.
    #[serde(rename = "signing_key", deserialize_with = "stored::key")]
    pub signing: PublicKey,
    /// Passwords are sealed to it: P-256.
    #[serde(rename = "sealing_key", deserialize_with = "stored::key")]
    pub sealing: PublicKey,
}

impl AgentKeys {
    /// Whether each is a key, and of the kind that its use needs: either kind signs, and a password is sealed to P-256.
    ///
    /// # Errors
    /// Which one is not.
    pub fn check(&self) -> Result<(), JoseError> {
        self.signing.check().map_err(|error| JoseError::mismatch("signing_key", error.to_string()))?;
        match self.sealing {
            PublicKey::P256 { .. } => Ok(()),
            PublicKey::Ed25519 { .. } => Err(JoseError::mismatch("sealing_key", "a P-256 key is expected")),
        }
    }

    /// What people compare, on the agent's host and at the portal: SHA-256 over the agent id and both thumbprints
    /// (16 + 32 + 32 bytes), its first 20 bytes as hexadecimal in groups of four.
    #[must_use]
    pub fn fingerprint(&self, agent: AgentId) -> String {
        let mut hash = Context::new(&SHA256);
        hash.update(agent.as_bytes());
        hash.update(&self.signing.thumbprint().to_bytes());
        hash.update(&self.sealing.thumbprint().to_bytes());
        let digest = hash.finish();
        let hex: String = digest.as_ref().iter().take(20).map(|byte| format!("{byte:02X}")).collect();
        let groups: Vec<&str> = (0..10).filter_map(|i| hex.get(4 * i..4 * i + 4)).collect();
        groups.join("-")
    }
}

/// The attestation: HS256 under the secret of the enrolment code, which the relay never sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// The organisation.
    pub tenant: TenantId,
    /// The agent.
    pub agent: AgentId,
    /// The thumbprint of its signing key.
    pub signing_key: Thumbprint,
    /// The thumbprint of its sealing key.
    pub sealing_key: Thumbprint,
}

impl Attestation {
    /// About this agent and these keys.
    #[must_use]
    pub fn new(tenant: TenantId, agent: AgentId, keys: &AgentKeys) -> Self {
        Self { tenant, agent, signing_key: keys.signing.thumbprint(), sealing_key: keys.sealing.thumbprint() }
    }

    /// Signs it; `kid` is the invitation.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn sign(&self, invitation: InvitationId, secret: &[u8; 32]) -> Result<String, JoseError> {
        sign_hs256(ATTESTATION_TYP, &invitation.to_string(), self, secret)
    }

    /// What it claims, *not verified*: only whoever has the secret can.
    ///
    /// # Errors
    /// If it is not a JWS of this type and form.
    pub fn parse(token: &str) -> Result<Self, JoseError> {
        Jws::parse(token, ATTESTATION_TYP)?.unverified()
    }

    /// Verifies that whoever holds the secret meant exactly `self`.
    ///
    /// # Errors
    /// If it is another invitation's, altered, or about other keys.
    pub fn verify(&self, token: &str, invitation: InvitationId, secret: &[u8; 32]) -> Result<(), JoseError> {
        let jws = Jws::parse(token, ATTESTATION_TYP)?;
        let attested: Self = verify_hs256(&jws, &invitation.to_string(), secret)?;
        for (fits, claim) in [
            (attested.tenant == self.tenant, "tenant"),
            (attested.agent == self.agent, "agent"),
            (attested.signing_key == self.signing_key, "signing_key"),
            (attested.sealing_key == self.sealing_key, "sealing_key"),
        ] {
            if !fits {
                return Err(JoseError::mismatch(claim, "that of the agent which is shown is expected"));
            }
        }
        Ok(())
    }
}
