//! A relay that answers what a test tells it to, over real TLS: honest, broken, or lying.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as Segments, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use writeback_relay::clock::{Clock, System};
use writeback_relay::net::crypto_provider;
use writeback_relay::portal::{Config, Home, Portal};
use writeback_relay::protocol::api::{AgentList, AgentStatus, AgentView, CommandState, CommandView, NewInvitation};
use writeback_relay::protocol::assertion::PortalAssertion;
use writeback_relay::protocol::command::Command;
use writeback_relay::protocol::enrollment::{AgentKeys, Attestation};
use writeback_relay::protocol::enrolment_code::EnrolmentCode;
use writeback_relay::protocol::ids::{AgentId, ObjectId};
use writeback_relay::protocol::jose::{PublicKey, SealingKey, SigningKey};
use writeback_relay::protocol::outcome::{Code, Outcome};
use writeback_relay::protocol::problem::{PROBLEM_JSON, Problem, ProblemCode};

/// What the relay answers to one call about a command.
pub(crate) enum Reply {
    View(CommandView),
    Problem(ProblemCode),
    /// The connection is lost in the middle of the answer.
    Lost,
}

type Script = Box<dyn FnOnce(&Command) -> Reply + Send>;

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Submit(String),
    Look,
    Approve(AgentId),
    Revoke(AgentId),
}

#[derive(Default)]
struct Inner {
    url: String,
    portal_key: Option<PublicKey>,
    agents: Vec<AgentView>,
    invitations: Vec<NewInvitation>,
    script: VecDeque<Script>,
    calls: Vec<Call>,
    last: Option<Command>,
    /// Refuses decisions.
    deaf: bool,
    /// How many agents one answer has; all of them, if it knows no pages.
    page: Option<usize>,
    /// Its lists have no end.
    endless: bool,
    /// Everything is refused with this.
    refuses: Option<Value>,
    /// Why no reset is possible.
    unavailable: String,
}

#[derive(Clone)]
pub(crate) struct FakeRelay {
    inner: Arc<Mutex<Inner>>,
    ca_file: PathBuf,
    _serving: Arc<AbortOnDrop>,
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Shared = State<Arc<Mutex<Inner>>>;

impl FakeRelay {
    pub(crate) async fn start(dir: &Path) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ca_file = dir.join("ca.pem");
        std::fs::write(&ca_file, made.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let inner = Arc::new(Mutex::new(Inner { url, ..Inner::default() }));
        let router = Router::new()
            .route("/v1/tenants/{tenant}/invitations", post(invite))
            .route("/v1/tenants/{tenant}/agents", get(agents))
            .route("/v1/tenants/{tenant}/agents/{agent}", delete(revoke))
            .route("/v1/tenants/{tenant}/agents/{agent}/approval", post(approve))
            .route("/v1/tenants/{tenant}/agents/{agent}/preflight", post(check))
            .route("/v1/tenants/{tenant}/availability", get(availability))
            .route("/v1/portal/rotations", post(|| async { StatusCode::NO_CONTENT }))
            .route("/v1/tenants/{tenant}/commands", post(submit))
            .route("/v1/tenants/{tenant}/commands/{command}", get(look))
            .layer(from_fn_with_state(Arc::clone(&inner), refused))
            .with_state(Arc::clone(&inner));
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let serving = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = TowerToHyperService::new(router);
                    // A connection that breaks is what some tests want.
                    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tls), service).await;
                });
            }
        });
        Self { inner, ca_file, _serving: Arc::new(AbortOnDrop(serving)) }
    }

    /// A portal in its own folder, registered here.
    pub(crate) fn portal(&self, folder: &Path) -> Portal {
        let relay = self.inner.lock().unwrap().url.clone();
        let config = Config { id: "portal-1".parse().unwrap(), relay, ca_file: Some(self.ca_file.clone()) };
        let public = Home::new(folder).init(&config, &System).unwrap();
        self.inner.lock().unwrap().portal_key = Some(public);
        Portal::open(folder, System::clock(), System::random()).unwrap()
    }

    pub(crate) fn url(&self) -> String {
        self.inner.lock().unwrap().url.clone()
    }

    /// The next call about a command is answered so.
    pub(crate) fn then(&self, reply: impl FnOnce(&Command) -> Reply + Send + 'static) {
        self.inner.lock().unwrap().script.push_back(Box::new(reply));
    }

    pub(crate) fn forget_script(&self) {
        self.inner.lock().unwrap().script.clear();
    }

    pub(crate) fn invitations(&self) -> Vec<NewInvitation> {
        self.inner.lock().unwrap().invitations.clone()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.inner.lock().unwrap().calls.clone()
    }

    pub(crate) fn submitted(&self) -> Vec<String> {
        let submitted = self.calls().into_iter().filter_map(|call| match call {
            Call::Submit(jws) => Some(jws),
            _ => None,
        });
        submitted.collect()
    }

    /// From now on everything is refused with this problem; or, with none, nothing is.
    pub(crate) fn refuse_everything(&self, problem: Option<Value>) {
        self.inner.lock().unwrap().refuses = problem;
    }

    /// From now on no reset is possible, for this reason.
    pub(crate) fn unavailable(&self, reason: &str) {
        self.inner.lock().unwrap().unavailable = reason.to_owned();
    }

    pub(crate) fn set_deaf(&self, deaf: bool) {
        self.inner.lock().unwrap().deaf = deaf;
    }

    pub(crate) fn list(&self, view: AgentView) {
        self.inner.lock().unwrap().agents.push(view);
    }

    pub(crate) fn change(&self, agent: AgentId, change: impl FnOnce(&mut AgentView)) {
        let mut inner = self.inner.lock().unwrap();
        change(inner.agents.iter_mut().find(|view| view.agent == agent).unwrap());
    }

    /// Its lists come in pages of this size; if they are `endless`, the last one leads to the first.
    pub(crate) fn set_pages(&self, page: usize, endless: bool) {
        let mut inner = self.inner.lock().unwrap();
        (inner.page, inner.endless) = (Some(page), endless);
    }

    pub(crate) fn forget_all_agents(&self) {
        self.inner.lock().unwrap().agents.clear();
    }
}

fn problem(code: ProblemCode) -> Response {
    let body = serde_json::to_vec(&Problem::new(code, "what the test asked for", "trace-of-a-problem")).unwrap();
    (StatusCode::from_u16(code.status()).unwrap(), [("content-type", PROBLEM_JSON)], body).into_response()
}

fn authorized(inner: &Inner, headers: &HeaderMap) -> bool {
    let bearer = headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
    let (jws, _) = PortalAssertion::parse(bearer).unwrap();
    PortalAssertion::verify(&jws, inner.portal_key.as_ref(), &inner.url, System.now()).is_ok()
}

async fn invite(State(inner): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let mut inner = inner.lock().unwrap();
    assert!(authorized(&inner, &headers));
    if inner.deaf {
        return problem(ProblemCode::StoreUnavailable);
    }
    inner.invitations.push(serde_json::from_slice(&body).unwrap());
    StatusCode::CREATED.into_response()
}

async fn agents(State(inner): Shared, uri: Uri, headers: HeaderMap) -> Response {
    let inner = inner.lock().unwrap();
    if !authorized(&inner, &headers) {
        return problem(ProblemCode::InvalidAssertion);
    }
    let Some(page) = inner.page else {
        return axum::Json(AgentList { agents: inner.agents.clone(), next: None }).into_response();
    };
    // What it has said is next comes back as it was, whatever is in it.
    let after = uri.query().unwrap().split('&').find_map(|pair| pair.strip_prefix("after=a%20%26%20"));
    let from: usize = after.map_or(0, |after| after.parse().unwrap());
    let to = (from + page).min(inner.agents.len());
    let next = match to < inner.agents.len() {
        true => Some(format!("a & {to}")),
        false => inner.endless.then(|| "a & 0".to_owned()),
    };
    axum::Json(AgentList { agents: inner.agents[from..to].to_vec(), next }).into_response()
}

fn decide(inner: &Mutex<Inner>, call: Call, agent: AgentId, status: AgentStatus) -> Response {
    let mut inner = inner.lock().unwrap();
    inner.calls.push(call);
    if inner.deaf {
        return problem(ProblemCode::StoreUnavailable);
    }
    match inner.agents.iter_mut().find(|view| view.agent == agent) {
        Some(view) => view.status = status,
        None => return problem(ProblemCode::UnknownAgent),
    }
    StatusCode::NO_CONTENT.into_response()
}

async fn approve(State(inner): Shared, Segments((_, agent)): Segments<(String, AgentId)>) -> Response {
    decide(&inner, Call::Approve(agent), agent, AgentStatus::Approved)
}

async fn revoke(State(inner): Shared, Segments((_, agent)): Segments<(String, AgentId)>) -> Response {
    decide(&inner, Call::Revoke(agent), agent, AgentStatus::Revoked)
}

fn answer(inner: &mut Inner) -> Response {
    let command = inner.last.clone().unwrap();
    let script = inner.script.pop_front().expect("a call about a command that the test does not expect");
    match script(&command) {
        Reply::View(view) => {
            let going =
                matches!(view.state, CommandState::Accepted | CommandState::Delivering | CommandState::Received);
            let status = if going { StatusCode::ACCEPTED } else { StatusCode::OK };
            (status, axum::Json(view)).into_response()
        }
        Reply::Problem(code) => problem(code),
        Reply::Lost => {
            let lost = futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("lost")) });
            Body::from_stream(lost).into_response()
        }
    }
}

async fn submit(State(inner): Shared, headers: HeaderMap, body: String) -> Response {
    let mut inner = inner.lock().unwrap();
    assert_eq!(headers["content-type"], "application/jose");
    assert!(headers["prefer"].to_str().unwrap().starts_with("wait="));
    assert!(authorized(&inner, &headers));
    let command = Command::verify(&Command::parse(&body).unwrap(), inner.portal_key.as_ref()).unwrap();
    inner.last = Some(command);
    inner.calls.push(Call::Submit(body));
    answer(&mut inner)
}

async fn refused(State(inner): Shared, request: Request, next: Next) -> Response {
    let refuses = inner.lock().unwrap().refuses.clone();
    match refuses {
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, axum::Json(problem)).into_response(),
        None => next.run(request).await,
    }
}

/// The agent has checked at once, and found what it had found before.
async fn check(State(inner): Shared, Segments((_, agent)): Segments<(String, AgentId)>) -> Response {
    let mut inner = inner.lock().unwrap();
    let view = inner.agents.iter_mut().find(|view| view.agent == agent).unwrap();
    view.preflight.as_mut().unwrap().checked_at.0 += 1;
    StatusCode::ACCEPTED.into_response()
}

async fn availability(State(inner): Shared) -> Response {
    let reason = inner.lock().unwrap().unavailable.clone();
    axum::Json(json!({ "available": false, "reason": reason, "agents": [] })).into_response()
}

async fn look(State(inner): Shared) -> Response {
    let mut inner = inner.lock().unwrap();
    inner.calls.push(Call::Look);
    answer(&mut inner)
}

/// An agent that enrols and signs; it has no directory.
pub(crate) struct FakeAgent {
    pub(crate) id: AgentId,
    pub(crate) signing: SigningKey,
    pub(crate) sealing: SealingKey,
}

impl FakeAgent {
    pub(crate) fn new() -> Self {
        Self {
            id: AgentId::new(&System, &System),
            signing: SigningKey::generate(&System).unwrap(),
            sealing: SealingKey::generate().unwrap(),
        }
    }

    pub(crate) fn keys(&self) -> AgentKeys {
        AgentKeys { signing: self.signing.public().clone(), sealing: self.sealing.public().clone() }
    }

    pub(crate) fn fingerprint(&self) -> String {
        self.keys().fingerprint(self.id)
    }

    /// As the relay shows it after it redeemed `code`.
    pub(crate) fn enrolled(&self, code: &EnrolmentCode) -> AgentView {
        let attestation = Attestation::new(code.tenant.clone(), self.id, &self.keys());
        AgentView {
            agent: self.id,
            name: "dc-host".into(),
            status: AgentStatus::Pending,
            online: true,
            version: None,
            enrolled_at: System.now(),
            invitation: code.invitation,
            signing_key: self.keys().signing,
            sealing_key: self.keys().sealing,
            attestation: attestation.sign(code.invitation, code.secret.expose()).unwrap(),
            preflight: None,
            rotations: Vec::new(),
            acknowledgement: None,
            trusts_portal: None,
        }
    }

    /// The outcome with this code, signed.
    pub(crate) fn outcome(&self, command: &Command, code: Code) -> String {
        let outcome = Outcome {
            iss: command.aud,
            aud: command.iss.clone(),
            tenant: command.tenant.clone(),
            jti: ObjectId::new(&System, &System),
            command: command.jti,
            iat: System.now(),
            status: code.status(),
            code: code.as_str().into(),
            event_id: code.event().id(),
            detail: "as the test wants it".into(),
            retry_safe: false,
            retry_at: None,
            hindrances: None,
            directory_ms: 3,
            account: None,
        };
        outcome.sign(&self.signing).unwrap()
    }
}

pub(crate) fn view(command: &Command, state: CommandState, outcome: Option<String>) -> Reply {
    Reply::View(CommandView {
        command: command.jti,
        agent: command.aud,
        state,
        reason: None,
        milestones: Default::default(),
        outcome,
        trace_id: "trace-of-a-view".into(),
    })
}
