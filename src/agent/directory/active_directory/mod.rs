//! Active Directory, over LDAP with TLS.
//!
//! | module | what |
//! |---|---|
//! | `config`, `forest` | what the administrator writes |
//! | `dialer` | how a controller is reached: its name, and one of its addresses |
//! | `connection` | one LDAP connection; every request has a deadline |
//! | `transport` | TLS, StartTLS, and what of the other side's words reaches the LDAP library |
//! | `service_account`, `password_tries` | who the agent is to the directory, and how often a password is tried |
//! | `domain`, `discovery`, `contest` | which controllers there are, and which is tried first, and beside it |
//! | `controller`, `health`, `read_only` | one domain controller, and the connection kept to it |
//! | `lookup`, `logon`, `write`, `password_check` | what is asked of it |
//! | `own_settings`, `own_password` | what an account's own settings turn into nothing |
//! | `policy_hints` | how a reset looks at the history |
//! | `authorization`, `protection` | who the agent is there, and which accounts it leaves alone |
//! | `answer`, `effective`, `entry`, `distinguished_name` | what its answers mean |
//! | `class`, `right`, `security_descriptor` | what the service account may do, and where that is written |
//! | `preflight` | whether resets can work |
//! | `delegation`, [`grant`] | how the rights are given |
//! | `units`, `typed_password`, `lockout` | what somebody who sets the agent up wants to know |
//! | `versions` | what somebody who helps him wants to know |
//!
//! A question may be asked twice, at the same controller; a write never is: its answer is waited for as long as the
//! connection stands.

mod answer;
mod authorization;
mod class;
mod config;
mod connection;
mod contest;
mod controller;
mod delegation;
mod dialer;
mod discovery;
mod distinguished_name;
mod domain;
mod effective;
mod entry;
mod forest;
pub mod grant;
mod health;
mod lockout;
mod logon;
mod lookup;
mod one_or_many;
mod own_password;
mod own_settings;
mod password_check;
mod password_tries;
mod policy_hints;
mod preflight;
mod protection;
mod read_only;
mod right;
mod security_descriptor;
mod service_account;
mod transport;
mod trustee;
mod typed_password;
mod units;
mod versions;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;
use zeroize::Zeroizing;

pub use self::config::{Config, ConfigError, DomainConfig, NameServer};
use self::connection::{Connection, RequestError};
use self::contest::Contest;
use self::controller::{Bound, Controller, Found};
use self::domain::Domain;
pub use self::lockout::Lockout;
use self::protection::{Barred, Ground};
pub use self::units::Unit;
use self::write::Target;
use super::{Account, Check, Deadline, Directory, DirectoryError, Finding, PasswordCheck, Written};
use crate::clock::{Clock, System};
use crate::protocol::account::FoldedName;
use crate::protocol::command::{Options, Subject};
use crate::protocol::outcome::Code;
use crate::protocol::password::Password;
use crate::protocol::remedy::Remedy;
use crate::protocol::scope::ServedDomain;
use crate::protocol::untrusted::Untrusted;

/// The domains of one forest, or a single one.
///
/// Everything that a method asks has a time of its own: the connect timeout, or the operation timeout. It asks some ten
/// questions, and one more for each unit, of each domain controller that takes connections; those that don't are tried side by
/// side.
pub struct ActiveDirectory {
    domains: Vec<Domain>,
}

impl ActiveDirectory {
    /// Checks everything that needs no network. Nothing is connected before the first question.
    ///
    /// # Errors
    /// If the configuration can't work; the error says which line, and why.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let domain = |one: Config| {
            let of_several = one.domains.first().map(|domain| domain.name.clone());
            Domain::new(&one, System::random()).map_err(|error| match of_several {
                Some(name) => ConfigError::OneOf { name, error: Box::new(error) },
                None => error,
            })
        };
        Ok(Self { domains: config.each_domain()?.into_iter().map(domain).collect::<Result<_, _>>()? })
    }

    /// The same of a single domain, with a password of the service account that is in no file yet.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn answered(config: &Config, password: &Zeroizing<String>) -> Result<Self, ConfigError> {
        let domain = |one: Config| Domain::answered(&one, password.clone(), System::random());
        Ok(Self { domains: config.each_domain()?.into_iter().map(domain).collect::<Result<_, _>>()? })
    }

    /// Looks for the domain controllers before there is a service account: their names, TCP and TLS.
    ///
    /// # Errors
    /// If the configuration can't work.
    pub async fn look_for(config: &Config, clock: &dyn Clock) -> Result<Vec<Finding>, ConfigError> {
        let mut findings = Vec::new();
        for one in config.each_domain()? {
            let domain = Domain::looked_for(&one, System::random())?;
            match domain.controllers().await {
                Ok(controllers) => findings.extend(preflight::look_for(&controllers, clock).await),
                Err(error) => findings.push(not_found(&domain, &error)),
            }
        }
        Ok(findings)
    }

    /// The domains whose account this may be: by the UPN's suffix, and all of them for a GUID.
    fn domains_of(&self, subject: &Subject) -> Result<Vec<&Domain>, DirectoryError> {
        let Subject::Upn(upn) = subject else { return Ok(self.domains.iter().collect()) };
        let suffix = upn.rsplit_once('@').map_or("", |(_, suffix)| suffix);
        let candidates: Vec<_> = self.domains.iter().filter(|domain| domain.has(suffix)).collect();
        if candidates.is_empty() {
            let served: Vec<_> = self.domains.iter().flat_map(Domain::suffixes).map(FoldedName::as_str).collect();
            let detail = format!(
                "no domain of this agent has the UPN suffix {suffix:?}, only {}; if it should, add it to upn_suffixes of its \
                 domain",
                served.join(", ")
            );
            return Err(DirectoryError::Refused { code: Code::UserNotFound, detail });
        }
        Ok(candidates)
    }

    /// The account in one domain, at the first controller that answers. A question changes nothing, so another may be asked.
    async fn find_in(&self, domain: &Domain, subject: &Subject) -> Result<Account, DirectoryError> {
        let mut reasons = Vec::new();
        let mut contest =
            Contest::of(domain.in_order().await?, |controller| async move { controller.ready().await.map(drop) });
        while let Some((controller, ready)) = contest.next().await {
            let answered = match ready {
                Ok(()) => lookup::find(&controller, subject).await,
                Err(error) => Err(error),
            };
            match answered {
                Ok((found, missing)) => {
                    let entries = lookup::named(found.entries, subject);
                    // It may stand there, for all that is known.
                    if entries.is_empty() && found.result.rc == 0 && !missing.is_empty() {
                        let missing = missing.join("; ");
                        let detail = format!("{}: base_dn: {missing} is not there", controller.name());
                        return Err(DirectoryError::Unavailable(detail));
                    }
                    let account = lookup::only(&entries, &found.result, controller.name())?;
                    match Self::look(domain, &controller, account.object_guid, Some(subject)).await {
                        Err(DirectoryError::Unavailable(why)) => reasons.push(why),
                        looked => return looked.map(|(_, account)| account),
                    }
                }
                Err(error) if error.leaves_hope() => reasons.push(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(DirectoryError::Unavailable(reasons.join("; ")))
    }

    /// What is seen at the first controller that answers, as the service account: `look` is given the domain's name there.
    async fn seen<T>(&self, look: impl AsyncFn(&Connection, &str) -> Result<T, RequestError>) -> Option<T> {
        for domain in &self.domains {
            let controllers = domain.in_order().await.unwrap_or_default();
            let mut contest = Contest::of(controllers, |controller| async move { controller.ready().await });
            while let Some((_, ready)) = contest.next().await {
                if let Ok(bound) = ready
                    && let Ok(seen) = look(&bound.connection, &bound.identity.domain).await
                {
                    return Some(seen);
                }
            }
        }
        None
    }

    /// The controller that found the account, and its domain.
    async fn controller_of(&self, account: &Account) -> Result<(&Domain, Arc<Controller>), DirectoryError> {
        let mut unknown = None;
        for domain in &self.domains {
            match domain.controller(&account.controller).await {
                Ok(Some(controller)) => return Ok((domain, controller)),
                Ok(None) => {}
                // Its DNS may be away, and the controller be one of another domain.
                Err(error) => unknown = Some(error),
            }
        }
        Err(unknown.unwrap_or_else(|| {
            let why = "is not among the domain controllers of the agent's configuration any more";
            DirectoryError::Unavailable(format!("{} {why}", account.controller))
        }))
    }

    /// The account as its controller has it now.
    async fn read(&self, account: &Account) -> Result<Account, DirectoryError> {
        let (_, controller) = self.controller_of(account).await?;
        let found = controller.search(|_| lookup::by_guid(account.object_guid)).await?;
        lookup::only(&found.entries, &found.result, controller.name())
    }

    /// The account as its controller has it now, on a connection that is alive, if nothing speaks against writing it, and if
    /// it is still the one that `named` names.
    async fn look(
        domain: &Domain,
        controller: &Controller,
        guid: Uuid,
        named: Option<&Subject>,
    ) -> Result<(Arc<Bound>, Account), DirectoryError> {
        let Found { bound, mut entries, result } = controller.search(|_| lookup::to_judge(guid)).await?;
        if let Some(subject) = named {
            entries = lookup::named(entries, subject);
        }
        let account = lookup::only(&entries, &result, controller.name())?;
        let (connection, identity, base_dns) = (&bound.connection, &bound.identity, &bound.base_dns[..]);
        let ground = Ground { controller: controller.name(), connection, identity, base_dns };
        for entry in &entries {
            let judged = domain.protection().judge(&ground, entry).await.inspect_err(|error| {
                // Another controller is asked, in this command and in the next ones.
                if matches!(error, DirectoryError::Unavailable(_)) {
                    controller.note(false);
                    controller.discard(&bound);
                }
            });
            if let Some(Barred { code, why }) = judged? {
                let detail = format!("{}: {why}", controller.name());
                return Err(DirectoryError::LeftAlone { account: Box::new(account), code, detail });
            }
        }
        Ok((bound, account))
    }

    /// Where a write of the account goes. It may have been moved, renamed, disabled or made an administrator's meanwhile, and
    /// the connection may have been closed while idle: all that shows here, before anything is written.
    async fn target<'a>(&'a self, account: &Account, deadline: &'a Deadline) -> Result<Target<'a>, DirectoryError> {
        let (domain, controller) = self.controller_of(account).await?;
        let (bound, now) = Self::look(domain, &controller, account.object_guid, None).await?;
        let (entry, logon) = (lookup::entry_of(now.object_guid), now.logon.unwrap_or_default());
        Ok(Target { controller, bound, entry, logon, deadline })
    }
}

fn not_found(domain: &Domain, error: &DirectoryError) -> Finding {
    Finding::failed(Check::Srv, domain.name(), error.to_string()).mended_by(Remedy::FindDomain)
}

#[async_trait]
impl Directory for ActiveDirectory {
    async fn find(&self, subject: &Subject) -> Result<Account, DirectoryError> {
        let by_guid = matches!(subject, Subject::ObjectGuid(_));
        let mut found: Option<Account> = None;
        let (mut missing, mut unknown) = (None, None);
        for domain in self.domains_of(subject)? {
            match self.find_in(domain, subject).await {
                // A GUID is one account's in the whole forest.
                Ok(account) if by_guid => return Ok(account),
                Err(error @ DirectoryError::Unavailable(_)) if by_guid => unknown = Some(error),
                Ok(account) => {
                    if let Some(other) = found.replace(account) {
                        let other = Untrusted::from(other.dn);
                        let detail =
                            format!("{} knows an account of this name, too: {}", domain.name(), other.quoted());
                        return Err(DirectoryError::Refused { code: Code::AmbiguousUser, detail });
                    }
                }
                Err(error @ DirectoryError::Refused { code: Code::UserNotFound, .. }) => missing = Some(error),
                // Who can't say whether he has an account of this name may have one.
                Err(error) => return Err(error),
            }
        }
        found.ok_or_else(|| {
            let nowhere = || DirectoryError::Unavailable("no domain is configured".to_owned());
            unknown.or(missing).unwrap_or_else(nowhere)
        })
    }

    async fn reset_password(
        &self,
        account: &Account,
        new_password: &Password,
        options: Options,
        deadline: &Deadline,
    ) -> Result<Written, DirectoryError> {
        self.target(account, deadline).await?.reset(new_password, options).await
    }

    async fn change_password(
        &self,
        account: &Account,
        current: &Password,
        new_password: &Password,
        deadline: &Deadline,
    ) -> Result<Written, DirectoryError> {
        self.target(account, deadline).await?.change(current, new_password).await
    }

    async fn unlock_account(&self, account: &Account, deadline: &Deadline) -> Result<Written, DirectoryError> {
        self.target(account, deadline).await?.unlock().await
    }

    async fn pwd_last_set(&self, account: &Account) -> Result<i64, DirectoryError> {
        Ok(self.read(account).await?.pwd_last_set)
    }

    async fn lockout_time(&self, account: &Account) -> Result<i64, DirectoryError> {
        Ok(self.read(account).await?.lockout_time)
    }

    async fn try_password(&self, account: &Account, password: &Password) -> Result<PasswordCheck, DirectoryError> {
        let (_, controller) = self.controller_of(account).await?;
        let found = controller.search(|_| lookup::by_guid(account.object_guid)).await?;
        lookup::only(&found.entries, &found.result, controller.name())?;
        let name = found.entries.first().and_then(lookup::bind_name_of).ok_or_else(|| {
            let why = "the service account may not read the account's objectSid, so no password can be tried";
            DirectoryError::Unavailable(format!("{}: {why}", controller.name()))
        })?;
        // A connection of its own: a bind changes who the connection is.
        let connection = controller.open().await?;
        let answer = connection.bind(&name, password.expose()).await;
        let result = answer.map_err(|e| DirectoryError::Unavailable(format!("{}: {e}", controller.name())))?;
        password_check::verdict(&result).ok_or_else(|| {
            DirectoryError::Unavailable(format!("{}: {}", controller.name(), answer::diagnostic(&result)))
        })
    }

    async fn preflight(&self, clock: &dyn Clock) -> Vec<Finding> {
        // One that is away keeps the others from nothing.
        let looked = preflight::side_by_side(self.domains.iter().map(|domain| look_at(domain, clock)).collect()).await;
        looked.into_iter().flatten().collect()
    }

    fn domains(&self) -> Vec<ServedDomain> {
        self.domains.iter().map(Domain::served).collect()
    }
}

/// What is found in one domain.
async fn look_at(domain: &Domain, clock: &dyn Clock) -> Vec<Finding> {
    let mut findings = Vec::new();
    match domain.controllers().await {
        Ok(controllers) => {
            if domain.is_discovered() {
                let names: Vec<_> = controllers.iter().map(|controller| controller.name()).collect();
                findings.push(Finding::ok(Check::Srv, domain.name(), names.join(", ")));
            }
            let (protection, are_discovered) = (domain.protection(), domain.is_discovered());
            findings.extend(preflight::preflight(&controllers, protection, are_discovered, clock).await);
        }
        Err(error) => findings.push(not_found(domain, &error)),
    }
    findings.into_iter().map(|finding| finding.in_domain(domain.name())).collect()
}
