//! `[directory]` in `agent.toml`: which directory the agent writes to.

use std::sync::Arc;

use serde::Deserialize;

use super::{Directory, active_directory, demo};
use crate::clock::{Clock, Random};

/// Which directory, by its `kind`.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Config {
    /// Active Directory, over LDAP with TLS.
    ActiveDirectory(active_directory::Config),
    /// Accounts in memory, for trying things out.
    Demo(demo::Config),
}

/// Why the directory can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Active Directory's configuration can't work.
    #[error("[directory] {0}")]
    ActiveDirectory(#[from] active_directory::ConfigError),
    /// The demo directory's state file or accounts are no use.
    #[error(transparent)]
    Demo(#[from] demo::DemoError),
}

impl Config {
    /// Opens it.
    ///
    /// # Errors
    /// If what is configured can't be used.
    pub fn open(&self, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Arc<dyn Directory>, OpenError> {
        match self {
            Self::ActiveDirectory(config) => Ok(Arc::new(active_directory::ActiveDirectory::new(config)?)),
            Self::Demo(config) => Ok(Arc::new(demo::Demo::configured(config, clock, random)?)),
        }
    }
}
