//! A portal's key, as the agent has pinned it.

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::protocol::ids::PortalId;
use crate::protocol::jose::{JoseError, PublicKey, Thumbprint};
use crate::protocol::limits::KEY_OVERLAP;
use crate::protocol::rotation::{PortalKey, PortalRotation};

/// A portal's pinned key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Pin {
    /// The number of the last rotation that was followed.
    pub seq: u64,
    /// Its key.
    pub key: PublicKey,
    /// The key before. It is taken until an hour after the portal has first used the new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<PublicKey>,
    /// When a command by the new key first came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_at: Option<UnixTime>,
}

/// As it may stand in `identity.json`: agents of the first version wrote the keys alone.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a portal's key, or a list with one, is expected")]
enum Stored {
    Keys([PublicKey; 1]),
    Pin {
        #[serde(default)]
        seq: u64,
        key: PublicKey,
        #[serde(default)]
        previous: Option<PublicKey>,
        #[serde(default)]
        used_at: Option<UnixTime>,
    },
}

impl From<Stored> for Pin {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Keys([key]) => Self::new(key),
            Stored::Pin { seq, key, previous, used_at } => Self { seq, key, previous, used_at },
        }
    }
}

impl Pin {
    /// A key that is pinned for the first time.
    #[must_use]
    pub fn new(key: PublicKey) -> Self {
        Self { seq: 0, key, previous: None, used_at: None }
    }

    /// The keys that are taken at `now`.
    pub fn keys_at(&self, now: UnixTime) -> impl Iterator<Item = &PublicKey> {
        let overlaps = self.used_at.is_none_or(|used| now < used.plus(KEY_OVERLAP));
        std::iter::once(&self.key).chain(self.previous.iter().filter(move |_| overlaps))
    }

    /// Pins the new key, if the rotation leads on from the one that is pinned; whether it was not pinned before.
    ///
    /// # Errors
    /// If it is old, or from another key, portal or relay.
    pub fn follow(&mut self, portal: &PortalId, relay: &str, rotation: &PortalRotation) -> Result<bool, JoseError> {
        if rotation.iss == *portal && rotation.keys.signing == self.key && rotation.seq >= self.seq {
            // Pinned already, perhaps when the agent enrolled, which gives no number.
            self.seq = rotation.seq;
            return Ok(false);
        }
        rotation.follows((portal, None, relay), self.seq, &PortalKey { signing: self.key.clone() })?;
        let previous = std::mem::replace(&mut self.key, rotation.keys.signing.clone());
        (self.seq, self.previous, self.used_at) = (rotation.seq, Some(previous), None);
        Ok(true)
    }

    /// The pin that begins at the key with this thumbprint, and follows the rotations from there.
    #[must_use]
    pub fn found(
        thumbprint: &Thumbprint,
        (portal, relay): (&PortalId, &str),
        keys: &[PublicKey],
        rotations: &[String],
    ) -> Option<Self> {
        let rotations: Vec<_> = rotations.iter().filter_map(|jws| PortalRotation::read(jws).ok()).collect();
        let known = keys.iter().chain(rotations.iter().map(|rotation| &rotation.previous.signing));
        let mut pin = Self::new(known.into_iter().find(|key| key.thumbprint() == *thumbprint)?.clone());
        for rotation in &rotations {
            // What came before that key is no concern of this agent.
            let _ = pin.follow(portal, relay, rotation);
        }
        Some(pin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, System};
    use crate::protocol::ids::ObjectId;
    use crate::protocol::jose::SigningKey;
    use crate::protocol::json;
    use crate::protocol::rotation::About;

    const RELAY: &str = "https://relay.example";

    fn rotation(old: &SigningKey, new: &SigningKey, seq: u64) -> PortalRotation {
        let about = About {
            iss: "portal-1".parse().unwrap(),
            relay: RELAY.into(),
            tenant: None,
            jti: ObjectId::new(&System, &System),
            iat: System.now(),
        };
        let key = |key: &SigningKey| PortalKey { signing: key.public().clone() };
        PortalRotation::new(about, seq, key(old), key(new), new).unwrap()
    }

    fn key() -> SigningKey {
        SigningKey::generate(&System).unwrap()
    }

    #[test]
    fn a_pin_follows_its_own_chain_and_never_back() {
        let (portal, keys) = ("portal-1".parse().unwrap(), [key(), key(), key()]);
        let [first, second, third] = &keys;
        let mut pin = Pin::new(first.public().clone());
        let (one, two, back) = (rotation(first, second, 1), rotation(second, third, 2), rotation(third, first, 1));
        assert!(pin.follow(&portal, RELAY, &two).is_err(), "it begins at another key");
        assert!(pin.follow(&portal, RELAY, &one).unwrap());
        assert!(!pin.follow(&portal, RELAY, &one).unwrap(), "the same again is no news, and no error");
        assert!(pin.follow(&portal, RELAY, &two).unwrap());
        assert!(pin.follow(&portal, RELAY, &one).is_err(), "an old one");
        assert!(pin.follow(&portal, RELAY, &back).is_err(), "an old number");
        assert!(pin.follow(&portal, "https://other", &rotation(third, first, 3)).is_err());
        assert!(pin.follow(&"portal-2".parse().unwrap(), RELAY, &rotation(third, first, 3)).is_err());
        assert_eq!((pin.seq, pin.key, pin.previous), (2, third.public().clone(), Some(second.public().clone())));
    }

    #[test]
    fn the_key_before_is_taken_until_an_hour_after_the_new_one_was_used() {
        let (first, second) = (key(), key());
        let mut pin = Pin::new(first.public().clone());
        pin.follow(&"portal-1".parse().unwrap(), RELAY, &rotation(&first, &second, 1)).unwrap();
        assert_eq!(pin.keys_at(UnixTime(i64::MAX)).count(), 2);
        pin.used_at = Some(UnixTime(0));
        assert_eq!(pin.keys_at(UnixTime(3599)).count(), 2);
        assert_eq!(pin.keys_at(UnixTime(3600)).collect::<Vec<_>>(), [second.public()]);
    }

    #[test]
    fn a_code_from_before_a_rotation_leads_to_the_newest_key_and_to_no_other() {
        let (portal, first, second, foreign) = ("portal-1".parse().unwrap(), key(), key(), key());
        let signed = |old: &SigningKey, by: &SigningKey| rotation(old, &second, 1).sign(by).unwrap();
        let public = [second.public().clone()];
        let found = |kid: &Thumbprint, jws: String| Pin::found(kid, (&portal, RELAY), &public, &[jws]);
        let pin = found(first.kid(), signed(&first, &first)).unwrap();
        assert_eq!((pin.seq, &pin.key), (1, second.public()));
        assert_eq!(found(second.kid(), signed(&first, &first)).unwrap().seq, 1);
        assert_eq!(found(first.kid(), signed(&first, &foreign)), None);
        assert_eq!(found(first.kid(), signed(&foreign, &foreign)), None);
    }

    #[test]
    fn what_the_first_version_wrote_is_read() {
        let key = key();
        let old = serde_json::to_string(&[key.public()]).unwrap();
        let pin: Pin = json::read(old.as_bytes()).unwrap();
        assert_eq!(pin, Pin::new(key.public().clone()));
        assert_eq!(json::read::<Pin>(serde_json::to_string(&pin).unwrap().as_bytes()).unwrap(), pin);
    }
}
