//! The agent's folder on its host.
//!
//! | file | what |
//! |---|---|
//! | `agent.toml` | the configuration, written by people |
//! | `identity.json` | who the agent is, and whose commands it takes; there once it is enrolled |
//! | `distrusted.json` | portals whose commands it takes no more, each with the key by which they are told so |
//! | `enrolment.json` | an enrolment that has begun |
//! | `signing-key.jwk`, `sealing-key.jwk` | the private keys: made here, never leave |
//! | `keys.json` | in their place from the first rotation on |
//! | `agent.lock` | held while one of the two above, the identity, or the distrusted portals are changed |
//! | `instance.json` | the last start of the process |
//! | `journal.redb` | every command and its outcome |
//! | `events.jsonl` | the event log |
//! | `agent.sock` | while the agent runs: where other programs of this host ask it how it is |
//! | `audit.jsonl` | what of it the agent has done, which others can't make go |
//!
//! The JSON files and the journal say which form they are of ([`Format`]); a JWK and a line of the event log are what they
//! are elsewhere, too.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::events;
use super::format::{self, Format};
use super::pin::Pin;
use crate::protocol::enrollment::AgentKeys;
use crate::protocol::ids::{AgentId, JournalId, PortalId, TenantId};
use crate::protocol::jose::{SealingKey, SigningKey};
use crate::protocol::json;
use crate::storage::{FileError, PrivateFile, check_folder, check_folder_to_read};

/// Where an agent keeps everything, unless it is told otherwise.
pub const DEFAULT_HOME: &str = "/var/lib/writeback-agent";

/// The folder. Nothing in it is touched before a method says so.
#[derive(Clone, Debug)]
pub struct Home {
    folder: PathBuf,
}

/// Who the agent is, and whose commands it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The form of the file.
    #[serde(default)]
    pub format: Format,
    /// The agent.
    pub agent: AgentId,
    /// The organisation it serves.
    pub tenant: TenantId,
    /// The relay's public URL.
    pub relay: String,
    /// The journal it was enrolled with.
    pub journal: JournalId,
    /// The portals whose commands it takes, each with its pinned key.
    pub portals: BTreeMap<PortalId, Pin>,
}

/// The agent's private keys.
#[derive(Debug)]
pub struct Keys {
    /// Signs outcomes and assertions.
    pub signing: SigningKey,
    /// Opens sealed passwords.
    pub sealing: SealingKey,
}

impl Keys {
    /// Their public halves.
    #[must_use]
    pub fn public(&self) -> AgentKeys {
        AgentKeys { signing: self.signing.public().clone(), sealing: self.sealing.public().clone() }
    }
}

impl Home {
    /// In this folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join("agent.toml")
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.folder.join("journal.redb")
    }

    /// The event log.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.folder.join("events.jsonl")
    }

    /// Where the running agent is asked.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("agent.sock")
    }

    pub(super) fn identity_file(&self) -> PrivateFile {
        PrivateFile::new(self.folder.join("identity.json"))
    }

    pub(super) fn distrusted_file(&self) -> PrivateFile {
        PrivateFile::new(self.folder.join("distrusted.json"))
    }

    pub(super) fn enrolment_file(&self) -> PrivateFile {
        PrivateFile::new(self.folder.join("enrolment.json"))
    }

    pub(super) fn instance_file(&self) -> PrivateFile {
        PrivateFile::new(self.folder.join("instance.json"))
    }

    pub(super) fn signing_key_file(&self) -> PrivateFile {
        PrivateFile::new(self.folder.join("signing-key.jwk"))
    }

    pub(super) fn sealing_key_file(&self) -> PrivateFile {
        PrivateFile::new(self.folder.join("sealing-key.jwk"))
    }

    pub(super) fn keys_file(&self) -> PrivateFile {
        PrivateFile::new(self.folder.join("keys.json"))
    }

    /// Every file of the agent that nobody else may read, there or not.
    pub(super) fn private_files(&self) -> Vec<PrivateFile> {
        vec![
            self.identity_file(),
            self.distrusted_file(),
            self.enrolment_file(),
            self.signing_key_file(),
            self.sealing_key_file(),
            self.keys_file(),
            self.instance_file(),
            PrivateFile::new(self.journal()),
            PrivateFile::new(self.events()),
            PrivateFile::new(events::audit(&self.events())),
        ]
    }

    /// Whether this process may write here: the folder is its own, and nobody else writes into it. What root makes in the
    /// folder of the service's user, the service can't read. One that is not there is made later.
    ///
    /// # Errors
    /// If it may not, and what to do.
    pub fn may_be_written(&self) -> Result<(), FileError> {
        if self.is_missing() { Ok(()) } else { check_folder(&self.folder) }
    }

    /// Whether what is here can be relied on. Root may look into the folder of the service's user.
    ///
    /// # Errors
    /// If it can't.
    pub fn may_be_read(&self) -> Result<(), FileError> {
        if self.is_missing() { Ok(()) } else { check_folder_to_read(&self.folder) }
    }

    /// Also a link that leads nowhere is something.
    fn is_missing(&self) -> bool {
        fs::symlink_metadata(&self.folder).is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }

    /// Who the agent is; nothing if it is not enrolled.
    ///
    /// # Errors
    /// If the file is unreadable, damaged, or open to others.
    pub fn identity(&self) -> Result<Option<Identity>, FileError> {
        read_json(&self.identity_file())
    }

    /// The private keys.
    ///
    /// # Errors
    /// If a file is missing, unreadable, damaged, or open to others.
    pub fn keys(&self) -> Result<Keys, FileError> {
        Ok(self.keyring()?.keys)
    }
}

/// What stands in `file`; nothing if there is no such file.
pub(super) fn read_json<T: DeserializeOwned>(file: &PrivateFile) -> Result<Option<T>, FileError> {
    if !file.exists() {
        return Ok(None);
    }
    let text = file.read()?;
    format::check(file, &text)?;
    json::read_with_nulls(text.as_bytes()).map(Some).map_err(|e| file.contents(e))
}

pub(super) fn write_json(file: &PrivateFile, value: &impl Serialize) -> Result<(), FileError> {
    file.replace(&serde_json::to_string_pretty(value).map_err(|e| file.contents(e))?)
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::clock::System;

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        home.signing_key_file().replace(&SigningKey::generate(&System).unwrap().to_jwk()).unwrap();
        home.sealing_key_file().replace(&SealingKey::generate().unwrap().to_jwk().unwrap()).unwrap();
        home.keys().unwrap();
        set_permissions(home.sealing_key_file().path(), Permissions::from_mode(0o604)).unwrap();
        assert!(matches!(home.keys(), Err(FileError::Mode { .. })));
    }

    #[test]
    fn a_damaged_identity_is_an_error_and_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        assert_eq!(home.identity().unwrap(), None);
        home.identity_file().replace(r#"{"agent":"#).unwrap();
        assert!(home.identity().unwrap_err().to_string().contains("identity.json"));
    }
}
