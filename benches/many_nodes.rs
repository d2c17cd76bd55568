//! Many nodes on one Redis, many agents on each, and commands between them:
//! `cargo bench --bench many_nodes -- [NODES] [AGENTS_PER_NODE] [COMMANDS]`.
//!
//! A process may hold 20,000 files, so each node's agents are a process of their own (this program again). Portals reach the
//! nodes in turn, so that most commands cross from one node to another.

mod common;

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt, stream};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::interval;
use tokio_tungstenite::tungstenite::Message;
use writeback_relay::clock::{Clock, System};
use writeback_relay::net::https_client;
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::assertion::PortalAssertion;
use writeback_relay::protocol::command::{Command as Claims, Operation, Options, Subject};
use writeback_relay::protocol::frame::{FromAgent, FromRelay, v1};
use writeback_relay::protocol::ids::{AgentId, CommandId, JournalId, ObjectId};
use writeback_relay::protocol::jose::{PublicKey, SigningKey, Validity};
use writeback_relay::protocol::outcome::{Code, Outcome};
use writeback_relay::protocol::password::Password;
use writeback_relay::protocol::sealed::{Secrets, seal_for};
use writeback_relay::relay::registry::{PortalRecord, Snapshot, TenantRecord, TenantSnapshot};
use writeback_relay::storage::PrivateFile;

use common::{Dialer, Fallible, Process, Socket, TENANT, keys, ready, registered};

/// Where portals find the relay.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 90);
/// Commands under way at a time.
const IN_FLIGHT: usize = 32;

fn node(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 91 + n)
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let runtime = tokio::runtime::Runtime::new()?;
    if let [role, n, folder] = &arguments[..]
        && role == "agents"
    {
        return runtime.block_on(agents(n.parse()?, Path::new(folder)));
    }
    let number = |at: usize, default: usize| arguments.get(at).map_or(Ok(default), |text| text.parse());
    runtime.block_on(measure(u8::try_from(number(0, 5)?)?, number(1, 15_000)?, number(2, 2_000)?))
}

async fn measure(nodes: u8, per_node: usize, commands: usize) -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let _redis = Process::start(
        Command::new("redis-server")
            .args(["--bind", &PUBLIC.to_string(), "--port", "6379", "--appendonly", "yes", "--dir"])
            .arg(folder)
            .stdout(Stdio::null()),
    )?;
    PrivateFile::new(folder.join("cluster.key")).replace("a key that all nodes of the bench share")?;
    let settings = format!(
        "store = \"redis\"\n[session]\nheartbeat_seconds = 60\n[redis]\nurls = [\"redis://{PUBLIC}:6379\"]\n\
         cluster_key_file = {:?}",
        folder.join("cluster.key")
    );
    let (signing, portal) = (SigningKey::generate(&System)?, SigningKey::generate(&System)?);
    let keys = keys(&signing)?;
    PrivateFile::new(folder.join("agents.jwk")).replace(&signing.to_jwk())?;
    let mut relays = Vec::new();
    for n in 0..nodes {
        relays.push(Process::relay(node(n), PUBLIC, folder, &settings)?);
        ready(node(n), folder).await?;
    }
    let records = registered(usize::from(nodes) * per_node, &keys);
    let ids: Vec<_> = records.iter().map(|record| (record.agent, record.journal)).collect();
    let tenant = TenantRecord { tenant: TENANT.parse()?, created_at: System.now() };
    let tenants = vec![TenantSnapshot { tenant, invitations: vec![], agents: records }];
    let record = PortalRecord {
        portal: "portal-1".parse()?,
        keys: vec![portal.public().clone()],
        tenants: [TENANT.parse()?].into(),
    };
    let begun = Instant::now();
    let registry = Snapshot { version: 1, portals: vec![record], tenants };
    ready(node(0), folder).await?.import(&registry).await?;
    println!("{} agents imported in {:.1} s", ids.len(), begun.elapsed().as_secs_f64());
    drop(registry);

    let empty = relays.iter().map(Process::resident).collect::<Fallible<Vec<_>>>()?;
    let (begun, mut processes) = (Instant::now(), Vec::new());
    for (n, ids) in (0..nodes).zip(ids.chunks(per_node.max(1))) {
        std::fs::write(folder.join(format!("agents-{n}.json")), serde_json::to_string(ids)?)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["agents", &n.to_string()]).arg(folder).stdout(Stdio::piped());
        processes.push(Process::start(&mut command)?);
    }
    for process in &mut processes {
        let mut said = String::new();
        BufReader::new(process.0.stdout.take().ok_or("no output")?).read_line(&mut said)?;
        if said.trim() != "open" {
            return Err("a process of agents has failed".into());
        }
    }
    println!("{} sessions opened in {:.1} s", ids.len(), begun.elapsed().as_secs_f64());
    for (n, (relay, empty)) in relays.iter().zip(empty).enumerate() {
        let grown = relay.resident()?.saturating_sub(empty);
        #[expect(clippy::cast_precision_loss, reason = "KiB of one process")]
        let each = grown as f64 / per_node as f64;
        println!("node {n}: {per_node} sessions, {} MiB, {each:.1} KiB each", relay.resident()? / 1024);
    }

    tokio::spawn(forward(TcpListener::bind((PUBLIC, 8443)).await?, nodes));
    let caller = Caller { key: portal, sealing: keys.sealing };
    // Each keeps a connection, and the connections go to the nodes in turn.
    let ca = folder.join("data/dev-ca.pem");
    let clients = (0..nodes).map(|_| https_client(Some(&ca))).collect::<Result<Vec<_>, _>>()?;
    // Spread over all agents, so over all nodes.
    let chosen = ids.iter().cycle().step_by(7919).take(commands).map(|(agent, _)| *agent).zip(clients.iter().cycle());
    let begun = Instant::now();
    let resets = chosen.map(|(agent, client)| caller.reset(agent, client));
    let took = stream::iter(resets).buffer_unordered(IN_FLIGHT).collect::<Vec<_>>().await;
    let elapsed = begun.elapsed().as_secs_f64();
    let mut took = took.into_iter().collect::<Fallible<Vec<_>>>()?;
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len() * percent / 100).map_or(0.0, |took| took.as_secs_f64() * 1000.0);
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let rate = commands as f64 / elapsed;
    println!("{commands} commands, all concluded: {rate:.0}/s, p50 {:.1} ms, p99 {:.1} ms", at(50), at(99));
    for (n, relay) in relays.iter().enumerate() {
        println!("node {n}: {} MiB after that", relay.resident()? / 1024);
    }
    Ok(())
}

/// A load balancer: each connection goes to the next node.
async fn forward(listener: TcpListener, nodes: u8) {
    for n in (0..nodes).cycle() {
        let Ok((mut client, _)) = listener.accept().await else { return };
        tokio::spawn(async move {
            let Ok(mut relay) = TcpStream::connect((node(n), 8443)).await else { return };
            // Whoever hangs up first ends it.
            let _ = copy_bidirectional(&mut client, &mut relay).await;
        });
    }
}

struct Caller {
    key: SigningKey,
    sealing: PublicKey,
}

impl Caller {
    /// A reset; how long it took.
    async fn reset(&self, agent: AgentId, client: &reqwest::Client) -> Fallible<Duration> {
        let mut command = Claims {
            iss: "portal-1".parse()?,
            aud: agent,
            tenant: TENANT.parse()?,
            jti: CommandId::new(&System, &System),
            validity: Validity::starting(System.now(), Duration::from_secs(120)),
            sub_id: Subject::upn("jane@corp.example")?,
            operation: Operation::ResetPassword,
            options: Options::default(),
            sealed: None,
        };
        let secrets = Secrets { new_password: Password::new("New-Passw0rd".to_owned())?, current_password: None };
        command.sealed = Some(seal_for(&command, &secrets, &self.sealing, &System)?);
        let jws = command.sign(&self.key)?;
        let assertion = PortalAssertion {
            iss: command.iss.clone(),
            sub: command.iss.clone(),
            aud: format!("https://{PUBLIC}:8443"),
            jti: ObjectId::new(&System, &System),
            validity: Validity::starting(System.now(), Duration::from_secs(60)),
        };
        let bearer = assertion.sign(&self.key)?;
        let begun = Instant::now();
        let answered = client
            .post(format!("https://{PUBLIC}:8443/v1/tenants/{TENANT}/commands"))
            .bearer_auth(bearer)
            .header("content-type", "application/jose")
            .header("prefer", "wait=60")
            .body(jws)
            .send()
            .await?;
        let (status, text) = (answered.status(), answered.text().await?);
        let view: CommandView = serde_json::from_str(&text).map_err(|_| format!("{status}: {text}"))?;
        if view.state == CommandState::Concluded {
            Ok(begun.elapsed())
        } else {
            Err(format!("{status}: {text}").into())
        }
    }
}

/// The agents of one node, until this process is killed.
async fn agents(n: u8, folder: &Path) -> Fallible<()> {
    let ids: Vec<(AgentId, JournalId)> =
        serde_json::from_str(&std::fs::read_to_string(folder.join(format!("agents-{n}.json")))?)?;
    let key = SigningKey::from_jwk(&PrivateFile::new(folder.join("agents.jwk")).read()?)?;
    let dialer = Dialer::new(node(n), PUBLIC, key.clone(), folder)?;
    let opened = dialer.all(&ids).await?;
    println!("open");
    let mut serving = tokio::task::JoinSet::new();
    for socket in opened {
        serving.spawn(serve(socket, key.clone()));
    }
    while let Some(ended) = serving.join_next().await {
        ended??;
    }
    Ok(())
}

/// Heartbeats, and an outcome for each command.
async fn serve(mut socket: Socket, key: SigningKey) -> Fallible<()> {
    let mut beat = interval(Duration::from_secs(40));
    loop {
        let frame = tokio::select! {
            _ = beat.tick() => FromAgent::Heartbeat(v1::Heartbeat::default()),
            message = socket.next() => match message.ok_or("a session was closed")?? {
                Message::Binary(bytes) => match FromRelay::decode(&bytes)? {
                    FromRelay::Deliver(delivery) => outcome(&delivery, &key)?,
                    _ => continue,
                },
                _ => continue,
            },
        };
        socket.send(Message::Binary(frame.encode_frame().into())).await?;
    }
}

fn outcome(delivery: &v1::Deliver, key: &SigningKey) -> Fallible<FromAgent> {
    let command: Claims = Claims::parse(&delivery.command_jws)?.unverified()?;
    let code = Code::PasswordReset;
    let outcome = Outcome {
        iss: command.aud,
        aud: command.iss,
        tenant: command.tenant,
        jti: ObjectId::new(&System, &System),
        command: command.jti,
        iat: System.now(),
        status: code.status(),
        code: code.as_str().to_owned(),
        event_id: code.event().id(),
        detail: "done".to_owned(),
        retry_safe: false,
        directory_ms: 1,
    };
    Ok(FromAgent::Outcome(v1::Outcome { command: command.jti.to_string(), jws: outcome.sign(key)? }))
}
