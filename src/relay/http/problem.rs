//! Errors as problem+json, rendered in one place.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::super::StoreError;
use super::super::continuity::Continuity;
use super::super::dispatch::DispatchError;
use super::super::keys::Refused;
use super::super::limits::{Exceeded, Limits};
use super::super::registry::{Loss, Part};
use super::exchange::Exchange;
use super::json::Json;
use crate::clock::Random;
use crate::protocol::jose::JoseError;
use crate::protocol::problem::{PROBLEM_JSON, Problem, ProblemCode};
use crate::telemetry::limit::Limit;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::{Kind, Span};
use crate::telemetry::trace_context::TraceContext;

/// How long a caller should wait before it asks again, in seconds: not all of them the same.
const RETRY_AFTER_SECONDS: RangeInclusive<u8> = 1..=5;
/// Room in the store comes back in hours; an answer that says so would outlive most commands.
const OVER_QUOTA_RETRY: Duration = Duration::from_secs(30);
/// What a framework's own error text may measure.
const MAX_DETAIL_BYTES: usize = 2048;

/// Why a request is refused. It becomes a problem on its way out.
#[derive(Clone, Debug)]
pub(in crate::relay) struct Refusal {
    pub(in crate::relay) code: ProblemCode,
    pub(in crate::relay) detail: String,
    /// Where the answer can be asked for later.
    pub(in crate::relay) location: Option<String>,
    /// Why a credential was refused, as a metric has it; the code if that says it.
    pub(in crate::relay) reason: Option<&'static str>,
    /// When to ask again, if that is known.
    pub(in crate::relay) retry_after: Option<Duration>,
    /// Why, for the operator's log alone.
    pub(in crate::relay) cause: Option<String>,
    /// What the registry would have to have for this not to be refused.
    pub(in crate::relay) lacks: Option<Box<Part>>,
}

impl Refusal {
    pub(in crate::relay) fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { code, detail, location: None, reason: None, retry_after: None, cause: None, lacks: None }
    }

    /// What is asked for is not in the registry. If it was, and the registry is lost, nobody is told so.
    pub(in crate::relay) fn unknown(code: ProblemCode, detail: impl Into<String>, lacks: Part) -> Self {
        Self::new(code, detail).for_lack_of(lacks)
    }

    /// It hangs on the registry not having something.
    pub(in crate::relay) fn for_lack_of(self, lacks: Part) -> Self {
        Self { lacks: Some(Box::new(lacks)), ..self }
    }

    /// The registry does not have what it had, so nobody can say whether it would have answered this.
    pub(super) fn lost(loss: Loss) -> Self {
        let detail = "this relay has lost some of what it knew, and can't tell whether that is valid: keep your keys, and come \
                      again; the relay's operator sees more with writeback-relay status";
        let cause = Some(format!("the registry is lost: {}", loss.detail()));
        Self { cause, ..Self::new(ProblemCode::RegistryLost, detail) }
    }

    /// The refusal that is true: this one, or that the registry is lost.
    pub(super) async fn weighed(self, continuity: &Continuity) -> Self {
        let Some(part) = &self.lacks else { return self };
        match continuity.missing(part).await {
            Ok(None) => Self { lacks: None, ..self },
            Ok(Some(loss)) => Self::lost(loss),
            Err(error) => error.into(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let (code, detail) = match &error {
            StoreError::Unanswered(_) => {
                (ProblemCode::StoreUnavailable, "the store does not answer; send the same request again")
            }
            StoreError::NotWritable(_) => (
                ProblemCode::StoreNotWritable,
                "nothing was stored; the relay's operator sees why with writeback-relay status",
            ),
        };
        Self { cause: Some(error.to_string()), ..Self::new(code, detail) }
    }
}

impl From<DispatchError> for Refusal {
    fn from(error: DispatchError) -> Self {
        match error {
            DispatchError::Conflict => Self::new(ProblemCode::CommandConflict, error.to_string()),
            DispatchError::Forgotten => Self::new(ProblemCode::OutcomeUnknown, error.to_string()),
            DispatchError::OverQuota => {
                let retry_after = Some(OVER_QUOTA_RETRY);
                Self { retry_after, ..Self::new(ProblemCode::RateLimited, error.to_string()) }
            }
            DispatchError::NotTaken(cause) => StoreError::NotWritable(cause).into(),
            // The command may be stored, whatever was refused after that.
            DispatchError::Store(error) => Self {
                cause: Some(error.to_string()),
                ..Self::new(
                    ProblemCode::StoreUnavailable,
                    "the store does not answer, or not all of it; send the same request again",
                )
            },
        }
    }
}

impl From<Exceeded> for Refusal {
    fn from(exceeded: Exceeded) -> Self {
        let code = if exceeded == Exceeded::Requests { ProblemCode::Overloaded } else { ProblemCode::RateLimited };
        Self::new(code, exceeded.to_string())
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let code = match &refused {
            Refused::Assertion(_) | Refused::AgentKey(..) | Refused::Unproven | Refused::UnknownPortal(_) => {
                ProblemCode::InvalidAssertion
            }
            Refused::AssertionUsed => ProblemCode::AssertionUsed,
            Refused::AgentRevoked => ProblemCode::AgentRevoked,
            Refused::UnknownAgent(_) => ProblemCode::UnknownAgent,
            Refused::TenantNotGranted(_) => ProblemCode::TenantNotGranted,
            Refused::Command(error) => of_command(error),
            Refused::ForeignIssuer | Refused::ForeignTenant => ProblemCode::Unprocessable,
            Refused::Store(error) => return error.clone().into(),
        };
        let lacks = match &refused {
            Refused::Unproven
            | Refused::UnknownPortal(_)
            | Refused::TenantNotGranted(_)
            | Refused::Command(JoseError::UnknownKey) => Some(Part::Portals),
            // Its last rotation may be what is lacking.
            Refused::UnknownAgent(tenant) | Refused::AgentKey(tenant, _) => Some(Part::Agents(tenant.clone())),
            _ => None,
        };
        Self { lacks: lacks.map(Box::new), ..Self::new(code, refused.to_string()) }
    }
}

/// A command that does not hold.
pub(super) fn of_command(error: &JoseError) -> ProblemCode {
    match error {
        JoseError::Malformed(_) | JoseError::Claims(_) | JoseError::WrongType { .. } | JoseError::Critical => {
            ProblemCode::Malformed
        }
        JoseError::UnknownKey => ProblemCode::UnknownKey,
        JoseError::Algorithm | JoseError::Key(_) => ProblemCode::WrongAlgorithm,
        JoseError::Signature => ProblemCode::BadSignature,
        JoseError::Expired => ProblemCode::Expired,
        JoseError::Lifetime { .. } | JoseError::NotYet | JoseError::Audience { .. } | JoseError::Mismatch { .. } => {
            ProblemCode::Unprocessable
        }
    }
}

/// What [`render`] needs.
#[derive(Clone)]
pub(in crate::relay) struct Render {
    pub(in crate::relay) metrics: Arc<Metrics>,
    pub(in crate::relay) random: Arc<dyn Random>,
    /// For the public listener.
    pub(in crate::relay) outside: Option<Outside>,
}

/// What strangers meet: their requests are spans, who guesses is not heard, and who is not known may have been lost.
#[derive(Clone)]
pub(in crate::relay) struct Outside {
    pub(in crate::relay) limits: Arc<Limits>,
    pub(in crate::relay) continuity: Arc<Continuity>,
}

/// Gives each request its trace, and each error its problem.
pub(in crate::relay) async fn render(State(to): State<Render>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let trace = TraceContext::from_header(header, &*to.random);
    let mut span = if to.outside.is_some() { begin(&request, trace) } else { Span::default() };
    let trace = span.context().unwrap_or(trace);
    let exchange = request.extensions().get::<Arc<Exchange>>().cloned();
    let shown_by = shown_by(&request, to.outside.is_some());
    let is_submit = to.outside.is_some() && is_submit(&request);
    let is_probe = to.outside.is_none() && request.uri().path() == "/readyz";
    request.extensions_mut().insert(trace);
    let limits = to.outside.as_ref().map(|outside| &outside.limits);
    let client = limits.zip(exchange.as_ref()).and_then(|(limits, exchange)| Some((exchange.client()?, limits)));
    let response = match client {
        Some((address, limits)) if limits.bars(address) => Refusal::new(
            ProblemCode::RateLimited,
            "too many credentials from this address were refused; come back later",
        )
        .into_response(),
        _ => next.run(request).await,
    };
    span.number("http.response.status_code", response.status().as_u16());
    if !response.status().is_client_error() && !response.status().is_server_error() {
        return response;
    }
    let refusal = match response.extensions().get::<Refusal>() {
        Some(refusal) => refusal.clone(),
        None => of_framework(response, if limits.is_some() { "docs/openapi.json" } else { "docs/admin-api.md" }).await,
    };
    let refusal = match &to.outside {
        Some(outside) => refusal.weighed(&outside.continuity).await,
        None => refusal,
    };
    // That a node is not ready is an answer, and whoever asks once a second for it is refused nothing.
    if !is_probe {
        to.metrics.problem(refusal.code.as_str());
    }
    if is_submit && refusal.code.status() >= 500 {
        to.metrics.submit_failed(refusal.code.as_str());
    }
    if matches!(refusal.code.status(), 401 | 403) {
        to.metrics.credential_rejected(shown_by, refusal.reason.unwrap_or(refusal.code.as_str()));
    }
    if let Some((address, limits)) = client
        && refusal.code.status() == 401
    {
        limits.rejected(address);
    }
    match refusal.code {
        ProblemCode::TooLarge => to.metrics.limit_hit(Limit::BodySize),
        ProblemCode::RequestTimeout => to.metrics.limit_hit(Limit::BodyTimeout),
        _ => {}
    }
    span.set("writeback.problem.code", refusal.code.as_str());
    if refusal.code.status() >= 500 {
        span.fail(refusal.code.as_str());
    }
    let is_logged = limits.zip(exchange.as_ref()).is_none_or(|(limits, exchange)| exchange.is_logged(limits));
    if let Some(cause) = refusal.cause.as_ref().filter(|_| is_logged) {
        tracing::error!(error = cause, trace_id = trace.trace_id(), "a request failed");
    }
    if let Some(exchange) = exchange.as_ref().filter(|_| is_logged && limits.is_some()) {
        // What a user reads out as the support code is found here. Not the detail: it may repeat what was sent.
        tracing::info!(
            code = refusal.code.as_str(),
            trace_id = trace.trace_id(),
            client.address = %exchange.who(),
            "a request was refused"
        );
    }
    let problem = Problem::new(refusal.code, refusal.detail, trace.trace_id());
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(problem)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        let known = refusal.retry_after.map(|span| HeaderValue::from(span.as_secs() + 1));
        headers.insert(RETRY_AFTER, known.unwrap_or_else(|| retry_after(&*to.random).into()));
    }
    if let Some(challenge) = challenge(refusal.code) {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if status == StatusCode::UPGRADE_REQUIRED {
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    if let Some(location) = refusal.location.and_then(|location| HeaderValue::from_str(&location).ok()) {
        headers.insert(LOCATION, location);
    }
    response
}

/// What credential is asked for (RFC 6750 §3).
fn challenge(code: ProblemCode) -> Option<&'static str> {
    match code {
        ProblemCode::InvalidToken => Some("Bearer error=\"invalid_token\""),
        ProblemCode::InsufficientScope => Some("Bearer error=\"insufficient_scope\""),
        _ if code.status() == 401 => Some("Bearer"),
        _ => None,
    }
}

/// Whose credential a request shows.
fn shown_by(request: &Request, public: bool) -> &'static str {
    match request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) {
        _ if !public => "admin",
        Some("/v1/agent/session") => "agent",
        Some("/v1/enrollments") => "enrollment",
        _ => "portal",
    }
}

/// Whether a portal hands in a command by it.
fn is_submit(request: &Request) -> bool {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    request.method() == Method::POST && route == Some("/v1/tenants/{tenant}/commands")
}

/// The request as a span (semantic conventions for HTTP servers). The path itself is left out: the route says enough.
fn begin(request: &Request, trace: TraceContext) -> Span {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "PUT" | "DELETE" | "HEAD" | "OPTIONS" | "PATCH") => known,
        _ => "_OTHER",
    };
    let mut span = Span::start(|| format!("{method} {}", route.unwrap_or_default()), Kind::Server, &trace);
    span.set("http.request.method", method);
    span.set("url.scheme", "https");
    if let Some(route) = route {
        span.set("http.route", route);
    }
    span
}

fn retry_after(random: &dyn Random) -> u16 {
    let (first, last) = RETRY_AFTER_SECONDS.into_inner();
    let mut byte = [0];
    random.fill(&mut byte);
    let [byte] = byte;
    (first + byte % (last - first + 1)).into()
}

/// An error that no handler of ours made: no such path, a body over the limit, a path that can't be read.
async fn of_framework(response: Response, document: &str) -> Refusal {
    let code = match response.status() {
        StatusCode::NOT_FOUND => ProblemCode::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => ProblemCode::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => ProblemCode::TooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ProblemCode::UnsupportedMediaType,
        StatusCode::UPGRADE_REQUIRED => ProblemCode::UpgradeRequired,
        status if status.is_client_error() => ProblemCode::Malformed,
        _ => return Refusal::new(ProblemCode::Internal, "the relay failed; its log says why"),
    };
    let text = to_bytes(response.into_body(), MAX_DETAIL_BYTES).await.unwrap_or_default();
    let detail = String::from_utf8_lossy(&text).into_owned();
    let detail =
        if detail.is_empty() { format!("no call has this path and method; {document} lists them") } else { detail };
    Refusal::new(code, detail)
}
