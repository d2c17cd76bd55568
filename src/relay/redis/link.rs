//! Commands to Redis. Each has a deadline; a connection that is in doubt is replaced, and nobody waits for that twice.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use redis::aio::ConnectionLike;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{
    MultipleNodeRoutingInfo, ResponsePolicy, Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr,
};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, ProtocolVersion, RedisError, RedisFuture,
    ServerErrorKind, TlsMode, Value, cmd, from_redis_value,
};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::addresses::Addresses;
use super::config::{Config, ConfigError, Topology};
use super::forbidden::{Forbidden, Where};
use super::scripts::Call;
use super::server::{Connector, Live, Server};
use crate::relay::StoreError;
use crate::relay::writes::{Cause, Writes};
use crate::telemetry::metrics::Metrics;

/// How often a command is sent again that a Cluster has not run, because it went to the wrong node.
const REDIRECTIONS: u32 = 4;

/// Between two of those: meanwhile the map of the Cluster is read again.
const REDIRECTION_PAUSE: Duration = Duration::from_millis(50);

/// How often the files that TLS is made of are looked at.
const LOOK_AT_FILES: Duration = Duration::from_secs(2);

/// Why Redis can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The client library refuses what is configured, or no node of a Cluster lets us in.
    #[error("redis at {urls}: {error}")]
    Redis {
        /// Where.
        urls: String,
        /// Why.
        error: RedisError,
    },
}

enum Kind {
    Server(Arc<Server>),
    Cluster(Arc<ArcSwap<ClusterConnection>>),
}

/// Commands to Redis. Clones share it.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
    /// Counts round trips.
    metrics: Option<Arc<Metrics>>,
    /// What those are for.
    purpose: &'static str,
}

struct Inner {
    kind: Kind,
    config: Config,
    writes: Arc<Writes>,
    forbidden: Arc<Forbidden>,
}

pub(super) fn library(config: &Config) -> impl Fn(RedisError) -> LinkError + '_ {
    |error| LinkError::Redis { urls: config.urls.join(" "), error }
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
    let credentials = config.sentinel_credentials()?;
    if let Some(username) = credentials.username() {
        builder = builder.set_client_to_sentinel_username(username);
    }
    if let Some(password) = credentials.password() {
        builder = builder.set_client_to_sentinel_password(password);
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
        // The library would also send again what may have run. The link knows better.
        .retries(0);
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

async fn connect_cluster(config: &Config) -> Result<ClusterConnection, LinkError> {
    let client = cluster(config)?.build().map_err(library(config))?;
    client.get_async_connection().await.map_err(library(config))
}

/// Watches the files that a connection is made of, for as long as it is used: the library would connect with the old ones for
/// ever.
async fn renew_cluster(used: Weak<ArcSwap<ClusterConnection>>, config: Config) {
    let contents = async || join_all(config.files().map(tokio::fs::read)).await.into_iter().map(Result::ok);
    let (mut seen, mut failed): (Vec<_>, _) = (contents().await.collect(), None);
    while !seen.is_empty() {
        sleep(LOOK_AT_FILES).await;
        let Some(used) = used.upgrade() else { return };
        let found: Vec<_> = contents().await.collect();
        if found == seen {
            continue;
        }
        match connect_cluster(&config).await {
            Ok(connection) => {
                used.store(Arc::new(connection));
                seen = found;
                tracing::info!("the certificates or the password for redis were replaced");
            }
            // The Cluster may be away for a moment, and the files be right.
            Err(error) if failed.as_ref() != Some(&found) => {
                tracing::error!(%error, "no connection to redis with its new certificates or password; it is tried again");
                failed = Some(found);
            }
            Err(error) => tracing::debug!(%error, "still no connection to redis with its new certificates or password"),
        }
    }
}

impl Link {
    /// Prepares the link. A single server or a master is connected at the first command, a Cluster now.
    ///
    /// # Errors
    /// If the configuration can't work, or no node of a Cluster answers.
    pub async fn open(config: Config) -> Result<Self, LinkError> {
        config.check()?;
        let server = |connector| Kind::Server(Arc::new(Server::new(connector, &config)));
        let kind = match config.topology {
            Topology::Single => server(Connector::Single(Box::new(Mutex::new(single(&config)?)), Addresses::default())),
            Topology::Sentinel => server(Connector::Sentinel(Box::new(Mutex::new(sentinel(&config)?)))),
            Topology::Cluster => {
                let connection = Arc::new(ArcSwap::from_pointee(connect_cluster(&config).await?));
                tokio::spawn(renew_cluster(Arc::downgrade(&connection), config.clone()));
                Kind::Cluster(connection)
            }
        };
        let inner = Arc::new(Inner { kind, config, writes: Arc::default(), forbidden: Arc::default() });
        Ok(Self { inner, metrics: None, purpose: "check" })
    }

    /// The same link, whose round trips are counted.
    #[must_use]
    pub fn counted(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// The same link, whose round trips are counted under this word.
    #[must_use]
    pub(super) fn used_for(&self, purpose: &'static str) -> Self {
        if let Some(metrics) = &self.metrics {
            metrics.store_used("redis", purpose);
        }
        Self { purpose, ..self.clone() }
    }

    /// Whether keys and channels are spread over several servers.
    #[must_use]
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.inner.kind, Kind::Cluster(_))
    }

    /// What it was opened with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Whether the servers take writes.
    #[must_use]
    pub fn writes(&self) -> &Arc<Writes> {
        &self.inner.writes
    }

    /// What the server refuses to the relay's user.
    pub(super) fn forbidden(&self) -> &Arc<Forbidden> {
        &self.inner.forbidden
    }

    /// Looks whether every server would take a write now. Nothing is written: a script that might is refused for the same
    /// reasons, and needs no key of a server's own.
    ///
    /// By the way it gives each server's time, in milliseconds since the epoch, as far as its user may ask for it.
    pub(super) async fn look_at_writes(&self) -> Vec<u64> {
        let script = "#!lua\nlocal time = redis.pcall('TIME')\nreturn time.err and {} or time";
        let look = cmd("EVAL").arg(script).arg(0).take();
        match self.everywhere::<Value>(&look).await {
            Ok(said) => {
                self.writes().taken();
                let time = |(_, said)| from_redis_value::<(u64, u64)>(said).ok();
                let ms = |(seconds, micros): (u64, u64)| seconds.saturating_mul(1000).saturating_add(micros / 1000);
                said.into_iter().filter_map(time).map(ms).collect()
            }
            Err(error) => {
                self.writes().refused(refusal(&error).unwrap_or(Cause::Away));
                Vec::new()
            }
        }
    }

    /// One command.
    ///
    /// # Errors
    /// If it is not answered in time, or with an error. It may have taken effect, once.
    pub async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.ask(Question::Command(command)).await
    }

    /// Several commands in one round trip, for keys of one slot.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        self.ask(Question::Pipeline(pipeline)).await
    }

    /// One script, whose keys share a slot. It runs as one step.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub async fn script<T: FromRedisValue>(&self, call: &Call) -> Result<T, StoreError> {
        self.ask(Question::Script(call)).await
    }

    /// One command that names no key, to the server that holds `key`.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub async fn beside<T: FromRedisValue>(&self, key: &str, command: &Cmd) -> Result<T, StoreError> {
        self.ask(Question::Beside(key, command)).await
    }

    /// One command, to every server that is written to; each by its name.
    pub(super) async fn everywhere<T: FromRedisValue>(&self, command: &Cmd) -> Result<Vec<(String, T)>, RedisError> {
        match self.put(Question::Everywhere(command)).await? {
            Value::Map(answers) if self.is_cluster() => {
                let answers = answers.into_iter();
                answers.map(|(name, answer)| Ok((from_redis_value(name)?, from_redis_value(answer)?))).collect()
            }
            answer => Ok(vec![(self.inner.config.urls.join(" "), from_redis_value(answer)?)]),
        }
    }

    /// [`Self::command`], and what exactly went wrong.
    pub(super) async fn answer(&self, command: &Cmd) -> Result<Value, RedisError> {
        self.put(Question::Command(command)).await
    }

    /// [`Self::beside`], and what exactly went wrong.
    pub(super) async fn answer_beside(&self, key: &str, command: &Cmd) -> Result<Value, RedisError> {
        self.put(Question::Beside(key, command)).await
    }

    async fn ask<T: FromRedisValue>(&self, question: Question<'_>) -> Result<T, StoreError> {
        // Of several commands one may have been done. A script is refused whole: once it has written, it is let on.
        let whole = !matches!(question, Question::Pipeline(_));
        let answer = self.put(question).await.map_err(|error| match refusal(&error).filter(|_| whole) {
            Some(cause) => StoreError::NotWritable(cause),
            None => StoreError::Unanswered(error.to_string()),
        })?;
        from_redis_value(answer)
            .map_err(|error| StoreError::Unanswered(format!("redis answers what was not asked: {error}")))
    }

    /// Asks within the command's deadline, reaching the server included.
    async fn put(&self, mut question: Question<'_>) -> Result<Value, RedisError> {
        let mut used = None;
        let asking = async {
            let mut redirections = 0;
            loop {
                let wire = self.wire().await?;
                used = Some(wire.clone());
                if let Some(metrics) = &self.metrics {
                    metrics.redis_round_trip(self.purpose);
                }
                match question.put(wire.clone()).await {
                    Err(error) if unknown(&error) => match question {
                        Question::Script(call) => {
                            question = Question::ScriptInFull(call);
                            continue;
                        }
                        _ => return Err(error),
                    },
                    Err(error) if misplaced(&error) && redirections < REDIRECTIONS => redirections += 1,
                    Err(error) if in_doubt(&error) => {
                        wire.give_up();
                        return Err(error);
                    }
                    answered => return answered,
                }
                sleep(REDIRECTION_PAUSE).await;
            }
        };
        let begun = Instant::now();
        let answered = timeout(self.inner.config.command_timeout(), asking).await;
        let answered = answered.unwrap_or_else(|_| {
            // The master may be frozen, and another one may have taken its place.
            if let Some(wire) = used {
                wire.give_up();
            }
            Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time").into())
        });
        if let Some(metrics) = &self.metrics {
            // That it does not know a script is an answer.
            let is_answered = answered.as_ref().err().is_none_or(unknown);
            metrics.stored("redis", self.purpose, begun.elapsed(), is_answered);
        }
        if let Err(error) = &answered {
            self.forbidden().note(Where::Commands, error);
            // One command that is refused says nothing of the others: the look once a second does.
            if let Some(cause) = refusal(error).filter(|cause| *cause != Cause::Rights) {
                self.writes().refused(cause);
            }
        }
        answered
    }

    async fn wire(&self) -> Result<Wire, RedisError> {
        match &self.inner.kind {
            Kind::Server(server) => server.connection().await.map(Wire::Server),
            Kind::Cluster(connection) => Ok(Wire::Cluster(ClusterConnection::clone(&connection.load()))),
        }
    }
}

/// What is asked.
enum Question<'a> {
    Command(&'a Cmd),
    Pipeline(&'a Pipeline),
    Script(&'a Call),
    ScriptInFull(&'a Call),
    Beside(&'a str, &'a Cmd),
    Everywhere(&'a Cmd),
}

impl Question<'_> {
    async fn put(&self, mut wire: Wire) -> Result<Value, RedisError> {
        match self {
            Self::Command(command) => command.query_async(&mut wire).await,
            Self::Pipeline(pipeline) => pipeline.query_async(&mut wire).await,
            Self::Script(call) => call.by_name().query_async(&mut wire).await,
            Self::ScriptInFull(call) => call.in_full().query_async(&mut wire).await,
            Self::Beside(key, command) => match wire {
                Wire::Server(mut live) => command.query_async(&mut live.connection).await,
                Wire::Cluster(mut connection) => {
                    let node = SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master));
                    let answer = connection.route_command((*command).clone(), RoutingInfo::SingleNode(node)).await?;
                    Ok(answer.extract_error()?)
                }
            },
            Self::Everywhere(command) => match wire {
                Wire::Server(mut live) => command.query_async(&mut live.connection).await,
                Wire::Cluster(mut connection) => {
                    let each = (MultipleNodeRoutingInfo::AllMasters, Some(ResponsePolicy::Special));
                    let answer = connection.route_command((*command).clone(), RoutingInfo::MultiNode(each)).await?;
                    Ok(answer.extract_error()?)
                }
            },
        }
    }
}

/// What a command is sent over.
#[derive(Clone)]
enum Wire {
    Server(Live),
    /// Replaces its connections by itself.
    Cluster(ClusterConnection),
}

impl Wire {
    fn give_up(&self) {
        if let Self::Server(live) = self {
            live.give_up();
        }
    }
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(live) => live.connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(live) => live.connection.req_packed_commands(commands, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        0
    }
}

/// Whether a Cluster has not run the command, because another node holds the key, or will in a moment.
fn misplaced(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, Moved, TryAgain};
    matches!(error.kind(), ErrorKind::Server(Moved | Ask | TryAgain) | ErrorKind::ClusterConnectionNotFound)
}

/// Whether the server has not seen the script before.
fn unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Why the server takes no writes, if it says so.
pub(super) fn refusal(error: &RedisError) -> Option<Cause> {
    match error.code()? {
        "OOM" => Some(Cause::Memory),
        "READONLY" => Some(Cause::ReadOnly),
        "MISCONF" => Some(Cause::NotPersisted),
        "NOREPLICAS" => Some(Cause::Replicas),
        // A step of a script is refused alone: those before it are done.
        "NOPERM" if !error.detail().is_some_and(|detail| detail.contains("in script")) => Some(Cause::Rights),
        _ => None,
    }
}

/// Whether another connection may do better: this one is gone, or its server is no master any more.
fn in_doubt(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({:?}, {})", self.inner.config.topology, self.inner.config.urls.join(" "))
    }
}
