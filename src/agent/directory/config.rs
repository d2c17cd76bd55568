//! `[directory]` in `agent.toml`: which directory the agent writes to.

use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{Directory, active_directory, demo};
use crate::clock::{Clock, Random};

/// Which directory, by its `kind`.
#[derive(Debug, Clone)]
pub enum Config {
    /// Active Directory, over LDAP with TLS.
    ActiveDirectory(active_directory::Config),
    /// Accounts in memory, for trying things out.
    Demo(demo::Config),
}

/// What serde makes of a tagged enum forgets which field an error is about.
impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        let kind = table.remove("kind").ok_or_else(|| D::Error::missing_field("kind"))?;
        let read = match kind.as_str() {
            Some("active_directory") => table.try_into().map(Self::ActiveDirectory),
            Some("demo") => table.try_into().map(Self::Demo),
            other => {
                let kind = other.unwrap_or("(a value that is no text)");
                let expected = "\"active_directory\" or \"demo\" is expected";
                return Err(D::Error::custom(format_args!("kind: {kind:?} is no kind of directory; {expected}")));
            }
        };
        // The message, and then "in `field`".
        read.map_err(|error| D::Error::custom(error.to_string().trim().replace('\n', " ")))
    }
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
