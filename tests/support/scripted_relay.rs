//! A relay that does as a test tells it, over real TLS, HTTP and WebSocket: for what a good relay never does.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use writeback_relay::clock::{Clock, System};
use writeback_relay::net::crypto_provider;
use writeback_relay::protocol::api::{AgentStatus, Enrolled, Enrollment};
use writeback_relay::protocol::assertion::AgentAssertion;
use writeback_relay::protocol::command::{Command, Operation, Options, Subject};
use writeback_relay::protocol::enrollment::{AgentKeys, Attestation, Proof};
use writeback_relay::protocol::enrolment_code::{EnrolmentCode, Secret};
use writeback_relay::protocol::frame::{FromAgent, FromRelay, SUBPROTOCOL, v1};
use writeback_relay::protocol::ids::{AgentId, CommandId, InvitationId, JournalId, TenantId};
use writeback_relay::protocol::jose::{PublicKey, SigningKey, Validity};
use writeback_relay::protocol::outcome::Outcome;
use writeback_relay::protocol::password::Password;
use writeback_relay::protocol::problem::{Problem, ProblemCode};
use writeback_relay::protocol::sealed::{Secrets, seal_for};

use super::deadline;

/// How the relay answers an enrolment.
#[derive(Clone)]
pub(crate) enum Redeem {
    /// With these portal keys.
    Keys(Vec<PublicKey>),
    /// With a problem.
    Refuse(ProblemCode),
    /// It takes it, and the answer is lost.
    Lose,
}

struct Script {
    redeem: Redeem,
    enrollments: Vec<Enrollment>,
    /// Upgrades are refused with these first, each with its `Retry-After`.
    refusals: Vec<(ProblemCode, Option<u32>)>,
    upgrades: usize,
    /// Everything is refused with this.
    refuses: Option<Value>,
}

/// A portal and a relay in one hand.
pub(crate) struct ScriptedRelay {
    pub url: String,
    pub ca_file: PathBuf,
    pub portal: SigningKey,
    script: Arc<Mutex<Script>>,
    sockets: tokio::sync::Mutex<mpsc::UnboundedReceiver<WebSocket>>,
    _dir: TempDir,
}

#[derive(Clone)]
struct Shared {
    url: String,
    script: Arc<Mutex<Script>>,
    sockets: mpsc::UnboundedSender<WebSocket>,
}

struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((tcp, address)) = self.tcp.accept().await else { continue };
            if let Ok(tls) = self.acceptor.accept(tcp).await {
                return (tls, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

impl ScriptedRelay {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, certified.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let tls = rustls::ServerConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", tcp.local_addr().unwrap().port());
        let portal = SigningKey::generate(&System).unwrap();
        let redeem =
            Redeem::Keys(vec![SigningKey::generate(&System).unwrap().public().clone(), portal.public().clone()]);
        let script = Script { redeem, enrollments: Vec::new(), refusals: Vec::new(), upgrades: 0, refuses: None };
        let script = Arc::new(Mutex::new(script));
        let (sender, sockets) = mpsc::unbounded_channel();
        let shared = Shared { url: url.clone(), script: script.clone(), sockets: sender };
        let routes = axum::Router::new()
            .route("/v1/enrollments", post(redeem_invitation))
            .route("/v1/agent/session", get(open_session))
            .layer(from_fn_with_state(shared.clone(), refused))
            .with_state(shared);
        let listener = Tls { tcp, acceptor: TlsAcceptor::from(Arc::new(tls)) };
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, ca_file, portal, script, sockets: tokio::sync::Mutex::new(sockets), _dir: dir }
    }

    pub(crate) fn code(&self) -> EnrolmentCode {
        EnrolmentCode {
            relay: self.url.clone(),
            tenant: "contoso".parse().unwrap(),
            invitation: InvitationId::new(&System, &System),
            token: Secret::new([1; 32]),
            portal: "portal-1".parse().unwrap(),
            portal_key: self.portal.kid().clone(),
            secret: Secret::new([2; 32]),
        }
    }

    /// From now on, enrolments are answered like this.
    pub(crate) fn redeem(&self, how: Redeem) {
        self.script.lock().unwrap().redeem = how;
    }

    /// It knows an agent that has enrolled somewhere else.
    pub(crate) fn knows(&self, agent: AgentId, tenant: TenantId, journal: JournalId, keys: &AgentKeys) {
        let nothing = String::new;
        let enrollment = Enrollment {
            tenant,
            invitation: InvitationId::new(&System, &System),
            token: Secret::new([0; 32]),
            agent,
            journal,
            name: nothing().into(),
            proof: nothing(),
            attestation: nothing(),
            signing_key: keys.signing.clone(),
            sealing_key: keys.sealing.clone(),
        };
        self.script.lock().unwrap().enrollments.push(enrollment);
    }

    /// The next upgrade, not refused before, is refused like this.
    pub(crate) fn refuse_upgrade(&self, code: ProblemCode, retry_after: Option<u32>) {
        self.script.lock().unwrap().refusals.push((code, retry_after));
    }

    /// From now on everything is refused with this problem; or, with none, nothing is.
    pub(crate) fn refuse_everything(&self, problem: Option<Value>) {
        self.script.lock().unwrap().refuses = problem;
    }

    pub(crate) fn enrollments(&self) -> Vec<Enrollment> {
        self.script.lock().unwrap().enrollments.clone()
    }

    /// How often an agent has asked for a session.
    pub(crate) fn upgrades(&self) -> usize {
        self.script.lock().unwrap().upgrades
    }

    /// The keys of the agent that enrolled last.
    pub(crate) fn agent(&self) -> Enrollment {
        self.enrollments().pop().expect("no agent has enrolled")
    }

    /// The next session, before `Hello`.
    pub(crate) async fn session(&self) -> Socket {
        let next = async { self.sockets.lock().await.recv().await.unwrap() };
        Socket(deadline("a session", next).await)
    }

    /// The next session, welcomed by the only node.
    pub(crate) async fn welcome(&self) -> Socket {
        self.welcome_at("node-1", 1).await
    }

    /// The next session, welcomed by one of so many nodes.
    pub(crate) async fn welcome_at(&self, node: &str, nodes: u32) -> Socket {
        let mut socket = self.session().await;
        socket.welcome(node, nodes).await;
        socket
    }

    /// A reset as the portal makes it, for the agent that enrolled last.
    pub(crate) fn command(&self, upn: &str, password: &str) -> Command {
        self.sealed(upn, Operation::ResetPassword, password, None)
    }

    /// A change, in the same way.
    pub(crate) fn change(&self, upn: &str, current: &str, new: &str) -> Command {
        self.sealed(upn, Operation::ChangePassword, new, Some(current))
    }

    /// An unlock, in the same way.
    pub(crate) fn unlock(&self, upn: &str) -> Command {
        let agent = self.agent();
        Command {
            iss: "portal-1".parse().unwrap(),
            aud: agent.agent,
            tenant: agent.tenant,
            jti: CommandId::new(&System, &System),
            validity: Validity::starting(System.now(), std::time::Duration::from_secs(120)),
            sub_id: Subject::upn(upn).unwrap(),
            operation: Operation::UnlockAccount,
            options: Options::default(),
            sealed: None,
        }
    }

    fn sealed(&self, upn: &str, operation: Operation, new: &str, current: Option<&str>) -> Command {
        let mut command = Command { operation, ..self.unlock(upn) };
        let password = |text: &str| Password::new(text.into()).unwrap();
        let secrets = Secrets { new_password: password(new), current_password: current.map(password) };
        command.sealed = Some(seal_for(&command, &secrets, &self.agent().sealing_key, &System).unwrap());
        command
    }

    pub(crate) fn deliver(&self, command: &Command) -> FromRelay {
        let command_jws = command.sign(&self.portal).unwrap();
        FromRelay::Deliver(v1::Deliver { command_jws, traceparent: String::new(), attempt: 1 })
    }

    /// The outcome, as the portal reads it.
    pub(crate) fn read(&self, jws: &str, command: &Command) -> Outcome {
        Outcome::verify(jws, &self.agent().signing_key, command).unwrap()
    }
}

async fn redeem_invitation(State(shared): State<Shared>, body: Bytes) -> Response {
    let request: Enrollment = serde_json::from_slice(&body).unwrap();
    let keys = AgentKeys { signing: request.signing_key.clone(), sealing: request.sealing_key.clone() };
    let proof = Proof::verify(&request.proof, &keys, &shared.url, System.now()).unwrap();
    assert_eq!((proof.iss, proof.journal, proof.invitation), (request.agent, request.journal, request.invitation));
    let attestation = Attestation::new(request.tenant.clone(), request.agent, &keys);
    attestation.verify(&request.attestation, request.invitation, &[2; 32]).unwrap();
    let mut script = shared.script.lock().unwrap();
    let agent = request.agent;
    script.enrollments.push(request);
    match script.redeem.clone() {
        Redeem::Keys(portal_keys) => {
            let portal = "portal-1".parse().unwrap();
            Json(Enrolled { agent, status: AgentStatus::Pending, portal, portal_keys, portal_rotations: vec![] })
                .into_response()
        }
        Redeem::Refuse(code) => problem(code, None),
        Redeem::Lose => {
            // A body that ends before it is whole.
            ([(header::CONTENT_LENGTH, "1000")], "{").into_response()
        }
    }
}

async fn refused(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let refuses = {
        let mut script = shared.script.lock().unwrap();
        script.upgrades += usize::from(script.refuses.is_some() && request.uri().path() == "/v1/agent/session");
        script.refuses.clone()
    };
    match refuses {
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, Json(problem)).into_response(),
        None => next.run(request).await,
    }
}

async fn open_session(State(shared): State<Shared>, headers: HeaderMap, request: Request) -> Response {
    let refusal = {
        let mut script = shared.script.lock().unwrap();
        script.upgrades += 1;
        let token = headers[header::AUTHORIZATION].to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
        let agent = script.enrollments.last().unwrap();
        let (jws, _) = AgentAssertion::parse(&token).unwrap();
        AgentAssertion::verify(&jws, &agent.signing_key, &shared.url, System.now()).unwrap();
        (!script.refusals.is_empty()).then(|| script.refusals.remove(0))
    };
    if let Some((code, retry_after)) = refusal {
        return problem(code, retry_after);
    }
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await.unwrap();
    upgrade.protocols([SUBPROTOCOL]).on_upgrade(move |socket| async move {
        // The test may have ended.
        let _ = shared.sockets.send(socket);
    })
}

fn problem(code: ProblemCode, retry_after: Option<u32>) -> Response {
    let problem = Problem::new(code, "as the test asked", "0af7651916cd43dd8448eb211c80319c");
    let status = StatusCode::from_u16(code.status()).unwrap();
    let mut response = (status, Json(problem)).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// One session, the relay's end.
pub(crate) struct Socket(WebSocket);

impl Socket {
    /// Hears its `Hello`, and welcomes it at one of so many nodes.
    pub(crate) async fn welcome(&mut self, node: &str, nodes: u32) {
        assert!(matches!(self.hear().await, FromAgent::Hello(_)));
        let welcome = v1::Welcome {
            node: node.to_owned(),
            heartbeat_interval_ms: 30_000,
            max_frame_bytes: 16_384,
            approved: true,
            node_id: format!("the id of {node}"),
            nodes,
            takes_portals: true,
        };
        self.say(FromRelay::Welcome(welcome)).await;
    }

    pub(crate) async fn say(&mut self, frame: FromRelay) {
        self.0.send(Message::Binary(frame.encode_frame().into())).await.unwrap();
    }

    /// The next frame; nothing when the agent has closed.
    pub(crate) async fn next(&mut self) -> Option<FromAgent> {
        loop {
            match deadline("a frame", self.0.recv()).await? {
                Ok(Message::Binary(bytes)) => return Some(FromAgent::decode(&bytes).unwrap()),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                _ => return None,
            }
        }
    }

    pub(crate) async fn hear(&mut self) -> FromAgent {
        self.next().await.expect("the agent has hung up")
    }

    /// The next outcome; other frames are passed over.
    pub(crate) async fn outcome(&mut self) -> v1::Outcome {
        loop {
            if let FromAgent::Outcome(outcome) = self.hear().await {
                return outcome;
            }
        }
    }

    pub(crate) async fn stored(&mut self, command: &Command) {
        let command = command.jti.to_string();
        self.say(FromRelay::OutcomeStored(v1::OutcomeStored { command })).await;
    }

    pub(crate) async fn close(self, code: u16) {
        self.close_saying(code, "as the test asked").await;
    }

    pub(crate) async fn close_saying(mut self, code: u16, reason: &str) {
        let close = CloseFrame { code, reason: reason.into() };
        self.0.send(Message::Close(Some(close))).await.unwrap();
        while let Some(Ok(_)) = deadline("the answer to a close", self.0.recv()).await {}
    }
}

/// The numbers in an agent's event log, in order.
pub(crate) fn event_ids(home: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(home.join("events.jsonl")).unwrap_or_default();
    let id = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event_id"].as_u64().unwrap();
    text.lines().map(id).collect()
}
