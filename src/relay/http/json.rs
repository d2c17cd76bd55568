//! JSON in and out. What comes in is read as all JSON of the protocol is.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Public;
use super::body::{self, said_to_be};
use super::problem::Refusal;
use crate::protocol::json;
use crate::protocol::limits::MAX_FRAME_BYTES;
use crate::protocol::problem::ProblemCode;
use crate::relay::limits::Limits;

/// The media type (RFC 8259 §11).
const JSON: &str = "application/json";

/// A body that is JSON, and says so, of a sender who is known; or an answer.
pub(in crate::relay) struct Json<T>(pub(in crate::relay) T);

/// The same from somebody who is known only by it.
pub(super) struct AnonymousJson<T>(pub(super) T);

/// The same of the operator's, which has been read.
pub(in crate::relay) struct OperatorJson<T>(pub(in crate::relay) T);

/// The same: what was exported by an older relay has `null` for what is absent.
pub(in crate::relay) struct JsonWithNulls<T>(pub(in crate::relay) T);

fn read<T>(body: &[u8], read: fn(&[u8]) -> Result<T, json::Error>) -> Result<T, Refusal> {
    read(body).map_err(|error| Refusal::new(ProblemCode::Malformed, format!("the body: {error}")))
}

async fn of_operator<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Refusal> {
    said_to_be(JSON, request.headers())?;
    let broken = |error| Refusal::new(ProblemCode::Malformed, format!("the body can't be read: {error}"));
    Bytes::from_request(request, state).await.map_err(broken)
}

impl<T: DeserializeOwned> FromRequest<Arc<Public>> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, public: &Arc<Public>) -> Result<Self, Refusal> {
        said_to_be(JSON, request.headers())?;
        read(&body::of_known(public, request, MAX_FRAME_BYTES).await?, json::read).map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<Public>> for AnonymousJson<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, public: &Arc<Public>) -> Result<Self, Refusal> {
        said_to_be(JSON, request.headers())?;
        read(&body::of_anybody(public, request, Limits::enrolment_body).await?, json::read).map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for OperatorJson<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        read(&of_operator(request, state).await?, json::read).map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonWithNulls<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        read(&of_operator(request, state).await?, json::read_with_nulls).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}
