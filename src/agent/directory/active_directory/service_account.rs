//! Who the agent is to the directory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::answer::{bind_data, diagnostic};
use super::config::{Config, ConfigError};
use super::connection::{Connection, RequestError};
use crate::storage::Secret;

/// How long a password that was refused is not tried again: each trial counts as a bad logon, and the domain's lockout
/// policy would lock the service account.
const REFUSED_FOR: Duration = Duration::from_secs(15 * 60);

/// The account, and where its password is.
pub(super) struct ServiceAccount {
    name: String,
    password: Secret,
    refused: ArcSwapOption<Refused>,
}

struct Refused {
    password: Zeroizing<String>,
    at: Instant,
    why: String,
}

/// Why the service account is not bound.
#[derive(Debug, thiserror::Error)]
pub(super) enum BindError {
    /// It may not log on, at this controller or another.
    #[error("{0}")]
    Refused(String),
    /// The controller did not answer.
    #[error("{0}")]
    NoAnswer(#[from] RequestError),
}

impl ServiceAccount {
    /// From the configuration; the password's file must be of use.
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let (name, password) = config.service_account()?;
        Ok(Self { name, password, refused: ArcSwapOption::empty() })
    }

    /// With a password that somebody has just said.
    pub(super) fn answered(config: &Config, password: Zeroizing<String>) -> Result<Self, ConfigError> {
        let (name, password) = config.service_account_with(password)?;
        Ok(Self { name, password, refused: ArcSwapOption::empty() })
    }

    /// Nobody: of a controller that is only looked for.
    pub(super) fn nobody() -> Self {
        Self { name: String::new(), password: Secret::at(Path::new("")), refused: ArcSwapOption::empty() }
    }

    /// Its name, as it is configured.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Binds `connection`.
    pub(super) async fn bind(&self, connection: &Connection) -> Result<(), BindError> {
        let password = self.password().map_err(BindError::Refused)?;
        if let Some(why) = self.refused_before(&password) {
            return Err(BindError::Refused(why));
        }
        let result = connection.bind(&self.name, &password).await?;
        if result.rc == 0 {
            return Ok(());
        }
        let data = bind_data(&result);
        let cause = match data.as_deref() {
            Some("52e") => format!(
                "no such account, or the password in {} is wrong; it is tried again when that file changes, or after \
                 {} minutes",
                self.password.place().display(),
                REFUSED_FOR.as_secs() / 60
            ),
            Some("532") => "its password has expired".to_owned(),
            Some("533") => "the account is disabled".to_owned(),
            Some("701") => "the account has expired".to_owned(),
            Some("773") => "its password must be changed first".to_owned(),
            Some("775") => "the account is locked".to_owned(),
            _ => diagnostic(&result),
        };
        let why = format!("the service account {} can't log on: {cause}", self.name);
        if data.as_deref() == Some("52e") {
            self.refused.store(Some(Arc::new(Refused { password, at: Instant::now(), why: why.clone() })));
        }
        Err(BindError::Refused(why))
    }

    fn password(&self) -> Result<Zeroizing<String>, String> {
        let mut password = self.password.read().map_err(|e| e.to_string())?;
        let length = password.trim_end_matches(['\r', '\n']).len();
        password.truncate(length);
        if password.is_empty() {
            return Err(ConfigError::EmptyPassword(self.password.place().to_owned()).to_string());
        }
        Ok(password)
    }

    fn refused_before(&self, password: &str) -> Option<String> {
        let refused = self.refused.load();
        let refused = refused.as_ref()?;
        (*refused.password == password && refused.at.elapsed() < REFUSED_FOR).then(|| refused.why.clone())
    }
}
