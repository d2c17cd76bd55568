//! How a node comes up, and how it goes down: not ready, `GoAway`, agents move and commands in flight end, sockets close,
//! listeners stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admin::{self, CredentialError, Credentials, Front, Ops, Waiting};
use super::config::{Config, ConfigError};
use super::dispatch::Dispatcher;
use super::http::body::Bodies;
use super::http::client_address::Origin;
use super::http::handshake::Handshakes;
use super::http::listener::{Outside, Until};
use super::http::lists::Lists;
use super::http::{self, Public, listener};
use super::ids::NodeId;
use super::ledger::Ledger;
use super::limits::Limits;
use super::mailbox::Order;
use super::memory::Memory;
use super::recent::Attentive;
use super::registry::Registry;
use super::service;
use super::session::{Rate, Services};
use super::sessions::Sessions;
use super::store::{Health, OpenError, Stores};
use super::tls::{self, Certificate, TlsError};
use super::writes::Cause;
use crate::clock::{Clock, Random, UnixTime};
use crate::host::{self, service_manager};
use crate::protocol::frame::CloseReason;
use crate::protocol::ids::ObjectId;
use crate::storage::{DatabaseError, FileError, make_private_folder};
use crate::telemetry::metrics::{Metrics, MetricsError};

/// From `Hello` to `Welcome`. An agent waits 10 s; to answer later is work for nothing.
const OPENING_TIMEOUT: Duration = Duration::from_secs(8);
/// Sockets and requests are given this long to hear that it is over.
const FAREWELL: Duration = Duration::from_secs(2);
/// Between two attempts to open a store that is not there yet.
const OPEN_AGAIN: Duration = Duration::from_secs(1);
/// How often what has been kept long enough is forgotten.
const PURGE_EVERY: Duration = Duration::from_secs(60);
/// The same of the registry, where it is kept for days.
const PURGE_REGISTRY_EVERY: Duration = Duration::from_secs(600);
/// How often addresses and tenants are forgotten that were quiet: a flood brings some thousand new ones in a second.
const FORGET_EVERY: Duration = Duration::from_secs(10);
/// So many of a draining node's agents come back in each second: a tenth of what one core can do, so that the nodes that
/// they come to go on with their work.
const RECONNECTS_PER_SECOND: f64 = 200.0;
/// The last of them come back after this part of the drain's time: they need the rest to open their sessions.
const RECONNECT_PART: f64 = 0.75;

/// Why a node did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folder.
    #[error("data_dir {0}")]
    Folder(#[from] FileError),
    /// The certificate.
    #[error("the public listener has no certificate: {0}")]
    Tls(#[from] TlsError),
    /// The store.
    #[error("the store can't be opened: {0}")]
    Store(#[from] OpenError),
    /// What operators are known by.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] io::Error),
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// A running node.
pub struct Node {
    public_addr: SocketAddr,
    ops_addr: SocketAddr,
    public: Arc<Public>,
    drain_delay: Duration,
    drain_timeout: Duration,
    health: Health,
    certificate: Certificate,
    background: CancellationToken,
    listening: CancellationToken,
    listeners: Vec<JoinHandle<()>>,
}

/// Where the admin token is kept.
#[must_use]
pub fn admin_token_file(config: &Config) -> PathBuf {
    config.admin.token_file.clone().unwrap_or_else(|| config.data_dir.join("admin.token"))
}

impl Node {
    /// Binds both listeners, opens the store, and serves. `dev_tls` makes a self-signed certificate in `data_dir`. A store
    /// that is not there yet is waited for: meanwhile the operator's listener says so, and nobody can connect to the public one.
    ///
    /// # Errors
    /// If anything of that is not possible, and nobody can expect that it will be; then, or when this is dropped, nothing is
    /// left running.
    pub async fn start(
        config: Config,
        dev_tls: bool,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StartError> {
        config.check()?;
        if let Some(warning) = config.drain.cut_off() {
            tracing::warn!("{warning}");
        }
        make_private_folder(&config.data_dir)?;
        let certificate = certificate(&config, dev_tls)?;
        let credentials = Arc::new(Credentials::open(&config.admin, &admin_token_file(&config), &*random)?);
        let reserved = listener::reserve("listen", config.listen)?;
        let ops_listener = listener::reserve("ops_listen", config.ops_listen)?.listen()?;
        let ops_addr = ops_listener.local_addr()?;
        let metrics = Arc::new(Metrics::labelled(config.telemetry.tenant_label)?);
        let (background, listening) = (CancellationToken::new(), CancellationToken::new());
        let unless_up = listening.clone().drop_guard();
        let waiting = Waiting::new(Arc::clone(&metrics), certificate.clone(), Arc::clone(&clock));
        let front = Front::new(waiting.router(Arc::clone(&random)));
        let until = Until { draining: listening.clone(), stopped: listening.clone() };
        let operators = tokio::spawn(listener::serve_ops(ops_listener, front.router(), until));
        let Stores { registry, ledger, bus, intake, keys, continuity, health } =
            store(&config, &clock, &random, &metrics, &waiting).await?;
        let listener = reserved.listen()?;
        let sessions = Arc::new(Sessions::default());
        let inbox = Arc::clone(&sessions) as Arc<_>;
        bus.attach(Arc::new(Attentive { recent: Arc::clone(keys.recent()), inbox }));
        let services = Arc::new(Services {
            registry: Arc::clone(&registry),
            continuity: Arc::clone(&continuity),
            ledger: Arc::clone(&ledger),
            bus: Arc::clone(&bus),
            sessions: Arc::clone(&sessions),
            clock: Arc::clone(&clock),
            random,
            metrics: Arc::clone(&metrics),
            node_name: config.node_name.clone().unwrap_or_else(host::name),
            heartbeat: config.heartbeat(),
            hello_timeout: Duration::from_secs(config.session.hello_timeout_seconds),
            opening_timeout: OPENING_TIMEOUT,
            max_age: config.max_age(),
            frames: Rate::per_second(config.limits.session_frames_per_second),
            openings: Semaphore::new(usize::try_from(config.limits.session_openings).unwrap_or(Semaphore::MAX_PERMITS)),
        });
        let memory = Memory::of_process(Arc::clone(&metrics));
        let handshakes = Handshakes::new(certificate.clone(), config.limits.tls_handshakes, Arc::clone(&metrics));
        let stopping = CancellationToken::new();
        let limits = Limits::new(&config.limits, config.client_address.is_some(), Arc::clone(&metrics));
        let (limits, origin) = (Arc::new(limits), Origin::new(config.client_address.clone()));
        let public = Arc::new(Public {
            limits: Arc::clone(&limits),
            bodies: Bodies::new(Arc::clone(&memory)),
            lists: Lists::new(Arc::clone(&limits), Arc::clone(&memory)),
            keys,
            dispatcher: Arc::new(
                Dispatcher::new(
                    Arc::clone(&ledger),
                    bus,
                    intake,
                    sessions,
                    Arc::clone(&clock),
                    Arc::clone(&metrics),
                    stopping.clone(),
                )
                .minding(health.writes()),
            ),
            services,
            minimum_agent_version: config.session.minimum_agent_version.clone(),
            sockets: TaskTracker::new(),
            leaving: CancellationToken::new(),
            stopping,
            stopping_with: OnceLock::new(),
        });
        let drain_delay = Duration::from_secs(config.drain.delay_seconds);
        let drain_timeout = Duration::from_secs(config.drain.timeout_seconds);
        let public_addr = listener.local_addr()?;
        let router = http::router(Arc::clone(&public));
        let ops =
            Ops { public: Arc::clone(&public), credentials, health: health.clone(), certificate: certificate.clone() };
        tokio::spawn(background.clone().run_until_cancelled_owned(service::tell(ops.clone())));
        front.show(admin::router(ops));
        tokio::spawn(background.clone().run_until_cancelled_owned(certificate.clone().watch()));
        let news = health.writes().subscribe();
        let purging = purge(registry, ledger, news, clock);
        tokio::spawn(background.clone().run_until_cancelled_owned(purging));
        tokio::spawn(background.clone().run_until_cancelled_owned(forget(Arc::clone(&limits))));
        tokio::spawn(background.clone().run_until_cancelled_owned(Arc::clone(&memory).watch()));
        tokio::spawn(background.clone().run_until_cancelled_owned(health.clone().watch()));
        tokio::spawn(background.clone().run_until_cancelled_owned(continuity.watch()));
        let listeners = vec![
            tokio::spawn(listener::serve(
                listener,
                Outside::new(handshakes, origin, limits, memory, metrics),
                router,
                Until { draining: public.stopping.clone(), stopped: listening.clone() },
            )),
            operators,
        ];
        unless_up.disarm();
        tracing::info!(listen = %public_addr, ops_listen = %ops_addr, public_url = config.public_url, "the node is up");
        service_manager::ready();
        Ok(Self {
            public_addr,
            ops_addr,
            public,
            drain_delay,
            drain_timeout,
            health,
            certificate,
            background,
            listening,
            listeners,
        })
    }

    /// Where agents and portals connect.
    #[must_use]
    pub fn public_addr(&self) -> SocketAddr {
        self.public_addr
    }

    /// Where the operator connects.
    #[must_use]
    pub fn ops_addr(&self) -> SocketAddr {
        self.ops_addr
    }

    /// Reads the certificate's files again now. They are watched anyway.
    pub fn reload_certificate(&self) {
        self.certificate.reload();
    }

    /// Resolves when the operator has asked, by the admin API, that the node stops, and load balancers have had their time to
    /// take it out: it works on until then.
    pub async fn drain_requested(&self) {
        let sessions = &self.public.services.sessions;
        sessions.drain_requested().await;
        self.public.leaving.cancel();
        sessions.announce_drain();
        tracing::info!(
            seconds = self.drain_delay.as_secs(),
            "told to go: not ready, and at work until load balancers know"
        );
        sleep(self.drain_delay).await;
    }

    /// Resolves if the node can't go on: its store has failed for good.
    pub async fn failed(&self) -> DatabaseError {
        self.health.failed().await
    }

    /// Stops, within the configured time: no new commands, agents told to go, commands in flight given their time, then
    /// everything closed.
    pub async fn stop(self) {
        service_manager::stopping();
        service_manager::stops_within(self.drain_timeout + FAREWELL * 2);
        let deadline = Instant::now() + self.drain_timeout;
        let (public, sessions) = (&self.public, &self.public.services.sessions);
        // It stops once.
        let _ = public.stopping_with.set(public.burden());
        public.leaving.cancel();
        public.stopping.cancel();
        self.tell_agents();
        let finished = async {
            // Outcomes come over the sessions, so these stay until then. New connections are told that the node is
            // stopping.
            public.dispatcher.idle().await;
            // An agent opens its new session before it closes this one: it can be reached all the time.
            if self.health.has_others().await {
                sessions.empty().await;
            }
        };
        if timeout_at(deadline, finished).await.is_err() {
            let (commands, sessions) = (public.dispatcher.in_flight(), sessions.list().len());
            tracing::warn!(commands, sessions, "commands were still in flight, or sessions open, at the end");
        }
        sessions.close_all(CloseReason::Drain);
        public.sockets.close();
        let farewell = Instant::now() + FAREWELL;
        if timeout_at(farewell, public.sockets.wait()).await.is_err() {
            tracing::warn!("sockets were still open at the end");
        }
        self.listening.cancel();
        for mut listener in self.listeners {
            match timeout_at(farewell, &mut listener).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a listener ended badly"),
                Err(_) => {
                    tracing::warn!("requests were still in flight at the end");
                    listener.abort();
                }
            }
        }
        self.health.retire().await;
        self.background.cancel();
        tracing::info!("the node is down");
    }

    /// All are told at once, and each another time to come back: the more there are, the longer it takes.
    fn tell_agents(&self) {
        let (random, sessions) = (&self.public.services.random, &self.public.services.sessions);
        let close_after_ms = u32::try_from(self.drain_timeout.as_millis()).unwrap_or(u32::MAX);
        let told = sessions.begin_drain();
        let spread = reconnect_spread(told.len(), self.drain_timeout);
        for session in told {
            let reconnect_after_ms = u32::try_from(random.within(spread).as_millis()).unwrap_or(u32::MAX);
            sessions.order(session, Order::GoAway { reconnect_after_ms, close_after_ms });
        }
    }
}

/// Within this time so many agents come back.
fn reconnect_spread(agents: usize, drain_timeout: Duration) -> Duration {
    let agents = u32::try_from(agents).map_or(f64::INFINITY, f64::from);
    Duration::try_from_secs_f64(agents / RECONNECTS_PER_SECOND)
        .unwrap_or(Duration::MAX)
        .min(drain_timeout.mul_f64(RECONNECT_PART))
}

/// Opens the store, and waits as long as it may come by itself.
async fn store(
    config: &Config,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
    metrics: &Arc<Metrics>,
    waiting: &Waiting,
) -> Result<Stores, OpenError> {
    let node = NodeId(ObjectId::new(&**clock, &**random));
    loop {
        match Stores::open(config, node, Arc::clone(clock), Arc::clone(random), metrics).await {
            Err(error) if error.may_pass() => waiting.because(&error),
            opened => return opened.inspect(|_| waiting.over()),
        }
        sleep(OPEN_AGAIN).await;
    }
}

fn certificate(config: &Config, dev_tls: bool) -> Result<Certificate, StartError> {
    let files = match (&config.tls, dev_tls) {
        (Some(files), false) => files.clone(),
        (None, true) => {
            let authority = config.public_url.trim_start_matches("https://");
            let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
            let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), host.trim_matches(['[', ']']).to_owned()];
            tls::development(&config.data_dir, &names)?
        }
        (Some(_), true) => {
            return Err(ConfigError::Value {
                field: "tls",
                message: "both a certificate and --dev-tls are given; choose one".to_owned(),
            }
            .into());
        }
        (None, false) => {
            return Err(ConfigError::Value {
                field: "tls",
                message: "cert_file and key_file are missing (or run with --dev-tls to try it out)".to_owned(),
            }
            .into());
        }
    };
    Ok(Certificate::load(files)?)
}

async fn forget(limits: Arc<Limits>) {
    let mut due = interval(FORGET_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        limits.forget();
    }
}

/// Forgets what has been kept long enough: from time to time, and when the store is full.
async fn purge(
    registry: Arc<dyn Registry>,
    ledger: Arc<dyn Ledger>,
    mut news: watch::Receiver<Option<Cause>>,
    clock: Arc<dyn Clock>,
) {
    let (mut due, mut registry_due) = (interval(PURGE_EVERY), interval(PURGE_REGISTRY_EVERY));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    registry_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (of_registry, of_ledger) = tokio::select! {
            _ = due.tick() => (false, true),
            _ = registry_due.tick() => (true, false),
            Ok(()) = news.changed() => (true, true),
        };
        if of_registry {
            match registry.purge(clock.now()).await {
                Ok(0) => {}
                Ok(forgotten) => tracing::info!(forgotten, "old invitations and agents were forgotten"),
                Err(error) => tracing::error!(%error, "old invitations and agents could not be forgotten"),
            }
        }
        if of_ledger {
            purge_ledger(&*ledger, clock.now()).await;
        }
    }
}

async fn purge_ledger(ledger: &dyn Ledger, now: UnixTime) {
    loop {
        match ledger.purge(now).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return tracing::error!(%error, "old commands could not be forgotten"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_agents_a_node_has_the_longer_they_take_to_come_back_but_not_longer_than_the_drain() {
        let within = |agents| reconnect_spread(agents, Duration::from_secs(20));
        assert_eq!(within(0), Duration::ZERO);
        assert_eq!(within(20), Duration::from_millis(100));
        assert_eq!(within(2000), Duration::from_secs(10));
        assert_eq!(within(15_000), Duration::from_secs(15));
        assert_eq!(within(usize::MAX), Duration::from_secs(15));
    }
}
