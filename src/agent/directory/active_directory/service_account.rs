//! Who the agent is to the directory.

use std::path::Path;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::answer::{bind_data, diagnostic, is_about_the_account};
use super::config::{Config, ConfigError};
use super::connection::{Connection, RequestError};
use super::password_tries::{Admission, PasswordTries, REFUSED_FOR};
use crate::storage::Secret;

/// The account, and where its password is.
pub(super) struct ServiceAccount {
    name: String,
    password: Secret,
    tries: Mutex<PasswordTries>,
    ended: Notify,
}

/// Why the service account is not bound.
#[derive(Debug, thiserror::Error)]
pub(super) enum BindError {
    /// It may not log on, at this controller or another.
    #[error("{0}")]
    Refused(String),
    /// This controller does not take its password, or is not shown it: another may.
    #[error("{0}")]
    PasswordRefused(String),
    /// The controller answered that it can't do it: another may.
    #[error("logging on: {0}")]
    Trouble(String),
    /// The controller did not answer.
    #[error("logging on: {0}")]
    NoAnswer(#[from] RequestError),
}

impl ServiceAccount {
    /// From the configuration; the password's file must be of use.
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let (name, password) = config.service_account()?;
        Ok(Self::called(name, password))
    }

    /// With a password that somebody has just said.
    pub(super) fn answered(config: &Config, password: Zeroizing<String>) -> Result<Self, ConfigError> {
        let (name, password) = config.service_account_with(password)?;
        Ok(Self::called(name, password))
    }

    /// Nobody: of a controller that is only looked for.
    pub(super) fn nobody() -> Self {
        Self::called(String::new(), Secret::at(Path::new("")))
    }

    fn called(name: String, password: Secret) -> Self {
        Self { name, password, tries: Mutex::new(PasswordTries::of(Zeroizing::default())), ended: Notify::new() }
    }

    /// Its name, as it is configured.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Binds `connection`, which leads to this controller.
    pub(super) async fn bind(&self, connection: &Connection, controller: &str) -> Result<(), BindError> {
        let password = self.password().map_err(BindError::Refused)?;
        let under_way = self.admitted(&password, controller).await?;
        let result = connection.bind(&self.name, &password).await?;
        let can_not = |cause: &str| format!("the service account {} can't log on: {cause}", self.name);
        if !is_about_the_account(&result) {
            return Err(BindError::Trouble(diagnostic(&result)));
        }
        if result.rc == 0 {
            under_way.note(&password, |tries| tries.taken(controller));
            return Ok(());
        }
        let cause = match bind_data(&result).as_deref() {
            Some("530") => "not at this hour".to_owned(),
            Some("531") => "not from this host".to_owned(),
            Some("532") => "its password has expired".to_owned(),
            Some("533") => "the account is disabled".to_owned(),
            Some("701") => "the account has expired".to_owned(),
            Some("773") => "its password must be changed first".to_owned(),
            Some("775") => "the account is locked".to_owned(),
            // 525 and 52e: no such account, or another password. What gives no reason may have counted as a bad logon, too.
            known => {
                under_way.note(&password, |tries| tries.refused(controller, Instant::now()));
                let said = if known.is_some() { String::new() } else { format!(" ({})", diagnostic(&result)) };
                return Err(BindError::PasswordRefused(can_not(&self.refused_here(&said))));
            }
        };
        Err(BindError::Refused(can_not(&cause)))
    }

    /// When this password may be tried at this controller.
    async fn admitted(&self, password: &Zeroizing<String>, controller: &str) -> Result<UnderWay<'_>, BindError> {
        let refused = |why: &str| Err(BindError::PasswordRefused(format!("the service account {} {why}", self.name)));
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // From here on no end is missed.
            ended.as_mut().enable();
            let admission = {
                let mut tries = self.tries.lock();
                if !tries.are_of(password) {
                    tries.change_to(password.clone());
                }
                tries.admit(controller, Instant::now())
            };
            match admission {
                Admission::Now => return Ok(UnderWay(self)),
                Admission::Wait => ended.await,
                Admission::RefusedHere => return refused(&format!("can't log on: {}", self.refused_here(""))),
                Admission::RefusedBy(others) => {
                    let (others, minutes) = (others.join(" and "), REFUSED_FOR.as_secs() / 60);
                    return refused(&format!(
                        "did not try to log on: {others} refused its password, and more wrong ones would lock it; it is tried \
                         again when {} changes, or after {minutes} minutes",
                        self.place()
                    ));
                }
            }
        }
    }

    fn refused_here(&self, said: &str) -> String {
        let minutes = REFUSED_FOR.as_secs() / 60;
        match self.password.place() {
            Some(place) => format!(
                "this controller knows no such account, or another password than the one in {}{said}: if the account has a new \
                 password, this controller may not have heard of it yet. It is tried again when that file changes, or after \
                 {minutes} minutes",
                place.display()
            ),
            None => format!(
                "this controller knows no such account, or another password{said}: if the account has a new one, this \
                 controller may not have heard of it yet"
            ),
        }
    }

    fn place(&self) -> String {
        self.password.place().map_or_else(|| "the password".to_owned(), |place| place.display().to_string())
    }

    fn password(&self) -> Result<Zeroizing<String>, String> {
        let mut password = self.password.read().map_err(|e| e.to_string())?;
        let length = password.trim_end_matches(['\r', '\n']).len();
        password.truncate(length);
        if password.is_empty() {
            return Err(ConfigError::EmptyPassword(self.place().into()).to_string());
        }
        Ok(password)
    }
}

/// A try that has no answer yet. It ends when this is dropped.
struct UnderWay<'a>(&'a ServiceAccount);

impl UnderWay<'_> {
    /// What came of it, unless the password is another one meanwhile.
    fn note(&self, password: &str, outcome: impl FnOnce(&mut PasswordTries)) {
        let mut tries = self.0.tries.lock();
        if tries.are_of(password) {
            outcome(&mut tries);
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.tries.lock().ended();
        self.0.ended.notify_waiters();
    }
}
