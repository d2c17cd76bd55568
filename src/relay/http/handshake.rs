//! TLS handshakes, so many at a time: in a storm the first are served soon, instead of all of them too late.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::{Acceptor, ClientHello};
use tokio_rustls::server::TlsStream;

use super::super::tls::Certificate;
use super::connections::Place;
use crate::telemetry::limit::Limit;
use crate::telemetry::metrics::Metrics;

/// How long a TLS handshake may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may wait for a place. Clients give up after some ten seconds: whoever has waited longer is served for
/// nothing.
const WAIT: Duration = Duration::from_secs(3);
/// How long it may keep its place: what a node can compute in that time needs no more places. A client that stops in the middle
/// keeps nobody out, and one that is slower goes on without.
const KEPT: Duration = Duration::from_millis(100);

/// Why there is no TLS on a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("a TLS handshake failed: {0}")]
    Failed(#[from] io::Error),
    #[error("a TLS handshake took too long")]
    TooSlow,
    #[error("a TLS handshake was not begun: there were too many")]
    Overloaded,
}

impl HandshakeError {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::TooSlow => "timeout",
            Self::Overloaded => "overloaded",
        }
    }
}

/// The certificate in force, and places for those who shake hands.
pub struct Handshakes {
    certificate: Certificate,
    /// For those who offer HTTP/1.1 and nothing else, as agents do.
    agents: Semaphore,
    /// For all others: portals get through while agents storm.
    others: Semaphore,
    metrics: Arc<Metrics>,
}

impl Handshakes {
    /// `at_once` places for agents, and as many for all others.
    #[must_use]
    pub fn new(certificate: Certificate, at_once: u32, metrics: Arc<Metrics>) -> Self {
        let places = || Semaphore::new(usize::try_from(at_once).unwrap_or(Semaphore::MAX_PERMITS));
        Self { certificate, agents: places(), others: places(), metrics }
    }

    /// Shakes hands on the connection that has this place.
    pub(super) async fn shake(&self, stream: TcpStream, on: &Place) -> Result<TlsStream<TcpStream>, HandshakeError> {
        let shaken = timeout(TIMEOUT, self.begin(stream, on)).await.unwrap_or(Err(HandshakeError::TooSlow));
        if matches!(shaken, Err(HandshakeError::Overloaded)) {
            self.metrics.limit_hit(Limit::TlsHandshakes);
        }
        self.metrics.tls_handshake(shaken.as_ref().map_or_else(HandshakeError::as_str, |_| "done"));
        shaken
    }

    async fn begin(&self, stream: TcpStream, on: &Place) -> Result<TlsStream<TcpStream>, HandshakeError> {
        // Until the client has said something it takes no place, and next to no memory.
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        // It has said all that it could until it gets its place, and our answer.
        let served = on.served();
        let places = if is_like_an_agent(&start.client_hello()) { &self.agents } else { &self.others };
        let place = timeout(WAIT, places.acquire()).await.map_err(|_| HandshakeError::Overloaded)?;
        let mut shaking = pin!(start.into_stream(self.certificate.current()));
        if let Ok(shaken) = timeout(KEPT, &mut shaking).await {
            return Ok(shaken?);
        }
        drop((place, served));
        Ok(shaking.await?)
    }
}

/// An agent offers HTTP/1.1 alone (`docs/protocol.md` §7). Other HTTPS clients offer HTTP/2 too, or nothing.
fn is_like_an_agent(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut protocols| protocols.all(|protocol| protocol != b"h2"))
}
