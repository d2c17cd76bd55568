//! One domain controller, and the connection kept to it.

use std::collections::HashSet;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use ldap3::{LdapResult, Scope, SearchEntry, ldap_escape};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::authorization::AuthorizationIdentity;
use super::config::Endpoint;
use super::connection::{Connection, RequestError, Search};
use super::dialer::{DialError, Dialer, Dialled};
use super::entry::bytes;
use super::health::Health;
use super::policy_hints::PolicyHints;
use super::read_only::{self, ReadOnly};
use super::security_descriptor::Sid;
use super::service_account::{BindError, ServiceAccount};
use crate::agent::directory::DirectoryError;
use crate::telemetry::trace::{Here, Parent as _, within};

/// A domain controller.
pub(super) struct Controller {
    /// Itself: a connection is opened to the end, whoever has no use for it any more.
    me: Weak<Self>,
    endpoint: Endpoint,
    dialer: Arc<Dialer>,
    service_account: Arc<ServiceAccount>,
    /// Where accounts are looked for; if nowhere, in the whole domain.
    base_dns: Vec<String>,
    kept: ArcSwapOption<Bound>,
    health: Health,
    /// Many callers open one connection.
    opening: Mutex<Option<Opening>>,
}

/// An attempt to connect that is under way.
struct Opening {
    since: Instant,
    attempt: Attempt,
}

type Attempt = Shared<BoxFuture<'static, Result<Arc<Bound>, ControllerError>>>;

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
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ControllerError {
    /// It can't be reached, or can't be asked: another may be.
    #[error("{controller}: {why}")]
    Unreachable { controller: String, why: String },
    /// It does not let the service account in, for what the account is, and nor would another.
    #[error("{controller}: {why}")]
    NotBound { controller: String, why: String },
    /// It does not take the service account's password, or is not shown it: another may know a newer one.
    #[error("{controller}: {why}")]
    PasswordRefused { controller: String, why: String },
    /// It was asked, and did not answer, or only that it can't.
    #[error("{controller}: {error}")]
    NoAnswer { controller: String, error: RequestError },
}

impl ControllerError {
    /// Whether another controller may be asked: all but one that is about the account everywhere.
    pub(super) fn leaves_hope(&self) -> bool {
        !matches!(self, Self::NotBound { .. })
    }
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
    ) -> Arc<Self> {
        let (kept, health, opening) = (ArcSwapOption::empty(), Health::default(), Mutex::new(None));
        Arc::new_cyclic(|me| {
            let me = me.clone();
            Self { me, endpoint, dialer, service_account, base_dns, kept, health, opening }
        })
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

    /// The service account.
    pub(super) fn service_account(&self) -> &ServiceAccount {
        &self.service_account
    }

    /// Keeps this connection from now on. The account's groups are those of the moment when it logged on, so a new one
    /// knows of rights that an older one does not.
    pub(super) fn keep(&self, bound: Bound) {
        self.kept.store(Some(Arc::new(bound)));
    }

    /// Since when it is in trouble, if it is.
    pub(super) fn in_trouble_since(&self) -> Option<Instant> {
        self.health.in_trouble_since()
    }

    /// Whether there is a connection on which it could be asked at once.
    pub(super) fn is_open(&self) -> bool {
        self.kept().is_some()
    }

    /// Whether it has been tried to connect to it for longer than this, and still is.
    pub(super) fn is_overdue(&self, after: Duration) -> bool {
        self.opening.lock().as_ref().is_some_and(|opening| opening.since.elapsed() >= after)
    }

    /// Whether it has been found to be one that can't write.
    pub(super) fn is_read_only(&self) -> bool {
        self.health.is_read_only()
    }

    /// It was looked at, and can be used, or can't.
    pub(super) fn note(&self, usable: bool) {
        if usable { self.health.note_answer() } else { self.health.note_trouble() }
    }

    /// Asks, on the kept connection or a new one. A kept one may have been closed while idle, or a firewall may have
    /// forgotten it; then this asks once more on a new one. So the connection that comes back was alive a moment ago. An
    /// answer that is about the controller alone is no answer.
    pub(super) async fn search(&self, search: impl Fn(&Bound) -> Search) -> Result<Found, ControllerError> {
        if let Some(bound) = self.kept() {
            // What went wrong may be the connection's alone: one that is not bound any more is an error, too.
            if let Ok(found) = self.search_on(bound, &search).await {
                return Ok(found);
            }
        }
        let bound = self.ready().await?;
        self.search_on(bound, &search).await
    }

    async fn search_on(&self, bound: Arc<Bound>, search: impl Fn(&Bound) -> Search) -> Result<Found, ControllerError> {
        let controller = self.name().to_owned();
        match bound.connection.search(&search(&bound)).await {
            Ok((entries, result)) => {
                self.health.note_answer();
                Ok(Found { bound, entries, result })
            }
            Err(error) => {
                self.health.note_trouble();
                self.doubt(&bound.connection, &error);
                self.discard(&bound);
                Err(ControllerError::NoAnswer { controller, error })
            }
        }
    }

    /// Keeps this connection no longer.
    pub(super) fn discard(&self, doubtful: &Arc<Bound>) {
        self.kept.compare_and_swap(doubtful, None);
    }

    /// Another of its addresses comes first the next time, if this one took a connection and then did not answer.
    fn doubt(&self, connection: &Connection, error: &RequestError) {
        if matches!(error, RequestError::Garbled(_) | RequestError::TimedOut(_)) {
            self.dialer.doubts.note(connection.address);
        }
    }

    /// Name, TCP and TLS; nobody is bound.
    pub(super) async fn dial(&self) -> Result<Dialled, DialError> {
        self.dialer.open(&self.endpoint).await
    }

    /// The same, for whoever wants the connection alone.
    pub(super) async fn open(&self) -> Result<Connection, ControllerError> {
        let dialled = self.dial().await.map_err(|error| self.unreachable(error.to_string()))?;
        Ok(dialled.connection)
    }

    /// Binds the service account, unless the controller can't write: such a one is at a place where fewer secrets should be.
    pub(super) async fn bind(&self, connection: &Connection) -> Result<(), ControllerError> {
        let unanswered = |error: RequestError| {
            self.doubt(connection, &error);
            self.unreachable(error.to_string())
        };
        let kind = read_only::look(connection).await.map_err(unanswered)?;
        self.refuse_read_only(kind.read_only())?;
        self.service_account.bind(connection, self.name()).await.map_err(|error| match error {
            BindError::Refused(why) => ControllerError::NotBound { controller: self.name().to_owned(), why },
            BindError::NoAnswer(ref no_answer) => {
                self.doubt(connection, no_answer);
                self.unreachable(error.to_string())
            }
            BindError::PasswordRefused(why) => {
                ControllerError::PasswordRefused { controller: self.name().to_owned(), why }
            }
            BindError::Trouble(_) => self.unreachable(error.to_string()),
        })?;
        self.refuse_read_only(kind.look_again(connection).await.map_err(unanswered)?)
    }

    fn refuse_read_only(&self, read_only: Option<ReadOnly>) -> Result<(), ControllerError> {
        self.health.note_read_only(read_only.is_some());
        read_only.map_or(Ok(()), |read_only| Err(self.unreachable(read_only.why().to_owned())))
    }

    /// Whether it answers searches, which a logon alone does not say.
    pub(super) async fn try_search(&self, connection: &Connection, domain: &str) -> Result<(), ControllerError> {
        let search = Search {
            base: domain.to_owned(),
            scope: Scope::Subtree,
            filter: format!("(userPrincipalName={})", ldap_escape(self.service_account.name())),
            attributes: &["objectGUID"],
        };
        match connection.search(&search).await {
            Ok(_) => Ok(()),
            Err(error) => {
                self.doubt(connection, &error);
                Err(self.unreachable(format!("it answers no search ({error})")))
            }
        }
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
        let (entries, _) = connection.search(&search).await.map_err(|error| {
            self.doubt(connection, &error);
            self.unreachable(error.to_string())
        })?;
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

    /// A connection that can be used, and is kept from now on. Whoever waits for another caller's attempt waits no longer than
    /// for one, and whoever goes away leaves it to the others: what comes of it shows how the controller is.
    pub(super) async fn ready(&self) -> Result<Arc<Bound>, ControllerError> {
        if let Some(bound) = self.kept() {
            return Ok(bound);
        }
        let attempt = {
            let mut opening = self.opening.lock();
            let begin = || Opening { since: Instant::now(), attempt: self.begin_to_open() };
            opening.get_or_insert_with(begin).attempt.clone()
        };
        attempt.await
    }

    fn begin_to_open(&self) -> Attempt {
        let gone = self.unreachable("the attempt to connect ended".to_owned());
        let Some(me) = self.me.upgrade() else { return ready(Err(gone)).boxed().shared() };
        let open = async move {
            let limit = me.dialer.connect_timeout + me.dialer.operation_timeout;
            let opened = timeout(limit, me.open_and_bind()).await;
            let late = |_| Err(me.unreachable(format!("not ready within {} s", limit.as_secs())));
            let opened = opened.unwrap_or_else(late);
            match &opened {
                Ok(bound) => me.kept.store(Some(Arc::clone(bound))),
                Err(error) if error.leaves_hope() => me.health.note_trouble(),
                Err(_) => {}
            }
            me.opening.lock().take();
            opened
        };
        let task = match Here.context() {
            Some(command) => tokio::spawn(within(command, open)),
            None => tokio::spawn(open),
        };
        async move { task.await.unwrap_or(Err(gone)) }.boxed().shared()
    }

    async fn open_and_bind(&self) -> Result<Arc<Bound>, ControllerError> {
        let mut again = true;
        loop {
            let Dialled { connection, addresses, .. } =
                self.dial().await.map_err(|error| self.unreachable(error.to_string()))?;
            let address = connection.address;
            match self.bound(connection).await {
                Err(_) if again && self.has_better(address, &addresses) => again = false,
                ended => return ended.map(Arc::new),
            }
        }
    }

    async fn bound(&self, connection: Connection) -> Result<Bound, ControllerError> {
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
        Ok(Bound { connection, base_dns, policy_hints: root.policy_hints, identity })
    }

    /// Whether, of the addresses that its name leads to, this one has been silent and another has not.
    pub(super) fn has_better(&self, address: SocketAddr, addresses: &[SocketAddr]) -> bool {
        let doubts = &self.dialer.doubts;
        doubts.contains(&address) && addresses.iter().any(|other| !doubts.contains(other))
    }

    fn unreachable(&self, why: String) -> ControllerError {
        ControllerError::Unreachable { controller: self.name().to_owned(), why }
    }
}
