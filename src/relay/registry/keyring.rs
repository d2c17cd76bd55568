//! How keys in the registry change: only along a chain of rotations, each signed by the key before it. The relay judges
//! what it is sent, and makes no key known of its own.

use super::bounds::{MAX_PORTAL_KEYS, MAX_ROTATION_BYTES};
use super::records::{Acknowledged, AgentRecord, PortalRecord, Retiring};
use crate::clock::UnixTime;
use crate::protocol::api::AgentStatus;
use crate::protocol::ids::{InvitationId, PortalId, TenantId};
use crate::protocol::jose::{JoseError, PublicKey, Thumbprint};
use crate::protocol::limits::{KEPT_ROTATIONS, KEY_OVERLAP};
use crate::protocol::rotation::{AgentRotation, PortalKey, PortalRotation};

/// How a rotation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// The new keys are stored, now or by the same rotation before.
    Done,
    /// It was followed before, and others after it: nothing is to be done.
    Passed,
    /// It does not lead on from the keys that are stored.
    Refused(JoseError),
    /// Nobody by this name is registered.
    Unknown,
    /// The agent was revoked; its keys are nobody's any more.
    Revoked,
}

/// How the same rotation ended before, if it is among those that are kept.
fn known(kept: &[String], jws: &str) -> Option<Rotated> {
    let at = kept.iter().rposition(|kept| kept == jws)?;
    Some(if at + 1 == kept.len() { Rotated::Done } else { Rotated::Passed })
}

/// The last ones are kept for whoever was away: nobody may make them longer than they need to be.
fn not_too_long(jws: &str) -> Result<(), JoseError> {
    if jws.len() <= MAX_ROTATION_BYTES {
        return Ok(());
    }
    Err(JoseError::mismatch("rotation", format!("a JWS of at most {MAX_ROTATION_BYTES} bytes is expected")))
}

fn keep(rotations: &mut Vec<String>, jws: &str) {
    rotations.push(jws.to_owned());
    let old = rotations.len().saturating_sub(KEPT_ROTATIONS);
    rotations.drain(..old);
}

impl AgentRecord {
    /// Follows a rotation that was read from `jws`, if it leads on from the keys in this record.
    pub fn rotate(&mut self, tenant: &TenantId, relay: &str, rotation: &AgentRotation, jws: &str) -> Rotated {
        if self.status == AgentStatus::Revoked {
            return Rotated::Revoked;
        }
        if let Some(known) = known(&self.later.rotations, jws) {
            return known;
        }
        let follows = rotation.follows((&self.agent, Some(tenant), relay), self.later.seq, &self.keys);
        if let Err(error) = follows.and_then(|()| not_too_long(jws)) {
            return Rotated::Refused(error);
        }
        self.keys = rotation.keys.clone();
        self.later.seq = rotation.seq;
        keep(&mut self.later.rotations, jws);
        Rotated::Done
    }

    /// Notes that the agent takes a portal's new key; an older word does not replace a newer one.
    pub fn acknowledge(&mut self, portal: &PortalId, acknowledged: Acknowledged) {
        let known = self.later.acknowledged.get(portal).map_or(0, |known| known.seq);
        if acknowledged.seq > known {
            self.later.acknowledged.insert(portal.clone(), acknowledged);
        }
    }

    /// The invitation by which this portal may know the agent, and the attestation that belongs to it.
    #[must_use]
    pub fn vouched_to(&self, portal: &PortalId) -> (InvitationId, &str) {
        let further = self.later.further.iter().rev().find(|vouched| vouched.portal == *portal);
        further.map_or((self.invitation, &self.attestation), |vouched| (vouched.invitation, &vouched.attestation))
    }
}

impl PortalRecord {
    /// The keys that are taken at `now`.
    pub fn keys_at(&self, now: UnixTime) -> impl Iterator<Item = &PublicKey> {
        let retiring = self.later.retiring.iter().filter(move |retiring| now < retiring.until);
        self.keys.iter().chain(retiring.map(|retiring| &retiring.key))
    }

    /// Follows a rotation that was read from `jws`, if it leads on from the portal's key. From now on both are taken.
    pub fn rotate(&mut self, relay: &str, rotation: &PortalRotation, jws: &str) -> Rotated {
        if let Some(known) = known(&self.later.rotations, jws) {
            return known;
        }
        let newest = self.later.rotations.last().and_then(|last| PortalRotation::read(last).ok());
        // An operator may have registered several keys; after a rotation, the newest leads on.
        let known = newest.map(|newest| newest.keys.signing);
        let from = known.filter(|key| self.keys.contains(key)).unwrap_or_else(|| rotation.previous.signing.clone());
        if !self.keys.contains(&from) {
            return Rotated::Refused(JoseError::mismatch("previous", "the key that is known now is expected"));
        }
        let from = PortalKey { signing: from };
        let follows = rotation.follows((&self.portal, None, relay), self.later.seq, &from);
        if let Err(error) = follows.and_then(|()| not_too_long(jws)) {
            return Rotated::Refused(error);
        }
        if self.keys.len() >= MAX_PORTAL_KEYS {
            let fewer = format!("fewer than {MAX_PORTAL_KEYS} known keys are expected; let an old one go first");
            return Rotated::Refused(JoseError::mismatch("keys", fewer));
        }
        self.keys.push(rotation.keys.signing.clone());
        self.later.seq = rotation.seq;
        keep(&mut self.later.rotations, jws);
        Rotated::Done
    }

    /// Lets a key go, a while from now; the last one stays. Whether it is gone, or going.
    pub fn retire(&mut self, kid: &Thumbprint, now: UnixTime) -> bool {
        self.later.retiring.retain(|retiring| now < retiring.until);
        let Some(at) = self.keys.iter().position(|key| key.thumbprint() == *kid) else { return true };
        if self.keys.len() < 2 {
            return false;
        }
        let key = self.keys.remove(at);
        self.later.retiring.push(Retiring { key, until: now.plus(KEY_OVERLAP) });
        // Whoever changes his key faster than this has no use for the oldest.
        let surplus = self.later.retiring.len().saturating_sub(MAX_PORTAL_KEYS);
        self.later.retiring.drain(..surplus);
        true
    }

    /// What an operator's new record for the same portal becomes: as long as it names a key of the chain, the newest key
    /// stays, so that a tenant can be granted without undoing a rotation.
    #[must_use]
    pub fn put_over(mut self, present: &Self) -> Self {
        let chain = present.later.rotations.iter().filter_map(|jws| PortalRotation::read(jws).ok());
        let chain: Vec<PortalRotation> = chain.collect();
        let Some(newest) = chain.last().map(|rotation| rotation.keys.signing.clone()) else { return self };
        let named = |key: &PublicKey| self.keys.contains(key);
        if !self.later.is_empty()
            || !chain.iter().any(|step| named(&step.previous.signing) || named(&step.keys.signing))
        {
            return self;
        }
        self.keys = present.keys.clone();
        if !self.keys.contains(&newest) {
            self.keys.push(newest);
        }
        self.later = present.later.clone();
        self
    }
}
