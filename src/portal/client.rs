//! The portal's calls to the relay, over HTTPS.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::request::Builder;
use http::{HeaderMap, Method, Request, StatusCode};
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;

use super::config::Config;
use crate::clock::{Clock, Random, UnixTime};
use crate::net::http_client::{Answer, HttpClient, HttpError};
use crate::net::{NetError, retry_after};
use crate::protocol::api::{AgentList, AgentView, Availability, CommandView, NewInvitation};
use crate::protocol::assertion::PortalAssertion;
use crate::protocol::ids::{AgentId, CommandId, ObjectId, TenantId};
use crate::protocol::jose::{JoseError, SigningKey, Thumbprint, Validity};
use crate::protocol::json;
use crate::protocol::problem::{Problem, ProblemCode};
use crate::protocol::readiness::Need;
use crate::protocol::untrusted::Untrusted;
use crate::telemetry::trace::{Here, Kind, Parent as _, Span};
use crate::telemetry::trace_context::TraceContext;

/// How long an assertion lives: the relay's clock may be a minute ahead.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(120);
/// For so long the same is shown: to verify it is half of what a call costs the relay.
const ASSERTION_SHOWN: Duration = Duration::from_secs(30);
/// How long a call may take, beyond what the relay was asked to wait.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest one call waits: proxies on the way cut silent connections after half a minute.
pub const MAX_WAIT: Duration = Duration::from_secs(25);
/// Agents that are asked for at a time.
const PAGE: usize = 200;
/// More pages than any tenant has: a relay that has more goes on for ever.
const MAX_PAGES: usize = 500;
/// The largest answer that is read, in bytes: a thousand agents, of a relay that knows no pages.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// The largest list that is put together of such answers, in bytes: two thousand agents whose findings fill all that a relay
/// keeps of them, or ten times as many as they are.
const MAX_LIST: usize = 64 * 1024 * 1024;

/// Why a call has no answer, and whether the relay may have taken the request.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection: the request did not leave this host.
    #[error("the relay {relay} can't be reached: {detail}")]
    Unreachable {
        /// Its URL.
        relay: String,
        /// Why.
        detail: String,
    },
    /// The connection was lost, or nothing came in time: the relay may have taken the request.
    #[error("the relay {relay} did not answer: {detail}")]
    NoAnswer {
        /// Its URL.
        relay: String,
        /// Why.
        detail: String,
    },
    /// It answered with an error.
    #[error(
        "{}; safe to repeat: {}; support code {}",
        self.what(), if problem.retry_safe { "yes" } else { "no" }, problem.trace_id.cell()
    )]
    Refused {
        /// Its URL.
        relay: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        #[source]
        problem: Box<Problem>,
        /// `Retry-After`, if it gave one.
        retry_after: Option<Duration>,
    },
    /// It answered something that is not of this protocol: a proxy on the way, perhaps.
    #[error("{relay} answered {status}: {detail}")]
    NotUnderstood {
        /// Its URL.
        relay: String,
        /// The HTTP status.
        status: u16,
        /// What it does, and what people can do.
        detail: String,
    },
    /// The assertion could not be signed.
    #[error(transparent)]
    Jose(#[from] JoseError),
}

impl ClientError {
    /// What happened, without what it means for a repetition: that is another thing for whoever has tried before.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Refused { relay, status, problem, .. } => format!("{relay} refused, with status {status}: {problem}"),
            other => other.to_string(),
        }
    }

    /// Whether the relay said so.
    #[must_use]
    pub fn is(&self, code: ProblemCode) -> bool {
        self.code().is_some_and(|said| *said == *code.as_str())
    }

    /// The problem's code, if the relay gave one.
    #[must_use]
    pub fn code(&self) -> Option<&Untrusted> {
        match self {
            Self::Refused { problem, .. } => Some(&problem.code),
            _ => None,
        }
    }

    /// The support code, if the relay gave one.
    #[must_use]
    pub fn trace_id(&self) -> Option<&Untrusted> {
        match self {
            Self::Refused { problem, .. } => Some(&problem.trace_id),
            _ => None,
        }
    }

    /// Whether certainly nothing was done that a new request could do twice.
    #[must_use]
    pub fn retry_safe(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Jose(_) => true,
            Self::Refused { problem, .. } => problem.retry_safe,
            Self::NoAnswer { .. } | Self::NotUnderstood { .. } => false,
        }
    }
}

/// The relay, as this portal calls it.
pub struct RelayClient {
    http: HttpClient,
    config: Config,
    key: Mutex<SigningKey>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// `Authorization` of the last call, and since when it is shown.
    shown: Mutex<Option<(UnixTime, HeaderValue)>>,
}

/// A call that is not sent yet.
struct Call {
    request: Builder,
    body: Bytes,
    span: Span,
}

impl RelayClient {
    /// Prepares TLS; nothing is called yet.
    ///
    /// # Errors
    /// If the CA file is no use or there are no trust anchors.
    pub fn new(
        config: &Config,
        key: SigningKey,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, NetError> {
        Ok(Self {
            http: HttpClient::new(config.ca_file.as_deref(), "relay")?,
            config: config.clone(),
            key: Mutex::new(key),
            clock,
            random,
            shown: Mutex::default(),
        })
    }

    /// Signs with this key from now on.
    pub fn use_key(&self, key: &SigningKey) {
        let mut shown = self.shown.lock();
        let mut known = self.key.lock();
        if known.kid() != key.kid() {
            *known = key.clone();
            *shown = None;
        }
    }

    /// `POST /v1/portal/rotations`. The same may be sent again and again.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn rotate(&self, rotation: &str) -> Result<(), ClientError> {
        let mut call = self.begin(Method::POST, format!("{}/v1/portal/rotations", self.config.relay));
        call.request = call.request.header(CONTENT_TYPE, "application/jose");
        call.body = rotation.to_owned().into();
        self.send(call, CALL_TIMEOUT).await.map(drop)
    }

    /// `DELETE /v1/portal/keys/{kid}`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn retire(&self, kid: &Thumbprint) -> Result<(), ClientError> {
        let url = format!("{}/v1/portal/keys/{kid}", self.config.relay);
        let mut call = self.begin(Method::DELETE, url);
        call.request = call.request.header(AUTHORIZATION, self.authorization()?);
        self.send(call, CALL_TIMEOUT).await.map(drop)
    }

    /// `POST /v1/tenants/{tenant}/invitations`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn invite(&self, tenant: &TenantId, invitation: &NewInvitation) -> Result<(), ClientError> {
        let mut call = self.call(Method::POST, &format!("{tenant}/invitations"))?;
        call.request = call.request.header(CONTENT_TYPE, "application/json");
        call.body = serde_json::to_vec(invitation).map_err(|error| self.not_sent(&error))?.into();
        self.send(call, CALL_TIMEOUT).await.map(drop)
    }

    /// `GET /v1/tenants/{tenant}/agents`, page by page.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn agents(&self, tenant: &TenantId) -> Result<Vec<AgentView>, ClientError> {
        let (mut agents, mut after, mut bytes) = (Vec::new(), String::new(), 0);
        for _ in 0..MAX_PAGES {
            let call = self.call(Method::GET, &format!("{tenant}/agents?limit={PAGE}{after}"))?;
            let (status, body) = self.send(call, CALL_TIMEOUT).await?;
            bytes += body.len();
            if bytes > MAX_LIST {
                return Err(self.not_understood(status, "a list of agents of at most 64 MiB in all"));
            }
            let AgentList { agents: listed, next } = self.read(status, &body)?;
            agents.extend(listed);
            let Some(next) = next else { return Ok(agents) };
            after = format!("&after={}", utf8_percent_encode(&next, NON_ALPHANUMERIC));
        }
        Err(self.not_understood(StatusCode::OK, "a list of agents that has an end"))
    }

    /// `POST /v1/tenants/{tenant}/agents/{agent}/approval`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn approve(&self, tenant: &TenantId, agent: AgentId) -> Result<(), ClientError> {
        let call = self.call(Method::POST, &format!("{tenant}/agents/{agent}/approval"))?;
        self.send(call, CALL_TIMEOUT).await.map(drop)
    }

    /// `POST /v1/tenants/{tenant}/agents/{agent}/preflight`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn check(&self, tenant: &TenantId, agent: AgentId) -> Result<(), ClientError> {
        let call = self.call(Method::POST, &format!("{tenant}/agents/{agent}/preflight"))?;
        self.send(call, CALL_TIMEOUT).await.map(drop)
    }

    /// `DELETE /v1/tenants/{tenant}/agents/{agent}`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn revoke(&self, tenant: &TenantId, agent: AgentId) -> Result<(), ClientError> {
        let call = self.call(Method::DELETE, &format!("{tenant}/agents/{agent}"))?;
        self.send(call, CALL_TIMEOUT).await.map(drop)
    }

    /// `GET /v1/tenants/{tenant}/availability`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn availability(&self, tenant: &TenantId, asked: Need<'_>) -> Result<Availability, ClientError> {
        let account = asked.account.map(|account| ("account", account.to_string()));
        let operation = asked.operation.map(|operation| ("operation", operation.as_str().to_owned()));
        let parameters = account
            .into_iter()
            .chain(operation)
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(&value, NON_ALPHANUMERIC)));
        let query = parameters.collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        self.get(&format!("{tenant}/availability{mark}{query}")).await
    }

    /// `POST /v1/tenants/{tenant}/commands`. The same `jws` may be submitted again and again.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn submit(&self, tenant: &TenantId, jws: &str, wait: Duration) -> Result<CommandView, ClientError> {
        let mut call = self.call(Method::POST, &format!("{tenant}/commands"))?;
        call.request = call.request.header(CONTENT_TYPE, "application/jose");
        call.body = jws.to_owned().into();
        self.send_waiting(call, wait).await
    }

    /// `GET /v1/tenants/{tenant}/commands/{command}`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn command(
        &self,
        tenant: &TenantId,
        command: CommandId,
        wait: Duration,
    ) -> Result<CommandView, ClientError> {
        let call = self.call(Method::GET, &format!("{tenant}/commands/{command}"))?;
        self.send_waiting(call, wait).await
    }

    fn call(&self, method: Method, path: &str) -> Result<Call, ClientError> {
        let mut call = self.begin(method, format!("{}/v1/tenants/{path}", self.config.relay));
        call.request = call.request.header(AUTHORIZATION, self.authorization()?);
        Ok(call)
    }

    /// A call that shows no assertion.
    fn begin(&self, method: Method, url: String) -> Call {
        // One trace for all calls of a reset: its id is what a user reads out when he asks for help.
        let trace = Here.context().unwrap_or_else(|| TraceContext::start(&*self.random));
        let mut span = Span::start(|| method.to_string(), Kind::Client, &trace);
        span.set("http.request.method", &method);
        span.set("url.full", &url);
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("traceparent", span.context().unwrap_or(trace).to_string());
        Call { request, body: Bytes::new(), span }
    }

    fn authorization(&self) -> Result<HeaderValue, JoseError> {
        let (now, mut shown) = (self.clock.now(), self.shown.lock());
        if let Some((since, value)) = &*shown
            && (*since..since.plus(ASSERTION_SHOWN)).contains(&now)
        {
            return Ok(value.clone());
        }
        let assertion = PortalAssertion {
            iss: self.config.id.clone(),
            sub: self.config.id.clone(),
            aud: self.config.relay.clone(),
            jti: ObjectId::new(&*self.clock, &*self.random),
            validity: Validity::starting(now, ASSERTION_LIFETIME),
        };
        let bearer = format!("Bearer {}", assertion.sign(&self.key.lock())?);
        let mut bearer = HeaderValue::try_from(bearer).map_err(|_| JoseError::Malformed("the assertion"))?;
        bearer.set_sensitive(true);
        *shown = Some((now, bearer.clone()));
        Ok(bearer)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let (status, body) = self.send(self.call(Method::GET, path)?, CALL_TIMEOUT).await?;
        self.read(status, &body)
    }

    async fn send_waiting(&self, mut call: Call, wait: Duration) -> Result<CommandView, ClientError> {
        let wait = wait.min(MAX_WAIT);
        call.request = call.request.header("prefer", format!("wait={}", wait.as_secs()));
        let (status, body) = self.send(call, wait + CALL_TIMEOUT).await?;
        self.read(status, &body)
    }

    /// Asks, and if an address of the relay's lets the call down, another one: the same may be asked again and again.
    async fn send(&self, call: Call, timeout: Duration) -> Result<(StatusCode, Bytes), ClientError> {
        let Call { request, body, mut span } = call;
        let request = request.body(body).map_err(|error| self.not_sent(&error))?;
        let mut sent = self.send_once(&request, timeout).await;
        if matches!(sent, Err(ClientError::NoAnswer { .. } | ClientError::NotUnderstood { .. }))
            && self.http.has_another(request.uri()).await
        {
            sent = self.send_once(&request, timeout).await;
        }
        match &sent {
            Ok((status, _)) => span.number("http.response.status_code", status.as_u16()),
            Err(ClientError::Refused { status, .. } | ClientError::NotUnderstood { status, .. }) => {
                span.number("http.response.status_code", *status);
                span.fail("refused");
            }
            Err(_) => span.fail("no_answer"),
        }
        sent
    }

    async fn send_once(&self, request: &Request<Bytes>, timeout: Duration) -> Result<(StatusCode, Bytes), ClientError> {
        let answer = self.http.send(request.clone(), timeout, MAX_ANSWER).await.map_err(|e| self.lost(e))?;
        if answer.stranger().is_none() {
            if answer.status.is_success() {
                return Ok((answer.status, answer.body));
            }
            if let Ok(problem) = json::read(&answer.body) {
                return Err(self.refused(answer.status, &answer.headers, problem));
            }
        }
        self.http.doubt(&answer);
        Err(self.no_relay(&answer))
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap, problem: Problem) -> ClientError {
        ClientError::Refused {
            relay: self.config.relay.clone(),
            status: status.as_u16(),
            problem: Box::new(problem),
            retry_after: retry_after(headers),
        }
    }

    fn no_relay(&self, answer: &Answer) -> ClientError {
        let seen = answer.stranger().unwrap_or_else(|| "an error as application/problem+json is expected".to_owned());
        let detail = format!("what answers there is no relay: {seen}");
        ClientError::NotUnderstood { relay: self.config.relay.clone(), status: answer.status.as_u16(), detail }
    }

    fn read<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Result<T, ClientError> {
        json::read(body).map_err(|_| self.not_understood(status, "the JSON object that this call answers"))
    }

    fn not_understood(&self, status: StatusCode, expected: &'static str) -> ClientError {
        let detail = format!("{expected} is expected: a proxy on the way, perhaps, or a relay of another version");
        ClientError::NotUnderstood { relay: self.config.relay.clone(), status: status.as_u16(), detail }
    }

    fn lost(&self, error: HttpError) -> ClientError {
        let relay = self.config.relay.clone();
        match error {
            HttpError::Unreachable(detail) => ClientError::Unreachable { relay, detail },
            HttpError::TooLarge { status, .. } => self.not_understood(status, "an answer of at most 8 MiB"),
            error => ClientError::NoAnswer { relay, detail: error.to_string() },
        }
    }

    fn not_sent(&self, error: &dyn std::error::Error) -> ClientError {
        ClientError::Unreachable { relay: self.config.relay.clone(), detail: error.to_string() }
    }
}
