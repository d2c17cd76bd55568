//! Active Directory, over LDAP with TLS.
//!
//! | module | what |
//! |---|---|
//! | `config` | what the administrator writes |
//! | `connection` | one LDAP connection; every request has a deadline |
//! | `service_account` | who the agent is to the directory |
//! | `controller` | one domain controller, and the connection kept to it |
//! | `lookup`, `write`, `password_check` | what is asked of it |
//! | `policy_hints` | how a reset looks at the history |
//! | `answer`, `entry` | what its answers mean |
//! | `right`, `security_descriptor` | what the service account may do, and where that is written |
//! | `preflight` | whether resets can work |
//! | `delegation`, [`grant`] | how the rights are given |
//!
//! A question may be asked twice, at the same controller; a write never is.

mod answer;
mod config;
mod connection;
mod controller;
mod delegation;
mod entry;
pub mod grant;
mod lookup;
mod password_check;
mod policy_hints;
mod preflight;
mod right;
mod security_descriptor;
mod service_account;
mod trustee;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

pub use self::config::{Config, ConfigError};
use self::connection::Dialer;
use self::controller::{Bound, Controller, ControllerError};
use self::service_account::ServiceAccount;
use self::write::Target;
use super::{Account, Deadline, Directory, DirectoryError, Finding, PasswordCheck};
use crate::clock::Clock;
use crate::net::tls_client;
use crate::protocol::command::{Options, Subject};
use crate::protocol::password::Password;

/// Of a search: the place to search is not there.
const NO_SUCH_OBJECT: u32 = 32;

/// The domain controllers of one Active Directory domain.
///
/// One method takes at most twice the connect timeout and four times the operation timeout, for each configured
/// controller.
pub struct ActiveDirectory {
    controllers: Vec<Controller>,
}

impl ActiveDirectory {
    /// Checks everything that needs no network. Nothing is connected before the first question.
    ///
    /// # Errors
    /// If the configuration can't work; the error says which line, and why.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let dialer = Arc::new(Dialer {
            tls: Arc::new(tls_client(config.ca_file.as_deref())?),
            start_tls: config.start_tls,
            connect_timeout: config.connect_timeout()?,
            operation_timeout: config.operation_timeout()?,
        });
        let service_account = Arc::new(ServiceAccount::new(config)?);
        let base_dns = config.base_dns()?;
        let controllers = config.endpoints()?.into_iter().map(|endpoint| {
            Controller::new(endpoint, Arc::clone(&dialer), Arc::clone(&service_account), base_dns.clone())
        });
        Ok(Self { controllers: controllers.collect() })
    }

    /// The controllers to try: those with a connection first, so that one that is down doesn't cost a timeout each time.
    fn in_order(&self) -> impl Iterator<Item = &Controller> {
        let (connected, others): (Vec<_>, Vec<_>) = self.controllers.iter().partition(|c| c.is_connected());
        connected.into_iter().chain(others)
    }

    /// The controller that found the account.
    fn controller_of(&self, account: &Account) -> Result<&Controller, DirectoryError> {
        self.controllers.iter().find(|controller| controller.name() == account.controller).ok_or_else(|| {
            DirectoryError::Unavailable(format!("{} is not in the agent's configuration any more", account.controller))
        })
    }

    /// The account as its controller has it now, on a connection that is alive.
    async fn read(controller: &Controller, guid: Uuid) -> Result<(Arc<Bound>, Account), DirectoryError> {
        let found = controller.search(|_| lookup::by_guid(guid)).await?;
        let (account, _) = lookup::only(&found.entries, &found.result, controller.name())?;
        Ok((found.bound, account))
    }

    /// Where a write of the account goes. The account may have moved meanwhile, and the connection may have been closed
    /// while idle: both show here, before anything is written.
    async fn target<'a>(&'a self, account: &Account, deadline: &'a Deadline) -> Result<Target<'a>, DirectoryError> {
        let controller = self.controller_of(account)?;
        let (bound, now) = Self::read(controller, account.object_guid).await?;
        Ok(Target { controller, bound, dn: now.dn, deadline })
    }
}

#[async_trait]
impl Directory for ActiveDirectory {
    async fn find(&self, subject: &Subject) -> Result<Account, DirectoryError> {
        let mut unreachable = Vec::new();
        for controller in self.in_order() {
            match lookup::find(controller, subject).await {
                Ok((found, base_dn)) if found.result.rc == NO_SUCH_OBJECT => {
                    let detail = format!("{}: base_dn: {base_dn} is not there", controller.name());
                    return Err(DirectoryError::Unavailable(detail));
                }
                Ok((found, _)) => {
                    let (account, barred) = lookup::only(&found.entries, &found.result, controller.name())?;
                    return match barred {
                        Some(barred) => Err(barred.refusal(controller.name())),
                        None => Ok(account),
                    };
                }
                Err(error @ ControllerError::Unreachable { .. }) => unreachable.push(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(DirectoryError::Unavailable(unreachable.join("; ")))
    }

    async fn reset_password(
        &self,
        account: &Account,
        new_password: &Password,
        options: Options,
        deadline: &Deadline,
    ) -> Result<(), DirectoryError> {
        self.target(account, deadline).await?.reset(new_password, options).await
    }

    async fn change_password(
        &self,
        account: &Account,
        current: &Password,
        new_password: &Password,
        deadline: &Deadline,
    ) -> Result<(), DirectoryError> {
        self.target(account, deadline).await?.change(current, new_password).await
    }

    async fn unlock_account(&self, account: &Account, deadline: &Deadline) -> Result<(), DirectoryError> {
        self.target(account, deadline).await?.unlock().await
    }

    async fn pwd_last_set(&self, account: &Account) -> Result<i64, DirectoryError> {
        let (_, now) = Self::read(self.controller_of(account)?, account.object_guid).await?;
        Ok(now.pwd_last_set)
    }

    async fn lockout_time(&self, account: &Account) -> Result<i64, DirectoryError> {
        let (_, now) = Self::read(self.controller_of(account)?, account.object_guid).await?;
        Ok(now.lockout_time)
    }

    async fn try_password(&self, account: &Account, password: &Password) -> Result<PasswordCheck, DirectoryError> {
        let controller = self.controller_of(account)?;
        let (_, now) = Self::read(controller, account.object_guid).await?;
        // A connection of its own: a bind changes who the connection is.
        let connection = controller.open().await?;
        let answer = connection.bind(&now.dn, password.expose()).await;
        let result = answer.map_err(|e| DirectoryError::Unavailable(format!("{}: {e}", controller.name())))?;
        Ok(password_check::verdict(&result))
    }

    async fn preflight(&self, clock: &dyn Clock) -> Vec<Finding> {
        preflight::preflight(&self.controllers, clock).await
    }
}
