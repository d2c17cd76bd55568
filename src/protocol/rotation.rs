//! How keys change: the new ones come in a JWS that the old one signed, with a rising `seq`. Whoever has the old key
//! pinned verifies it and pins the new one; a relay only carries it, and can't make one.

use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::enrollment::AgentKeys;
use super::ids::{AgentId, ObjectId, PortalId, TenantId};
use super::jose::{JoseError, Jws, PublicKey, SigningKey, Thumbprint};
use crate::clock::UnixTime;

/// The `typ` of an agent's rotation.
pub const AGENT_ROTATION_TYP: &str = "writeback-agent-rotation+jwt";
/// The `typ` of a portal's rotation.
pub const PORTAL_ROTATION_TYP: &str = "writeback-portal-rotation+jwt";
/// The `typ` of the proof that whoever rotates holds the new key.
pub const ROTATION_PROOF_TYP: &str = "writeback-rotation-proof+jwt";
/// The `typ` of an agent's word that it has pinned a portal's new key.
pub const ACKNOWLEDGEMENT_TYP: &str = "writeback-acknowledgement+jwt";

/// What is rotated together.
pub trait KeySet: Clone + Debug + PartialEq + Serialize + DeserializeOwned {
    /// The `typ` of its rotations.
    const TYP: &'static str;
    /// The key that signs.
    fn signing(&self) -> &PublicKey;
    /// All of them, in a fixed order.
    fn thumbprints(&self) -> Vec<Thumbprint>;
    /// Whether each is of the kind that its use needs.
    ///
    /// # Errors
    /// Which one is not.
    fn check(&self) -> Result<(), JoseError>;
}

impl KeySet for AgentKeys {
    const TYP: &'static str = AGENT_ROTATION_TYP;

    fn signing(&self) -> &PublicKey {
        &self.signing
    }

    fn thumbprints(&self) -> Vec<Thumbprint> {
        vec![self.signing.thumbprint(), self.sealing.thumbprint()]
    }

    fn check(&self) -> Result<(), JoseError> {
        Self::check(self)
    }
}

/// The public key of a portal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalKey {
    /// Verifies its commands and assertions.
    #[serde(rename = "signing_key")]
    pub signing: PublicKey,
}

impl KeySet for PortalKey {
    const TYP: &'static str = PORTAL_ROTATION_TYP;

    fn signing(&self) -> &PublicKey {
        &self.signing
    }

    fn thumbprints(&self) -> Vec<Thumbprint> {
        vec![self.signing.thumbprint()]
    }

    fn check(&self) -> Result<(), JoseError> {
        self.signing.check().map_err(|error| JoseError::mismatch("signing_key", error.to_string()))
    }
}

/// From these keys to those. It has no `exp`: it is true for ever, and who has been away for long needs all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation<I, K> {
    /// Whose keys they are.
    pub iss: I,
    /// The same again.
    pub sub: I,
    /// The relay's public URL.
    pub aud: String,
    /// An agent's organisation; absent for a portal, which may serve many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Its id.
    pub jti: ObjectId,
    /// When it was made.
    pub iat: UnixTime,
    /// Greater than that of every rotation before. The keys of an enrolment have 0.
    pub seq: u64,
    /// The keys until now; the signing one signs this.
    pub previous: K,
    /// The keys from now on.
    pub keys: K,
    /// JWS, `typ: writeback-rotation-proof+jwt`, by the new signing key.
    pub proof: String,
}

/// An agent's rotation.
pub type AgentRotation = Rotation<AgentId, AgentKeys>;
/// A portal's rotation.
pub type PortalRotation = Rotation<PortalId, PortalKey>;

/// What the new signing key signs: that it is meant to follow the old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Proof {
    iss: String,
    aud: String,
    jti: ObjectId,
    seq: u64,
    previous: Vec<Thumbprint>,
    keys: Vec<Thumbprint>,
}

/// Whose keys change, and when.
#[derive(Clone, Debug)]
pub struct About<I> {
    /// Whose.
    pub iss: I,
    /// The relay's public URL.
    pub relay: String,
    /// An agent's organisation.
    pub tenant: Option<TenantId>,
    /// The rotation's id.
    pub jti: ObjectId,
    /// Now.
    pub iat: UnixTime,
}

impl<I, K> Rotation<I, K>
where
    I: Clone + ToString + PartialEq + Serialize + DeserializeOwned,
    K: KeySet,
{
    /// Makes one, proved by `new`, which is the signing key of `keys`.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn new(about: About<I>, seq: u64, previous: K, keys: K, new: &SigningKey) -> Result<Self, JoseError> {
        let About { iss, relay, tenant, jti, iat } = about;
        let unproved =
            Self { sub: iss.clone(), iss, aud: relay, tenant, jti, iat, seq, previous, keys, proof: String::new() };
        let proof = new.sign(ROTATION_PROOF_TYP, &unproved.to_prove())?;
        Ok(Self { proof, ..unproved })
    }

    fn to_prove(&self) -> Proof {
        Proof {
            iss: self.iss.to_string(),
            aud: self.aud.clone(),
            jti: self.jti,
            seq: self.seq,
            previous: self.previous.thumbprints(),
            keys: self.keys.thumbprints(),
        }
    }

    /// Signs it with the old key.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn sign(&self, old: &SigningKey) -> Result<String, JoseError> {
        old.sign(K::TYP, self)
    }

    /// Verifies what it proves by itself: the keys that it comes from have signed it, the new one agrees, and the new ones
    /// are of the right kind. Whether the old ones are the right keys is to be asked with [`Self::follows`].
    ///
    /// # Errors
    /// If it is malformed, a signature does not fit, it contradicts itself, or leads to a key that is of no use.
    pub fn read(token: &str) -> Result<Self, JoseError> {
        let jws = Jws::parse(token, K::TYP)?;
        let claimed: Self = jws.unverified()?;
        let rotation: Self = jws.verify([claimed.previous.signing()])?;
        let proof: Proof = Jws::parse(&rotation.proof, ROTATION_PROOF_TYP)?.verify([rotation.keys.signing()])?;
        if proof != rotation.to_prove() {
            let why =
                "the iss, aud, jti and seq of the rotation and the thumbprints of both key sets are expected in it";
            return Err(JoseError::mismatch("proof", why));
        }
        if rotation.sub != rotation.iss {
            return Err(JoseError::mismatch("sub", "the same as iss is expected"));
        }
        if rotation.seq == 0 {
            return Err(JoseError::mismatch("seq", "a number greater than 0 is expected"));
        }
        // A key that is kept is not changed, and a sealing key never signs.
        let (old, new) = (rotation.previous.thumbprints(), rotation.keys.thumbprints());
        if new.iter().any(|key| old.contains(key)) {
            return Err(JoseError::mismatch("keys", "none of the previous ones is expected"));
        }
        rotation.keys.check()?;
        Ok(rotation)
    }

    /// Whether it leads on from these keys of `iss`.
    ///
    /// # Errors
    /// Which claim says otherwise: an old rotation has an old `seq`, and a foreign one other `previous` keys.
    pub fn follows(
        &self,
        (iss, tenant, relay): (&I, Option<&TenantId>, &str),
        seq: u64,
        keys: &K,
    ) -> Result<(), JoseError> {
        if self.iss != *iss {
            return Err(JoseError::mismatch("iss", "whose keys they are is expected"));
        }
        if self.tenant.as_ref() != tenant {
            return Err(JoseError::mismatch("tenant", "an agent's own, and none for a portal, is expected"));
        }
        if self.aud != relay {
            return Err(JoseError::Audience { expected: relay.to_owned() });
        }
        if self.seq <= seq {
            return Err(JoseError::mismatch("seq", format!("a number greater than {seq} is expected")));
        }
        if self.previous != *keys {
            return Err(JoseError::mismatch("previous", "the keys that are known now are expected"));
        }
        Ok(())
    }
}

/// An agent's word that it takes commands by a portal's new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The agent.
    pub iss: AgentId,
    /// The portal.
    pub aud: PortalId,
    /// The organisation.
    pub tenant: TenantId,
    /// The `seq` of the portal's rotation.
    pub seq: u64,
    /// The thumbprint of the portal's new key.
    pub key: Thumbprint,
    /// When.
    pub iat: UnixTime,
}

impl Acknowledgement {
    /// Signs it.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn sign(&self, key: &SigningKey) -> Result<String, JoseError> {
        key.sign(ACKNOWLEDGEMENT_TYP, self)
    }

    /// Verifies that the agent `iss` in `tenant`, by one of its keys, says so to the portal `aud`.
    ///
    /// # Errors
    /// If the signature does not fit, or it is about somebody else.
    pub fn verify<'k>(
        token: &str,
        keys: impl IntoIterator<Item = &'k PublicKey>,
        (iss, tenant, aud): (AgentId, &TenantId, &PortalId),
    ) -> Result<Self, JoseError> {
        let said: Self = Jws::parse(token, ACKNOWLEDGEMENT_TYP)?.verify(keys)?;
        match (said.iss == iss, said.tenant == *tenant, said.aud == *aud) {
            (true, true, true) => Ok(said),
            (false, ..) => Err(JoseError::mismatch("iss", "the agent is expected")),
            (_, false, _) => Err(JoseError::mismatch("tenant", "the agent's is expected")),
            (.., false) => Err(JoseError::Audience { expected: aud.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, System};
    use crate::protocol::jose::SealingKey;

    struct Agent {
        id: AgentId,
        signing: SigningKey,
        keys: AgentKeys,
    }

    fn agent() -> Agent {
        let signing = SigningKey::generate(&System).unwrap();
        let sealing = SealingKey::generate().unwrap().public().clone();
        let keys = AgentKeys { signing: signing.public().clone(), sealing };
        Agent { id: AgentId::new(&System, &System), signing, keys }
    }

    fn tenant() -> TenantId {
        "contoso".parse().unwrap()
    }

    const RELAY: &str = "https://relay.example";

    fn is_about<T>(expected: &str, refused: Result<T, JoseError>) -> bool {
        matches!(refused, Err(JoseError::Mismatch { claim, .. }) if claim == expected)
    }

    fn rotation(old: &Agent, new: &Agent, seq: u64) -> AgentRotation {
        let (iss, relay, tenant) = (old.id, RELAY.to_owned(), Some(tenant()));
        let about = About { iss, relay, tenant, jti: ObjectId::new(&System, &System), iat: System.now() };
        Rotation::new(about, seq, old.keys.clone(), new.keys.clone(), &new.signing).unwrap()
    }

    #[test]
    fn a_rotation_holds_and_every_altered_byte_is_refused() {
        let (old, new) = (agent(), agent());
        let made = rotation(&old, &new, 1);
        let jws = made.sign(&old.signing).unwrap();
        assert_eq!(AgentRotation::read(&jws).unwrap(), made);
        for i in 0..jws.len() {
            let mut bytes = jws.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            assert!(AgentRotation::read(std::str::from_utf8(&bytes).unwrap()).is_err(), "byte {i}");
        }
    }

    #[test]
    fn neither_the_old_key_alone_nor_the_new_one_alone_makes_a_rotation() {
        let (old, new, other) = (agent(), agent(), agent());
        let made = rotation(&old, &new, 1);
        assert_eq!(AgentRotation::read(&made.sign(&new.signing).unwrap()), Err(JoseError::UnknownKey));
        let proved_by = |key: &SigningKey, claims: &Proof| {
            let proof = key.sign(ROTATION_PROOF_TYP, claims).unwrap();
            AgentRotation::read(&Rotation { proof, ..made.clone() }.sign(&old.signing).unwrap())
        };
        assert!(proved_by(&new.signing, &made.to_prove()).is_ok());
        assert_eq!(proved_by(&old.signing, &made.to_prove()), Err(JoseError::UnknownKey));
        for elsewhere in [
            Proof { iss: other.id.to_string(), ..made.to_prove() },
            Proof { aud: "https://other.example".into(), ..made.to_prove() },
            Proof { seq: 2, ..made.to_prove() },
            Proof { previous: other.keys.thumbprints(), ..made.to_prove() },
            Proof { keys: vec![made.keys.signing.thumbprint()], ..made.to_prove() },
        ] {
            assert!(is_about("proof", proved_by(&new.signing, &elsewhere)));
        }
    }

    #[test]
    fn a_rotation_that_keeps_a_key_or_has_no_number_is_none() {
        let (old, new) = (agent(), agent());
        let half = Agent {
            keys: AgentKeys { signing: new.keys.signing.clone(), sealing: old.keys.sealing.clone() },
            signing: new.signing.clone(),
            ..agent()
        };
        let read = |made: AgentRotation| AgentRotation::read(&made.sign(&old.signing).unwrap());
        assert!(is_about("keys", read(rotation(&old, &half, 1))));
        assert!(is_about("seq", read(rotation(&old, &new, 0))));
    }

    #[test]
    fn a_rotation_to_a_sealing_key_that_is_not_of_p256_is_none() {
        let (old, new) = (agent(), agent());
        let ed25519 = AgentKeys { sealing: agent().keys.signing, ..new.keys.clone() };
        let made = rotation(&old, &Agent { keys: ed25519, ..new }, 1).sign(&old.signing).unwrap();
        assert!(is_about("sealing_key", AgentRotation::read(&made)));
    }

    #[test]
    fn a_rotation_leads_on_only_from_the_keys_and_the_number_it_names() {
        let (first, second, third) = (agent(), agent(), agent());
        let made = rotation(&first, &second, 5);
        let of = (&first.id, Some(&tenant()), RELAY);
        assert_eq!(made.follows(of, 0, &first.keys), Ok(()));
        assert_eq!(made.follows(of, 4, &first.keys), Ok(()));
        assert!(is_about("seq", made.follows(of, 5, &first.keys)));
        assert!(is_about("previous", made.follows(of, 0, &third.keys)));
        let tenants = (Some("fabrikam".parse().unwrap()), third.id);
        assert!(made.follows((&first.id, tenants.0.as_ref(), RELAY), 0, &first.keys).is_err());
        assert!(made.follows((&tenants.1, Some(&tenant()), RELAY), 0, &first.keys).is_err());
        assert!(made.follows((&first.id, Some(&tenant()), "https://other"), 0, &first.keys).is_err());
    }

    #[test]
    fn an_agents_rotation_is_never_taken_for_a_portals() {
        let (old, new) = (agent(), agent());
        let jws = rotation(&old, &new, 1).sign(&old.signing).unwrap();
        assert!(matches!(PortalRotation::read(&jws), Err(JoseError::WrongType { .. })));
    }

    #[test]
    fn an_acknowledgement_is_one_agents_word_to_one_portal() {
        let (who, portal) = (agent(), "portal-1".parse().unwrap());
        let key = who.keys.signing.thumbprint();
        let said = Acknowledgement {
            iss: who.id,
            aud: "portal-1".parse().unwrap(),
            tenant: tenant(),
            seq: 1,
            key,
            iat: System.now(),
        };
        let jws = said.sign(&who.signing).unwrap();
        let keys = [&who.keys.signing];
        assert_eq!(Acknowledgement::verify(&jws, keys, (who.id, &tenant(), &portal)).unwrap(), said);
        assert!(Acknowledgement::verify(&jws, keys, (agent().id, &tenant(), &portal)).is_err());
        assert!(Acknowledgement::verify(&jws, keys, (who.id, &"other".parse().unwrap(), &portal)).is_err());
        assert!(Acknowledgement::verify(&jws, keys, (who.id, &tenant(), &"portal-2".parse().unwrap())).is_err());
        assert!(Acknowledgement::verify(&jws, [&agent().keys.signing], (who.id, &tenant(), &portal)).is_err());
    }
}
