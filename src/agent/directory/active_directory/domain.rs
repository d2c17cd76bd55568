//! One domain of the forest: which accounts are its own, and which of its controllers are tried, in which order.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::config::{Config, ConfigError, Endpoint};
use super::contest::STAGGER;
use super::controller::Controller;
use super::dialer::Dialer;
use super::discovery::{Discovery, Rank};
use super::protection::Protection;
use super::service_account::ServiceAccount;
use crate::agent::directory::DirectoryError;
use crate::clock::Random;
use crate::net::doubt::Doubts;
use crate::net::names::Service;
use crate::net::tls_client;
use crate::protocol::account::FoldedName;

/// How long it is known which controllers there are. A new one waits as long for its first account.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// So many controllers are tried for one question. Those that did not answer are tried last the next time.
const TRIED: usize = 32;

/// A domain, and its controllers.
pub(super) struct Domain {
    /// For people: its name, or its first controller's.
    name: String,
    /// None: every one.
    suffixes: Vec<FoldedName>,
    controllers: Controllers,
    protection: Protection,
}

/// A controller, and how near it is.
type Placed = (Rank, Arc<Controller>);

enum Controllers {
    Listed(Vec<Placed>),
    Discovered(Box<Discovered>),
}

struct Discovered {
    discovery: Discovery,
    /// Of a new controller.
    make: Box<dyn Fn(Endpoint) -> Arc<Controller> + Send + Sync>,
    endpoint: fn(&str, u16) -> Endpoint,
    /// DNS may take as long as TCP and TLS.
    limit: Duration,
    known: ArcSwapOption<Known>,
    /// One caller asks; the others use what was known before.
    asking: Mutex<()>,
}

struct Known {
    controllers: Vec<Placed>,
    at: Instant,
}

impl Domain {
    /// Of a configuration of one domain. Everything is checked that needs no network.
    pub(super) fn new(config: &Config, random: Arc<dyn Random>) -> Result<Self, ConfigError> {
        Self::with(config, ServiceAccount::new, random)
    }

    /// The same, before there is a service account.
    pub(super) fn looked_for(config: &Config, random: Arc<dyn Random>) -> Result<Self, ConfigError> {
        Self::with(config, |_| Ok(ServiceAccount::nobody()), random)
    }

    fn with(
        config: &Config,
        service_account: fn(&Config) -> Result<ServiceAccount, ConfigError>,
        random: Arc<dyn Random>,
    ) -> Result<Self, ConfigError> {
        let names = Arc::new(config.names()?);
        let connect_timeout = config.connect_timeout()?;
        let dialer = Arc::new(Dialer {
            tls: Arc::new(tls_client(config.ca_file.as_deref())?),
            names: Arc::clone(&names),
            start_tls: config.start_tls,
            connect_timeout,
            operation_timeout: config.operation_timeout()?,
            doubts: Doubts::default(),
        });
        let service_account = Arc::new(service_account(config)?);
        let base_dns = config.base_dns()?;
        let make = move |endpoint| {
            Controller::new(endpoint, Arc::clone(&dialer), Arc::clone(&service_account), base_dns.clone())
        };
        let (name, controllers) = match config.discovered_domain()? {
            None => {
                // Whoever lists them has put them in order.
                let place = |(place, endpoint)| ((place, 0), make(endpoint));
                let listed: Vec<Placed> = config.endpoints()?.into_iter().enumerate().map(place).collect();
                let name = config.domain.clone().or_else(|| Some(listed.first()?.1.name().to_owned()));
                (name.unwrap_or_default(), Controllers::Listed(listed))
            }
            Some(domain) => {
                let discovered = Discovered {
                    discovery: Discovery::new(domain, &config.sites, names, random),
                    make: Box::new(make),
                    endpoint: if config.start_tls { Endpoint::start_tls } else { Endpoint::ldaps },
                    limit: connect_timeout,
                    known: ArcSwapOption::empty(),
                    asking: Mutex::new(()),
                };
                (domain.to_owned(), Controllers::Discovered(Box::new(discovered)))
            }
        };
        Ok(Self { name, suffixes: config.suffixes(), controllers, protection: Protection::new(config) })
    }

    /// What people call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The UPN suffixes of its accounts; none if it has every one.
    pub(super) fn suffixes(&self) -> &[FoldedName] {
        &self.suffixes
    }

    /// Whether accounts with this UPN suffix may be its own.
    pub(super) fn has(&self, suffix: &str) -> bool {
        self.suffixes.is_empty() || self.suffixes.contains(&FoldedName::of(suffix))
    }

    /// Which of its accounts are left alone.
    pub(super) fn protection(&self) -> &Protection {
        &self.protection
    }

    /// The controllers to try. Those in trouble come last, and among them the one that has been longest, so that one that is
    /// down costs nobody a timeout; before them, those that somebody is waiting for already. Then the preferred order; among
    /// equals, one that is connected is asked first. Those that are known to be read-only are left out, and so are the last of
    /// very many.
    pub(super) async fn in_order(&self) -> Result<Vec<Arc<Controller>>, DirectoryError> {
        let (mut writable, read_only): (Vec<_>, Vec<_>) =
            self.placed().await?.into_iter().partition(|(_, controller)| !controller.is_read_only());
        if writable.is_empty() && !read_only.is_empty() {
            let names: Vec<_> = read_only.iter().map(|(_, controller)| controller.name()).collect();
            let detail = format!("{}: every domain controller is read-only ({})", self.name, names.join(", "));
            return Err(DirectoryError::Unavailable(detail));
        }
        writable.sort_by_cached_key(|(rank, controller)| {
            (controller.in_trouble_since(), controller.is_overdue(STAGGER), *rank, !controller.is_open())
        });
        Ok(writable.into_iter().map(|(_, controller)| controller).take(TRIED).collect())
    }

    /// All that are known, in the preferred order.
    ///
    /// # Errors
    /// If DNS says nothing, and never has.
    pub(super) async fn controllers(&self) -> Result<Vec<Arc<Controller>>, DirectoryError> {
        Ok(self.placed().await?.into_iter().map(|(_, controller)| controller).collect())
    }

    async fn placed(&self) -> Result<Vec<Placed>, DirectoryError> {
        match &self.controllers {
            Controllers::Listed(controllers) => Ok(controllers.clone()),
            Controllers::Discovered(discovered) => discovered.controllers().await,
        }
    }

    /// The controller of this name.
    ///
    /// # Errors
    /// As [`Self::controllers`].
    pub(super) async fn controller(&self, name: &str) -> Result<Option<Arc<Controller>>, DirectoryError> {
        Ok(self.controllers().await?.into_iter().find(|controller| controller.name() == name))
    }

    /// Whether its controllers are found by DNS.
    pub(super) fn is_discovered(&self) -> bool {
        matches!(self.controllers, Controllers::Discovered(_))
    }
}

impl Discovered {
    async fn controllers(&self) -> Result<Vec<Placed>, DirectoryError> {
        if let Some(known) = self.known.load_full() {
            // Old knowledge is better than waiting for whoever asks already.
            if known.at.elapsed() < KNOWN_FOR || self.asking.try_lock().is_err() {
                return Ok(known.controllers.clone());
            }
        }
        let _one = self.asking.lock().await;
        let known = self.known.load_full();
        if let Some(known) = known.as_ref().filter(|known| known.at.elapsed() < KNOWN_FOR) {
            return Ok(known.controllers.clone());
        }
        let before = known.map(|known| known.controllers.clone()).unwrap_or_default();
        let controllers = match timeout(self.limit, self.discovery.services()).await {
            Ok(Ok(services)) => {
                let endpoint = |service: &Service| (self.endpoint)(&service.host, service.port);
                let place = |(rank, service)| (rank, self.controller(endpoint(&service), &before));
                services.into_iter().map(place).collect()
            }
            failed => {
                let why = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => format!("the name servers did not answer within {} s", self.limit.as_secs()),
                };
                if before.is_empty() {
                    return Err(DirectoryError::Unavailable(why));
                }
                tracing::warn!(why, "the domain controllers can't be looked up; those that were known are used");
                before
            }
        };
        self.known.store(Some(Arc::new(Known { controllers: controllers.clone(), at: Instant::now() })));
        Ok(controllers)
    }

    /// One that was known before keeps its connection.
    fn controller(&self, endpoint: Endpoint, before: &[Placed]) -> Arc<Controller> {
        let known = before.iter().find(|(_, known)| known.name() == endpoint.name);
        known.map_or_else(|| (self.make)(endpoint), |(_, known)| Arc::clone(known))
    }
}
