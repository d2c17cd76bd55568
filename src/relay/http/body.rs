//! Bodies are read when it is known who sends them, with a limit, a deadline, and out of a budget of the node. Those that
//! are signed come as what they are.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::LengthLimitError;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Public;
use super::exchange::Exchange;
use super::problem::Refusal;
use crate::protocol::limits::{MAX_COMMAND_BYTES, MAX_FRAME_BYTES};
use crate::protocol::problem::ProblemCode;
use crate::relay::limits::{Counted, Limits};
use crate::relay::memory::Memory;
use crate::telemetry::limit::Limit;

/// How long a body may take, however it trickles in: it is 16 KiB at most.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The same where a stranger may send it.
const ANONYMOUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Bodies of known senders that are read at a time: 32 MiB, and more than a node can work off in seconds.
const AT_A_TIME: usize = 2048;
/// A body may wait so long for its turn.
const WAIT: Duration = Duration::from_secs(1);

/// The media type of a compact JWS (RFC 7515 §9.2.1).
const JOSE: &str = "application/jose";

/// Turns for those who send bodies.
pub struct Bodies {
    known: Semaphore,
    memory: Arc<Memory>,
}

impl Bodies {
    /// As long as there is memory.
    #[must_use]
    pub fn new(memory: Arc<Memory>) -> Self {
        Self { known: Semaphore::new(AT_A_TIME), memory }
    }
}

/// A body that is a compact JWS, and says so.
pub(super) struct CompactJws(pub(super) String);

/// The same from somebody who is known only by it.
pub(super) struct AnonymousJws(pub(super) String);

impl FromRequest<Arc<Public>> for CompactJws {
    type Rejection = Refusal;

    async fn from_request(request: Request, public: &Arc<Public>) -> Result<Self, Refusal> {
        said_to_be(JOSE, request.headers())?;
        Ok(Self(text(of_known(public, request, MAX_COMMAND_BYTES).await?)?))
    }
}

impl FromRequest<Arc<Public>> for AnonymousJws {
    type Rejection = Refusal;

    async fn from_request(request: Request, public: &Arc<Public>) -> Result<Self, Refusal> {
        said_to_be(JOSE, request.headers())?;
        Ok(Self(text(of_anybody(public, request, Limits::rotation_body).await?)?))
    }
}

/// Whether a body is said to be of this type.
pub(super) fn said_to_be(media_type: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if said.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type) {
        return Ok(());
    }
    Err(Refusal::new(ProblemCode::UnsupportedMediaType, format!("Content-Type {media_type} is expected")))
}

fn text(body: Bytes) -> Result<String, Refusal> {
    let no_text = |_| Refusal::new(ProblemCode::Malformed, "the body is not a compact JWS");
    String::from_utf8(body.into()).map_err(no_text)
}

/// The body of a sender who has shown a valid credential.
pub(super) async fn of_known(public: &Public, request: Request, limit: usize) -> Result<Bytes, Refusal> {
    let known = &public.bodies.known;
    // Most need not wait, and have no clock of their own.
    let _turn = match known.try_acquire() {
        Ok(turn) => turn,
        Err(_) => match timeout(WAIT, known.acquire()).await {
            Ok(Ok(turn)) => turn,
            _ => return Err(overloaded(public)),
        },
    };
    read(public, request.into_body(), limit, TIMEOUT).await
}

/// The body of a sender who is known only when it is read.
pub(super) async fn of_anybody(
    public: &Public,
    request: Request,
    turn: fn(&Limits, Option<IpAddr>) -> Option<Counted>,
) -> Result<Bytes, Refusal> {
    let client = request.extensions().get::<Arc<Exchange>>().and_then(|exchange| exchange.client());
    let _turn = turn(&public.limits, client).ok_or_else(|| overloaded(public))?;
    read(public, request.into_body(), MAX_FRAME_BYTES, ANONYMOUS_TIMEOUT).await
}

fn overloaded(public: &Public) -> Refusal {
    public.limits.hit(Limit::Bodies);
    Refusal::new(ProblemCode::Overloaded, "too many requests are being read here; send the same again")
}

async fn read(public: &Public, body: Body, limit: usize, time: Duration) -> Result<Bytes, Refusal> {
    if public.bodies.memory.is_short() {
        public.limits.hit(Limit::Memory);
        return Err(Refusal::new(ProblemCode::Overloaded, "this node is short of memory; send the same again"));
    }
    read_within(body, limit, time).await
}

async fn read_within(body: Body, limit: usize, time: Duration) -> Result<Bytes, Refusal> {
    match timeout(time, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.source().is_some_and(|cause| cause.is::<LengthLimitError>()) => {
            Err(Refusal::new(ProblemCode::TooLarge, format!("at most {limit} bytes are taken here")))
        }
        Ok(Err(_)) => Err(Refusal::new(ProblemCode::Malformed, "the body broke off")),
        Err(_) => Err(Refusal::new(ProblemCode::RequestTimeout, "the body did not come in time")),
    }
}

/// Reads the body of an operator's request, at most so many bytes.
pub(in crate::relay) async fn whole(
    State(limit): State<usize>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let bytes = read_within(body, limit, TIMEOUT).await?;
    Ok(next.run(Request::from_parts(parts, Body::from(bytes))).await)
}
