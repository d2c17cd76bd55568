//! HTTPS to the relay as an agent speaks it: one request on a connection of its own, directly or through a proxy, which
//! may become something else (RFC 9110 §7.8). Everything that is in the way has a sentence.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::names::Names;
use super::proxy::{EnvironmentError, Proxies, Proxy, Via};
use super::tcp::{self, TcpError};
use super::{CONNECT_TIMEOUT, NetError, causes, tls_client, tls_fault};

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

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// Not `https://HOST` or `https://HOST:PORT`.
    #[error("{0} is not an https:// URL with a host")]
    Url(Uri),
    /// The environment names a proxy that is none.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// Nobody there.
    #[error(transparent)]
    Tcp(#[from] TcpError),
    /// Not even the proxy.
    #[error("the proxy {proxy} can't be reached: {error}")]
    NoProxy {
        /// The proxy.
        proxy: Proxy,
        /// Why.
        error: TcpError,
    },
    /// The proxy is there, and does not let us through.
    #[error("{0}")]
    Proxy(String),
    /// TLS failed.
    #[error("{host}: {why}")]
    Tls {
        /// With whom.
        host: String,
        /// Why.
        why: String,
    },
    /// It took too long.
    #[error("{host}: no connection within {} s{}", CONNECT_TIMEOUT.as_secs(), through(.proxy.as_ref()))]
    Late {
        /// The host.
        host: String,
        /// The proxy on the way.
        proxy: Option<Proxy>,
    },
    /// The connection is there; no answer came on it.
    #[error("{host}: {why}")]
    NoAnswer {
        /// The host.
        host: String,
        /// Why.
        why: String,
    },
}

fn through(proxy: Option<&Proxy>) -> String {
    proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default()
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

type Stream = Box<dyn Duplex>;

/// Makes connections to relays.
pub struct Outbound {
    tls: TlsConnector,
    proxies: Proxies,
    names: Names,
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
        let proxies = Proxies::new(&access.via, |name| std::env::var(name).ok());
        Ok(Self { tls: TlsConnector::from(Arc::new(tls)), proxies, names: Names::System })
    }

    /// The proxy on the way to an `https://` URL.
    #[must_use]
    pub fn proxy_to(&self, url: &Uri) -> Option<&Proxy> {
        self.proxies.of(url.host()?, port(url)).ok().flatten()
    }

    /// Only connects: name, TCP, proxy and TLS, within [`CONNECT_TIMEOUT`].
    ///
    /// # Errors
    /// If something is in the way.
    pub async fn reach(&self, url: &Uri) -> Result<(), OutboundError> {
        self.connect(url).await.map(drop)
    }

    /// Sends one request with an absolute `https://` URL, and gives the head of the answer. Connecting takes at most
    /// [`CONNECT_TIMEOUT`]; for the answer, whoever calls has a deadline.
    ///
    /// # Errors
    /// If something is in the way, or the connection ends before the answer.
    pub async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, OutboundError> {
        let url = request.uri().clone();
        let stream = self.connect(&url).await?;
        let authority = url.authority().map_or("", http::uri::Authority::as_str);
        let host = HeaderValue::from_str(authority).map_err(|_| OutboundError::Url(url.clone()))?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(USER_AGENT, agent());
        let path = url.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
        exchange(stream, request)
            .await
            .map_err(|error| OutboundError::NoAnswer { host: authority.to_owned(), why: causes(&error) })
    }

    async fn connect(&self, url: &Uri) -> Result<Stream, OutboundError> {
        let host = url.host().filter(|host| url.scheme_str() == Some("https") && !host.is_empty());
        let host = host.ok_or_else(|| OutboundError::Url(url.clone()))?;
        let proxy = self.proxies.of(host, port(url))?;
        let connected = timeout(CONNECT_TIMEOUT, async {
            let stream = match proxy {
                None => Box::new(tcp::connect(&self.names, host, port(url)).await?) as Stream,
                Some(proxy) => self.tunnel(proxy, &format!("{host}:{}", port(url))).await?,
            };
            self.secure(stream, host, "the relay has a private CA, or a proxy inspects TLS").await
        });
        let late = |_| OutboundError::Late { host: host.to_owned(), proxy: proxy.cloned() };
        connected.await.map_err(late)?
    }

    /// A connection through the proxy to `target` (RFC 9110 §9.3.6).
    async fn tunnel(&self, proxy: &Proxy, target: &str) -> Result<Stream, OutboundError> {
        let unreachable = |error| OutboundError::NoProxy { proxy: proxy.clone(), error };
        let tcp = tcp::connect(&self.names, &proxy.host, proxy.port).await.map_err(unreachable)?;
        let stream = if proxy.tls {
            self.secure(Box::new(tcp), &proxy.host, "the proxy has a private CA").await?
        } else {
            Box::new(tcp)
        };
        let mut connect = Request::new(Full::default());
        *connect.method_mut() = Method::CONNECT;
        let refused = |why: String| OutboundError::Proxy(format!("the proxy {proxy} {why}"));
        *connect.uri_mut() = target.parse().map_err(|_| refused(format!("can't be asked for {target}")))?;
        let host = HeaderValue::from_str(target).map_err(|_| refused(format!("can't be asked for {target}")))?;
        connect.headers_mut().insert(HOST, host);
        connect.headers_mut().insert(USER_AGENT, agent());
        if let Some(authorization) = &proxy.authorization {
            connect.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        let answer = exchange(stream, connect).await.map_err(|error| {
            let why = if error.is_parse() { "is not an HTTP proxy: its answer is not HTTP" } else { "hung up" };
            refused(format!("{why} ({})", causes(&error)))
        })?;
        if !answer.status().is_success() {
            return Err(refused(why_not_through(answer.status(), answer.headers(), proxy, target)));
        }
        let tunnel = hyper::upgrade::on(answer).await.map_err(|error| refused(format!("hung up ({error})")))?;
        Ok(Box::new(TokioIo::new(tunnel)))
    }

    async fn secure(&self, stream: Stream, host: &str, private_if: &str) -> Result<Stream, OutboundError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let failed = |why: String| OutboundError::Tls { host: host.to_owned(), why };
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| failed("no certificate has this name".into()))?;
        let secured = self.tls.connect(name, stream).await.map_err(|error| failed(why_no_tls(&error, private_if)))?;
        Ok(Box::new(secured))
    }
}

fn port(url: &Uri) -> u16 {
    url.port_u16().unwrap_or(443)
}

fn agent() -> HeaderValue {
    HeaderValue::from_static(concat!("writeback-agent/", env!("CARGO_PKG_VERSION")))
}

/// The connection lives as long as the answer, or what it becomes.
async fn exchange(stream: Stream, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await
}

fn why_not_through(status: StatusCode, headers: &HeaderMap, proxy: &Proxy, target: &str) -> String {
    match status.as_u16() {
        407 => {
            let offers = headers.get_all(PROXY_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
            let schemes: Vec<_> = offers.filter_map(|offer| offer.split_whitespace().next()).collect();
            if !schemes.is_empty() && !schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic")) {
                let schemes = schemes.join(", ");
                return format!(
                    "wants {schemes} authentication (407); only Basic is supported: ask for an account with that"
                );
            }
            if proxy.has_credentials() {
                "refuses the user name or the password (407): check proxy_user and proxy_password_file, or HTTPS_PROXY"
                    .to_owned()
            } else {
                "wants a user name and a password (407): set proxy_user and proxy_password_file, or put them into \
                 HTTPS_PROXY"
                    .to_owned()
            }
        }
        403 => {
            format!("forbids connections to {target} (403): ask whoever runs it to allow CONNECT to that host and port")
        }
        502..=504 => {
            format!(
                "can't reach {target} itself ({status}): check from there that the name resolves and the port is open"
            )
        }
        // An ordinary web server.
        400 | 404 | 405 | 501 => {
            format!("does not know CONNECT ({status}): check that this is the proxy's host and port")
        }
        _ => format!("does not connect to {target} ({status})"),
    }
}

fn why_no_tls(error: &io::Error, private_if: &str) -> String {
    match tls_fault::of(error) {
        Some(fault) => tls_fault::sentence(fault, Some(private_if)),
        None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            "it hung up in the middle of TLS".to_owned()
        }
        None => format!("TLS failed: {error}"),
    }
}
