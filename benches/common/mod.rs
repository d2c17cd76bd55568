//! What the benches share: relay processes, and agents that hold a session and little more.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};
use writeback_relay::clock::{Clock, System};
use writeback_relay::net::{https_client, tls_client};
use writeback_relay::protocol::api::AgentStatus;
use writeback_relay::protocol::assertion::AgentAssertion;
use writeback_relay::protocol::enrollment::AgentKeys;
use writeback_relay::protocol::frame::{FromAgent, FromRelay, SUBPROTOCOL, v1};
use writeback_relay::protocol::ids::{AgentId, InstanceId, InvitationId, JournalId, ObjectId, TenantId};
use writeback_relay::protocol::jose::{SealingKey, SigningKey, Validity};
use writeback_relay::relay::admin::client::AdminClient;
use writeback_relay::relay::registry::AgentRecord;

const RELAY: &str = env!("CARGO_BIN_EXE_writeback-relay");
/// The one tenant.
pub(crate) const TENANT: &str = "bench";
/// Enough hands to keep both sides busy, few enough not to be a storm.
pub(crate) const AT_ONCE: usize = 32;

pub(crate) type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;
pub(crate) type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// A process, killed when this is dropped.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Fallible<Self> {
        Ok(Self(command.stdin(Stdio::null()).spawn()?))
    }

    /// A relay node at `address`, with these lines in its configuration.
    pub(crate) fn relay(address: Ipv4Addr, public: Ipv4Addr, folder: &Path, settings: &str) -> Fallible<Self> {
        let config = folder.join(format!("{address}.toml"));
        let data = folder.join("data");
        let text = format!(
            "public_url = \"https://{public}:8443\"\nlisten = \"{address}:8443\"\nops_listen = \"{address}:9443\"\n\
             data_dir = {data:?}\n{settings}\n"
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(RELAY);
        Self::start(command.args(["run", "--dev-tls", "--config"]).arg(config).env("RUST_LOG", "error"))
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident(&self) -> Fallible<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?)
    }
}

/// The node's admin API, when the node is ready.
pub(crate) async fn ready(address: Ipv4Addr, folder: &Path) -> Fallible<AdminClient> {
    let ops = format!("http://{address}:9443");
    let http = https_client(None)?;
    let up = async || http.get(format!("{ops}/readyz")).send().await.is_ok_and(|answer| answer.status().is_success());
    while !up().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(AdminClient::new(&ops, &folder.join("data/admin.token"))?)
}

/// All with the same keys: they cost the node nothing while a session is idle.
pub(crate) fn registered(agents: usize, keys: &AgentKeys) -> Vec<AgentRecord> {
    let record = || AgentRecord {
        agent: AgentId::new(&System, &System),
        name: "bench".into(),
        status: AgentStatus::Approved,
        keys: keys.clone(),
        journal: JournalId::new(&System, &System),
        invitation: InvitationId::new(&System, &System),
        attestation: "a.b.c".into(),
        enrolled_at: System.now(),
        version: Some("bench".into()),
        preflight: None,
    };
    (0..agents).map(|_| record()).collect()
}

pub(crate) fn keys(signing: &SigningKey) -> Fallible<AgentKeys> {
    Ok(AgentKeys { signing: signing.public().clone(), sealing: SealingKey::generate()?.public().clone() })
}

/// Opens sessions as agents do.
pub(crate) struct Dialer {
    pub(crate) node: Ipv4Addr,
    pub(crate) public: Ipv4Addr,
    pub(crate) key: SigningKey,
    tls: TlsConnector,
    tenant: TenantId,
}

impl Dialer {
    pub(crate) fn new(node: Ipv4Addr, public: Ipv4Addr, key: SigningKey, folder: &Path) -> Fallible<Self> {
        let mut config = tls_client(Some(&folder.join("data/dev-ca.pem")))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { node, public, key, tls: TlsConnector::from(Arc::new(config)), tenant: TENANT.parse()? })
    }

    pub(crate) async fn all(&self, ids: &[(AgentId, JournalId)]) -> Fallible<Vec<Socket>> {
        let connecting = ids.iter().enumerate().map(|(i, id)| self.connect(i, *id));
        futures_util::stream::iter(connecting).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect()
    }

    pub(crate) async fn connect(&self, i: usize, (agent, journal): (AgentId, JournalId)) -> Fallible<Socket> {
        let tcp = TcpSocket::new_v4()?;
        // Several source addresses: the kernel's search for a free port gets slow otherwise.
        let source = Ipv4Addr::new(127, 0, 1, u8::try_from(i % 8)? + 1);
        tcp.bind(SocketAddr::V4(SocketAddrV4::new(source, 0)))?;
        let tcp = tcp.connect((self.node, 8443).into()).await?;
        let tls = self.tls.connect(ServerName::from(IpAddr::from(self.public)), tcp).await?;
        let assertion = AgentAssertion {
            iss: agent,
            sub: agent,
            aud: format!("https://{}:8443", self.public),
            tenant: self.tenant.clone(),
            jti: ObjectId::new(&System, &System),
            validity: Validity::starting(System.now(), Duration::from_secs(60)),
        };
        let mut request = format!("wss://{}:8443/v1/agent/session", self.public).into_client_request()?;
        request.headers_mut().insert("authorization", format!("Bearer {}", assertion.sign(&self.key)?).parse()?);
        request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse()?);
        let config = WebSocketConfig::default().read_buffer_size(2048).write_buffer_size(0);
        let (mut socket, _) = tokio_tungstenite::client_async_with_config(request, tls, Some(config)).await?;
        let hello = v1::Hello {
            version: "bench".into(),
            instance: InstanceId::new(&System, &System).to_string(),
            journal: journal.to_string(),
            unfinished: vec![],
            capacity: 1,
        };
        socket.send(Message::Binary(FromAgent::Hello(hello).encode_frame().into())).await?;
        match socket.next().await {
            Some(Ok(Message::Binary(bytes))) if matches!(FromRelay::decode(&bytes)?, FromRelay::Welcome(_)) => {
                Ok(socket)
            }
            other => Err(format!("no welcome: {other:?}").into()),
        }
    }
}
