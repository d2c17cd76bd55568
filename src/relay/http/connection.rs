//! One connection: HTTP/1.1 or HTTP/2, as TLS has chosen, until one side has had enough.

use std::error::Error as _;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response, StatusCode, Version};
use h2::Reason;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tower::ServiceExt;

use super::exchange::{Answer, Due, Peer};
use crate::protocol::limits::MAX_FRAME_BYTES;
use crate::telemetry::limit::Limit;

/// How long a client may take to send its request's headers: a slow mobile network needs a second, and who sends nothing
/// keeps a connection for no longer.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A request's head, in bytes: an assertion is 1 KiB at most, and proxies add to it.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// The same in HTTP/2, where many come at a time.
const MAX_HEADER_LIST: u32 = 8 * 1024;
/// Requests of one HTTP/2 connection at a time.
const MAX_STREAMS: u32 = 128;
/// What a client may send of one body before any of it is read: the whole of it.
#[expect(clippy::cast_possible_truncation, reason = "16 KiB")]
const STREAM_WINDOW: u32 = MAX_FRAME_BYTES as u32;
/// The same of all bodies on a connection: no less can be (RFC 9113 §6.9.2).
const CONNECTION_WINDOW: u32 = 65_535;
/// What is kept of one answer that is not taken. All but lists are smaller.
const SEND_BUFFER: usize = 16 * 1024;
/// How often it is looked whether a connection has been of no use for too long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why the node closes a connection.
pub(super) enum Ended {
    /// One side has closed it.
    Closed,
    /// A limit.
    Hit(Limit),
}

/// What hyper calls by two names.
trait Connection: Future<Output = hyper::Result<()>> {
    /// Ends when what is under way is answered.
    fn leave(self: Pin<&mut Self>);
}

impl<I, S> Connection for http1::UpgradeableConnection<I, S>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Answer>, Error = h2::Error>,
    S::Future: Send + 'static,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Connection for http2::Connection<I, S, TokioExecutor>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: Service<Request<Incoming>, Response = Response<Answer>, Error = h2::Error>,
    S::Future: Send + 'static,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Serves one connection.
pub(super) async fn serve<I>(router: Router, peer: Arc<Peer>, stream: I, http2: bool) -> Ended
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (of_requests, stream) = (Arc::clone(&peer), TokioIo::new(stream));
    let service = service_fn(move |request| answer(router.clone(), Arc::clone(&of_requests), request));
    if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(Duration::from_secs(20)))
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADER_LIST)
            .max_send_buf_size(SEND_BUFFER);
        watch(&peer, pin!(builder.serve_connection(stream, service))).await
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
        watch(&peer, pin!(builder.serve_connection(stream, service).with_upgrades())).await
    }
}

async fn watch(peer: &Peer, mut connection: Pin<&mut impl Connection>) -> Ended {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        tokio::select! {
            ended = &mut connection => {
                let Err(error) = ended else { return Ended::Closed };
                tracing::debug!(%error, "a connection ended with an error");
                // hyper's own clock for headers may be the first to find it.
                return match () {
                    () if error.is_timeout() && !peer.was_asked() => Ended::Hit(Limit::HeaderTimeout),
                    () if is_not_taken(&error) => Ended::Hit(Limit::AnswerTimeout),
                    () => Ended::Closed,
                };
            }
            // Whoever has just come is answered once: to be cut off tells nobody where to go.
            () = peer.leaving.cancelled(), if told.is_none() && peer.was_asked() => {
                told = Some(Instant::now());
                connection.as_mut().leave();
            }
            now = looks.tick() => match peer.due(now, told) {
                None => {}
                Some(Due::Idle) => peer.leaving.cancel(),
                Some(Due::Closed(limit)) => {
                    tracing::debug!(limit = limit.as_str(), "a connection was closed");
                    return Ended::Hit(limit);
                }
            },
        }
    }
}

/// Whether the operating system has ended the connection, because nothing was taken of what was written to it.
fn is_not_taken(error: &hyper::Error) -> bool {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let mut found = causes.filter_map(|cause| cause.downcast_ref::<io::Error>());
    found.any(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

async fn answer(
    router: Router,
    peer: Arc<Peer>,
    mut request: Request<Incoming>,
) -> Result<Response<Answer>, h2::Error> {
    // Nothing was done, so the client may ask again at once, over another connection or this one (RFC 9113 §8.7).
    let exchange = peer.begin(request.headers()).await.map_err(|_| h2::Error::from(Reason::REFUSED_STREAM))?;
    let http1 = request.version() < Version::HTTP_2;
    request.extensions_mut().insert(Arc::clone(&exchange));
    let Ok(mut answer) = router.oneshot(request).await;
    // Said in time, so that the client sends nothing more here. HTTP/2 has a frame for it.
    if http1 && peer.leaving.is_cancelled() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(answer.map(|body| Answer::new(body, exchange)))
}
