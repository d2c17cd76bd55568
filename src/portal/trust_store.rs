//! Which agents this portal trusts: its own word, kept in `trust.json`, which overrides whatever the relay says.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::PortalError;
use crate::clock::{Clock, UnixTime};
use crate::protocol::enrollment::AgentKeys;
use crate::protocol::enrolment_code::Secret;
use crate::protocol::ids::{AgentId, InvitationId, TenantId};
use crate::protocol::jose::{PublicKey, stored};
use crate::protocol::json;
use crate::protocol::limits::{KEY_OVERLAP, OUTCOME_RETENTION};
use crate::storage::{FileError, PrivateFile};

const FILE: &str = "trust.json";
const LOCK: &str = "trust.lock";
/// 2 since agents' keys have a history: an older program would forget it, and with it which rotations are old.
const VERSION: u32 = 2;

/// A retired key verifies outcomes of commands that were sent before it was, for as long as a relay keeps those.
const RETIRED_RETENTION: Duration = OUTCOME_RETENTION;

/// How long after its expiry the secret of an invitation is kept: the agent may have enrolled in the last minute, and
/// is verified when somebody next looks.
const SECRET_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// What stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    version: u32,
    /// Each organisation that this portal invited or revoked an agent for.
    pub tenants: BTreeMap<TenantId, TenantTrust>,
}

/// The agents of one organisation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantTrust {
    /// Nobody has been verified with these yet.
    pub invitations: BTreeMap<InvitationId, Invitation>,
    /// Where each agent stands.
    pub agents: BTreeMap<AgentId, Standing>,
}

/// An open invitation. Its secret is destroyed when the agent's attestation was verified with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    /// Verifies the attestation of the one agent that redeems it.
    pub secret: Secret,
    /// Until when it can be redeemed.
    pub expires_at: UnixTime,
    /// Whether that agent is trusted without anybody comparing fingerprints.
    pub auto_approve: bool,
}

/// Where an agent stands with this portal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub enum Standing {
    /// Its attestation held, so its keys came from whoever had the code. Nobody has compared the fingerprint.
    Attested {
        /// Its keys; others are taken for this agent only if these sign for them.
        #[serde(flatten)]
        keys: AgentKeys,
        /// Since when.
        since: UnixTime,
        /// How its keys have changed.
        #[serde(default, skip_serializing_if = "History::is_empty")]
        history: History,
    },
    /// Passwords are sealed to it, and its outcomes are believed.
    Trusted {
        /// Its keys; others are taken for this agent only if these sign for them.
        #[serde(flatten)]
        keys: AgentKeys,
        /// Since when.
        since: UnixTime,
        /// How its keys have changed.
        #[serde(default, skip_serializing_if = "History::is_empty")]
        history: History,
    },
    /// Never again.
    Revoked {
        /// Since when.
        since: UnixTime,
    },
}

/// How an agent's keys have changed since they were pinned, and what it has said of this portal's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// The number of the last rotation that was followed.
    pub seq: u64,
    /// Signing keys before this one.
    pub retired: Vec<RetiredKey>,
    /// The number of this portal's last rotation that the agent has acknowledged.
    pub acknowledged: u64,
}

/// An agent's signing key of before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetiredKey {
    /// The key.
    #[serde(deserialize_with = "stored::key")]
    pub signing_key: PublicKey,
    /// When this portal learnt of the next one.
    pub since: UnixTime,
}

impl History {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The keys that an agent's outcome may be signed with.
#[derive(Clone, Debug)]
pub struct Verifying {
    current: PublicKey,
    retired: Vec<RetiredKey>,
}

impl Verifying {
    /// For a command that was sent then: a key that was retired long before says nothing about it.
    pub fn at(&self, sent: UnixTime) -> impl Iterator<Item = &PublicKey> {
        let retired = self.retired.iter().filter(move |old| sent <= old.since.plus(KEY_OVERLAP));
        std::iter::once(&self.current).chain(retired.map(|old| &old.signing_key))
    }
}

impl Standing {
    /// The pinned keys, and how they have changed, to be changed; nothing if it was revoked.
    pub fn pinned(&mut self) -> Option<(&mut AgentKeys, &mut History)> {
        match self {
            Self::Attested { keys, history, .. } | Self::Trusted { keys, history, .. } => Some((keys, history)),
            Self::Revoked { .. } => None,
        }
    }

    /// What verifies the agent's outcomes, if it is trusted.
    #[must_use]
    pub fn verifying(&self) -> Option<Verifying> {
        match self {
            Self::Trusted { keys, history, .. } => {
                Some(Verifying { current: keys.signing.clone(), retired: history.retired.clone() })
            }
            _ => None,
        }
    }

    /// The pinned keys, unless it was revoked.
    #[must_use]
    pub fn keys(&self) -> Option<&AgentKeys> {
        match self {
            Self::Attested { keys, .. } | Self::Trusted { keys, .. } => Some(keys),
            Self::Revoked { .. } => None,
        }
    }
}

impl Contents {
    /// The organisation's part, made if it is missing.
    pub fn tenant(&mut self, tenant: &TenantId) -> &mut TenantTrust {
        self.tenants.entry(tenant.clone()).or_default()
    }

    /// Where an agent stands, if this portal knows it.
    #[must_use]
    pub fn standing(&self, tenant: &TenantId, agent: AgentId) -> Option<&Standing> {
        self.tenants.get(tenant)?.agents.get(&agent)
    }

    fn forget_old_secrets(&mut self, now: UnixTime) {
        for tenant in self.tenants.values_mut() {
            tenant.invitations.retain(|_, invitation| now < invitation.expires_at.plus(SECRET_RETENTION));
            for (_, history) in tenant.agents.values_mut().filter_map(Standing::pinned) {
                history.retired.retain(|old| now < old.since.plus(RETIRED_RETENTION + KEY_OVERLAP));
            }
        }
    }
}

/// The file and the lock beside it. Reading never waits; two processes that write never lose each other's update.
#[derive(Clone)]
pub struct TrustStore {
    file: PrivateFile,
    lock: PathBuf,
    clock: Arc<dyn Clock>,
}

impl TrustStore {
    /// Makes an empty one in `folder`, unless there is one.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn create(folder: &Path) -> Result<(), PortalError> {
        let file = PrivateFile::new(folder.join(FILE));
        if file.exists() {
            return Ok(());
        }
        write(&file, &Contents { version: VERSION, tenants: BTreeMap::new() })
    }

    /// Opens the one in `folder`. A missing one is not made anew: it would have forgotten the revocations.
    ///
    /// # Errors
    /// If it is missing, damaged, or open to others.
    pub fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, PortalError> {
        let store = Self { file: PrivateFile::new(folder.join(FILE)), lock: folder.join(LOCK), clock };
        store.read()?;
        Ok(store)
    }

    /// As it stands now.
    ///
    /// # Errors
    /// If the file is missing, damaged, or open to others. It is left as it is.
    pub fn read(&self) -> Result<Contents, PortalError> {
        let text = self.file.read()?;
        let version = json::read_with_nulls::<Version>(text.as_bytes()).map_err(|e| self.file.contents(e))?.version;
        if version > VERSION {
            return Err(PortalError::Newer { path: self.file.path().to_owned(), version });
        }
        Ok(json::read_with_nulls(text.as_bytes()).map_err(|e| self.file.contents(e))?)
    }

    /// Changes it: alone, and durable when this returns. Secrets whose time is long over are destroyed on the way.
    ///
    /// # Errors
    /// As [`Self::read`]; then nothing has changed.
    pub fn update<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> Result<T, PortalError> {
        let _held_until_dropped = self.hold()?;
        let mut contents = self.read()?;
        let before = contents.clone();
        contents.version = VERSION;
        contents.forget_old_secrets(self.clock.now());
        let answer = change(&mut contents);
        if contents != before {
            write(&self.file, &contents)?;
        }
        Ok(answer)
    }

    fn hold(&self) -> Result<File, PortalError> {
        let open = || {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.lock)?;
            file.lock()?;
            Ok(file)
        };
        Ok(open().map_err(|error| FileError::Io { path: self.lock.clone(), error })?)
    }
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

fn write(file: &PrivateFile, contents: &Contents) -> Result<(), PortalError> {
    let json = serde_json::to_string_pretty(contents).map_err(|e| file.contents(e))?;
    Ok(file.replace(&Zeroizing::new(json))?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::clock::System;
    use crate::protocol::jose::{SealingKey, SigningKey};

    fn store(folder: &Path) -> TrustStore {
        TrustStore::create(folder).unwrap();
        TrustStore::open(folder, System::clock()).unwrap()
    }

    fn keys() -> AgentKeys {
        AgentKeys {
            signing: SigningKey::generate(&System).unwrap().public().clone(),
            sealing: SealingKey::generate().unwrap().public().clone(),
        }
    }

    #[test]
    fn it_comes_back_with_every_standing() {
        let dir = tempfile::tempdir().unwrap();
        let (tenant, since) = ("contoso".parse().unwrap(), UnixTime(7));
        let id = || AgentId::new(&System, &System);
        let trust = store(dir.path());
        let retired = RetiredKey { signing_key: keys().signing, since: System.now() };
        let history = History { seq: 3, retired: vec![retired], acknowledged: 1 };
        trust
            .update(|c| {
                let invitation =
                    Invitation { secret: Secret::new([3; 32]), expires_at: System.now(), auto_approve: true };
                c.tenant(&tenant).invitations.insert(InvitationId::new(&System, &System), invitation);
                c.tenant(&tenant)
                    .agents
                    .insert(id(), Standing::Attested { keys: keys(), since, history: History::default() });
                c.tenant(&tenant)
                    .agents
                    .insert(id(), Standing::Trusted { keys: keys(), since, history: history.clone() });
                c.tenant(&tenant).agents.insert(id(), Standing::Revoked { since });
            })
            .unwrap();
        let read = trust.read().unwrap();
        assert_eq!(TrustStore::open(dir.path(), System::clock()).unwrap().read().unwrap(), read);
        assert_eq!((read.tenants[&tenant].agents.len(), read.tenants[&tenant].invitations.len()), (3, 1));
    }

    #[test]
    fn updates_at_the_same_moment_are_all_there() {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path());
        let writers = (0..8).map(|n| {
            let folder = dir.path().to_owned();
            std::thread::spawn(move || {
                // Each with a lock of its own, as another process would have.
                let trust = TrustStore::open(&folder, System::clock()).unwrap();
                for i in 0..10 {
                    let tenant: TenantId = format!("t-{n}-{i}").parse().unwrap();
                    trust.update(|c| c.tenants.insert(tenant, TenantTrust::default())).unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.join().unwrap();
        }
        let trust = TrustStore::open(dir.path(), System::clock()).unwrap();
        assert_eq!(trust.read().unwrap().tenants.len(), 80);
    }

    #[test]
    fn a_damaged_newer_or_missing_one_is_refused_named_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let trust = store(dir.path());
        let path = dir.path().join(FILE);
        for bad in ["", "{}", "{\"version\":1,\"tenants\":{\"contoso\":{\"agent\":{}}}}", "{\"version\":3}"] {
            fs::write(&path, bad).unwrap();
            let error = trust.update(|_| ()).unwrap_err().to_string();
            assert!(error.contains("trust.json"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
        fs::remove_file(&path).unwrap();
        assert!(TrustStore::open(dir.path(), System::clock()).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn an_old_secret_is_destroyed_and_a_tombstone_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let tenant = "contoso".parse().unwrap();
        let agent = AgentId::new(&System, &System);
        let trust = store(dir.path());
        let since = UnixTime(7);
        let old = Invitation { secret: Secret::new([3; 32]), expires_at: since, auto_approve: false };
        trust
            .update(|c| {
                c.tenant(&tenant).invitations.insert(InvitationId::new(&System, &System), old);
                c.tenant(&tenant).agents.insert(agent, Standing::Revoked { since });
            })
            .unwrap();
        trust.update(|_| ()).unwrap();
        let read = trust.read().unwrap();
        assert!(read.tenants[&tenant].invitations.is_empty());
        assert_eq!(read.standing(&tenant, agent), Some(&Standing::Revoked { since }));
    }
}
