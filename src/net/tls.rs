//! TLS on a stream, and a sentence for each way in which it fails.

use std::io;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::tls_fault;

/// What bytes go through.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(super) type Stream = Box<dyn Duplex>;

/// Why there is no TLS.
pub(super) enum TlsFailure {
    /// The other side does not speak it.
    NotSpoken,
    /// For people.
    Why(String),
}

/// With `host`, a name or an address. It says whether HTTP/2 is spoken. `private_if` says when its CA is a private one.
pub(super) async fn secure(
    connector: &TlsConnector,
    stream: Stream,
    host: &str,
    private_if: &str,
) -> Result<(Stream, bool), TlsFailure> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned())
        .map_err(|_| TlsFailure::Why("no certificate has this name".to_owned()))?;
    let secured = connector.connect(name, stream).await.map_err(|error| failure(&error, private_if))?;
    let http2 = secured.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((Box::new(secured), http2))
}

fn failure(error: &io::Error, private_if: &str) -> TlsFailure {
    TlsFailure::Why(match tls_fault::of(error) {
        Some(rustls::Error::InvalidMessage(_)) => return TlsFailure::NotSpoken,
        Some(fault) => tls_fault::sentence(fault, Some(private_if)),
        None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            "it hung up in the middle of TLS".to_owned()
        }
        None => format!("TLS failed: {error}"),
    })
}
