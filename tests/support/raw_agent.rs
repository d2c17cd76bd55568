//! An agent whose every frame the test writes itself.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use writeback_relay::clock::{Clock, System};
use writeback_relay::net::tls_client;
use writeback_relay::protocol::api::{Enrolled, Enrollment};
use writeback_relay::protocol::assertion::AgentAssertion;
use writeback_relay::protocol::command::Command;
use writeback_relay::protocol::enrollment::{AgentKeys, Attestation, Proof};
use writeback_relay::protocol::enrolment_code::EnrolmentCode;
use writeback_relay::protocol::frame::{FromAgent, FromRelay, SUBPROTOCOL, v1};
use writeback_relay::protocol::ids::{AgentId, InstanceId, JournalId, ObjectId, TenantId};
use writeback_relay::protocol::jose::{SealingKey, SigningKey, Validity};
use writeback_relay::protocol::outcome::{Code, Outcome};

use super::PATIENCE;
use super::relay::{Answered, Relay, TestPortal, tenant};

pub(crate) struct RawAgent {
    pub(crate) tenant: TenantId,
    pub(crate) agent: AgentId,
    pub(crate) signing: SigningKey,
    pub(crate) sealing: SealingKey,
    pub(crate) journal: JournalId,
    pub(crate) url: String,
    /// How much may wait to be read, in bytes; as much as the system likes if absent.
    pub(crate) receive_buffer: Option<u32>,
    tls: TlsConnector,
    address: SocketAddr,
}

/// An open socket to the relay.
pub(crate) struct RawSession(pub(crate) WebSocketStream<TlsStream<TcpStream>>);

impl RawAgent {
    /// Keys and ids, not enrolled.
    pub(crate) fn new(relay: &Relay) -> Self {
        Self::of(relay.url(), relay.public_addr(), &relay.ca_file())
    }

    /// The same, for a relay of another process.
    pub(crate) fn of(url: String, address: SocketAddr, ca: &Path) -> Self {
        let mut tls = tls_client(Some(ca)).unwrap();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            tenant: tenant(),
            agent: AgentId::new(&System, &System),
            signing: SigningKey::generate(&System).unwrap(),
            sealing: SealingKey::generate().unwrap(),
            journal: JournalId::new(&System, &System),
            url,
            receive_buffer: None,
            tls: TlsConnector::from(std::sync::Arc::new(tls)),
            address,
        }
    }

    /// Enrolled and approved.
    pub(crate) async fn enrolled(relay: &Relay, portal: &TestPortal) -> Self {
        Self::enrolled_in(tenant(), relay, portal).await
    }

    /// The same, in another tenant.
    pub(crate) async fn enrolled_in(tenant: TenantId, relay: &Relay, portal: &TestPortal) -> Self {
        let agent = Self::pending_in(tenant, relay, portal).await;
        let fingerprint = agent.keys().fingerprint(agent.agent);
        let told = portal.portal.approve(&agent.tenant, agent.agent, &fingerprint).await.unwrap();
        assert!(matches!(told, writeback_relay::portal::Told::Yes));
        agent
    }

    /// Enrolled, not approved.
    pub(crate) async fn pending(relay: &Relay, portal: &TestPortal) -> Self {
        Self::pending_in(tenant(), relay, portal).await
    }

    /// The same, in another tenant.
    pub(crate) async fn pending_in(tenant: TenantId, relay: &Relay, portal: &TestPortal) -> Self {
        let agent = Self { tenant, ..Self::new(relay) };
        let code = portal.portal.invite(&agent.tenant, false).await.unwrap();
        let answered = agent.redeem(portal, &agent.enrollment(&code)).await;
        let enrolled: Enrolled = answered.json();
        assert_eq!(enrolled.agent, agent.agent);
        agent
    }

    pub(crate) fn keys(&self) -> AgentKeys {
        AgentKeys { signing: self.signing.public().clone(), sealing: self.sealing.public().clone() }
    }

    /// A good enrolment with this code.
    pub(crate) fn enrollment(&self, code: &EnrolmentCode) -> Enrollment {
        let keys = self.keys();
        let proof = Proof {
            iss: self.agent,
            sub: self.agent,
            aud: code.relay.clone(),
            jti: ObjectId::new(&System, &System),
            validity: Validity::starting(System.now(), Duration::from_secs(60)),
            tenant: code.tenant.clone(),
            invitation: code.invitation,
            journal: self.journal,
            signing_key: keys.signing.thumbprint(),
            sealing_key: keys.sealing.thumbprint(),
        };
        let attestation = Attestation::new(code.tenant.clone(), self.agent, &keys);
        Enrollment {
            tenant: code.tenant.clone(),
            invitation: code.invitation,
            token: code.token.clone(),
            agent: self.agent,
            journal: self.journal,
            name: "raw".into(),
            proof: proof.sign(&self.signing).unwrap(),
            attestation: attestation.sign(code.invitation, code.secret.expose()).unwrap(),
            signing_key: keys.signing,
            sealing_key: keys.sealing,
        }
    }

    /// Sends an enrolment (any portal's connection will do: the call needs no assertion).
    pub(crate) async fn redeem(&self, through: &TestPortal, enrollment: &Enrollment) -> Answered {
        through.raw.send(|http, relay| http.post(format!("{relay}/v1/enrollments")).json(enrollment)).await
    }

    /// The claims of a good assertion.
    pub(crate) fn assertion(&self) -> AgentAssertion {
        AgentAssertion {
            iss: self.agent,
            sub: self.agent,
            aud: self.url.clone(),
            tenant: self.tenant.clone(),
            jti: ObjectId::new(&System, &System),
            validity: Validity::starting(System.now(), Duration::from_secs(60)),
        }
    }

    /// The upgrade, with this bearer token and subprotocol. An error holds the HTTP answer.
    pub(crate) async fn upgrade(&self, bearer: &str, subprotocol: &str) -> Result<RawSession, tungstenite::Error> {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let tcp = socket.connect(self.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = rustls::pki_types::ServerName::from(self.address.ip());
        let tls = self.tls.connect(name, tcp).await.unwrap();
        let url = format!("{}/v1/agent/session", self.url.replace("https", "wss"));
        let mut request = url.into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("authorization", format!("Bearer {bearer}").parse().unwrap());
        headers.insert("sec-websocket-protocol", subprotocol.parse().unwrap());
        let upgrading = tokio_tungstenite::client_async(request, tls);
        timeout(PATIENCE, upgrading).await.unwrap().map(|(socket, _)| RawSession(socket))
    }

    /// A socket, before `Hello`.
    pub(crate) async fn connect(&self) -> RawSession {
        let bearer = self.assertion().sign(&self.signing).unwrap();
        self.upgrade(&bearer, SUBPROTOCOL).await.unwrap()
    }

    /// A good `Hello` of this process.
    pub(crate) fn hello(&self, instance: InstanceId) -> FromAgent {
        FromAgent::Hello(v1::Hello {
            version: "0.0.0-raw".into(),
            instance: instance.to_string(),
            journal: self.journal.to_string(),
            unfinished: vec![],
            capacity: 1,
            portals: Vec::new(),
            announces_portals: false,
        })
    }

    /// An open session of a new process.
    pub(crate) async fn open(&self) -> RawSession {
        self.open_as(InstanceId::new(&System, &System)).await
    }

    /// An open session of this process.
    pub(crate) async fn open_as(&self, instance: InstanceId) -> RawSession {
        let mut session = self.connect().await;
        session.send(self.hello(instance)).await;
        let welcome = session.next().await;
        assert!(matches!(welcome, FromRelay::Welcome(_)), "{welcome:?}");
        session
    }

    /// A signed outcome of `command`.
    pub(crate) fn outcome(&self, command: &Command, code: Code) -> Outcome {
        Outcome {
            iss: self.agent,
            aud: command.iss.clone(),
            tenant: command.tenant.clone(),
            jti: ObjectId::new(&System, &System),
            command: command.jti,
            iat: System.now(),
            status: code.status(),
            code: code.as_str().into(),
            event_id: code.event().id(),
            detail: "said by a test".into(),
            retry_safe: false,
            retry_at: None,
            hindrances: None,
            directory_ms: 1,
            account: None,
        }
    }

    /// The same, as a frame.
    pub(crate) fn outcome_frame(&self, command: &Command, code: Code) -> FromAgent {
        let jws = self.outcome(command, code).sign(&self.signing).unwrap();
        FromAgent::Outcome(v1::Outcome { command: command.jti.to_string(), jws })
    }
}

impl RawSession {
    pub(crate) async fn send(&mut self, frame: FromAgent) {
        self.send_bytes(frame.encode_frame()).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: Vec<u8>) {
        timeout(PATIENCE, self.0.send(Message::Binary(bytes.into()))).await.unwrap().unwrap();
    }

    /// The next frame that is no heartbeat.
    pub(crate) async fn next(&mut self) -> FromRelay {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("a frame in time").expect("a frame").unwrap() {
                Message::Binary(bytes) => match FromRelay::decode(&bytes).unwrap() {
                    FromRelay::Heartbeat(_) => {}
                    frame => return frame,
                },
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Says that it is alive, and waits until the relay does, which has to be the next frame.
    pub(crate) async fn heartbeat(&mut self) {
        self.send(FromAgent::Heartbeat(v1::Heartbeat::default())).await;
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("a heartbeat in time").expect("a frame").unwrap() {
                Message::Binary(bytes) if matches!(FromRelay::decode(&bytes).unwrap(), FromRelay::Heartbeat(_)) => {
                    return;
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("a heartbeat was expected: {other:?}"),
            }
        }
    }

    /// The next frame, which has to be a command.
    pub(crate) async fn delivery(&mut self) -> v1::Deliver {
        match self.next().await {
            FromRelay::Deliver(deliver) => deliver,
            other => panic!("a delivery was expected: {other:?}"),
        }
    }

    /// Reads until the relay closes; its close code and reason.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("a close in time") {
                Some(Ok(Message::Close(Some(frame)))) => return (frame.code.into(), frame.reason.to_string()),
                Some(Ok(_)) => {}
                other => panic!("a close frame was expected: {other:?}"),
            }
        }
    }
}
