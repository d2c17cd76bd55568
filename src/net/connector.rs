//! Connections as all outbound HTTP of these programs has them: a name with several addresses, a proxy if there is one, TLS.
//! Whoever is reached by name is reached at any of its addresses, and so is a proxy; an address where only TCP works does not
//! stand in the way of the others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::CONNECT_TIMEOUT;
use super::doubt::Doubts;
use super::names::Names;
use super::outbound_error::OutboundError;
use super::proxy::{self, Proxies, Proxy, Via};
use super::race::{Pace, Raced, race};
use super::stranger::Stranger;
use super::tcp::{self, TcpError, alternating};
use super::tls::{Stream, TlsFailure, secure};
use super::tunnel;

/// How long a TLS handshake is waited for before another address is tried beside it.
const TLS_STEP: Duration = Duration::from_secs(1);
/// The same of a proxy that is to connect.
const TUNNEL_STEP: Duration = Duration::from_secs(2);
/// The same of an answer.
const ANSWER_STEP: Duration = Duration::from_secs(4);

/// Makes connections.
pub(super) struct Connector {
    tls: TlsConnector,
    https: Proxies,
    http: Proxies,
    names: Names,
    doubts: Doubts<SocketAddr>,
    /// Whom we want, in one word.
    peer: &'static str,
}

/// A connection that is ready for a request.
pub(super) struct Ready {
    pub(super) stream: Stream,
    /// HTTP/2 was agreed upon.
    pub(super) http2: bool,
    /// A proxy takes the request itself, and passes it on: plain HTTP.
    pub(super) proxied: bool,
}

/// Where a URL leads.
struct Target<'a> {
    tls: bool,
    host: &'a str,
    port: u16,
}

impl<'a> Target<'a> {
    fn of(url: &'a Uri) -> Option<Self> {
        let host = url.host().filter(|host| !host.is_empty())?;
        let (tls, port) = match url.scheme_str()? {
            "https" => (true, 443),
            "http" => (false, 80),
            _ => return None,
        };
        Some(Self { tls, host, port: url.port_u16().unwrap_or(port) })
    }
}

impl Connector {
    pub(super) fn new(tls: ClientConfig, via: &Via, names: Names, peer: &'static str) -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let proxies = |variables| Proxies::new(via, variables, variable);
        let (https, http) = (proxies(proxy::HTTPS), proxies(proxy::HTTP));
        Self { tls: TlsConnector::from(Arc::new(tls)), https, http, names, doubts: Doubts::default(), peer }
    }

    /// The proxy on the way to a URL.
    pub(super) fn proxy_to(&self, url: &Uri) -> Option<&Proxy> {
        self.proxy(&Target::of(url)?).ok().flatten()
    }

    /// This address serves nobody: others are tried first for a while.
    pub(super) fn doubt(&self, address: SocketAddr) {
        self.doubts.note(address);
    }

    /// Whether there is an address that is not in doubt.
    pub(super) async fn has_another(&self, url: &Uri) -> bool {
        let Some(target) = Target::of(url) else { return false };
        let Ok(proxy) = self.proxy(&target) else { return false };
        let (host, port) = proxy.map_or((target.host, target.port), |proxy| (&proxy.host, proxy.port));
        let found = timeout(CONNECT_TIMEOUT, self.names.addresses(host, port)).await;
        found.ok().and_then(Result::ok).is_some_and(|all| all.iter().any(|one| !self.doubts.contains(one)))
    }

    /// What `finish` makes of a connection to `url`, and the address where that went well. An attempt is all of it: TCP, the
    /// proxy, TLS, and `finish`. Addresses in `last` are tried after others, those in doubt last of all.
    pub(super) async fn race<T, F>(
        &self,
        url: &Uri,
        within: Duration,
        last: &[SocketAddr],
        finish: impl Fn(Ready) -> F,
    ) -> Result<(SocketAddr, T), OutboundError>
    where
        F: Future<Output = Result<T, OutboundError>>,
    {
        let deadline = Instant::now() + within;
        let target = Target::of(url).ok_or_else(|| OutboundError::Url(url.clone()))?;
        let proxy = self.proxy(&target)?;
        let late = || OutboundError::Late { host: target.host.to_owned(), proxy: proxy.cloned().map(Box::new) };
        let (host, port) = proxy.map_or((target.host, target.port), |proxy| (&proxy.host, proxy.port));
        let found = timeout_at(deadline, self.names.addresses(host, port)).await.map_err(|_| late())?;
        let mut addresses = alternating(found.map_err(|error| unreachable(proxy, error.into()))?);
        addresses.sort_by_key(|address| last.contains(address));
        let addresses = self.doubts.in_order(addresses);
        let left = deadline.saturating_duration_since(Instant::now());
        let (target, finish) = (&target, &finish);
        let attempt = |address, pace: Pace| async move {
            let connecting = timeout(CONNECT_TIMEOUT, self.connect(target, proxy, address, &pace));
            let late = |_| OutboundError::Late { host: target.host.to_owned(), proxy: proxy.cloned().map(Box::new) };
            let ready = connecting.await.map_err(late)??;
            pace.allow(ANSWER_STEP);
            finish(ready).await
        };
        let raced = race(addresses, left, attempt).await;
        self.doubts.learn(&raced);
        let Raced { won, lost } = raced;
        let silent = || match within > CONNECT_TIMEOUT {
            // The connection was there, or it would have been given up before.
            true => OutboundError::NoAnswer {
                host: target.host.to_owned(),
                why: format!("no answer within {} s", within.as_secs()),
            },
            false => late(),
        };
        won.ok_or_else(|| OutboundError::of(host, lost, silent))
    }

    fn proxy(&self, target: &Target<'_>) -> Result<Option<&Proxy>, OutboundError> {
        let proxies = if target.tls { &self.https } else { &self.http };
        Ok(proxies.of(target.host, target.port)?)
    }

    async fn connect(
        &self,
        target: &Target<'_>,
        proxy: Option<&Proxy>,
        address: SocketAddr,
        pace: &Pace,
    ) -> Result<Ready, OutboundError> {
        let tcp = tcp::open(address).await.map_err(|error| {
            let host = proxy.map_or(target.host, |proxy| &proxy.host).to_owned();
            unreachable(proxy, TcpError::NoAnswer { host, tried: vec![(address, error)].into() })
        })?;
        pace.allow(TLS_STEP);
        let mut stream: Stream = Box::new(tcp);
        if let Some(proxy) = proxy {
            if proxy.tls {
                stream = self.secure_proxy(stream, proxy).await?;
            }
            if target.tls {
                pace.allow(TUNNEL_STEP);
                stream = tunnel::open(stream, proxy, &format!("{}:{}", target.host, target.port)).await?;
                pace.allow(TLS_STEP);
            }
        }
        if !target.tls {
            return Ok(Ready { stream, http2: false, proxied: proxy.is_some() });
        }
        let private = format!("the {} has a private CA, or a proxy inspects TLS", self.peer);
        match secure(&self.tls, stream, target.host, &private).await {
            Ok((stream, http2)) => Ok(Ready { stream, http2, proxied: false }),
            Err(TlsFailure::Why(why)) => Err(OutboundError::Tls { host: target.host.to_owned(), why }),
            Err(TlsFailure::NotSpoken) => Err(self.stranger(target.host, proxy, Stranger::NoTls)),
        }
    }

    async fn secure_proxy(&self, stream: Stream, proxy: &Proxy) -> Result<Stream, OutboundError> {
        match secure(&self.tls, stream, &proxy.host, "the proxy has a private CA").await {
            Ok((stream, _)) => Ok(stream),
            Err(TlsFailure::Why(why)) => Err(OutboundError::Tls { host: proxy.host.clone(), why }),
            Err(TlsFailure::NotSpoken) => {
                let why = "is not spoken to over TLS: name it as http://, or name the port where it speaks TLS";
                Err(OutboundError::Proxy(format!("the proxy {proxy} {why}")))
            }
        }
    }

    pub(super) fn stranger(&self, host: &str, proxy: Option<&Proxy>, seen: Stranger) -> OutboundError {
        OutboundError::Stranger { host: host.to_owned(), peer: self.peer, proxy: proxy.cloned().map(Box::new), seen }
    }
}

fn unreachable(proxy: Option<&Proxy>, error: TcpError) -> OutboundError {
    match proxy {
        None => OutboundError::Tcp(error),
        Some(proxy) => OutboundError::NoProxy { proxy: Box::new(proxy.clone()), error },
    }
}
