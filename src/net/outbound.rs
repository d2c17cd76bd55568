//! HTTPS to the relay as an agent speaks it: one request on a connection of its own, directly or through a proxy, which
//! may become something else (RFC 9110 §7.8). Everything that is in the way has a sentence.

use std::future::ready;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;

use super::connector::{Connector, Ready};
use super::names::Names;
pub use super::outbound_error::OutboundError;
use super::proxy::{Proxy, Via};
use super::stranger::Stranger;
use super::tunnel::exchange;
use super::{CONNECT_TIMEOUT, NetError, causes, tls_client};

/// The relay looks at the version.
const AGENT: &str = concat!("writeback-agent/", env!("CARGO_PKG_VERSION"));

/// How the relay is reached.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// A PEM file with a private CA, trusted beside the system's roots: the relay's, or that of a proxy that inspects TLS.
    pub ca_file: Option<PathBuf>,
    /// The way out.
    pub via: Via,
}

impl From<Option<&Path>> for Access {
    /// With this private CA, and the proxy that the environment names.
    fn from(ca_file: Option<&Path>) -> Self {
        Self { ca_file: ca_file.map(Path::to_owned), via: Via::default() }
    }
}

impl From<Option<&PathBuf>> for Access {
    fn from(ca_file: Option<&PathBuf>) -> Self {
        Self::from(ca_file.map(PathBuf::as_path))
    }
}

/// Makes connections to relays.
pub struct Outbound(Connector);

/// The head of an answer, and where it came from.
#[derive(Debug)]
pub struct Answered {
    /// The relay's address, or the proxy's.
    pub address: SocketAddr,
    /// The answer.
    pub response: Response<Incoming>,
}

impl Outbound {
    /// Reads the CA file and, if it is to, the environment.
    ///
    /// # Errors
    /// If the file is no use.
    pub fn new(access: &Access) -> Result<Self, NetError> {
        let mut tls = tls_client(access.ca_file.as_deref())?;
        // An upgrade to a WebSocket is HTTP/1.1's (RFC 6455 §4).
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Connector::new(tls, &access.via, Names::System, "relay")))
    }

    /// The proxy on the way to an `https://` URL.
    #[must_use]
    pub fn proxy_to(&self, url: &Uri) -> Option<&Proxy> {
        self.0.proxy_to(url)
    }

    /// What came from this address was no use: others are tried first for a while.
    pub fn doubt(&self, address: SocketAddr) {
        self.0.doubt(address);
    }

    /// Only connects: name, TCP, proxy and TLS, within [`CONNECT_TIMEOUT`].
    ///
    /// # Errors
    /// If something is in the way at each address.
    pub async fn reach(&self, url: &Uri) -> Result<(), OutboundError> {
        let reached = |_: Ready| ready(Ok(()));
        self.0.race(only_https(url)?, CONNECT_TIMEOUT, &[], reached).await.map(|_| ())
    }

    /// Sends one request to an absolute `https://` URL, and gives the head of the answer. Each address that is tried gets a
    /// request of its own, which `request` makes: whoever asks must be able to ask twice. Connecting takes at most
    /// [`CONNECT_TIMEOUT`] each. Addresses in `last` are tried after others.
    ///
    /// # Errors
    /// If something is in the way at each address, the connection ends before the answer, or it is not a relay that answers.
    pub async fn send(
        &self,
        url: &Uri,
        within: Duration,
        last: &[SocketAddr],
        request: impl Fn() -> Result<Request<Full<Bytes>>, OutboundError>,
    ) -> Result<Answered, OutboundError> {
        let url = only_https(url)?;
        let request = &request;
        let finish = |ready: Ready| async move { self.ask(url, ready, request()?).await };
        let (address, response) = self.0.race(url, within, last, finish).await?;
        Ok(Answered { address, response })
    }

    async fn ask(
        &self,
        url: &Uri,
        ready: Ready,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, OutboundError> {
        let authority = url.authority().map_or("", http::uri::Authority::as_str);
        let host = HeaderValue::from_str(authority).map_err(|_| OutboundError::Url(url.clone()))?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let path = url.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
        let answer = exchange(ready.stream, request)
            .await
            .map_err(|error| OutboundError::NoAnswer { host: authority.to_owned(), why: causes(&error) })?;
        match Stranger::in_answer(answer.status(), answer.headers()) {
            None => Ok(answer),
            Some(seen) => Err(self.0.stranger(authority, self.0.proxy_to(url), seen)),
        }
    }
}

fn only_https(url: &Uri) -> Result<&Uri, OutboundError> {
    let fits = url.scheme_str() == Some("https") && url.host().is_some_and(|host| !host.is_empty());
    if fits { Ok(url) } else { Err(OutboundError::Url(url.clone())) }
}
