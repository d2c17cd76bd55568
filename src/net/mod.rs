//! Outbound connections, as agents and portals use them: system roots, and a private CA beside them.
//!
//! | module | what |
//! |---|---|
//! | [`certificates`] | certificates and keys in the forms that people have them in |
//! | [`names`] | what the domain name system says |
//! | [`race`], [`doubt`] | attempts at several addresses side by side; which of them failed a while ago |
//! | [`tcp`] | a connection to one address |
//! | [`no_proxy`], [`proxy`] | which proxy for which host |
//! | `connector`, `tunnel`, `tls` | a connection to whom one wants: any of the addresses, a proxy, TLS |
//! | `verifier`, [`certificate`], [`tls_fault`] | which certificates are taken, and what is wrong with the others |
//! | [`outbound`] | one request on a connection of its own, with a sentence for everything in the way |
//! | [`http_client`], [`fetch`] | kept connections; a small document, bounded in size and time |
//! | [`stranger`] | somebody else answers |

pub mod certificate;
pub mod certificates;
mod challenge;
mod connector;
pub mod doubt;
pub mod fetch;
pub mod http_client;
mod kept;
pub mod names;
pub mod no_proxy;
pub mod outbound;
mod outbound_error;
pub mod proxy;
pub mod race;
pub mod stranger;
pub mod tcp;
mod tls;
pub mod tls_fault;
mod tunnel;
mod verifier;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls_platform_verifier::Verifier;

use self::verifier::Explaining;
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
    let trusted = ca_file.map(read_ca).transpose()?.unwrap_or_default();
    let provider = crypto_provider();
    let platform = Verifier::new_with_extra_roots(trusted.clone(), Arc::clone(&provider));
    let platform = platform.map_err(|error| match (ca_file, &error) {
        (Some(path), rustls::Error::InvalidCertificate(_)) => {
            let detail = "a certificate in it is not one of X.509 version 3".to_owned();
            NetError::CaFile { path: path.to_owned(), detail }
        }
        _ => tls(error),
    })?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .dangerous() // the name of the builder's method; the verifier is the platform's
        .with_custom_certificate_verifier(Arc::new(Explaining { platform, trusted }))
        .with_no_client_auth())
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
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = Vec::new();
    for cause in std::iter::successors(Some(error), |e| e.source()) {
        // What the library says of TLS is for its programmers, and nothing behind it says more.
        if let Some(tls) = tls_fault::itself(cause) {
            said.push(tls_fault::sentence(tls, None));
            break;
        }
        said.push(cause.to_string());
    }
    let said = said.join(": ");
    // Names from a certificate, or what a peer answered, may stand in it.
    one_line(&said).into_owned()
}
