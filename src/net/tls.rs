//! TLS on a stream, and a sentence for each way in which it fails.

use std::io;

use rustls::CertificateError;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

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
    let fault = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    TlsFailure::Why(match fault {
        Some(rustls::Error::InvalidMessage(_)) => return TlsFailure::NotSpoken,
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => format!(
            "its certificate is not from a CA that this host trusts; if {private_if}, give that CA's certificate in \
             ca_file"
        ),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "its certificate is for another host name".to_owned(),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => "its certificate is not valid at this time; check the certificate and this host's clock".to_owned(),
        Some(rustls::Error::InvalidCertificate(other)) => format!("its certificate is refused: {other}"),
        Some(other) => format!("TLS failed: {other}"),
        None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            "it hung up in the middle of TLS".to_owned()
        }
        None => format!("TLS failed: {error}"),
    })
}
