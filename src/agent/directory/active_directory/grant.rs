//! The delegation for an administrator: as commands to read and run, or carried out with his credentials.

use std::fmt::Write;

use zeroize::Zeroizing;

use super::ActiveDirectory;
use super::answer::diagnostic;
use super::config::{Config, ConfigError};
use super::connection::Connection;
use super::controller::{Controller, ControllerError};
use super::delegation::{self, DelegationError, Reach, Tool};
use super::right::Right;
use super::trustee::Trustee;

/// Somebody who may change permissions. His password is used once and written nowhere.
pub struct Administrator {
    /// `administrator@corp.example`, `CORP\administrator`, or a distinguished name.
    pub name: String,
    /// For a simple bind, inside TLS.
    pub password: Zeroizing<String>,
}

impl std::fmt::Debug for Administrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Administrator({})", self.name)
    }
}

/// Why nothing could be said, or given.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The configuration can't work.
    #[error("[directory] {0}")]
    Config(#[from] ConfigError),
    /// No domain controller could be used; why, for each.
    #[error("no domain controller could be asked: {0}")]
    Unreachable(String),
    /// The administrator is not let in.
    #[error("{controller}: {name} can't log on ({said})")]
    NotBound {
        /// The domain controller.
        controller: String,
        /// The administrator.
        name: String,
        /// What it said.
        said: String,
    },
    /// The permissions of a unit were not changed; those of the units before it were.
    #[error("{0}")]
    NotApplied(String),
}

/// What the service account needs, and where.
pub struct Grant {
    connection: Connection,
    trustee: Trustee,
    domain: String,
    units: Vec<String>,
}

impl Grant {
    /// Looks up the service account and the units at the first domain controller that answers: as the administrator, or as
    /// the service account itself, which is enough to print the commands.
    ///
    /// # Errors
    /// If there is none that can be asked.
    pub async fn prepare(config: &Config, administrator: Option<&Administrator>) -> Result<Self, GrantError> {
        let directory = ActiveDirectory::new(config)?;
        let mut reasons = Vec::new();
        for domain in &directory.domains {
            let controllers = domain.in_order().await.inspect_err(|error| reasons.push(error.to_string()));
            for controller in controllers.unwrap_or_default() {
                match Self::at(&controller, administrator).await? {
                    Ok(grant) => return Ok(grant),
                    Err(error) => reasons.push(error.to_string()),
                }
            }
        }
        Err(GrantError::Unreachable(reasons.join("; ")))
    }

    /// The inner error leaves hope for another controller.
    async fn at(
        controller: &Controller,
        administrator: Option<&Administrator>,
    ) -> Result<Result<Self, ControllerError>, GrantError> {
        let connection = match controller.open().await {
            Ok(connection) => connection,
            Err(error) => return Ok(Err(error)),
        };
        let name = || controller.name().to_owned();
        match administrator {
            Some(Administrator { name: who, password }) => match connection.bind(who, password).await {
                Ok(result) if result.rc == 0 && !password.is_empty() => {}
                Ok(result) => {
                    let said = diagnostic(&result);
                    return Err(GrantError::NotBound { controller: name(), name: who.clone(), said });
                }
                Err(error) => return Ok(Err(ControllerError::NoAnswer { controller: name(), error })),
            },
            None => {
                if let Err(error) = controller.bind(&connection).await {
                    return Ok(Err(error));
                }
            }
        }
        let domain = match controller.root_dse(&connection).await {
            Ok(root) => root.default_naming_context.unwrap_or_default(),
            Err(error) => return Ok(Err(error)),
        };
        let service_account = controller.service_account().name();
        Ok(match Trustee::find(&connection, &domain, service_account).await {
            Ok(trustee) => {
                let units = controller.base_dns(&domain);
                Ok(Self { connection, trustee, domain, units })
            }
            Err(error) => Err(ControllerError::NoAnswer { controller: name(), error }),
        })
    }

    /// The commands, with a word about where to run them.
    #[must_use]
    pub fn commands(&self) -> String {
        let mut text = String::new();
        for (tool, place) in [
            (Tool::Dsacls, "On Windows, as a domain administrator:"),
            (Tool::SambaTool, "Or on a Samba domain controller, as root:"),
        ] {
            // Writing to a text does not fail.
            let _ = writeln!(text, "{place}\n");
            for unit in &self.units {
                let command = tool.grant_all(&Right::DELEGATED, &self.trustee, unit, Reach::UsersBelow);
                let _ = writeln!(text, "  {command}");
            }
            let _ = writeln!(text);
        }
        text.push_str(
            "To read accounts, and Unexpire Password on the domain, is usually everybody's right. Only if the check says \
             that one is missing:\n\n",
        );
        for tool in [Tool::Dsacls, Tool::SambaTool] {
            for unit in &self.units {
                let command = tool.grant(Right::ReadAccount, &self.trustee, unit, Reach::UsersBelow);
                let _ = writeln!(text, "  {command}");
            }
            let command = tool.grant(Right::UnexpirePassword, &self.trustee, &self.domain, Reach::Object);
            let _ = writeln!(text, "  {command}");
        }
        text
    }

    /// Gives the rights on each unit, without touching any other permission; those that are there already are left as they
    /// are. A line for each unit says which it was.
    ///
    /// # Errors
    /// At the first unit whose permissions can't be changed.
    pub async fn apply(&self) -> Result<String, GrantError> {
        let mut said = String::new();
        for unit in &self.units {
            let given = delegation::apply(&self.connection, &self.trustee, unit).await;
            let given = given.map_err(|error: DelegationError| GrantError::NotApplied(format!("{said}{error}")))?;
            let what = if given { "now has the four rights on the users below" } else { "had the four rights below" };
            let _ = writeln!(said, "{} {what} {unit}", self.trustee.name);
        }
        Ok(said)
    }
}
