//! Connections as agents and portals open them: TCP from one of many addresses, TLS, and a WebSocket if it is wanted.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::Fallible;
use super::population::{HOST, PUBLIC_URL};
use crate::net::{crypto_provider, read_ca};

/// A WebSocket over TLS.
pub(super) type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// So many connections come from one address: there are about 28,000 ports on each.
pub(super) const PER_ADDRESS: usize = 8_000;

/// Opens connections to one server.
#[derive(Clone)]
pub(super) struct Dialer {
    server: SocketAddr,
    tls: TlsConnector,
}

impl Dialer {
    /// `ca` signed the server's certificate.
    pub(super) fn new(server: SocketAddr, ca: &Path) -> Fallible<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(read_ca(ca)?);
        let mut tls = ClientConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        tls.resumption = rustls::client::Resumption::disabled();
        Ok(Self { server, tls: TlsConnector::from(Arc::new(tls)) })
    }

    /// The `number`th connection.
    pub(super) async fn connect(&self, number: usize) -> Fallible<TlsStream<TcpStream>> {
        let tcp = TcpSocket::new_v4()?;
        tcp.bind((source(number)?, 0).into())?;
        let tcp = tcp.connect(self.server).await?;
        tcp.set_nodelay(true)?;
        Ok(self.tls.connect(ServerName::try_from(HOST)?, tcp).await?)
    }

    pub(super) async fn websocket(
        &self,
        number: usize,
        path: &str,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Fallible<Socket> {
        let mut request = format!("{}{path}", PUBLIC_URL.replacen("https", "wss", 1)).into_client_request()?;
        request.headers_mut().extend(headers);
        let config = WebSocketConfig::default().read_buffer_size(2048).write_buffer_size(0);
        let tls = self.connect(number).await?;
        Ok(tokio_tungstenite::client_async_with_config(request, tls, Some(config)).await?.0)
    }
}

fn source(number: usize) -> Fallible<Ipv4Addr> {
    Ok(Ipv4Addr::new(127, 0, 1, u8::try_from(number / PER_ADDRESS + 1)?))
}
