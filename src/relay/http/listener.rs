//! The accept loop. Each connection shakes hands in a task of its own, so a slow one delays nobody.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::super::tls::Certificate;
use crate::host;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to send its request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Files that are no connections: the store, listeners, logs, and the other listener's connections.
const RESERVED_FILES: usize = 256;
/// After a failed accept (no file left, say): long enough not to spin, short enough not to be missed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Requests of one HTTP/2 connection at a time.
const MAX_STREAMS: u32 = 128;

fn http() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .max_concurrent_streams(MAX_STREAMS);
    builder
}

/// Accepts until `stop`, then finishes the requests in flight. Sessions are not its business.
pub async fn serve(listener: TcpListener, certificate: Option<Certificate>, router: Router, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(host::max_open_files().saturating_sub(RESERVED_FILES)));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!("a connection was dropped: there are as many as this process may hold files");
            continue;
        };
        // Frames are small and each is waited for.
        let _ = stream.set_nodelay(true);
        let connection = Connection { router: router.clone(), place: Arc::new(place), watcher: graceful.watcher() };
        let acceptor = certificate.as_ref().map(|certificate| TlsAcceptor::from(certificate.current()));
        tokio::spawn(async move {
            match acceptor {
                None => connection.serve(http().http1_only(), stream).await,
                Some(acceptor) => match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        // Told by TLS, so that nothing has to be read to find it out.
                        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        let http = if http2 { http().http2_only() } else { http().http1_only() };
                        connection.serve(http, stream).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!("a TLS handshake took too long"),
                },
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// One of as many connections as this process may hold files. Sessions keep it for as long as they live.
pub type Place = Arc<OwnedSemaphorePermit>;

struct Connection {
    router: Router,
    place: Place,
    watcher: Watcher,
}

impl Connection {
    async fn serve<S>(self, http: Builder<TokioExecutor>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { router, place, watcher } = self;
        let begun = Arc::new(Notify::new());
        let begins = Arc::clone(&begun);
        let service = service_fn(move |mut request: Request<Incoming>| {
            begins.notify_one();
            request.extensions_mut().insert(Arc::clone(&place));
            router.clone().oneshot(request)
        });
        let connection = http.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let connection = watcher.watch(connection.into_owned());
        let silent = async {
            if timeout(HEADER_TIMEOUT, begun.notified()).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            ended = connection => if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended with an error");
            },
            () = silent => tracing::debug!("a connection was dropped: nothing was asked on it"),
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
