//! Whatever may answer at an address in place of a relay, of a proxy, or of a domain controller.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use writeback_relay::net::crypto_provider;

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It takes the connection, and says nothing.
    Silent,
    /// It takes the connection, and closes it.
    Closes,
    /// It answers this in plain text, and closes.
    Says(&'static str),
    /// The same inside of TLS, with the certificate that is expected there.
    SaysInTls(&'static str),
    /// TLS, and then nothing.
    SilentInTls,
    /// TLS that ends before an answer.
    ClosesInTls,
}

pub(crate) const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 33\r\nConnection: close\r\n\r\n\
                               <html>Log on to our guest network";
pub(crate) const REDIRECT: &str = "HTTP/1.1 302 Found\r\nLocation: http://guest.example/login\r\n\
                                   Content-Length: 0\r\nConnection: close\r\n\r\n";
pub(crate) const BAD_REQUEST: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
pub(crate) const AWAY: &str =
    "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>";

/// It stops when dropped.
pub(crate) struct Stranger {
    address: SocketAddr,
    met: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Stranger {
    /// At `address`; `folder` has a relay's certificate and its key.
    pub(crate) async fn at(address: SocketAddr, manner: Manner, folder: &Path) -> Self {
        Self::with(address, manner, Some(acceptor(folder))).await
    }

    /// At `address`, without TLS.
    pub(crate) async fn plain(address: SocketAddr, manner: Manner) -> Self {
        Self::with(address, manner, None).await
    }

    async fn with(address: SocketAddr, manner: Manner, acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let met = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&met);
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let acceptor = acceptor.clone();
                open.spawn(async move {
                    match manner {
                        Manner::Closes => {}
                        Manner::Silent => listen(stream).await,
                        Manner::Says(text) => say(stream, text).await,
                        Manner::SaysInTls(_) | Manner::SilentInTls | Manner::ClosesInTls => {
                            let acceptor = acceptor.expect("a certificate for TLS");
                            let Ok(stream) = acceptor.accept(stream).await else { return };
                            match manner {
                                Manner::SaysInTls(text) => say(stream, text).await,
                                Manner::SilentInTls => listen(stream).await,
                                _ => {}
                            }
                        }
                    }
                });
            }
        })
        .abort_handle();
        Self { address, met, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How often somebody came.
    pub(crate) fn accepted(&self) -> usize {
        self.met.load(Ordering::Relaxed)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn acceptor(folder: &Path) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(folder.join("dev-cert.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("dev-key.pem")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn listen(mut stream: impl AsyncRead + Unpin) {
    let mut heard = [0; 4096];
    while matches!(stream.read(&mut heard).await, Ok(1..)) {}
}

async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) {
    let _ = stream.read(&mut [0; 4096]).await;
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
    listen(stream).await;
}
