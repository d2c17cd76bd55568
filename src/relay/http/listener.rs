//! The accept loops. Each connection shakes hands in a task of its own, so a slow one delays nobody.
//! While the node drains, each answer is the last on its connection: the next one is to come to another node.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::limits::Limits;
use super::super::memory::Memory;
use super::client_address::Origin;
use super::connection::{self, Ended};
use super::connections::{Bounds, Connections, Place};
use super::exchange::Peer;
use super::handshake::Handshakes;
use crate::host;
use crate::telemetry::limit::Limit;
use crate::telemetry::metrics::Metrics;

/// Files that are no connections of the public listener: the store, listeners, logs, and the operator's connections.
const RESERVED_FILES: usize = 256;
/// Connections of the operator's listener.
const OPS_CONNECTIONS: usize = 128;
/// After a failed accept (no file left, say): long enough not to spin, short enough not to be missed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// So many wait in the operating system's queue, if `net.core.somaxconn` lets them: a burst of a second.
const BACKLOG: u32 = 4096;
/// What is written and not taken for so long ends a connection.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// When a listener ends.
#[derive(Clone, Debug, Default)]
pub struct Until {
    /// From here on each connection ends with the request that is on it.
    pub draining: CancellationToken,
    /// From here on none is accepted.
    pub stopped: CancellationToken,
}

/// What the public listener has, and the operator's has not.
#[derive(Clone)]
pub struct Outside {
    handshakes: Arc<Handshakes>,
    origin: Origin,
    limits: Arc<Limits>,
    memory: Arc<Memory>,
    connections: Arc<Connections>,
}

impl Outside {
    /// TLS, who the clients are, and how much each may have.
    #[must_use]
    pub fn new(
        handshakes: Handshakes,
        origin: Origin,
        limits: Arc<Limits>,
        memory: Arc<Memory>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let files = host::max_open_files().saturating_sub(RESERVED_FILES);
        let bounds = Bounds::new(files, memory.limit(), limits.address_connections(), limits.portal_connections());
        let connections = Connections::new(bounds, metrics);
        Self { handshakes: Arc::new(handshakes), origin, limits, memory, connections }
    }
}

/// The next connection; none if no more are accepted.
async fn next(listener: &TcpListener, until: &Until) -> Option<(TcpStream, IpAddr)> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = until.stopped.cancelled() => return None,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Frames are small and each is waited for.
                let _ = stream.set_nodelay(true);
                return Some((stream, peer.ip()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Finishes the requests in flight. Sessions are not its business.
async fn finish(listener: TcpListener, until: Until, connections: TaskTracker) {
    drop(listener);
    until.draining.cancel();
    connections.close();
    connections.wait().await;
}

/// The operator's listener: HTTP/1.1 without TLS.
pub async fn serve_ops(listener: TcpListener, router: Router, until: Until) {
    let (places, connections) = (Arc::new(Semaphore::new(OPS_CONNECTIONS)), TaskTracker::new());
    while let Some((stream, address)) = next(&listener, &until).await {
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(%address, "a connection of an operator was dropped: there are too many");
            continue;
        };
        let client = (None, Origin::new(None));
        let peer = Peer::new(None, address, client, Instant::now(), until.draining.child_token());
        let serving = connection::serve(router.clone(), peer, stream, false);
        connections.spawn(async move {
            serving.await;
            drop(place);
        });
    }
    finish(listener, until, connections).await;
}

/// The public listener.
pub async fn serve(listener: TcpListener, outside: Outside, router: Router, until: Until) {
    let connections = TaskTracker::new();
    while let Some((stream, address)) = next(&listener, &until).await {
        if outside.memory.is_short() {
            outside.limits.hit(Limit::Memory);
            continue;
        }
        let Ok((place, evicted)) = outside.connections.admit().await else {
            tracing::debug!(%address, "a connection was dropped: there are too many");
            continue;
        };
        if let Err(error) = host::end_unless_taken(&stream, WRITE_TIMEOUT) {
            tracing::debug!(%error, "the operating system watches no connection that takes nothing");
        }
        let (outside, router, leaving) = (outside.clone(), router.clone(), until.draining.child_token());
        connections.spawn(async move {
            let serving = outside.serve(stream, address, Instant::now(), Arc::new(place), router, leaving);
            if evicted.run_until_cancelled(serving).await.is_none() {
                tracing::debug!(%address, "a connection without a credential made room for another one");
            }
        });
    }
    finish(listener, until, connections).await;
}

impl Outside {
    async fn serve(
        &self,
        mut stream: TcpStream,
        address: IpAddr,
        begun: Instant,
        place: Arc<Place>,
        router: Router,
        leaving: CancellationToken,
    ) {
        place.is_looked_at();
        let client = match self.origin.of(address, &mut stream).await {
            Ok(client) => client,
            Err(error) => {
                return tracing::debug!(%address, %error, "a connection was dropped: nobody knows whose it is");
            }
        };
        // Behind a proxy that ends TLS connections and handshakes are the proxy's.
        if self.origin.is_shared(address) {
            place.is_proxys();
        } else if let Some(client) = client
            && (!self.limits.handshake(client) || place.identify(client).is_err())
        {
            return;
        }
        // Boxed, each for as long as it lasts: a connection that says nothing costs little.
        let stream = match Box::pin(self.handshakes.shake(stream, &place)).await {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!("{error}"),
        };
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let peer = Peer::new(Some(place), address, (client, self.origin.clone()), begun, leaving);
        if let Ended::Hit(limit) = Box::pin(connection::serve(router, peer, stream, http2)).await {
            self.limits.hit(limit);
        }
    }
}

/// An address that is this process's own. Nobody can connect to it yet.
pub struct Reserved {
    field: &'static str,
    address: SocketAddr,
    socket: TcpSocket,
}

impl Reserved {
    /// Listens. Who connected before was refused, and has not waited.
    ///
    /// # Errors
    /// If somebody else does already.
    pub fn listen(self) -> io::Result<TcpListener> {
        let Self { field, address, socket } = self;
        socket.listen(BACKLOG).map_err(|error| refused(field, address, &error))
    }
}

/// Takes an address, and says which field is at fault if it can't be had.
///
/// # Errors
/// If the address is in use or not this host's.
pub fn reserve(field: &'static str, address: SocketAddr) -> io::Result<Reserved> {
    let reserve = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // As `TcpListener::bind` does: connections of an earlier life may not have ended quite.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(socket)
    };
    reserve().map(|socket| Reserved { field, address, socket }).map_err(|error| refused(field, address, &error))
}

fn refused(field: &str, address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{field} = \"{address}\" can't be listened on: {error}"))
}
