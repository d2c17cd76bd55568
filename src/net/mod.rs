//! Outbound connections, as agents and portals use them: system roots, and a private CA beside them.
//!
//! | module | what |
//! |---|---|
//! | [`certificates`] | certificates and keys in the forms that people have them in |
//! | [`names`] | what the domain name system says |
//! | [`tcp`] | a connection to a host with several addresses |
//! | [`no_proxy`], [`proxy`] | which proxy for which host |
//! | [`fetch`] | a small document, bounded in size and time |
//! | [`outbound`] | HTTPS through a proxy, with a sentence for everything in the way |

pub mod certificates;
pub mod fetch;
pub mod names;
pub mod no_proxy;
pub mod outbound;
pub mod proxy;
pub mod tcp;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls_platform_verifier::Verifier;

use self::proxy::Environment;
use crate::clock::UnixTime;
use crate::protocol::untrusted::one_line;

/// How long a connection may take to come up: TCP, proxy and TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an operator's call may take: a registry of many tenants is the largest.
const OPERATOR_TIMEOUT: Duration = Duration::from_secs(60);

/// Why no connection can be prepared.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The file with the private CA is no use.
    #[error("{path}: no CA certificate can be read from this file: {detail}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// No trust anchors, or no client.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}

/// The one cryptographic provider.
#[must_use]
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The certificates in a file with a CA.
///
/// # Errors
/// If there is none in it.
pub fn read_ca(path: &Path) -> Result<Vec<CertificateDer<'static>>, NetError> {
    let failed = |detail: String| NetError::CaFile { path: path.to_owned(), detail };
    certificates::read_authorities(path).map_err(failed)
}

/// TLS as a client that trusts the system's roots and, if given, the CA in `ca_file`.
///
/// # Errors
/// If the file is no use or there are no roots at all.
pub fn tls_client(ca_file: Option<&Path>) -> Result<ClientConfig, NetError> {
    let tls = |e: rustls::Error| NetError::Tls(e.to_string());
    let extra = ca_file.map(read_ca).transpose()?.unwrap_or_default();
    let provider = crypto_provider();
    let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider)).map_err(tls)?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .dangerous() // the name of the builder's method; the verifier is the platform's
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// An HTTPS client with [`tls_client`]'s trust. It honours `HTTPS_PROXY` and `NO_PROXY`, reaches this host itself directly, and
/// follows no redirects.
///
/// # Errors
/// As [`tls_client`].
pub fn https_client(ca_file: Option<&Path>) -> Result<reqwest::Client, NetError> {
    let client = builder(tls_client(ca_file)?).proxy(environments_proxy());
    client.build().map_err(|e| NetError::Tls(e.to_string()))
}

/// The proxy that the environment names for each URL.
fn environments_proxy() -> reqwest::Proxy {
    let variable = |name: &str| std::env::var(name).ok();
    let (http, https) = (Environment::new(proxy::HTTP, variable), Environment::new(proxy::HTTPS, variable));
    reqwest::Proxy::custom(move |url| {
        let environment = if url.scheme() == "https" { &https } else { &http };
        environment.url_for(url.host_str()?, url.port_or_known_default()?)
    })
}

fn builder(tls: ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("writeback/", env!("CARGO_PKG_VERSION")))
}

/// A client for plain HTTP to this host or cluster: no proxy ever sees what it sends, and nobody waits for ever.
///
/// # Errors
/// If it can't be set up.
pub fn operator_client() -> Result<reqwest::Client, NetError> {
    let tls = ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| NetError::Tls(e.to_string()))?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    builder(tls).no_proxy().timeout(OPERATOR_TIMEOUT).build().map_err(|e| NetError::Tls(e.to_string()))
}

/// How long a server asks to be left alone: `Retry-After` in seconds (RFC 9110 §10.2.3). A date, which no relay sends, is
/// as good as none.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// By how many seconds the clock of whoever sent these headers is ahead of ours; nothing without a `Date` (RFC 9110 §6.6.1).
#[must_use]
pub fn clock_ahead(headers: &HeaderMap, now: UnixTime) -> Option<i64> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let theirs = date.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    Some(i64::try_from(theirs).ok()?.saturating_sub(now.0))
}

/// An error with everything that caused it, in one line.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |e| e.source());
    let said = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    // Names from a certificate, or what a peer answered, may stand in it.
    one_line(&said).into_owned()
}
