//! The agent's private keys, and how they change.
//!
//! `signing-key.jwk` and `sealing-key.jwk` are what the agent enrolled with. From the first rotation on all keys are in
//! `keys.json`, so that each step of a rotation is one file that is replaced: a crash leaves the step before or after it.
//!
//! | step | on disk | signs | opens |
//! |---|---|---|---|
//! | begun | the next keys, and the rotation that the old key has signed | old | old, next |
//! | the relay has it | the next keys are the keys; the old sealing key is retired | new | new, retired |
//! | nothing needs the retired key | it is erased | new | new |

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::format::{self, Format};
use super::home::{Home, Identity, Keys};
use super::watched::{Watched, hold};
use crate::clock::{Clock, Random, UnixTime};
use crate::protocol::command::Command;
use crate::protocol::ids::ObjectId;
use crate::protocol::jose::{JoseError, SealingKey, SigningKey, Thumbprint};
use crate::protocol::json;
use crate::protocol::limits::KEPT_ROTATIONS;
use crate::protocol::rotation::{About, AgentRotation};
use crate::protocol::sealed::{Secrets, open_for};
use crate::storage::FileError;

/// Why the keys are as they were.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A file can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The cryptographic library refused.
    #[error("no keys can be made, or nothing signed: {0}")]
    Jose(#[from] JoseError),
}

type Jwk = Zeroizing<String>;

/// Both private keys, as they stand in the file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    signing: Jwk,
    sealing: Jwk,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredNext {
    seq: u64,
    keys: Pair,
    rotation: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRetired {
    sealing: Jwk,
    since: UnixTime,
}

/// `keys.json`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(default)]
    format: Format,
    seq: u64,
    since: UnixTime,
    keys: Pair,
    next: Option<StoredNext>,
    retired: Vec<StoredRetired>,
    rotations: Vec<String>,
}

/// Keys that the relay has not heard of yet, as far as the agent knows.
#[derive(Debug)]
pub struct Next {
    /// The number of the rotation.
    pub seq: u64,
    /// They open already.
    pub keys: Keys,
    /// The rotation, signed by the keys until now.
    pub rotation: String,
}

/// A sealing key that only opens what was sealed before.
#[derive(Debug)]
pub struct Retired {
    /// The key.
    pub sealing: SealingKey,
    /// When it was replaced.
    pub since: UnixTime,
}

/// All keys, at one moment.
#[derive(Debug)]
pub struct Keyring {
    /// The number of the last rotation; 0 after the enrolment.
    pub seq: u64,
    /// Since when these are the keys.
    pub since: UnixTime,
    /// What signs, and what is sealed to.
    pub keys: Keys,
    /// A rotation that has begun.
    pub next: Option<Next>,
    /// Keys that are erased as soon as nothing needs them.
    pub retired: Vec<Retired>,
    /// The last rotations, oldest first.
    pub rotations: Vec<String>,
}

impl Keyring {
    /// Opens what was sealed to any of the keys.
    ///
    /// # Errors
    /// As [`open_for`].
    pub fn open(&self, command: &Command) -> Result<Secrets, JoseError> {
        let next = self.next.iter().map(|next| &next.keys.sealing);
        let retired = self.retired.iter().map(|retired| &retired.sealing);
        let mut result = Err(JoseError::UnknownKey);
        for key in std::iter::once(&self.keys.sealing).chain(next).chain(retired) {
            result = open_for(command, key);
            if !matches!(result, Err(JoseError::UnknownKey)) {
                break;
            }
        }
        result
    }
}

fn pair(keys: &Keys) -> Result<Pair, JoseError> {
    Ok(Pair { signing: keys.signing.to_jwk(), sealing: keys.sealing.to_jwk()? })
}

impl Pair {
    fn parse(&self) -> Result<Keys, JoseError> {
        Ok(Keys { signing: SigningKey::from_jwk(&self.signing)?, sealing: SealingKey::from_jwk(&self.sealing)? })
    }
}

impl Stored {
    fn parse(&self) -> Result<Keyring, JoseError> {
        let next = self.next.as_ref().map(|next| {
            Ok::<_, JoseError>(Next { seq: next.seq, keys: next.keys.parse()?, rotation: next.rotation.clone() })
        });
        let retired = self.retired.iter().map(|retired| {
            Ok::<_, JoseError>(Retired { sealing: SealingKey::from_jwk(&retired.sealing)?, since: retired.since })
        });
        Ok(Keyring {
            seq: self.seq,
            since: self.since,
            keys: self.keys.parse()?,
            next: next.transpose()?,
            retired: retired.collect::<Result<_, _>>()?,
            rotations: self.rotations.clone(),
        })
    }

    fn load(home: &Home) -> Result<Self, FileError> {
        let file = home.keys_file();
        if file.exists() {
            let text = file.read()?;
            format::check(&file, &text)?;
            return json::read_with_nulls(text.as_bytes()).map_err(|e| file.contents(e));
        }
        let (signing, sealing) = (home.signing_key_file(), home.sealing_key_file());
        let keys = Pair { signing: signing.read()?, sealing: sealing.read()? };
        let made = fs::metadata(signing.path()).map(|meta| meta.mtime()).unwrap_or_default();
        let (since, next, retired, rotations) = (UnixTime(made), None, Vec::new(), Vec::new());
        Ok(Self { format: Format, seq: 0, since, keys, next, retired, rotations })
    }

    fn write(&self, home: &Home) -> Result<(), FileError> {
        let file = home.keys_file();
        file.replace(&Zeroizing::new(serde_json::to_string_pretty(self).map_err(|e| file.contents(e))?))?;
        // What the enrolment made is in there.
        home.signing_key_file().remove()?;
        home.sealing_key_file().remove()
    }
}

fn load(home: &Home) -> Result<Keyring, FileError> {
    // An error names the file that it is about.
    let (file, signing, sealing) = (home.keys_file(), home.signing_key_file(), home.sealing_key_file());
    if file.exists() {
        return Stored::load(home)?.parse().map_err(|e| file.contents(e));
    }
    let stored = Stored::load(home)?;
    SigningKey::from_jwk(&stored.keys.signing).map_err(|e| signing.contents(e))?;
    stored.parse().map_err(|e| sealing.contents(e))
}

impl Home {
    /// All keys, as they stand now.
    ///
    /// # Errors
    /// If a file is missing, unreadable, damaged, or open to others.
    pub fn keyring(&self) -> Result<Keyring, FileError> {
        load(self)
    }
}

/// The keys of a running agent.
pub struct Keyrings {
    home: Home,
    watched: Watched<Keyring>,
}

impl std::fmt::Debug for Keyrings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyrings")
    }
}

impl Keyrings {
    /// Of this folder.
    ///
    /// # Errors
    /// If a file is missing, unreadable, damaged, or open to others.
    pub fn open(home: &Home) -> Result<Self, FileError> {
        Ok(Self { home: home.clone(), watched: Watched::open(home, home.keys_file().path().to_owned(), load)? })
    }

    /// As they stand now.
    ///
    /// # Errors
    /// Never, after they were opened: keys that can't be read any more stay as they were.
    pub fn now(&self) -> Result<Arc<Keyring>, FileError> {
        self.watched.read()
    }

    /// Makes the next keys, unless there are some: a rotation has begun, and is never begun twice.
    ///
    /// # Errors
    /// If nothing can be made, signed or written.
    pub(super) fn begin(
        &self,
        identity: &Identity,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<(), KeyringError> {
        let _held_until_dropped = hold(&self.home)?;
        let mut stored = Stored::load(&self.home)?;
        if stored.next.is_some() {
            return Ok(());
        }
        let (old, new) =
            (stored.keys.parse()?, Keys { signing: SigningKey::generate(random)?, sealing: SealingKey::generate()? });
        let about = About {
            iss: identity.agent,
            relay: identity.relay.clone(),
            tenant: Some(identity.tenant.clone()),
            jti: ObjectId::new(clock, random),
            iat: clock.now(),
        };
        let seq = stored.seq + 1;
        let rotation = AgentRotation::new(about, seq, old.public(), new.public(), &new.signing)?.sign(&old.signing)?;
        stored.next = Some(StoredNext { seq, keys: pair(&new)?, rotation });
        Ok(stored.write(&self.home)?)
    }

    /// The relay has the rotation with this number: its keys are the keys.
    pub(super) fn accept(&self, seq: u64, now: UnixTime) -> Result<(), KeyringError> {
        let _held_until_dropped = hold(&self.home)?;
        let mut stored = Stored::load(&self.home)?;
        match stored.next.take() {
            Some(next) if next.seq == seq => {
                stored.retired.push(StoredRetired { sealing: stored.keys.sealing.clone(), since: now });
                stored.rotations.push(next.rotation);
                let old = stored.rotations.len().saturating_sub(KEPT_ROTATIONS);
                stored.rotations.drain(..old);
                (stored.seq, stored.since, stored.keys) = (next.seq, now, next.keys);
                Ok(stored.write(&self.home)?)
            }
            // Another process was quicker.
            _ => Ok(()),
        }
    }

    /// Erases retired keys of which `done` says that nothing needs them; how many.
    pub(super) fn erase(&self, done: impl Fn(&Retired) -> bool) -> Result<usize, KeyringError> {
        let ring = self.now()?;
        let gone: Vec<&Thumbprint> = ring.retired.iter().filter(|old| done(old)).map(|old| old.sealing.kid()).collect();
        if gone.is_empty() {
            return Ok(0);
        }
        let _held_until_dropped = hold(&self.home)?;
        let mut stored = Stored::load(&self.home)?;
        let before = stored.retired.len();
        stored.retired.retain(|old| SealingKey::from_jwk(&old.sealing).is_ok_and(|key| !gone.contains(&key.kid())));
        stored.write(&self.home)?;
        Ok(before - stored.retired.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{Enrolled, JANE};
    use crate::clock::System;

    fn sealed_to(agent: &Enrolled, keys: &Keys) -> Command {
        let mut command = agent.command(JANE);
        agent.seal_to(&mut command, keys.sealing.public());
        command
    }

    #[tokio::test]
    async fn each_step_opens_what_was_sealed_before_it_and_the_last_one_erases_the_old_key() {
        let agent = Enrolled::new().await;
        let rings = Keyrings::open(&agent.home()).unwrap();
        let first = sealed_to(&agent, &rings.now().unwrap().keys);
        rings.begin(&agent.identity, &System, &System).unwrap();
        let begun = rings.now().unwrap();
        let second = sealed_to(&agent, &begun.next.as_ref().unwrap().keys);
        assert_eq!(begun.keys.signing.kid(), agent.keys.signing.kid(), "signs with a key nobody knows yet");
        assert!(begun.open(&first).is_ok() && begun.open(&second).is_ok());
        assert!(!agent.home().sealing_key_file().exists());

        rings.accept(1, UnixTime(7)).unwrap();
        let accepted = rings.now().unwrap();
        assert_eq!((accepted.seq, accepted.since, accepted.rotations.len()), (1, UnixTime(7), 1));
        assert_eq!(accepted.keys.signing.kid(), begun.next.as_ref().unwrap().keys.signing.kid());
        assert!(accepted.open(&first).is_ok() && accepted.open(&second).is_ok());

        assert_eq!(rings.erase(|_| false).unwrap(), 0);
        assert_eq!(rings.erase(|old| old.since == UnixTime(7)).unwrap(), 1);
        let erased = rings.now().unwrap();
        assert!(erased.open(&second).is_ok());
        assert_eq!(erased.open(&first), Err(JoseError::UnknownKey));
        let old = agent.keys.sealing.to_jwk().unwrap();
        let d: serde_json::Value = serde_json::from_str(&old).unwrap();
        for file in fs::read_dir(agent.home().folder()).unwrap() {
            let text = fs::read(file.unwrap().path()).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains(d["d"].as_str().unwrap()), "the old key is on disk");
        }
    }

    #[tokio::test]
    async fn a_rotation_that_has_begun_goes_on_as_the_same_one() {
        let agent = Enrolled::new().await;
        let rings = Keyrings::open(&agent.home()).unwrap();
        rings.begin(&agent.identity, &System, &System).unwrap();
        let begun = rings.now().unwrap().next.as_ref().unwrap().rotation.clone();
        // As after a crash, or from another process.
        let again = Keyrings::open(&agent.home()).unwrap();
        again.begin(&agent.identity, &System, &System).unwrap();
        assert_eq!(again.now().unwrap().next.as_ref().unwrap().rotation, begun);
        again.accept(1, UnixTime(7)).unwrap();
        again.accept(1, UnixTime(8)).unwrap();
        assert_eq!(rings.now().unwrap().since, UnixTime(7), "the running agent has not seen what another process did");
    }

    #[tokio::test]
    async fn keys_that_others_may_read_or_that_are_damaged_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let agent = Enrolled::new().await;
        let (home, rings) = (agent.home(), Keyrings::open(&agent.home()).unwrap());
        rings.begin(&agent.identity, &System, &System).unwrap();
        assert!(rings.now().unwrap().next.is_some());
        let path = home.keys_file().path().to_owned();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(home.keyring(), Err(FileError::Mode { .. })));
        fs::write(&path, "{\"seq\":").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = home.keyring().unwrap_err().to_string();
        assert!(error.contains("keys.json") && error.contains("damaged"), "{error}");
        // The running agent goes on with what it has.
        assert!(rings.now().unwrap().next.is_some());
    }
}
