//! Clients that owe nothing to the node's own libraries above TLS: sockets that count, and frames written by hand.

pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod websocket;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use writeback_relay::net::{crypto_provider, read_ca};

use crate::measured::Spent;

/// Whoever is not let in within this time is not let in.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A connection over TLS.
pub(crate) type Tls = TlsStream<Counted>;

/// Where an attacker comes from. Legitimate clients come from 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sources {
    /// One address.
    One,
    /// Another one for each connection.
    Many,
    /// Half of the connections so, half so.
    Both,
    /// Where legitimate clients come from.
    Home,
}

impl Sources {
    fn of(self, connection: u32) -> Ipv4Addr {
        let octet = |value: u32| u8::try_from(value).unwrap();
        match self {
            Self::Home => Ipv4Addr::LOCALHOST,
            Self::Both if connection.is_multiple_of(2) => Self::One.of(connection),
            Self::One => Ipv4Addr::new(127, 200, 0, 1),
            Self::Many | Self::Both => {
                Ipv4Addr::new(127, 201, octet(connection / 250 % 250), octet(1 + connection % 250))
            }
        }
    }
}

/// What a client has spent.
#[derive(Debug, Default)]
pub(crate) struct Spending {
    connections: AtomicU64,
    turned_away: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// Opens connections to a node.
pub(crate) struct Dialer {
    target: SocketAddr,
    sources: Sources,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    pace: Option<Pace>,
    spending: Arc<Spending>,
    next: AtomicU32,
}

/// So many bytes in so long, and no more.
#[derive(Clone, Copy)]
struct Pace {
    begun: Instant,
    bytes: u64,
    within: Duration,
}

impl Pace {
    /// How long to wait until one more byte may be sent.
    fn wait(self, sent: u64) -> Option<Duration> {
        let due = self.within.mul_f64(ratio(sent, self.bytes));
        // In pieces that are worth a wake.
        due.checked_sub(self.begun.elapsed()).filter(|wait| *wait > Duration::from_millis(10))
    }
}

#[expect(clippy::cast_precision_loss, reason = "to wait by it, it is exact enough")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

impl Dialer {
    /// `first` is the number of its first connection: with [`Sources::Many`] others have other addresses.
    pub(crate) fn new(target: SocketAddr, ca: &Path, sources: Sources, first: u32) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in read_ca(ca).unwrap() {
            roots.add(certificate).unwrap();
        }
        let config = |protocol: &[u8]| {
            let builder = ClientConfig::builder_with_provider(crypto_provider()).with_safe_default_protocol_versions();
            let mut config = builder.unwrap().with_root_certificates(roots.clone()).with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        let (http1, http2) = (config(b"http/1.1"), config(b"h2"));
        Self { target, sources, http1, http2, pace: None, spending: Arc::default(), next: AtomicU32::new(first) }
    }

    /// One who sends so many bytes within this time, and no more.
    pub(crate) fn paced(self, bytes: u64, within: Duration) -> Self {
        Self { pace: Some(Pace { begun: Instant::now(), bytes, within }), ..self }
    }

    /// TLS as a portal has it.
    pub(crate) fn tls(&self) -> ClientConfig {
        let mut config = ClientConfig::clone(&self.http2);
        config.alpn_protocols.clear();
        config
    }

    pub(crate) fn spent(&self) -> Spent {
        let Spending { connections, turned_away, sent, received } = &*self.spending;
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Spent {
            connections: value(connections),
            turned_away: value(turned_away),
            sent: value(sent),
            received: value(received),
        }
    }

    /// TCP, and no byte on it.
    pub(crate) async fn tcp(&self) -> io::Result<Counted> {
        self.tcp_with(None).await
    }

    async fn tcp_with(&self, receive_buffer: Option<u32>) -> io::Result<Counted> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let source = self.sources.of(self.next.fetch_add(1, Ordering::Relaxed));
        socket.bind((source, 0).into())?;
        self.spending.connections.fetch_add(1, Ordering::Relaxed);
        let stream = timeout(PATIENCE, socket.connect(self.target)).await.map_err(io::Error::from).flatten();
        let stream = stream.inspect_err(|_| self.turned_away())?;
        stream.set_nodelay(true)?;
        Ok(Counted { stream, spending: Arc::clone(&self.spending), pace: self.pace, waiting: None })
    }

    fn turned_away(&self) {
        self.spending.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// TLS with HTTP/1.1.
    pub(crate) async fn http1(&self) -> io::Result<Tls> {
        self.secured(&self.http1, None).await
    }

    /// TLS with HTTP/2.
    pub(crate) async fn http2(&self) -> io::Result<Tls> {
        self.secured(&self.http2, None).await
    }

    /// TLS with HTTP/1.1, by a client that lets next to nothing wait to be read.
    pub(crate) async fn http1_narrow(&self) -> io::Result<Tls> {
        self.secured(&self.http1, Some(2048)).await
    }

    async fn secured(&self, config: &Arc<ClientConfig>, receive_buffer: Option<u32>) -> io::Result<Tls> {
        let tcp = self.tcp_with(receive_buffer).await?;
        let connecting = TlsConnector::from(Arc::clone(config)).connect(self.name(), tcp);
        let shaken = timeout(PATIENCE, connecting).await.map_err(io::Error::from).flatten();
        shaken.inspect_err(|_| self.turned_away())
    }

    fn name(&self) -> ServerName<'static> {
        ServerName::from(self.target.ip())
    }

    /// The first bytes of a TLS handshake.
    pub(crate) fn client_hello(&self) -> Vec<u8> {
        let mut client = rustls::ClientConnection::new(Arc::clone(&self.http1), self.name()).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        hello
    }
}

/// A TCP connection whose bytes are counted, and go no faster than they may.
pub(crate) struct Counted {
    stream: TcpStream,
    spending: Arc<Spending>,
    pace: Option<Pace>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        self.spending.received.fetch_add(u64::try_from(read).unwrap(), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        while let Some(wait) = this.pace.and_then(|pace| pace.wait(this.spending.sent.load(Ordering::Relaxed))) {
            ready!(this.waiting.get_or_insert_with(|| Box::pin(sleep(wait))).as_mut().poll(cx));
            this.waiting = None;
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.spending.sent.fetch_add(u64::try_from(written).unwrap(), Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
