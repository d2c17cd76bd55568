//! The upgrade to a WebSocket (RFC 6455 §4.2), and the socket as a stream and a sink of frames.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, coding::CloseCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use super::frame_lengths::FrameLengths;
use super::problem::Refusal;
use crate::protocol::frame::{FrameError, FromAgent, FromRelay, SUBPROTOCOL};
use crate::protocol::limits::MAX_FRAME_BYTES;
use crate::protocol::problem::ProblemCode;
use crate::relay::session::{Ended, SocketError};

/// tungstenite keeps a read buffer of this size for each socket, resident and zeroed before each read, and doubles it
/// for a frame that does not fit. A command's outcome takes some three reads, out of what TLS has already received.
const READ_BUFFER_BYTES: usize = 512;
/// Frames that are written together are one record of TLS, up to so many bytes.
const WRITE_BUFFER_BYTES: usize = 4096;
/// Frames that may wait to be written before the socket counts as stuck, in bytes.
const MAX_WRITE_BUFFER_BYTES: usize = 4 * MAX_FRAME_BYTES;
/// A peer that does not take even a close frame is left.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// So much of what is under way is read after a close frame: to close on unread bytes may destroy it on its way.
const CLOSE_BYTES: u64 = 1024 * 1024;

/// The one version of the protocol (RFC 6455 §4.1).
const VERSION: &str = "13";

/// A request for a WebSocket, as it has to be.
pub(super) struct Upgrade {
    accept: String,
    connection: OnUpgrade,
}

impl Upgrade {
    /// Reads what a client asks.
    ///
    /// # Errors
    /// If it asks for something else, or in a wrong way.
    pub(super) fn asked(parts: &mut Parts) -> Result<Self, Refusal> {
        let required = |detail: String| Err(Refusal::new(ProblemCode::UpgradeRequired, detail));
        let headers = &parts.headers;
        for (name, expected) in [(CONNECTION, "upgrade"), (UPGRADE, "websocket")] {
            if !has(headers, &name, |token| token.eq_ignore_ascii_case(expected)) {
                return required(format!("{name}: {expected} is expected, in HTTP/1.1"));
            }
        }
        if only(headers, &SEC_WEBSOCKET_VERSION) != Some(VERSION) {
            return required(format!("{SEC_WEBSOCKET_VERSION}: {VERSION} is expected"));
        }
        if !has(headers, &SEC_WEBSOCKET_PROTOCOL, |token| token == SUBPROTOCOL) {
            return required(format!("{SEC_WEBSOCKET_PROTOCOL}: {SUBPROTOCOL} is expected"));
        }
        let key = only(headers, &SEC_WEBSOCKET_KEY);
        let key = key.filter(|key| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16)).ok_or_else(|| {
            Refusal::new(ProblemCode::Malformed, format!("{SEC_WEBSOCKET_KEY} is 16 bytes as base64, once"))
        })?;
        let accept = derive_accept_key(key.as_bytes());
        match parts.extensions.remove::<OnUpgrade>() {
            Some(connection) => Ok(Self { accept, connection }),
            None => required("a WebSocket is opened in HTTP/1.1".to_owned()),
        }
    }

    /// The answer, and the socket that there is when it was sent.
    pub(super) fn accept(self) -> (Response, impl Future<Output = Result<Frames, hyper::Error>> + Send + 'static) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        // It is base64.
        headers.extend(HeaderValue::try_from(self.accept).ok().map(|accept| (SEC_WEBSOCKET_ACCEPT, accept)));
        let connection = self.connection;
        (response, async { Ok(Frames::over(connection.await?).await) })
    }
}

/// Whether a list that may stand in several fields has such a token (RFC 9110 §5.3).
fn has(headers: &HeaderMap, name: &HeaderName, is: impl Fn(&str) -> bool) -> bool {
    let mut fields = headers.get_all(name).iter().filter_map(|field| field.to_str().ok());
    fields.any(|field| field.split(',').any(|token| is(token.trim())))
}

/// The value of a field that stands once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut fields = headers.get_all(name).iter();
    fields.next().filter(|_| fields.next().is_none())?.to_str().ok()
}

/// A WebSocket whose binary messages are frames.
pub(super) struct Frames {
    socket: WebSocketStream<FrameLengths<TokioIo<Upgraded>>>,
    /// The peer has sent a close frame. How its connection ends after that is no matter.
    closed: bool,
}

impl Frames {
    async fn over(connection: Upgraded) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
            .max_message_size(Some(MAX_FRAME_BYTES))
            .max_frame_size(Some(MAX_FRAME_BYTES));
        let stream = FrameLengths::new(TokioIo::new(connection));
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        Self { socket, closed: false }
    }

    /// Says why it ends, and sees to it that the peer can read that.
    pub(super) async fn close(mut self, ended: &Ended) {
        let Some((code, reason)) = ended.close_frame() else { return };
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        let _ = timeout(CLOSE_TIMEOUT, async {
            self.socket.send(Message::Close(Some(frame))).await?;
            // Until the peer's own close frame it may still read ours.
            while let Some(Ok(_)) = self.socket.next().await {}
            let stream = self.socket.get_mut().unseen();
            stream.shutdown().await?;
            tokio::io::copy(&mut stream.take(CLOSE_BYTES), &mut tokio::io::sink()).await?;
            Ok::<_, tungstenite::Error>(())
        })
        .await;
    }
}

fn socket_error(error: tungstenite::Error) -> SocketError {
    match error {
        tungstenite::Error::Capacity(_) => SocketError::Frame(FrameError::TooLarge(MAX_FRAME_BYTES + 1)),
        tungstenite::Error::Utf8(_) => SocketError::Utf8,
        // The connection is gone.
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing) => {
            SocketError::Lost(error.to_string())
        }
        tungstenite::Error::Protocol(error) => SocketError::WebSocket(error.to_string()),
        tungstenite::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            SocketError::WebSocket(error.to_string())
        }
        error => SocketError::Lost(error.to_string()),
    }
}

impl Stream for Frames {
    type Item = Result<Option<FromAgent>, SocketError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let message = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
            None => return Poll::Ready(None),
            // It did not wait for our answer.
            Some(Err(_)) if self.closed => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(socket_error(error)))),
            Some(Ok(message)) => message,
        };
        Poll::Ready(Some(match message {
            Message::Binary(bytes) => FromAgent::decode(&bytes).map(Some).map_err(Into::into),
            Message::Text(_) => Err(SocketError::Text),
            Message::Close(_) => {
                // Our answer is written on the way to the end of the stream.
                self.closed = true;
                Ok(None)
            }
            // Pings are answered below us.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(None),
        }))
    }
}

impl Sink<FromRelay> for Frames {
    type Error = SocketError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.socket).poll_ready(cx).map_err(socket_error)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: FromRelay) -> Result<(), SocketError> {
        Pin::new(&mut self.socket).start_send(Message::Binary(frame.encode_frame().into())).map_err(socket_error)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(socket_error)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(socket_error)
    }
}
