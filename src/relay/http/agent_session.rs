//! The upgrade to an agent's session, and the WebSocket as a stream and a sink of frames.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::USER_AGENT;
use axum::response::Response;
use futures_util::{Sink, SinkExt, Stream};
use semver::Version;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

use super::Public;
use super::caller::assertion;
use super::listener::Place;
use super::problem::Refusal;
use crate::audit;
use crate::protocol::frame::{CloseReason, FrameError, FromAgent, FromRelay, SUBPROTOCOL};
use crate::protocol::limits::MAX_FRAME_BYTES;
use crate::protocol::problem::{Problem, ProblemCode};
use crate::relay::session::{self, Ended, SocketError};
use crate::telemetry::limit::Limit;

/// tungstenite keeps a read buffer of this size for each socket, resident and zeroed before each read, and doubles it
/// for a frame that does not fit. A command's outcome takes some three reads, out of what TLS has already received.
const READ_BUFFER_BYTES: usize = 512;
/// Frames that are written together are one record of TLS, up to so many bytes.
const WRITE_BUFFER_BYTES: usize = 4096;
/// Frames that may wait to be written before the socket counts as stuck, in bytes.
const MAX_WRITE_BUFFER_BYTES: usize = 4 * MAX_FRAME_BYTES;
/// An upgrade may wait so long for a place: many at the same moment are no storm if they are soon served.
const OPENING_WAIT: Duration = Duration::from_secs(1);
/// A peer that does not take even a close frame is left.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Open an agent's session.
#[utoipa::path(
    get,
    path = "/v1/agent/session",
    params(("Sec-WebSocket-Protocol" = String, Header, description = "writeback.v1")),
    responses(
        (status = 101, description = "A WebSocket; binary messages are frames of proto/writeback/v1/session.proto"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "invalid_assertion, assertion_used"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "agent_revoked: stop"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "unknown_agent: try again, slowly"),
        (status = 426, body = Problem, content_type = "application/problem+json", description = "upgrade_required; agent_too_old: try again, slowly"),
        (status = 429, body = Problem, content_type = "application/problem+json", description = "rate_limited: the tenant has too many sessions here; come back after Retry-After"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "draining, overloaded: come back, to another node, after Retry-After")
    ),
    security(("agent" = []))
)]
pub(super) async fn open(State(public): State<Arc<Public>>, request: Request) -> Result<Response, Refusal> {
    let metrics = public.services.metrics.clone();
    let opened = upgrade(public, request).await;
    metrics.handshake(opened.as_ref().map_or_else(|refusal| refusal.code.as_str(), |_| "accepted"));
    opened
}

async fn upgrade(public: Arc<Public>, request: Request) -> Result<Response, Refusal> {
    if public.is_draining() {
        return Err(Refusal::new(ProblemCode::Draining, "this node is stopping; come back"));
    }
    let (mut parts, _) = request.into_parts();
    let upgrade_required = |detail: String| Refusal::new(ProblemCode::UpgradeRequired, detail);
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &public)
        .await
        .map_err(|e: WebSocketUpgradeRejection| upgrade_required(e.body_text()))?
        .protocols([SUBPROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        return Err(upgrade_required(format!("Sec-WebSocket-Protocol: {SUBPROTOCOL} is expected")));
    }
    recent_enough(&parts.headers, public.minimum_agent_version.as_ref())?;
    let services = Arc::clone(&public.services);
    let Ok(place) = timeout(OPENING_WAIT, services.openings.acquire()).await else {
        return Err(Refusal::new(ProblemCode::Overloaded, "too many sessions are being opened here; come back"));
    };
    let (tenant, agent) = public.keys.agent(assertion(&parts)?).await.inspect_err(|refused| {
        audit!("session_refused", reason = %refused);
    })?;
    let counted = public.limits.session(&tenant)?;
    // `Hello` may take the agent some time; the session asks for a place again.
    drop(place);
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_message_size(MAX_FRAME_BYTES)
        .max_frame_size(MAX_FRAME_BYTES);
    let place = parts.extensions.get::<Place>().cloned();
    let (sockets, agent, journal) = (public.sockets.clone(), agent.agent, agent.journal);
    Ok(upgrade.on_upgrade(move |socket| {
        let mut socket = Frames(socket);
        // A task of its own: axum's keeps room for the whole upgrade. What it captures it uses in place, uncopied.
        sockets.spawn(async move {
            services.metrics.sessions(&tenant, 1);
            let ended = session::run(&services, tenant.clone(), (agent, journal), &mut socket).await;
            services.metrics.sessions(&tenant, -1);
            drop(counted);
            if ended == Ended::Closed(CloseReason::FrameTooLarge) {
                services.metrics.limit_hit(Limit::FrameSize);
            }
            services.metrics.session_ended(&tenant, ended.as_str());
            audit!("session_closed", agent = %agent, reason = ended.as_str(), cause = ended.cause());
            Box::pin(socket.close(&ended)).await;
            drop(place);
        });
        std::future::ready(())
    }))
}

/// `User-Agent: writeback-agent/VERSION` (RFC 9110 §10.1.5). Agents of other makes have versions of their own.
fn recent_enough(headers: &HeaderMap, minimum: Option<&Version>) -> Result<(), Refusal> {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    let version = agent.and_then(|agent| agent.split(' ').find_map(|product| product.strip_prefix("writeback-agent/")));
    match (version.map(Version::parse), minimum) {
        (Some(Ok(version)), Some(minimum)) if version < *minimum => Err(Refusal::new(
            ProblemCode::AgentTooOld,
            format!(
                "this is writeback-agent {version}, and this relay takes {minimum} or newer: install that, and start it in the \
                 same folder; its keys and its journal stay"
            ),
        )),
        _ => Ok(()),
    }
}

/// A WebSocket whose binary messages are frames.
struct Frames(WebSocket);

impl Frames {
    async fn close(mut self, ended: &Ended) {
        if let Some((code, reason)) = ended.close_frame() {
            let frame = CloseFrame { code, reason: reason.into() };
            let _ = timeout(CLOSE_TIMEOUT, async {
                self.0.send(Message::Close(Some(frame))).await?;
                // The peer's own close frame ends the stream; until then it may still read ours.
                while let Some(Ok(_)) = futures_util::StreamExt::next(&mut self.0).await {}
                SinkExt::close(&mut self.0).await
            })
            .await;
        }
    }
}

fn socket_error(error: axum::Error) -> SocketError {
    let cause = error.source().and_then(|source| source.downcast_ref::<tungstenite::Error>());
    match cause {
        Some(tungstenite::Error::Capacity(_)) => SocketError::Frame(FrameError::TooLarge(MAX_FRAME_BYTES + 1)),
        _ => SocketError::Lost(error.to_string()),
    }
}

impl Stream for Frames {
    type Item = Result<Option<FromAgent>, SocketError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll_next(cx)) {
            None => None,
            Some(Err(error)) => Some(Err(socket_error(error))),
            Some(Ok(Message::Binary(bytes))) => Some(FromAgent::decode(&bytes).map(Some).map_err(Into::into)),
            Some(Ok(Message::Text(_))) => Some(Err(SocketError::Text)),
            // Pings are answered below us; a close frame is followed by the end of the stream.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_))) => Some(Ok(None)),
        })
    }
}

impl Sink<FromRelay> for Frames {
    type Error = SocketError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.0).poll_ready(cx).map_err(socket_error)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: FromRelay) -> Result<(), SocketError> {
        Pin::new(&mut self.0).start_send(Message::Binary(frame.encode_frame().into())).map_err(socket_error)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.0).poll_flush(cx).map_err(socket_error)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.0).poll_close(cx).map_err(socket_error)
    }
}
