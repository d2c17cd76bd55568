//! Bodies are read whole before anything else, with a limit and a deadline: a client that stops in the middle costs little.
//! Those that are signed come as what they are.

use std::error::Error;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::LengthLimitError;
use tokio::time::timeout;

use super::problem::Refusal;
use crate::protocol::problem::ProblemCode;

/// How long a body may take, however it trickles in: it is 16 KiB at most.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The media type of a compact JWS (RFC 7515 §9.2.1).
const JOSE: &str = "application/jose";

/// A body that is a compact JWS, and says so.
pub(super) struct CompactJws(pub(super) String);

impl<S: Send + Sync> FromRequest<S> for CompactJws {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !media_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(JOSE) {
            return Err(Refusal::new(ProblemCode::UnsupportedMediaType, format!("Content-Type {JOSE} is expected")));
        }
        let no_text = |_| Refusal::new(ProblemCode::Malformed, "the body is not a compact JWS");
        String::from_request(request, state).await.map(Self).map_err(no_text)
    }
}

/// Reads the body of a request, at most so many bytes.
pub(in crate::relay) async fn whole(
    State(limit): State<usize>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let bytes = match timeout(BODY_TIMEOUT, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) if error.source().is_some_and(|cause| cause.is::<LengthLimitError>()) => {
            return Err(Refusal::new(ProblemCode::TooLarge, format!("at most {limit} bytes are taken here")));
        }
        Ok(Err(_)) => return Err(Refusal::new(ProblemCode::Malformed, "the body broke off")),
        Err(_) => return Err(Refusal::new(ProblemCode::RequestTimeout, "the body did not come in time")),
    };
    Ok(next.run(Request::from_parts(parts, Body::from(bytes))).await)
}
