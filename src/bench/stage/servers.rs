//! How each subject is started, and when it is ready.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::Scene;
use crate::bench::Fallible;
use crate::bench::nats::Nats;
use crate::bench::population::{HOST, PUBLIC_URL, Population};
use crate::bench::process::Process;
use crate::bench::subject::Subject;
use crate::bench::wire::Dialer;
use crate::net::operator_client;
use crate::relay::admin::client::AdminClient;
use crate::relay::tls;
use crate::storage::PrivateFile;

/// A server is ready within this time.
const START: Duration = Duration::from_secs(30);

/// What one tenant may have: all that is measured is of one.
const LIMITS: &str = "[limits]\ntenant_commands_per_second = 1000000\ntenant_in_flight = 1000000\ntenant_sessions = 1000000\n\
     tenant_stored_mib = 1000000\nsession_frames_per_second = 1000000\n";

/// The servers, and where agents and portals reach them.
pub(super) async fn start(
    scene: Scene,
    everybody: &Population,
    folder: &Path,
) -> Fallible<(Vec<Process>, Vec<SocketAddr>)> {
    let files = tls::development(folder, &[HOST.to_owned()])?;
    let certificate = format!("cert_file = {:?}\nkey_file = {:?}", files.cert_file, files.key_file);
    match scene.subject {
        Subject::Relay => relays(scene, everybody, &certificate, folder).await,
        Subject::Floor => {
            let listen = free()?;
            let key = folder.join("portal.jwk");
            std::fs::write(&key, serde_json::to_string(everybody.portal_key().ok_or("no portals")?)?)?;
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("floor").arg(listen.to_string()).args([files.cert_file, files.key_file, key]);
            let server = Process::start("floor", &mut command, folder)?;
            until_it_listens(&server, listen).await?;
            Ok((vec![server], vec![listen]))
        }
        Subject::Nats | Subject::JetStream => nats(scene.subject, &certificate.replace(" =", ":"), folder).await,
    }
}

async fn relays(
    scene: Scene,
    everybody: &Population,
    certificate: &str,
    folder: &Path,
) -> Fallible<(Vec<Process>, Vec<SocketAddr>)> {
    let (mut servers, mut addresses, mut store) = (Vec::new(), Vec::new(), String::new());
    if scene.redis_nodes > 0 {
        let redis = free()?;
        let (host, port) = (redis.ip().to_string(), redis.port().to_string());
        let mut command = Command::new("redis-server");
        // As a ledger needs it.
        command.args(["--bind", &host, "--port", &port, "--appendonly", "yes", "--save", "", "--dir"]).arg(folder);
        let server = Process::start("redis", &mut command, folder)?;
        until_it_listens(&server, redis).await?;
        servers.push(server);
        let key = folder.join("cluster.key");
        PrivateFile::new(&key).replace("the key that all nodes of a bench share")?;
        store = format!("[redis]\nurls = [\"redis://{redis}\"]\ncluster_key_file = {key:?}\n");
    }
    for n in 0..scene.redis_nodes.max(1) {
        let (listen, ops, data) = (free()?, free()?, folder.join(format!("node-{n}")));
        let kind = if store.is_empty() { "embedded" } else { "redis" };
        let config = folder.join(format!("node-{n}.toml"));
        let text = format!(
            "public_url = \"{PUBLIC_URL}\"\nlisten = \"{listen}\"\nops_listen = \"{ops}\"\ndata_dir = {data:?}\n\
             store = \"{kind}\"\n[tls]\n{certificate}\n{LIMITS}{store}"
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(std::env::current_exe()?);
        let server = Process::start(&format!("node-{n}"), command.arg("node").arg(config), folder)?;
        let http = operator_client()?;
        let url = format!("http://{ops}");
        until(&server, async || http.get(format!("{url}/readyz")).send().await.is_ok_and(|a| a.status().is_success()))
            .await?;
        if n == 0 {
            AdminClient::new(&url, &data.join("admin.token"))?.import(&everybody.snapshot()?).await?;
        }
        servers.push(server);
        addresses.push(listen);
    }
    Ok((servers, addresses))
}

async fn nats(subject: Subject, certificate: &str, folder: &Path) -> Fallible<(Vec<Process>, Vec<SocketAddr>)> {
    let (clients, listen, config) = (free()?, free()?, folder.join("nats.conf"));
    let stream = format!("jetstream {{ store_dir: {:?} }}", folder.join("jetstream"));
    let jetstream = if subject == Subject::JetStream { stream } else { String::new() };
    let text = format!(
        "listen: \"{clients}\"\nmax_connections: 100000\nwebsocket {{ listen: \"{listen}\"\ntls {{ {certificate} }} }}\n\
         {jetstream}\n"
    );
    std::fs::write(&config, text)?;
    let server = Process::start("nats-server", Command::new("nats-server").arg("-c").arg(config), folder)?;
    until_it_listens(&server, listen).await?;
    if subject == Subject::JetStream {
        let mut nats = Nats::open(&Dialer::new(listen, &folder.join("dev-ca.pem"))?, 0).await?;
        nats.subscribe("_INBOX.bench").await?;
        let stream = br#"{"name":"commands","subjects":["commands.*"],"storage":"file","num_replicas":1}"#;
        nats.publish("$JS.API.STREAM.CREATE.commands", "_INBOX.bench", stream).await?;
        let said = String::from_utf8(nats.next().await?.payload)?;
        if said.contains("\"error\"") {
            return Err(format!("nats-server makes no stream: {said}").into());
        }
    }
    Ok((vec![server], vec![listen]))
}

/// An address on loopback that nobody listens at. The host is this process's own, so that no connection of others takes the
/// port before the server does.
fn free() -> Fallible<SocketAddr> {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ok(TcpListener::bind((Ipv4Addr::new(127, 9, high, low), 0))?.local_addr()?)
}

async fn until_it_listens(server: &Process, address: SocketAddr) -> Fallible<()> {
    until(server, async || TcpStream::connect(address).await.is_ok()).await
}

async fn until(server: &Process, ready: impl AsyncFn() -> bool) -> Fallible<()> {
    let waiting = async {
        while !ready().await {
            if let Some(ended) = server.ended() {
                return Err(ended.into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    timeout(START, waiting).await.map_err(|_| "a server was not ready in time")?
}
