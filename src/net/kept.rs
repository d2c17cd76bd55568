//! A connection of the pool, with what the pool has to know of it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;

use super::connector::Ready;
use super::http_client::Address;
use super::tls::Stream;

/// A connection.
pub(super) struct Kept {
    stream: TokioIo<Stream>,
    address: SocketAddr,
    http2: bool,
    proxied: bool,
}

impl Kept {
    pub(super) fn new(ready: Ready, address: SocketAddr) -> Self {
        let Ready { stream, http2, proxied } = ready;
        Self { stream: TokioIo::new(stream), address, http2, proxied }
    }
}

impl Connection for Kept {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.proxied).extra(Address(self.address));
        if self.http2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Kept {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl Write for Kept {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
