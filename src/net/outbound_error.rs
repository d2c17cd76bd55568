//! Why there is no answer: a sentence for everything that may be in the way.

use std::net::SocketAddr;

use http::Uri;

use super::CONNECT_TIMEOUT;
use super::proxy::{EnvironmentError, Proxy};
use super::race::Lost;
use super::stranger::{ADVICE, Stranger};
use super::tcp::{TcpError, Tried};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// Not `https://HOST` or `https://HOST:PORT`.
    #[error("{0} is not an https:// URL with a host")]
    Url(Uri),
    /// The request can't be made.
    #[error("{0}")]
    Request(String),
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
        proxy: Box<Proxy>,
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
    /// Somebody answers, and it is not whom we want.
    #[error("{host}: what answers there{} is no {peer}: {seen}; {ADVICE}", through(.proxy.as_deref()))]
    Stranger {
        /// Where.
        host: String,
        /// Whom we want.
        peer: &'static str,
        /// The proxy on the way.
        proxy: Option<Box<Proxy>>,
        /// What it does.
        seen: Stranger,
    },
    /// It took too long.
    #[error("{host}: no connection within {} s{}", CONNECT_TIMEOUT.as_secs(), through(.proxy.as_deref()))]
    Late {
        /// The host.
        host: String,
        /// The proxy on the way.
        proxy: Option<Box<Proxy>>,
    },
    /// The connection is there; no answer came on it.
    #[error("{host}: {why}")]
    NoAnswer {
        /// The host.
        host: String,
        /// Why.
        why: String,
    },
    /// Several addresses, and something else is wrong with each.
    #[error("{host}: none of its addresses serves ({})", each(.tried))]
    Several {
        /// The host, or the proxy's.
        host: String,
        /// What came of each, in the order in which they failed.
        tried: Vec<(SocketAddr, OutboundError)>,
    },
}

fn through(proxy: Option<&Proxy>) -> String {
    proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default()
}

fn each(tried: &[(SocketAddr, OutboundError)]) -> String {
    let one = |(address, error): &(SocketAddr, OutboundError)| format!("{address}: {error}");
    tried.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl OutboundError {
    /// Whether it may be the CA that is missing.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Tls { .. } => true,
            Self::Several { tried, .. } => tried.iter().any(|(_, error)| error.is_tls()),
            _ => false,
        }
    }

    /// What became of the addresses of `host`, one of which at least was tried. `silent` says what it means that one said
    /// nothing.
    pub(super) fn of(host: &str, lost: Vec<(SocketAddr, Lost<Self>)>, silent: impl Fn() -> Self) -> Self {
        let said = |(address, lost)| match lost {
            Lost::Failed(error) => (address, error),
            Lost::Silent(_) => (address, silent()),
        };
        let mut tried: Vec<_> = lost.into_iter().map(said).collect();
        if tried.iter().all(|(_, error)| error.no_tcp().is_some()) && !tried.is_empty() {
            return Self::no_tcp_at_all(tried);
        }
        let sentence = tried.first().map(|(_, error)| error.to_string());
        if tried.iter().all(|(_, error)| Some(error.to_string()) == sentence) {
            return tried.pop().map_or_else(silent, |(_, error)| error);
        }
        Self::Several { host: host.to_owned(), tried }
    }

    fn no_tcp(&self) -> Option<&Tried> {
        match self {
            Self::Tcp(TcpError::NoAnswer { tried, .. })
            | Self::NoProxy { error: TcpError::NoAnswer { tried, .. }, .. } => Some(tried),
            _ => None,
        }
    }

    /// All in one sentence.
    fn no_tcp_at_all(errors: Vec<(SocketAddr, Self)>) -> Self {
        let mut all = Tried::default();
        let mut whole = None;
        for (_, error) in errors {
            match error {
                Self::Tcp(TcpError::NoAnswer { host, tried }) => {
                    all.extend(tried);
                    whole = Some((host, None));
                }
                Self::NoProxy { proxy, error: TcpError::NoAnswer { host, tried } } => {
                    all.extend(tried);
                    whole = Some((host, Some(proxy)));
                }
                other => return other,
            }
        }
        let (host, proxy) = whole.unwrap_or_default();
        let error = TcpError::NoAnswer { host, tried: all };
        match proxy {
            None => Self::Tcp(error),
            Some(proxy) => Self::NoProxy { proxy, error },
        }
    }
}
