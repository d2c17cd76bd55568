//! The delegation for an administrator: as commands to read and run, or carried out with his credentials.

use std::fmt::Write;

use zeroize::Zeroizing;

use super::ActiveDirectory;
use super::answer::{diagnostic, is_about_the_account};
use super::config::{Config, ConfigError};
use super::connection::{Connection, RequestError};
use super::contest::Contest;
use super::controller::{Controller, ControllerError};
use super::delegation::{self, DelegationError, Reach, Tool};
use super::domain::Domain;
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
    /// One domain of several.
    #[error(
        "{domain}: {error}; nothing was changed in any domain. An administrator of that domain does it with --domain {domain}"
    )]
    InDomain {
        /// The domain.
        domain: String,
        /// What is wrong there.
        error: Box<GrantError>,
    },
    /// It is not configured.
    #[error("there is no domain {name} in [directory], only {served}")]
    NoSuchDomain {
        /// As it was asked for.
        name: String,
        /// Those that there are.
        served: String,
    },
    /// The permissions of a unit were not changed; those of the units before it were.
    #[error("{0}")]
    NotApplied(String),
}

impl GrantError {
    fn in_domain(self, domain: &str) -> Self {
        Self::InDomain { domain: domain.to_owned(), error: Box::new(self) }
    }
}

/// What the service account of each domain needs, and where.
pub struct Grant(Vec<Place>);

/// In one domain.
struct Place {
    connection: Connection,
    trustee: Trustee,
    domain: String,
    units: Vec<String>,
}

impl Grant {
    /// Looks up each domain's service account and units at the first domain controller that answers: as the administrator,
    /// or as the service account itself, which is enough to print the commands. Of several domains, all, or `only` one: not
    /// every administrator governs all of them.
    ///
    /// # Errors
    /// If a domain has none that can be asked, or there is no such domain.
    pub async fn prepare(
        config: &Config,
        only: Option<&str>,
        administrator: Option<&Administrator>,
    ) -> Result<Self, GrantError> {
        let mut domains = ActiveDirectory::new(config)?.domains;
        if let Some(name) = only {
            let served: Vec<_> = domains.iter().map(|domain| domain.name().to_owned()).collect();
            domains.retain(|domain| domain.name().eq_ignore_ascii_case(name));
            if domains.is_empty() {
                return Err(GrantError::NoSuchDomain { name: name.to_owned(), served: served.join(", ") });
            }
        }
        let several = domains.len() > 1;
        let mut places = Vec::new();
        for domain in &domains {
            // All are asked before anything is changed in one of them.
            let place = Place::of(domain, administrator).await;
            places.push(place.map_err(|error| if several { error.in_domain(domain.name()) } else { error })?);
        }
        Ok(Self(places))
    }

    /// The commands, with a word about where to run them.
    #[must_use]
    pub fn commands(&self) -> String {
        if self.0.len() > 1 {
            // They are run in different domains.
            let domain = |place: &Place| format!("== {} ==\n\n{}", place.domain, Self::commands_in(&[place]));
            return self.0.iter().map(domain).collect();
        }
        Self::commands_in(&self.0.iter().collect::<Vec<_>>())
    }

    fn commands_in(places: &[&Place]) -> String {
        let mut text = String::new();
        for (tool, title) in [
            (Tool::Dsacls, "On Windows, as a domain administrator:"),
            (Tool::SambaTool, "Or on a Samba domain controller, as root:"),
        ] {
            let commands = places.iter().flat_map(|place| place.delegations(tool));
            text.push_str(&block(title, commands));
        }
        let rest = [Tool::Dsacls, Tool::SambaTool];
        let rest = rest.into_iter().flat_map(|tool| places.iter().flat_map(move |place| place.usual(tool)));
        text.push_str(&block(
            "To read accounts and their groups, and Unexpire Password on the domain, is usually everybody's right. Only if the check says \
             that one is missing:",
            rest,
        ));
        text
    }

    /// Gives the rights on each unit, without touching any other permission; those that are there already are left as they
    /// are. A line for each unit says which it was.
    ///
    /// # Errors
    /// At the first unit whose permissions can't be changed.
    pub async fn apply(&self) -> Result<String, GrantError> {
        let mut said = String::new();
        for place in &self.0 {
            for unit in &place.units {
                let given = delegation::apply(&place.connection, &place.trustee, unit).await;
                let given = given.map_err(|error: DelegationError| {
                    GrantError::NotApplied(said.replace('\n', "; ") + &error.to_string())
                })?;
                let what =
                    if given { "now has the four rights on the users below" } else { "had the four rights below" };
                // Writing to a text does not fail.
                let _ = writeln!(said, "{} {what} {unit}", place.trustee.name);
            }
        }
        Ok(said)
    }
}

fn block(title: &str, commands: impl Iterator<Item = String>) -> String {
    format!("{title}\n\n{}\n", commands.map(|command| format!("  {command}\n")).collect::<String>())
}

impl Place {
    async fn of(domain: &Domain, administrator: Option<&Administrator>) -> Result<Self, GrantError> {
        let mut reasons = Vec::new();
        let controllers = domain.in_order().await.inspect_err(|error| reasons.push(error.to_string()));
        let mut contest =
            Contest::of(controllers.unwrap_or_default(), |controller| async move { controller.open().await });
        while let Some((controller, opened)) = contest.next().await {
            let place = match opened {
                Ok(connection) => Self::at(&controller, connection, administrator).await?,
                Err(error) => Err(error),
            };
            match place {
                Ok(place) => return Ok(place),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        Err(GrantError::Unreachable(reasons.join("; ")))
    }

    /// The four rights on each unit.
    fn delegations(&self, tool: Tool) -> impl Iterator<Item = String> {
        self.units.iter().map(move |unit| tool.grant_all(&Right::DELEGATED, &self.trustee, unit, Reach::UsersBelow))
    }

    /// What everybody may, usually.
    fn usual(&self, tool: Tool) -> impl Iterator<Item = String> {
        let read = move |unit: &String| tool.grant(Right::ReadAccount, &self.trustee, unit, Reach::UsersBelow);
        let groups = move |unit: &String| tool.grant(Right::ReadTokenGroups, &self.trustee, unit, Reach::UsersBelow);
        let unexpire = tool.grant(Right::UnexpirePassword, &self.trustee, &self.domain, Reach::Object);
        self.units.iter().map(read).chain(self.units.iter().map(groups)).chain([unexpire])
    }

    /// The inner error leaves hope for another controller.
    async fn at(
        controller: &Controller,
        connection: Connection,
        administrator: Option<&Administrator>,
    ) -> Result<Result<Self, ControllerError>, GrantError> {
        let name = || controller.name().to_owned();
        match administrator {
            Some(Administrator { name: who, password }) => match connection.bind(who, password).await {
                Ok(result) if result.rc == 0 && !password.is_empty() => {}
                Ok(result) if !is_about_the_account(&result) => {
                    let error = RequestError::CanNot { code: result.rc, said: diagnostic(&result) };
                    return Ok(Err(ControllerError::NoAnswer { controller: name(), error }));
                }
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
}
