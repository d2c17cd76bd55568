//! Commands to Redis. Each has a deadline; a connection that is in doubt is replaced, and nobody waits for that twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, ProtocolVersion,
    RedisError, ScriptInvocation, TlsMode,
};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::config::{Config, ConfigError, Topology};
use crate::relay::StoreError;

/// After a connection could not be made, callers are refused at once for so long.
const PAUSE: Duration = Duration::from_millis(200);

/// Why Redis can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The client library refuses what is configured, or the server does not let us in.
    #[error("redis at {urls}: {detail}")]
    Redis {
        /// Where.
        urls: String,
        /// Why.
        detail: String,
    },
}

/// Makes connections.
enum Connector {
    Single(Client),
    Sentinel(Box<Mutex<SentinelClient>>),
}

impl Connector {
    async fn connect(&self, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, RedisError> {
        match self {
            Self::Single(client) => client.get_multiplexed_async_connection_with_config(config).await,
            Self::Sentinel(client) => client.lock().await.get_async_connection_with_config(config).await,
        }
    }
}

/// The connection in use, and when the last attempt to make one failed.
#[derive(Default)]
struct Current {
    connection: Option<(u64, MultiplexedConnection)>,
    failed: Option<(Instant, String)>,
    generation: u64,
}

enum Kind {
    Server { connector: Connector, current: Mutex<Current> },
    Cluster(ClusterConnection),
}

/// Commands to Redis. Clones share it.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

struct Inner {
    kind: Kind,
    config: Config,
    round_trips: AtomicU64,
}

pub(super) fn library(config: &Config) -> impl Fn(RedisError) -> LinkError + '_ {
    |error| LinkError::Redis { urls: config.urls.join(" "), detail: error.to_string() }
}

/// A client for one server.
pub(super) fn single(config: &Config) -> Result<Client, LinkError> {
    let url = config.urls.first().map(String::as_str).unwrap_or_default();
    let info = url.into_connection_info().map_err(library(config))?.set_redis_settings(config.credentials()?);
    let client = if config.tls() { Client::build_with_tls(info, config.certificates()?) } else { Client::open(info) };
    client.map_err(library(config))
}

/// A client that asks the sentinels where the master is.
pub(super) fn sentinel(config: &Config) -> Result<SentinelClient, LinkError> {
    let addresses = config.urls.iter().map(|url| Ok(url.as_str().into_connection_info()?.addr().clone()));
    let addresses = addresses.collect::<Result<Vec<_>, RedisError>>().map_err(library(config))?;
    let master = config.master_name.clone().unwrap_or_default();
    let mut builder =
        SentinelClientBuilder::new(addresses, master, SentinelServerType::Master).map_err(library(config))?;
    builder = builder.set_client_to_redis_protocol(ProtocolVersion::RESP3);
    let credentials = config.credentials()?;
    if let Some(username) = credentials.username() {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = credentials.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if config.tls() {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(config.certificates()?)
            .set_client_to_sentinel_certificates(config.certificates()?);
    }
    builder.build().map_err(library(config))
}

/// A builder of clients for a Cluster.
pub(super) fn cluster(config: &Config) -> Result<ClusterClientBuilder, LinkError> {
    let credentials = config.credentials()?;
    let mut builder = ClusterClientBuilder::new(config.urls.iter().map(String::as_str))
        .use_protocol(ProtocolVersion::RESP3)
        .connection_timeout(config.connect_timeout())
        .response_timeout(config.command_timeout())
        // A command that can't be placed at once is refused at once: the caller decides.
        .retries(2);
    if let Some(username) = credentials.username() {
        builder = builder.username(username);
    }
    if let Some(password) = credentials.password() {
        builder = builder.password(password);
    }
    if config.tls() {
        builder = builder.tls(TlsMode::Secure).certs(config.certificates()?);
    }
    Ok(builder)
}

impl Link {
    /// Prepares the link. A single server or a master is connected at the first command, a Cluster now.
    ///
    /// # Errors
    /// If the configuration can't work, or no node of a Cluster answers.
    pub async fn open(config: Config) -> Result<Self, LinkError> {
        config.check()?;
        let server = |connector| Kind::Server { connector, current: Mutex::default() };
        let kind = match config.topology {
            Topology::Single => server(Connector::Single(single(&config)?)),
            Topology::Sentinel => server(Connector::Sentinel(Box::new(Mutex::new(sentinel(&config)?)))),
            Topology::Cluster => {
                let client = cluster(&config)?.build().map_err(library(&config))?;
                Kind::Cluster(client.get_async_connection().await.map_err(library(&config))?)
            }
        };
        Ok(Self { inner: Arc::new(Inner { kind, config, round_trips: AtomicU64::new(0) }) })
    }

    /// What it was opened with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// How many times something was sent and waited for.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.inner.round_trips.load(Ordering::Relaxed)
    }

    /// One command.
    ///
    /// # Errors
    /// If it is not answered in time, or with an error. It may have taken effect.
    pub async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        match &self.inner.kind {
            Kind::Server { .. } => self.on_server(async |mut c| command.query_async(&mut c).await).await,
            Kind::Cluster(connection) => self.bounded(command.query_async(&mut connection.clone())).await,
        }
    }

    /// Several commands in one round trip, for keys of one slot.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        match &self.inner.kind {
            Kind::Server { .. } => self.on_server(async |mut c| pipeline.query_async(&mut c).await).await,
            Kind::Cluster(connection) => self.bounded(pipeline.query_async(&mut connection.clone())).await,
        }
    }

    /// One script, whose keys share a slot. It runs as one step.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub async fn script<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        match &self.inner.kind {
            Kind::Server { .. } => self.on_server(async |mut c| script.invoke_async(&mut c).await).await,
            Kind::Cluster(connection) => self.bounded(script.invoke_async(&mut connection.clone())).await,
        }
    }

    async fn bounded<T>(&self, answer: impl Future<Output = Result<T, RedisError>>) -> Result<T, StoreError> {
        self.inner.round_trips.fetch_add(1, Ordering::Relaxed);
        match timeout(self.inner.config.command_timeout(), answer).await {
            Ok(answer) => answer.map_err(|error| StoreError(error.to_string())),
            Err(_) => Err(StoreError("redis did not answer in time".to_owned())),
        }
    }

    async fn on_server<T>(
        &self,
        ask: impl AsyncFnOnce(MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, StoreError> {
        let (generation, connection) = self.connection().await?;
        self.inner.round_trips.fetch_add(1, Ordering::Relaxed);
        let answer = timeout(self.inner.config.command_timeout(), ask(connection)).await;
        let error = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if !in_doubt(&error) => return Err(StoreError(error.to_string())),
            Ok(Err(error)) => error.to_string(),
            // The master may be frozen, and another one may have taken its place.
            Err(_) => "redis did not answer in time".to_owned(),
        };
        self.forget(generation).await;
        Err(StoreError(error))
    }

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), StoreError> {
        let Kind::Server { connector, current } = &self.inner.kind else {
            return Err(StoreError("a cluster has no single connection".to_owned()));
        };
        let mut current = current.lock().await;
        if let Some((generation, connection)) = &current.connection {
            return Ok((*generation, connection.clone()));
        }
        if let Some((at, why)) = &current.failed
            && at.elapsed() < PAUSE
        {
            return Err(StoreError(why.clone()));
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.inner.config.connect_timeout()))
            .set_response_timeout(Some(self.inner.config.command_timeout()));
        let made = timeout(self.inner.config.connect_timeout(), connector.connect(&config)).await;
        let error = match made {
            Ok(Ok(connection)) => {
                current.generation += 1;
                current.failed = None;
                current.connection = Some((current.generation, connection.clone()));
                return Ok((current.generation, connection));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "redis can't be connected to in time".to_owned(),
        };
        current.failed = Some((Instant::now(), error.clone()));
        Err(StoreError(error))
    }

    /// Drops a connection that is in doubt, unless somebody has replaced it already.
    async fn forget(&self, generation: u64) {
        if let Kind::Server { current, .. } = &self.inner.kind {
            let mut current = current.lock().await;
            if current.connection.as_ref().is_some_and(|(used, _)| *used == generation) {
                current.connection = None;
            }
        }
    }
}

/// Whether another connection may do better: this one is gone, or its server is no master any more.
fn in_doubt(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(redis::ServerErrorKind::ReadOnly | redis::ServerErrorKind::MasterDown)
        )
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({:?}, {})", self.inner.config.topology, self.inner.config.urls.join(" "))
    }
}
