//! The connection to a single server, or to the master that the sentinels name: made when it is needed, and replaced
//! when it is gone or in doubt.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex as Shared;
use redis::aio::MultiplexedConnection;
use redis::sentinel::SentinelClient;
use redis::{AsyncConnectionConfig, Client, ErrorKind, PushInfo, PushKind, RedisError};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::addresses::Addresses;
use super::config::Config;
use super::link::{LinkError, sentinel, single};
use crate::net::tls_fault;

/// After a connection could not be made, callers are refused at once for so long.
const PAUSE: Duration = Duration::from_millis(200);

/// Makes connections. Passwords and certificates are read anew for each: they are replaced while the node runs. If one can't
/// be read then, what was read before is used.
pub(super) enum Connector {
    Single(Box<Mutex<Client>>, Addresses),
    Sentinel(Box<Mutex<SentinelClient>>),
}

impl Connector {
    async fn connect(
        &self,
        config: &Config,
        settings: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        match self {
            Self::Single(known, addresses) => {
                let mut known = known.lock().await;
                renew(&mut *known, single(config));
                addresses.connect(&known, settings, config.connect_timeout()).await
            }
            Self::Sentinel(known) => {
                let mut known = known.lock().await;
                // Which of them are there it finds out again.
                renew(&mut *known, sentinel(config));
                known.get_async_connection_with_config(settings).await
            }
        }
    }
}

fn renew<T>(known: &mut T, read: Result<T, LinkError>) {
    match read {
        Ok(client) => *known = client,
        Err(error) => tracing::error!(%error, "what was read before is used to reach redis"),
    }
}

/// A connection that all callers share, until one of them, or the connection itself, finds that it is no use.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    given_up: Arc<AtomicBool>,
}

impl Live {
    /// The next caller gets another one.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

/// Where the last attempt to connect has failed: when, and why.
type Failed = Option<(Instant, RedisError)>;

/// What the library says of TLS is for its programmers.
fn in_plain_words(error: RedisError) -> RedisError {
    let fault = tls_fault::of(&error).map(|fault| tls_fault::sentence(fault, None));
    fault.map_or(error, |fault| io::Error::new(io::ErrorKind::InvalidData, fault).into())
}

/// One server at a time.
pub(super) struct Server {
    connector: Connector,
    config: Config,
    live: Shared<Option<Live>>,
    connecting: Mutex<Failed>,
}

impl Server {
    pub(super) fn new(connector: Connector, config: &Config) -> Self {
        Self { connector, config: config.clone(), live: Shared::default(), connecting: Mutex::default() }
    }

    /// A connection, or why there is none. A caller may stop waiting; what it began goes on for the others.
    pub(super) async fn connection(self: &Arc<Self>) -> Result<Live, RedisError> {
        if let Some(live) = self.live() {
            return Ok(live);
        }
        let server = Arc::clone(self);
        let connecting = tokio::spawn(async move { server.connect().await });
        connecting.await.unwrap_or_else(|_| Err((ErrorKind::Client, "the node is stopping").into()))
    }

    fn live(&self) -> Option<Live> {
        let live = self.live.lock();
        live.clone().filter(|live| !live.given_up.load(Ordering::Relaxed))
    }

    /// One at a time; those who waited for it get what it got.
    async fn connect(&self) -> Result<Live, RedisError> {
        let mut failed = self.connecting.lock().await;
        if let Some(live) = self.live() {
            return Ok(live);
        }
        if let Some((at, why)) = &*failed
            && at.elapsed() < PAUSE
        {
            return Err(why.clone());
        }
        let given_up = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&given_up);
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.connect_timeout()))
            .set_response_timeout(Some(self.config.command_timeout()))
            // A connection that breaks while nobody uses it is replaced before somebody does.
            .set_push_sender(move |push: PushInfo| {
                gone.fetch_or(push.kind == PushKind::Disconnection, Ordering::Relaxed);
                Ok::<(), ()>(())
            });
        let why = match timeout(self.config.connect_timeout(), self.connector.connect(&self.config, &settings)).await {
            Ok(Ok(connection)) => {
                let live = Live { connection, given_up };
                *self.live.lock() = Some(live.clone());
                *failed = None;
                return Ok(live);
            }
            Ok(Err(error)) => in_plain_words(error),
            Err(_) => io::Error::new(io::ErrorKind::TimedOut, "no connection in time").into(),
        };
        *failed = Some((Instant::now(), why.clone()));
        Err(why)
    }
}
