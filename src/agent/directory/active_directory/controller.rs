//! One domain controller, and the connection kept to it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ldap3::{LdapResult, Scope, SearchEntry};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::authorization::AuthorizationIdentity;
use super::config::Endpoint;
use super::connection::{Connection, Dialer, RequestError, Search};
use super::entry::bytes;
use super::health::Health;
use super::policy_hints::PolicyHints;
use super::read_only;
use super::security_descriptor::Sid;
use super::service_account::{BindError, ServiceAccount};
use crate::agent::directory::DirectoryError;
use crate::net::names::NameError;

/// A domain controller.
pub(super) struct Controller {
    endpoint: Endpoint,
    dialer: Arc<Dialer>,
    service_account: Arc<ServiceAccount>,
    /// Where accounts are looked for; if nowhere, in the whole domain.
    base_dns: Vec<String>,
    kept: ArcSwapOption<Bound>,
    health: Health,
    /// Many callers open one connection.
    connecting: Mutex<()>,
}

/// A connection on which the service account is bound.
pub(super) struct Bound {
    pub(super) connection: Connection,
    /// Where accounts are looked for: at least one.
    pub(super) base_dns: Vec<String>,
    /// How a reset can be told to look at the history, if the controller can.
    pub(super) policy_hints: Option<PolicyHints>,
    /// Who the service account is there.
    pub(super) identity: AuthorizationIdentity,
}

/// Why a controller was not asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControllerError {
    /// It can't be reached: it was not asked, and another may be.
    #[error("{controller}: {why}")]
    Unreachable { controller: String, why: String },
    /// It does not let the service account in, and nor would another.
    #[error("{controller}: {why}")]
    NotBound { controller: String, why: String },
    /// It was asked, and did not answer.
    #[error("{controller}: {error}")]
    NoAnswer { controller: String, error: RequestError },
}

impl From<ControllerError> for DirectoryError {
    /// For questions: without an answer, nothing was done.
    fn from(error: ControllerError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// What a controller says about itself (RFC 4512 §5.1).
pub(super) struct RootDse {
    pub(super) default_naming_context: Option<String>,
    pub(super) dns_host_name: Option<String>,
    pub(super) policy_hints: Option<PolicyHints>,
    /// In the form of `GeneralizedTime`.
    pub(super) current_time: Option<String>,
    /// Samba names itself; Windows does not.
    pub(super) is_samba: bool,
    /// Who the connection is to the directory, with all groups ([MS-ADTS] 3.1.1.3.2.20).
    pub(super) token_groups: HashSet<Sid>,
}

/// What was found, and the connection it was found on.
pub(super) struct Found {
    pub(super) bound: Arc<Bound>,
    pub(super) entries: Vec<SearchEntry>,
    pub(super) result: LdapResult,
}

impl Controller {
    pub(super) fn new(
        endpoint: Endpoint,
        dialer: Arc<Dialer>,
        service_account: Arc<ServiceAccount>,
        base_dns: Vec<String>,
    ) -> Self {
        let (kept, health, connecting) = (ArcSwapOption::empty(), Health::default(), Mutex::new(()));
        Self { endpoint, dialer, service_account, base_dns, kept, health, connecting }
    }

    /// How accounts, errors and reports name it.
    pub(super) fn name(&self) -> &str {
        &self.endpoint.name
    }

    /// Where accounts are looked for, in a domain: at least one place.
    pub(super) fn base_dns(&self, domain: &str) -> Vec<String> {
        if self.base_dns.is_empty() { vec![domain.to_owned()] } else { self.base_dns.clone() }
    }

    /// Its host and its port.
    pub(super) fn host_and_port(&self) -> (&str, u16) {
        (&self.endpoint.host, self.endpoint.port)
    }

    /// Where its name leads.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, NameError> {
        self.dialer.names.addresses(&self.endpoint.host, self.endpoint.port).await
    }

    /// How long TCP and TLS may take.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.dialer.connect_timeout
    }

    /// The service account.
    pub(super) fn service_account(&self) -> &ServiceAccount {
        &self.service_account
    }

    /// Keeps this connection from now on. The account's groups are those of the moment when it logged on, so a new one
    /// knows of rights that an older one does not.
    pub(super) fn keep(&self, bound: Bound) {
        self.kept.store(Some(Arc::new(bound)));
    }

    /// Whether it did not answer a moment ago.
    pub(super) fn in_trouble(&self) -> bool {
        self.health.in_trouble()
    }

    /// Whether it has been found to be one that can't write.
    pub(super) fn is_read_only(&self) -> bool {
        self.health.is_read_only()
    }

    /// Looks whether it can write, if that is not known, and if it answers.
    pub(super) async fn look(&self) {
        // Whatever is wrong, whoever needs the controller is told.
        if let Ok(connection) = self.open().await {
            let _ = self.bind(&connection).await;
        }
    }

    /// Asks, on the kept connection or a new one. A kept one may have been closed while idle, or a firewall may have
    /// forgotten it; then this asks once more on a new one. So the connection that comes back was alive a moment ago.
    pub(super) async fn search(&self, search: impl Fn(&Bound) -> Search) -> Result<Found, ControllerError> {
        if let Some(bound) = self.kept()
            && let Ok(found) = self.search_on(bound, &search).await
        {
            return Ok(found);
        }
        let found = async {
            let bound = self.connect().await?;
            let controller = self.name().to_owned();
            self.search_on(bound, &search).await.map_err(|error| ControllerError::NoAnswer { controller, error })
        };
        let found = found.await;
        if let Err(ControllerError::Unreachable { .. } | ControllerError::NoAnswer { .. }) = found {
            self.health.note_trouble();
        }
        found
    }

    async fn search_on(&self, bound: Arc<Bound>, search: impl Fn(&Bound) -> Search) -> Result<Found, RequestError> {
        match bound.connection.search(&search(&bound)).await {
            Ok((entries, result)) => Ok(Found { bound, entries, result }),
            Err(error) => {
                self.discard(&bound);
                Err(error)
            }
        }
    }

    /// Keeps this connection no longer.
    pub(super) fn discard(&self, doubtful: &Arc<Bound>) {
        self.kept.compare_and_swap(doubtful, None);
    }

    /// TCP and TLS; nobody is bound.
    pub(super) async fn open(&self) -> Result<Connection, ControllerError> {
        let opened = self.dialer.open(&self.endpoint).await.map_err(|why| self.unreachable(why))?;
        self.health.note_answer();
        Ok(opened)
    }

    /// Binds the service account, unless the controller can't write: such a one is at a place where fewer secrets should be.
    pub(super) async fn bind(&self, connection: &Connection) -> Result<(), ControllerError> {
        let unanswered = |error: RequestError| self.unreachable(error.to_string());
        let kind = read_only::look(connection).await.map_err(unanswered)?;
        self.refuse_read_only(kind.is_read_only())?;
        self.service_account.bind(connection).await.map_err(|error| match error {
            BindError::Refused(why) => ControllerError::NotBound { controller: self.name().to_owned(), why },
            BindError::NoAnswer(error) => self.unreachable(format!("logging on: {error}")),
        })?;
        self.refuse_read_only(kind.look_again(connection).await.map_err(unanswered)?)
    }

    fn refuse_read_only(&self, read_only: bool) -> Result<(), ControllerError> {
        self.health.note_read_only(read_only);
        let why = "this is a read-only domain controller, which can't set passwords; name a writable one";
        if read_only { Err(self.unreachable(why.to_owned())) } else { Ok(()) }
    }

    /// What it says about itself.
    pub(super) async fn root_dse(&self, connection: &Connection) -> Result<RootDse, ControllerError> {
        let search = Search {
            base: String::new(),
            scope: Scope::Base,
            filter: "(objectClass=*)".to_owned(),
            attributes: &[
                "defaultNamingContext",
                "dnsHostName",
                "currentTime",
                "supportedControl",
                "vendorName",
                "tokenGroups",
            ],
        };
        let (entries, _) = connection.search(&search).await.map_err(|e| self.unreachable(e.to_string()))?;
        let root = entries.into_iter().next();
        let value = |name| root.as_ref()?.attrs.get(name)?.first().cloned();
        let controls = root.as_ref().and_then(|root| root.attrs.get("supportedControl"));
        let groups = root.as_ref().map(|root| bytes(root, "tokenGroups")).unwrap_or_default();
        Ok(RootDse {
            default_naming_context: value("defaultNamingContext"),
            dns_host_name: value("dnsHostName"),
            policy_hints: PolicyHints::offered(controls.into_iter().flatten()),
            current_time: value("currentTime"),
            is_samba: value("vendorName").is_some_and(|name| name.contains("Samba")),
            token_groups: groups.iter().filter_map(|group| Sid::read(group)).collect(),
        })
    }

    fn kept(&self) -> Option<Arc<Bound>> {
        self.kept.load_full().filter(|bound| bound.connection.is_open())
    }

    /// A connection that is kept from now on. Whoever waits for another caller's attempt waits no longer than for one.
    async fn connect(&self) -> Result<Arc<Bound>, ControllerError> {
        let limit = self.dialer.connect_timeout + self.dialer.operation_timeout;
        let attempt = timeout(limit, async {
            let _one = self.connecting.lock().await;
            if let Some(bound) = self.kept() {
                return Ok(bound);
            }
            let connection = self.open().await?;
            self.bind(&connection).await?;
            let root = self.root_dse(&connection).await?;
            let identity = AuthorizationIdentity::of(&connection, &root, self.service_account.name()).await;
            let identity = identity.map_err(|error| self.unreachable(error.to_string()))?;
            let base_dns = match (self.base_dns.is_empty(), root.default_naming_context) {
                (false, _) => self.base_dns.clone(),
                (true, Some(domain)) => vec![domain],
                (true, None) => {
                    let detail = "it names no defaultNamingContext; is it a domain controller?";
                    return Err(self.unreachable(detail.to_owned()));
                }
            };
            let bound = Arc::new(Bound { connection, base_dns, policy_hints: root.policy_hints, identity });
            self.kept.store(Some(Arc::clone(&bound)));
            Ok(bound)
        });
        attempt.await.unwrap_or_else(|_| Err(self.unreachable(format!("not ready within {} s", limit.as_secs()))))
    }

    fn unreachable(&self, why: String) -> ControllerError {
        ControllerError::Unreachable { controller: self.name().to_owned(), why }
    }
}
