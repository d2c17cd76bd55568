//! A new key for this portal: signed by the old one, told to the relay, carried to the agents, and in use when every agent
//! has acknowledged it. Until then the old key signs.
//!
//! | step | `rotation.json` | signs |
//! |---|---|---|
//! | begun | the next key, and the rotation that the old key has signed | old |
//! | finished | the next key has become `signing-key.jwk`; the old one is to be retired at the relay | new |
//! | retired | nothing but the number | new |

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::client::ClientError;
use super::home::Home;
use super::trust_store::Standing;
use super::{Portal, PortalError};
use crate::clock::{Clock, Random};
use crate::protocol::ids::{AgentId, ObjectId, TenantId};
use crate::protocol::jose::{SigningKey, Thumbprint};
use crate::protocol::json;
use crate::protocol::problem::ProblemCode;
use crate::protocol::rotation::{About, PortalKey, PortalRotation};
use crate::protocol::untrusted::Untrusted;
use crate::storage::{FileError, PrivateFile};

const FILE: &str = "rotation.json";
const LOCK: &str = "rotation.lock";

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// The number of the last rotation that was finished.
    seq: u64,
    next: Option<StoredNext>,
    /// The old key, which the relay is still to be told of.
    retiring: Option<Thumbprint>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredNext {
    key: Zeroizing<String>,
    rotation: String,
}

impl std::fmt::Debug for StoredNext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredNext")
    }
}

/// A rotation that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// Its number.
    pub seq: u64,
    /// The new key.
    pub kid: Thumbprint,
    /// What the relay is told.
    rotation: String,
}

/// Whether an agent takes the new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Acknowledging {
    /// The organisation.
    pub tenant: TenantId,
    /// An agent that is trusted here.
    pub agent: AgentId,
    /// The host's name, if the relay lists the agent.
    pub name: Option<Untrusted>,
    /// Whether it has a session now.
    pub online: bool,
    /// Whether it takes no commands of this portal any more, and so no key, as it says.
    pub refuses: bool,
    /// Its own word, verified.
    pub acknowledged: bool,
}

/// Where a rotation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RotationStatus {
    /// The number of the last rotation, finished or not.
    pub seq: u64,
    /// Whether the new key is in use, and the old one retired.
    pub finished: bool,
    /// The agents of a rotation that is not finished.
    pub agents: Vec<Acknowledging>,
}

impl RotationStatus {
    /// Whether there is nobody left who would not take the new key.
    #[must_use]
    pub fn all_acknowledged(&self) -> bool {
        self.agents.iter().all(|agent| agent.acknowledged)
    }
}

impl Home {
    fn rotation_file(&self) -> PrivateFile {
        PrivateFile::new(self.folder().join(FILE))
    }

    fn hold_rotation(&self) -> Result<File, PortalError> {
        let path = self.folder().join(LOCK);
        let open = || {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        Ok(open().map_err(|error| FileError::Io { path: path.clone(), error })?)
    }

    fn stored_rotation(&self) -> Result<Stored, PortalError> {
        let file = self.rotation_file();
        if !file.exists() {
            return Ok(Stored::default());
        }
        let mut stored: Stored = json::read_with_nulls(file.read()?.as_bytes()).map_err(|e| file.contents(e))?;
        // It broke off between the two files of the last step.
        if let Some(next) = &stored.next
            && SigningKey::from_jwk(&next.key)?.kid() == self.signing_key()?.kid()
        {
            let retiring = PortalRotation::read(&next.rotation)?.previous.signing.thumbprint();
            stored = Stored { seq: stored.seq + 1, next: None, retiring: Some(retiring) };
        }
        Ok(stored)
    }

    fn store_rotation(&self, stored: &Stored) -> Result<(), PortalError> {
        let file = self.rotation_file();
        let json = Zeroizing::new(serde_json::to_string_pretty(stored).map_err(|e| file.contents(e))?);
        Ok(file.replace(&json)?)
    }

    /// The rotation that is under way, if there is one.
    ///
    /// # Errors
    /// If a file is damaged, or open to others.
    pub fn rotation(&self) -> Result<Option<UnderWay>, PortalError> {
        let Stored { seq, next, .. } = self.stored_rotation()?;
        let under_way = |StoredNext { key, rotation }: StoredNext| {
            Ok(UnderWay { seq: seq + 1, kid: SigningKey::from_jwk(&key)?.kid().clone(), rotation })
        };
        next.map(under_way).transpose()
    }

    /// Makes the next key, unless there is one: a rotation that has begun is never begun twice.
    fn begin_rotation(&self, portal: &Portal, clock: &dyn Clock, random: &dyn Random) -> Result<(), PortalError> {
        let _held_until_dropped = self.hold_rotation()?;
        let mut stored = self.stored_rotation()?;
        if stored.next.is_some() {
            return Ok(());
        }
        let (old, new) = (self.signing_key()?, SigningKey::generate(random)?);
        let about = About {
            iss: portal.config.id.clone(),
            relay: portal.config.relay.clone(),
            tenant: None,
            jti: ObjectId::new(clock, random),
            iat: clock.now(),
        };
        let key = |key: &SigningKey| PortalKey { signing: key.public().clone() };
        let rotation = PortalRotation::new(about, stored.seq + 1, key(&old), key(&new), &new)?.sign(&old)?;
        stored.next = Some(StoredNext { key: new.to_jwk(), rotation });
        self.store_rotation(&stored)
    }

    /// Takes the next key into use; the old one is gone from here.
    fn finish_rotation(&self) -> Result<(), PortalError> {
        let _held_until_dropped = self.hold_rotation()?;
        let stored = self.stored_rotation()?;
        let Some(next) = &stored.next else { return self.store_rotation(&stored) };
        let retiring = Some(self.signing_key()?.kid().clone());
        self.replace_signing_key(&next.key)?;
        self.store_rotation(&Stored { seq: stored.seq + 1, next: None, retiring })
    }
}

impl Portal {
    /// Begins to rotate this portal's key, or goes on: tells the relay, asks who has acknowledged, and finishes when all
    /// have. It may be called again at any time.
    ///
    /// # Errors
    /// If a file can't be used, or the relay does not answer or refuses. Nothing is lost by that.
    pub async fn rotate_keys(&self) -> Result<RotationStatus, PortalError> {
        if self.home.stored_rotation()?.retiring.is_some() {
            self.retire().await?;
        }
        self.home.begin_rotation(self, &*self.clock, &*self.random)?;
        if let Some(under_way) = self.home.rotation()? {
            self.relay.rotate(&under_way.rotation).await?;
        }
        self.rotation_status().await
    }

    /// Where the rotation stands. One that all agents have acknowledged is finished on the way.
    ///
    /// # Errors
    /// As [`Self::rotate_keys`].
    pub async fn rotation_status(&self) -> Result<RotationStatus, PortalError> {
        self.key()?;
        let Some(under_way) = self.home.rotation()? else {
            self.retire().await?;
            let seq = self.home.stored_rotation()?.seq;
            return Ok(RotationStatus { seq, finished: true, agents: Vec::new() });
        };
        let status =
            RotationStatus { seq: under_way.seq, finished: false, agents: self.acknowledging(&under_way).await? };
        if !status.all_acknowledged() {
            return Ok(status);
        }
        self.finish_rotation().await?;
        Ok(RotationStatus { finished: true, ..status })
    }

    /// Takes the new key into use, whoever has not acknowledged it: such an agent refuses this portal's commands until it
    /// has followed, which it does when it next connects.
    ///
    /// # Errors
    /// As [`Self::rotate_keys`].
    pub async fn finish_rotation(&self) -> Result<(), PortalError> {
        if let Some(under_way) = self.home.rotation()? {
            // A key that the relay does not know would be of no use.
            self.relay.rotate(&under_way.rotation).await?;
        }
        self.home.finish_rotation()?;
        self.key()?;
        self.retire().await
    }

    async fn acknowledging(&self, under_way: &UnderWay) -> Result<Vec<Acknowledging>, PortalError> {
        let tenants: Vec<TenantId> = self.trust.read()?.tenants.into_keys().collect();
        let mut all = Vec::new();
        for tenant in tenants {
            let agents = match self.agents(&tenant).await {
                // It may have been taken from this portal: then nobody there is asked anything any more.
                Err(PortalError::Relay(error)) if error.is(ProblemCode::TenantNotGranted) => continue,
                agents => agents?,
            };
            for agent in agents {
                let Some(Standing::Trusted { history, .. }) = &agent.standing else { continue };
                all.push(Acknowledging {
                    tenant: tenant.clone(),
                    agent: agent.agent,
                    name: agent.relay.as_ref().map(|view| view.name.clone()),
                    online: agent.relay.as_ref().is_some_and(|view| view.online),
                    refuses: agent.refuses_this_portal(),
                    acknowledged: history.acknowledged >= under_way.seq,
                });
            }
        }
        Ok(all)
    }

    /// Tells the relay that the old key is not to be taken much longer.
    async fn retire(&self) -> Result<(), PortalError> {
        let stored = self.home.stored_rotation()?;
        let Some(old) = &stored.retiring else { return Ok(()) };
        match self.relay.retire(old).await {
            // An operator has registered the new key alone.
            Err(ClientError::Refused { problem, .. }) if problem.code == "rotation_refused" => {}
            retired => retired?,
        }
        let _held_until_dropped = self.home.hold_rotation()?;
        self.home.store_rotation(&Stored { retiring: None, ..self.home.stored_rotation()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;
    use crate::portal::Config;

    fn portal(home: &Home) -> Portal {
        let config =
            Config { id: "portal-1".parse().unwrap(), relay: "https://relay.example".to_owned(), ca_file: None };
        home.init(&config, &System).unwrap();
        Portal::open(home.folder(), System::clock(), System::random()).unwrap()
    }

    #[test]
    fn a_rotation_that_has_begun_is_not_begun_again_and_the_old_key_signs_until_it_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let portal = portal(&home);
        let old = home.signing_key().unwrap();
        home.begin_rotation(&portal, &System, &System).unwrap();
        let begun = home.rotation().unwrap().unwrap();
        home.begin_rotation(&portal, &System, &System).unwrap();
        assert_eq!(home.rotation().unwrap(), Some(begun.clone()));
        assert_eq!(portal.key().unwrap().kid(), old.kid());
        home.finish_rotation().unwrap();
        assert_eq!(portal.key().unwrap().kid(), &begun.kid, "the running process has not seen it");
        assert_eq!(home.stored_rotation().unwrap().retiring.as_ref(), Some(old.kid()));
        assert_eq!((home.rotation().unwrap(), begun.seq), (None, 1));
    }

    #[test]
    fn a_crash_between_the_two_files_of_the_last_step_leaves_a_rotation_that_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let portal = portal(&home);
        let old = home.signing_key().unwrap();
        home.begin_rotation(&portal, &System, &System).unwrap();
        home.replace_signing_key(&home.stored_rotation().unwrap().next.unwrap().key).unwrap();
        assert_eq!(home.rotation().unwrap(), None);
        home.finish_rotation().unwrap();
        let stored = home.stored_rotation().unwrap();
        assert_eq!((stored.seq, stored.retiring.as_ref()), (1, Some(old.kid())));
    }
}
