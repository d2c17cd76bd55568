//! What one idle agent costs a relay node: `cargo bench --bench idle_memory [AGENTS]`.
//!
//! A relay process, and that many agents over TLS from this process; the node's resident memory before and after.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
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
use writeback_relay::relay::registry::{AgentRecord, Snapshot, TenantRecord, TenantSnapshot};

const RELAY: &str = env!("CARGO_BIN_EXE_writeback-relay");
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);
const DEFAULT_AGENTS: usize = 2_000;
/// Enough hands to keep both sides busy, few enough not to be a storm.
const AT_ONCE: usize = 32;

type Fallible<T> = Result<T, Box<dyn Error>>;
type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Killed when it is dropped.
struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Relay {
    /// Resident memory, in KiB.
    fn resident(&self) -> Fallible<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?)
    }
}

#[tokio::main]
async fn main() -> Fallible<()> {
    // cargo passes --bench.
    let agents = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(DEFAULT_AGENTS);
    let folder = tempfile::tempdir()?;
    let relay = start(folder.path())?;
    let admin = ready(folder.path()).await?;
    let tenant: TenantId = "bench".parse()?;
    let key = SigningKey::generate(&System)?;
    let records = registered(agents, &key)?;
    let ids: Vec<_> = records.iter().map(|record| (record.agent, record.journal)).collect();
    let snapshot = TenantSnapshot {
        tenant: TenantRecord { tenant: tenant.clone(), created_at: System.now() },
        invitations: vec![],
        agents: records,
    };
    admin.import(&Snapshot { version: 1, portals: vec![], tenants: vec![snapshot] }).await?;

    let tls = client(&folder.path().join("dev-ca.pem"))?;
    // The first sessions pay for what all share: pools, tables, the allocator's arenas.
    let (warm, measured) = ids.split_at(agents / 10);
    let mut open = connect_all(warm, &tenant, &key, &tls).await?;
    let before = relay.resident()?;
    open.extend(connect_all(measured, &tenant, &key, &tls).await?);
    let fresh = relay.resident()?;
    println!("{agents} agents over TLS, {} measured", measured.len());
    #[expect(clippy::cast_precision_loss, reason = "KiB of one process")]
    let each = |after: u64| after.saturating_sub(before) as f64 / measured.len() as f64;
    println!("one idle agent, fresh:               {:5.1} KiB of resident memory", each(fresh));

    // As large as an outcome: the relay keeps the reason to itself and the session open.
    for socket in &mut open {
        let leaving = FromAgent::Leaving(v1::Leaving { reason: "x".repeat(1_500) });
        socket.send(Message::Binary(leaving.encode_frame().into())).await?;
    }
    for socket in &mut open {
        let frame = tokio::time::timeout(Duration::from_secs(60), socket.next()).await?;
        let Some(Ok(Message::Binary(bytes))) = frame else { return Err("a session was closed".into()) };
        assert!(matches!(FromRelay::decode(&bytes)?, FromRelay::Heartbeat(_)));
    }
    println!("after 1.5 KB in and a heartbeat out: {:5.1} KiB", each(relay.resident()?));
    Ok(())
}

fn start(folder: &Path) -> Fallible<Relay> {
    let url = format!("https://{ADDRESS}:8443");
    let process = Command::new(RELAY)
        .args(["run", "--dev-tls", "--data-dir"])
        .arg(folder)
        .args([
            "--listen",
            &format!("{ADDRESS}:8443"),
            "--ops-listen",
            &format!("{ADDRESS}:9443"),
            "--public-url",
            &url,
        ])
        .env("RUST_LOG", "error")
        .stdin(Stdio::null())
        .spawn()?;
    Ok(Relay(process))
}

async fn ready(folder: &Path) -> Fallible<AdminClient> {
    let ops = format!("http://{ADDRESS}:9443");
    let http = https_client(None)?;
    while http.get(format!("{ops}/readyz")).send().await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(AdminClient::new(&ops, &folder.join("admin.token"))?)
}

/// All with the same keys: they cost the node nothing while a session is idle.
fn registered(agents: usize, key: &SigningKey) -> Fallible<Vec<AgentRecord>> {
    let keys = AgentKeys { signing: key.public().clone(), sealing: SealingKey::generate()?.public().clone() };
    let record = || AgentRecord {
        agent: AgentId::new(&System, &System),
        name: "bench".into(),
        status: AgentStatus::Approved,
        keys: keys.clone(),
        journal: JournalId::new(&System, &System),
        invitation: InvitationId::new(&System, &System),
        attestation: "a.b.c".into(),
        enrolled_at: System.now(),
        version: None,
        preflight: None,
    };
    Ok((0..agents).map(|_| record()).collect())
}

fn client(ca: &Path) -> Fallible<TlsConnector> {
    let mut config = tls_client(Some(ca))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn connect_all(
    ids: &[(AgentId, JournalId)],
    tenant: &TenantId,
    key: &SigningKey,
    tls: &TlsConnector,
) -> Fallible<Vec<Socket>> {
    let connecting = ids.iter().enumerate().map(|(i, id)| connect(i, *id, tenant, key, tls));
    futures_util::stream::iter(connecting).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect()
}

async fn connect(
    i: usize,
    (agent, journal): (AgentId, JournalId),
    tenant: &TenantId,
    key: &SigningKey,
    tls: &TlsConnector,
) -> Fallible<Socket> {
    let tcp = TcpSocket::new_v4()?;
    // Several source addresses: the kernel's search for a free port gets slow otherwise.
    let source = Ipv4Addr::new(127, 0, 1, u8::try_from(i % 8)? + 1);
    tcp.bind(SocketAddr::V4(SocketAddrV4::new(source, 0)))?;
    let tcp = tcp.connect((ADDRESS, 8443).into()).await?;
    let tls = tls.connect(ServerName::from(std::net::IpAddr::from(ADDRESS)), tcp).await?;
    let assertion = AgentAssertion {
        iss: agent,
        sub: agent,
        aud: format!("https://{ADDRESS}:8443"),
        tenant: tenant.clone(),
        jti: ObjectId::new(&System, &System),
        validity: Validity::starting(System.now(), Duration::from_secs(60)),
    };
    let mut request = format!("wss://{ADDRESS}:8443/v1/agent/session").into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {}", assertion.sign(key)?).parse()?);
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
        Some(Ok(Message::Binary(bytes))) if matches!(FromRelay::decode(&bytes)?, FromRelay::Welcome(_)) => Ok(socket),
        other => Err(format!("no welcome: {other:?}").into()),
    }
}
