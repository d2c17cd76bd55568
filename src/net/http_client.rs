//! HTTP as a portal, a collector's exporter and a fetcher of documents speak it: connections are kept and shared, each
//! question has a deadline, each answer a bound. An address that lets a question down is not asked next.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{PROXY_AUTHORIZATION, USER_AGENT};
use http::{Extensions, HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::time::timeout;
use tower::Service;

use super::connector::{Connector, Ready};
use super::kept::Kept;
use super::names::Names;
use super::outbound_error::OutboundError;
use super::proxy::Via;
use super::stranger::{ADVICE, Stranger};
use super::tunnel::user_agent;
use super::{CONNECT_TIMEOUT, NetError, causes, tls_client};

/// How often a server that takes no more questions on a connection is asked on another (RFC 9113 §8.7).
const NOT_TAKEN: usize = 2;

/// Why there is no answer. No sentence has a URL in it, in which a secret may stand.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection: the question did not leave this host.
    #[error("{0}")]
    Unreachable(String),
    /// The connection was lost before the whole answer was there.
    #[error("{0}")]
    Broken(String),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// More than is read.
    #[error("the answer has more than {at_most} bytes")]
    TooLarge {
        /// Its status.
        status: StatusCode,
        /// The bound.
        at_most: usize,
    },
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// All of it.
    pub body: Bytes,
    connection: CaptureConnection,
}

/// The client. Clones share their connections.
#[derive(Clone)]
pub struct HttpClient {
    pool: Client<Dial, Full<Bytes>>,
    connector: Arc<Connector>,
    dialed: Arc<Mutex<Option<SocketAddr>>>,
}

impl HttpClient {
    /// Trusts the system's roots and the CA in `ca_file`, honours the environment's proxies, and follows no redirects. `peer`
    /// says in one word whom it is for.
    ///
    /// # Errors
    /// If the file is no use or there are no roots at all.
    pub fn new(ca_file: Option<&Path>, peer: &'static str) -> Result<Self, NetError> {
        let mut tls = tls_client(ca_file)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let connector = Arc::new(Connector::new(tls, &Via::Environment, Names::System, peer));
        let dialed = Arc::default();
        let pool = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(Dial { connector: Arc::clone(&connector), dialed: Arc::clone(&dialed) });
        Ok(Self { pool, connector, dialed })
    }

    /// Asks, with an absolute URL. All of it takes at most `within`, and the answer has at most so many bytes.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(&self, request: Request<Bytes>, within: Duration, at_most: usize) -> Result<Answer, HttpError> {
        let mut request = request.map(Full::from);
        request.headers_mut().entry(USER_AGENT).or_insert_with(user_agent);
        // Where a proxy passes plain HTTP on, it reads the request itself.
        if request.uri().scheme_str() == Some("http")
            && let Some(authorization) = self.connector.proxy_to(request.uri()).and_then(|p| p.authorization.clone())
        {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
        }
        let connection = capture_connection(&mut request);
        let asked = async {
            let (status, headers, body) = self.ask(&request).await?;
            let body = read(body, at_most).await?.ok_or(HttpError::TooLarge { status, at_most })?;
            Ok(Answer { status, headers, body, connection: connection.clone() })
        };
        let answered = timeout(within, asked).await.unwrap_or(Err(HttpError::Late(within)));
        if let Err(HttpError::Broken(_) | HttpError::Late(_)) = answered {
            self.give_up(&connection);
        }
        answered
    }

    /// What this answer says is no use: its connection is not used again, and other addresses are tried first for a while.
    pub fn doubt(&self, answer: &Answer) {
        self.give_up(&answer.connection);
    }

    /// Whether there is an address for this URL that has not let anybody down.
    pub async fn has_another(&self, url: &Uri) -> bool {
        self.connector.has_another(url).await
    }

    fn give_up(&self, connection: &CaptureConnection) {
        let Some(connected) = &*connection.connection_metadata() else {
            // It broke before a request was given to it.
            return self.dialed.lock().iter().for_each(|address| self.connector.doubt(*address));
        };
        connected.poison();
        let mut known = Extensions::new();
        connected.get_extras(&mut known);
        if let Some(Address(address)) = known.get() {
            self.connector.doubt(*address);
        }
    }

    async fn ask(&self, request: &Request<Full<Bytes>>) -> Result<(StatusCode, HeaderMap, Incoming), HttpError> {
        let mut left = NOT_TAKEN;
        loop {
            match self.pool.request(request.clone()).await {
                Ok(answer) => {
                    let (head, body) = answer.into_parts();
                    return Ok((head.status, head.headers, body));
                }
                Err(error) if left > 0 && not_taken(&error) => left -= 1,
                Err(error) if error.is_connect() => {
                    let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), causes);
                    return Err(HttpError::Unreachable(why));
                }
                Err(error) => return Err(HttpError::Broken(causes(&error))),
            }
        }
    }
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HttpClient")
    }
}

impl Answer {
    /// What shows that it is not of the protocol, in one sentence with what to do.
    #[must_use]
    pub fn stranger(&self) -> Option<String> {
        let seen = Stranger::in_answer(self.status, &self.headers)?;
        Some(format!("{seen}; {ADVICE}"))
    }
}

/// All of it; nothing if it is longer than that.
async fn read(mut body: Incoming, at_most: usize) -> Result<Option<Bytes>, HttpError> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| HttpError::Broken(causes(&error)))?;
        let Some(part) = frame.data_ref() else { continue };
        if all.len() + part.len() > at_most {
            return Ok(None);
        }
        all.extend_from_slice(part);
    }
    Ok(Some(all.freeze()))
}

/// Whether the server has certainly not looked at the question: it says so when it takes no more on a connection.
fn not_taken(error: &Error) -> bool {
    let chain = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    chain.filter_map(|error| error.downcast_ref::<h2::Error>()).any(|error| {
        let drained = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        error.is_remote() && (drained || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// Where a connection leads.
#[derive(Clone, Copy)]
pub(super) struct Address(pub(super) SocketAddr);

/// Makes the pool's connections.
#[derive(Clone)]
struct Dial {
    connector: Arc<Connector>,
    /// Where the last connection was made to.
    dialed: Arc<Mutex<Option<SocketAddr>>>,
}

impl Service<Uri> for Dial {
    type Response = Kept;
    type Error = OutboundError;
    type Future = Pin<Box<dyn Future<Output = Result<Kept, OutboundError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OutboundError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let (connector, dialed) = (Arc::clone(&self.connector), Arc::clone(&self.dialed));
        Box::pin(async move {
            let connected = |ready: Ready| std::future::ready(Ok(ready));
            let (address, ready) = connector.race(&url, CONNECT_TIMEOUT, &[], connected).await?;
            *dialed.lock() = Some(address);
            Ok(Kept::new(ready, address))
        })
    }
}
