//! The accept loop. Each connection shakes hands in a task of its own, so a slow one delays nobody.
//! While the node drains, each answer is the last on its connection: the next one is to come to another node.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::super::limits::Limits;
use super::client_address::{ClientAddress, Origin};
use super::handshake::Handshakes;
use crate::host;
use crate::telemetry::limit::Limit;

/// How long a client may take to send its request's headers: a slow mobile network needs a second, and who sends nothing
/// keeps a connection for no longer.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A request's head, in bytes: an assertion is 1 KiB at most. HTTP/2 has a limit of its own, 16 KiB.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Files that are no connections: the store, listeners, logs, and the other listener's connections.
const RESERVED_FILES: usize = 256;
/// After a failed accept (no file left, say): long enough not to spin, short enough not to be missed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Requests of one HTTP/2 connection at a time.
const MAX_STREAMS: u32 = 128;

fn http() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .max_concurrent_streams(MAX_STREAMS);
    builder
}

/// When a listener ends.
#[derive(Clone, Debug, Default)]
pub struct Until {
    /// From here on each connection ends with the request that is on it.
    pub draining: CancellationToken,
    /// From here on none is accepted.
    pub stopped: CancellationToken,
}

/// Accepts until it is stopped, then finishes the requests in flight. Sessions are not its business.
pub async fn serve(listener: TcpListener, outside: Option<Outside>, router: Router, until: Until) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(host::max_open_files().saturating_sub(RESERVED_FILES)));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = until.stopped.cancelled() => break,
        };
        let (mut stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            if let Some(outside) = &outside {
                outside.limits.hit(Limit::Connections);
            }
            tracing::warn!("a connection was dropped: there are as many as this process may hold files");
            continue;
        };
        // Frames are small and each is waited for.
        let _ = stream.set_nodelay(true);
        let draining = until.draining.clone();
        let mut connection = Connection { router: router.clone(), place: Arc::new(place), draining, client: None };
        let outside = outside.clone();
        connections.spawn(async move {
            let Some(Outside { handshakes, origin, limits }) = outside else {
                connection.serve(http().http1_only(), stream).await;
                return;
            };
            let client = match origin.of(peer, &mut stream).await {
                Ok(client) => client,
                Err(error) => {
                    return tracing::debug!(%peer, %error, "a connection was dropped: nobody knows whose it is");
                }
            };
            // Behind a proxy that ends TLS the handshakes are the proxy's.
            if client.is_some_and(|address| !origin.is_shared() && !limits.handshake(address)) {
                return;
            }
            connection.client = client.map(ClientAddress);
            match handshakes.shake(stream).await {
                Ok(stream) => {
                    // Told by TLS, so that nothing has to be read to find it out.
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let http = if http2 { http().http2_only() } else { http().http1_only() };
                    if connection.serve(http, stream).await == Left::Silent {
                        limits.hit(Limit::HeaderTimeout);
                    }
                }
                Err(error) => tracing::debug!("{error}"),
            }
        });
    }
    drop(listener);
    until.draining.cancel();
    connections.close();
    connections.wait().await;
}

/// One of as many connections as this process may hold files. Sessions keep it for as long as they live.
pub type Place = Arc<OwnedSemaphorePermit>;

/// What the public listener has, and the operator's has not.
#[derive(Clone)]
pub struct Outside {
    /// TLS.
    pub handshakes: Arc<Handshakes>,
    /// Who the clients are.
    pub origin: Origin,
    /// How much each may have.
    pub limits: Arc<Limits>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// One side has closed it.
    Closed,
    /// Nothing was asked on it.
    Silent,
}

struct Connection {
    router: Router,
    place: Place,
    draining: CancellationToken,
    client: Option<ClientAddress>,
}

impl Connection {
    async fn serve<S>(self, http: Builder<TokioExecutor>, stream: S) -> Left
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { router, place, draining, client } = self;
        let begun = CancellationToken::new();
        let begins = begun.clone();
        let leaves = draining.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            begins.cancel();
            request.extensions_mut().insert(Arc::clone(&place));
            if let Some(client) = client {
                request.extensions_mut().insert(client);
            }
            let (http1, leaves) = (request.version() < Version::HTTP_2, leaves.clone());
            let answer = router.clone().oneshot(request);
            async move {
                let mut answer = answer.await?;
                // Said in time, so that the client sends nothing more here. HTTP/2 has a frame for it.
                if http1 && leaves.is_cancelled() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let mut connection = pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned());
        let mut silent = pin!(async {
            if timeout(HEADER_TIMEOUT, begun.cancelled()).await.is_ok() {
                std::future::pending::<()>().await;
            }
        });
        // Whoever has just come is answered once: to be cut off tells nobody where to go.
        let mut goes = pin!(async {
            begun.cancelled().await;
            draining.cancelled().await;
        });
        let mut told = false;
        loop {
            tokio::select! {
                ended = &mut connection => {
                    let Err(error) = ended else { return Left::Closed };
                    tracing::debug!(%error, "a connection ended with an error");
                    // hyper's own clock for headers may be the first to find it.
                    let late = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout);
                    return if late && !begun.is_cancelled() { Left::Silent } else { Left::Closed };
                }
                () = &mut silent => {
                    tracing::debug!("a connection was dropped: nothing was asked on it");
                    return Left::Silent;
                }
                () = &mut goes, if !told => {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Binds, and says which field is at fault if it can't.
///
/// # Errors
/// If the address is in use or not this host's.
pub async fn bind(field: &str, address: std::net::SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|e| io::Error::new(e.kind(), format!("{field} = \"{address}\" can't be listened on: {e}")))
}
