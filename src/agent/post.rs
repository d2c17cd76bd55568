//! One question to the relay, beside the sessions.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use tokio::time::timeout;

use crate::net::outbound::{Outbound, OutboundError};

/// How long the relay may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How long its addresses are tried; what is left is for the rest of the answer.
const ATTEMPTS: Duration = Duration::from_secs(25);
/// An answer holds a portal's keys at the most: a few kilobytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Posts `body`, and gives the answer; or why there is none, for people.
pub(super) async fn post(
    outbound: &Outbound,
    url: &str,
    media_type: &str,
    body: impl Into<Bytes>,
) -> Result<(StatusCode, Bytes), String> {
    let (url, body) = (url.parse::<Uri>().map_err(|_| format!("{url} is no URL"))?, body.into());
    let request = || {
        let request = Request::post(&url).header(CONTENT_TYPE, media_type).body(Full::from(body.clone()));
        request.map_err(|error| OutboundError::Request(error.to_string()))
    };
    let answered = timeout(ANSWER, async {
        // What is posted here may be posted again: the relay sees that it is the same.
        let answer = outbound.send(&url, ATTEMPTS, &[], request).await.map_err(|e| e.to_string())?.response;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        Ok((status, body.map_err(|e| e.to_string())?.to_bytes()))
    });
    answered.await.map_err(|_| format!("not within {} s", ANSWER.as_secs()))?
}
