//! The portal's folder: `portal.toml` and the signing key; while the key changes, `rotation.json` too.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::config::Config;
use super::error::PortalError;
use super::trust_store::TrustStore;
use crate::clock::Random;
use crate::net::read_ca;
use crate::protocol::jose::{PublicKey, SigningKey};
use crate::storage::{PrivateFile, check_folder, make_private_folder};

const CONFIG_FILE: &str = "portal.toml";
const KEY_FILE: &str = "signing-key.jwk";

/// A file's number, and when it was written, in seconds and nanoseconds.
pub(super) type KeyStamp = (u64, i64, i64);

/// The folder. It is its owner's alone.
#[derive(Clone, Debug)]
pub struct Home {
    folder: PathBuf,
}

impl Home {
    /// At `folder`; nothing is touched yet.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn file(&self, name: &str) -> PrivateFile {
        PrivateFile::new(self.folder.join(name))
    }

    /// Makes the folder, the key, an empty trust store and `portal.toml`, in that order: one that was interrupted can
    /// be run again, and keeps the key.
    ///
    /// # Errors
    /// If there is a portal already, a value is not usable, or a file can't be written.
    pub fn init(&self, config: &Config, random: &dyn Random) -> Result<PublicKey, PortalError> {
        let file = self.file(CONFIG_FILE);
        if file.exists() {
            return Err(PortalError::AlreadyInitialised { path: file.path().to_owned() });
        }
        config.check().map_err(|detail| self.refused(detail))?;
        config.ca_file.as_deref().map(read_ca).transpose()?;
        make_private_folder(&self.folder)?;
        if !self.file(KEY_FILE).exists() {
            self.file(KEY_FILE).replace(&SigningKey::generate(random)?.to_jwk())?;
        }
        TrustStore::create(&self.folder)?;
        file.replace(&config.to_toml())?;
        Ok(self.signing_key()?.public().clone())
    }

    fn refused(&self, detail: impl ToString) -> PortalError {
        PortalError::Config { path: self.folder.join(CONFIG_FILE), detail: detail.to_string() }
    }

    /// Reads `portal.toml`.
    ///
    /// # Errors
    /// If it is missing, the folder is not ours, or a field is missing, unknown, or not of its form; the error names it.
    pub fn config(&self) -> Result<Config, PortalError> {
        let file = self.file(CONFIG_FILE);
        if !file.exists() {
            return Err(self.refused("there is no portal here; run: writeback-portal init"));
        }
        check_folder(&self.folder)?;
        let config: Config =
            toml::from_str(&file.read()?).map_err(|e| self.refused(e.to_string().trim_end().replace('\n', " ")))?;
        config.check().map_err(|detail| self.refused(detail))?;
        Ok(config)
    }

    pub(super) fn replace_signing_key(&self, jwk: &str) -> Result<(), PortalError> {
        Ok(self.file(KEY_FILE).replace(jwk)?)
    }

    /// Which file the signing key is in now: one that was replaced has another number.
    pub(super) fn key_stamp(&self) -> Option<KeyStamp> {
        let meta = std::fs::metadata(self.file(KEY_FILE).path()).ok()?;
        Some((meta.ino(), meta.mtime(), meta.mtime_nsec()))
    }

    /// Reads the signing key.
    ///
    /// # Errors
    /// If it is missing, damaged, or open to others.
    pub fn signing_key(&self) -> Result<SigningKey, PortalError> {
        let file = self.file(KEY_FILE);
        Ok(SigningKey::from_jwk(&file.read()?).map_err(|e| file.contents(e))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;

    fn config(relay: &str) -> Config {
        Config { id: "portal-1".parse().unwrap(), relay: relay.to_owned(), ca_file: None }
    }

    #[test]
    fn what_init_wrote_is_read_again_and_a_second_init_keeps_its_hands_off() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(&dir.path().join("portal"));
        let public = home.init(&config("https://relay.example:8443"), &System).unwrap();
        assert_eq!(home.config().unwrap(), config("https://relay.example:8443"));
        assert_eq!(home.signing_key().unwrap().public(), &public);
        let again = home.init(&config("https://other.example"), &System);
        assert!(matches!(again, Err(PortalError::AlreadyInitialised { .. })), "{again:?}");
        assert_eq!(home.signing_key().unwrap().public(), &public);
    }

    #[test]
    fn an_interrupted_init_keeps_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let key = SigningKey::generate(&System).unwrap();
        home.file(KEY_FILE).replace(&key.to_jwk()).unwrap();
        assert_eq!(&home.init(&config("https://relay.example"), &System).unwrap(), key.public());
    }

    #[test]
    fn a_wrong_configuration_names_its_file_and_field() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        for (toml, field) in [
            ("id = \"p\"\nrelay = \"https://r\"\ncafile = \"x\"\n", "cafile"),
            ("relay = \"https://r\"\n", "id"),
            ("id = \"a b\"\nrelay = \"https://r\"\n", "portal"),
            ("id = \"p\"\nrelay = \"http://r\"\n", "relay"),
            ("id = \"p\"\nrelay = \"https://r/\"\n", "relay"),
        ] {
            home.file(CONFIG_FILE).replace(toml).unwrap();
            let error = home.config().unwrap_err().to_string();
            assert!(error.contains("portal.toml") && error.contains(field), "{error}");
        }
    }
}
