//! JSON in and out. What comes in is read as all JSON of the protocol is.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::Refusal;
use crate::protocol::json;
use crate::protocol::problem::ProblemCode;

/// The media type (RFC 8259 §11).
const JSON: &str = "application/json";

/// A body that is JSON, and says so.
pub(in crate::relay) struct Json<T>(pub(in crate::relay) T);

/// A body of the operator's: what was exported by an older relay has `null` for what is absent.
pub(in crate::relay) struct JsonWithNulls<T>(pub(in crate::relay) T);

fn said_to_be_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(JSON)
}

async fn read<T, S: Send + Sync>(
    request: Request,
    state: &S,
    read: fn(&[u8]) -> Result<T, json::Error>,
) -> Result<T, Refusal> {
    if !said_to_be_json(request.headers()) {
        return Err(Refusal::new(ProblemCode::UnsupportedMediaType, format!("Content-Type {JSON} is expected")));
    }
    let body = Bytes::from_request(request, state)
        .await
        .map_err(|error| Refusal::new(ProblemCode::Malformed, format!("the body can't be read: {error}")))?;
    read(&body).map_err(|error| Refusal::new(ProblemCode::Malformed, format!("the body: {error}")))
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        read(request, state, json::read).await.map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonWithNulls<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        read(request, state, json::read_with_nulls).await.map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}
