//! What is known before anybody is asked: from a file, and from flags, which count more.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::present::Present;
use crate::storage::{FileError, PrivateFile};

/// A text that no `Debug` shows.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The answers. What is absent is asked for, or has a default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answers {
    /// The enrolment code that the portal printed.
    pub code: Option<Secret>,
    /// A file with the relay's private CA.
    pub relay_ca_file: Option<PathBuf>,
    /// An HTTP proxy on the way to the relay: `http://HOST:PORT`.
    pub proxy: Option<String>,
    /// The domain's DNS name, or URLs of domain controllers, separated by commas; or `demo`, a directory for trials.
    pub directory: Option<String>,
    /// Turn TLS on inside a plain connection to the domain controllers.
    pub start_tls: Option<bool>,
    /// Who is asked for the domain's names.
    pub name_servers: Option<Vec<String>>,
    /// A file with the CA of the domain controllers' certificates.
    pub directory_ca_file: Option<PathBuf>,
    /// The service account: `svc@corp.example`, `CORP\svc`, or a distinguished name.
    pub service_account: Option<String>,
    /// Its password.
    pub service_account_password: Option<Secret>,
    /// Where accounts are looked for; the whole domain if it is empty.
    pub units: Option<Vec<String>>,
    /// The accounts of a directory for trials.
    pub accounts: Option<Vec<String>>,
    /// Give the service account the rights that it lacks, as this administrator.
    pub grant: Option<String>,
    /// The administrator's password, used once and written nowhere.
    pub grant_password: Option<Secret>,
    /// Enrol even if the check is red.
    pub despite_failures: bool,
}

/// Why a file with answers is no use.
#[derive(Debug, thiserror::Error)]
pub enum AnswersError {
    /// It can't be read, or others may read it.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not what is expected. No line of it is shown: a secret may stand there.
    #[error("{path}: {detail}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

impl Answers {
    /// Reads a TOML file (mode 0600).
    ///
    /// # Errors
    /// If it can't be read, or holds something that is unknown or not of its form.
    pub fn read(path: &Path) -> Result<Self, AnswersError> {
        let text = PrivateFile::new(path).read()?;
        toml::from_str(&text).map_err(|error| {
            let before = text.get(..error.span().unwrap_or_default().start).unwrap_or_default();
            let detail = format!("line {}: {}", before.matches('\n').count() + 1, error.message());
            AnswersError::Invalid { path: path.to_owned(), detail }
        })
    }

    /// What they leave open stays as it is, and is not asked for.
    pub(super) fn keep(&mut self, present: &Present) {
        self.directory.get_or_insert_with(|| present.directory.clone());
        self.units.get_or_insert_with(|| present.units.clone());
        self.service_account.get_or_insert_with(|| present.service_account.clone());
    }

    /// Whether they say anything about the directory: who sets an agent up again wants that changed then.
    #[must_use]
    pub fn change_the_directory(&self) -> bool {
        self.directory.is_some()
            || self.start_tls.is_some()
            || self.name_servers.is_some()
            || self.directory_ca_file.is_some()
            || self.service_account.is_some()
            || self.service_account_password.is_some()
            || self.units.is_some()
            || self.accounts.is_some()
    }

    /// Whether they say anything about the way to the relay.
    #[must_use]
    pub fn change_the_relay(&self) -> bool {
        self.relay_ca_file.is_some() || self.proxy.is_some()
    }

    /// These, and where they say nothing, those.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            code: self.code.or(other.code),
            relay_ca_file: self.relay_ca_file.or(other.relay_ca_file),
            proxy: self.proxy.or(other.proxy),
            directory: self.directory.or(other.directory),
            start_tls: self.start_tls.or(other.start_tls),
            name_servers: self.name_servers.or(other.name_servers),
            directory_ca_file: self.directory_ca_file.or(other.directory_ca_file),
            service_account: self.service_account.or(other.service_account),
            service_account_password: self.service_account_password.or(other.service_account_password),
            units: self.units.or(other.units),
            accounts: self.accounts.or(other.accounts),
            grant: self.grant.or(other.grant),
            grant_password: self.grant_password.or(other.grant_password),
            despite_failures: self.despite_failures || other.despite_failures,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn flags_count_more_than_a_file_which_is_private_and_repeats_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let file = PrivateFile::new(dir.path().join("answers.toml"));
        file.replace("directory = \"corp.example\"\nservice_account_password = \"hunter2\"\nunits = [\"OU=A,DC=b\"]\n")
            .unwrap();
        let flags = Answers { directory: Some("ldaps://dc1".into()), ..Answers::default() };
        let answers = flags.or(Answers::read(file.path()).unwrap());
        assert_eq!(
            (answers.directory.as_deref(), answers.units.as_ref().map(Vec::len)),
            (Some("ldaps://dc1"), Some(1))
        );
        assert!(!format!("{answers:?}").contains("hunter2"));
        for wrong in ["units = 1\nservice_account_password = \"hunter2\"", "password = \"hunter2\"", "code = hunter2"] {
            file.replace(wrong).unwrap();
            let error = Answers::read(file.path()).unwrap_err().to_string();
            assert!(error.contains("answers.toml: line ") && !error.contains("hunter2"), "{error}");
        }
        set_permissions(file.path(), Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Answers::read(file.path()), Err(AnswersError::File(FileError::Mode { .. }))));
    }
}
