//! What `agent.toml` says already: the defaults of whoever sets the agent up again.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::SetupError;
use crate::agent::config::Config;
use crate::agent::directory::active_directory;
use crate::agent::directory::config as directory;
use crate::storage::Secret;

/// A directory that setup could have written.
#[derive(Clone)]
pub(super) struct Present {
    /// Each of them, with what is here as the default; otherwise only what is no use any more.
    pub(super) is_asked_for: bool,
    pub(super) directory: String,
    pub(super) start_tls: bool,
    pub(super) name_servers: Vec<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) service_account: String,
    pub(super) password_file: PathBuf,
    /// If it can be read.
    pub(super) password: Option<Zeroizing<String>>,
    pub(super) units: Vec<String>,
}

/// What there is.
pub(super) enum Before {
    /// No `agent.toml`, or one without a directory.
    Nothing,
    /// One that can be changed by answers.
    Directory(Box<Present>),
    /// One that says more than setup asks for; why.
    ByHand(&'static str),
}

impl Before {
    /// As the file has it.
    ///
    /// # Errors
    /// If it is no use.
    pub(super) fn read(path: &Path) -> Result<Self, SetupError> {
        Ok(match Config::load(path)?.directory {
            None => Self::Nothing,
            Some(directory::Config::Demo(_)) => Self::ByHand("it has a directory for trials"),
            Some(directory::Config::ActiveDirectory(config)) if !config.domains.is_empty() => {
                Self::ByHand("it has several domains")
            }
            Some(directory::Config::ActiveDirectory(config)) => Self::Directory(Box::new(config.into())),
        })
    }
}

impl From<active_directory::Config> for Present {
    fn from(config: active_directory::Config) -> Self {
        let read = Secret::at(&config.bind_password_file).read().ok();
        let password = read.map(|text| Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()));
        Self {
            is_asked_for: true,
            directory: config.domain.unwrap_or_else(|| config.url.join(", ")),
            start_tls: config.start_tls,
            name_servers: config.name_servers.iter().map(|server| server.0.to_string()).collect(),
            ca_file: config.ca_file,
            service_account: config.bind_user,
            password_file: config.bind_password_file,
            password: password.filter(|password| !password.is_empty()),
            units: config.base_dn,
        }
    }
}
