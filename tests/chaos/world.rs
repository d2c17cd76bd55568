//! Everything that runs: three nodes on one Redis, tenants with agents and a directory each, and a proxy on every way.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use writeback_relay::agent::enroll;
use writeback_relay::agent::home::Home as AgentHome;
use writeback_relay::clock::System;
use writeback_relay::net::operator_client;
use writeback_relay::portal::{Config, Home, Portal, RelayClient};
use writeback_relay::protocol::enrollment::AgentKeys;
use writeback_relay::protocol::ids::{AgentId, PortalId, TenantId};
use writeback_relay::protocol::jose::SigningKey;
use writeback_relay::relay::admin::client::AdminClient;
use writeback_relay::relay::registry::{PortalRecord, Snapshot};
use writeback_relay::storage::PrivateFile;

use crate::clock::Skewed;
use crate::directory::client::address;
use crate::history::{Event, History};
use crate::process::Process;
use crate::proxy::{Entry, Proxy};
use crate::roles::{Role, STOPPED_FOR_GOOD};
use crate::support::redis::Redis;
use crate::support::{deadline, eventually, own_address};

const NODES: usize = 3;
const AGENTS_PER_TENANT: usize = 2;
/// Of each tenant.
pub(crate) const ACCOUNTS: usize = 40;
/// Which tenants each portal serves.
const PORTALS: [(&str, &[&str]); 2] = [("portal-a", &["contoso", "fabrikam"]), ("portal-b", &["tailspin"])];
/// Each with connections of its own: one connection leads to one node for as long as it lives.
const CLIENTS_PER_PORTAL: usize = 8;
pub(crate) const REDIS_PORT: u16 = 6379;

/// A relay node, and its way to Redis.
pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) redis: Proxy,
    admin: AdminClient,
}

/// An agent, and its way to the nodes.
pub(crate) struct Agent {
    pub(crate) process: Process,
    pub(crate) link: Proxy,
    pub(crate) id: AgentId,
    pub(crate) keys: AgentKeys,
    pub(crate) tenant: TenantId,
}

/// A tenant's directory.
pub(crate) struct Directory {
    pub(crate) process: Process,
}

/// A portal: its key, and several clients.
pub(crate) struct Hands {
    pub(crate) id: PortalId,
    pub(crate) key: SigningKey,
    pub(crate) clients: Vec<RelayClient>,
    pub(crate) clock: Skewed,
    pub(crate) tenants: Vec<TenantId>,
}

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) directories: Vec<Directory>,
    pub(crate) portals: Vec<Hands>,
    /// Between portals and nodes.
    pub(crate) front: Proxy,
    pub(crate) redis: Redis,
    pub(crate) history: History,
    registry: Snapshot,
}

impl World {
    /// Everything up, enrolled and approved.
    pub(crate) async fn start(folder: &Path, seed: u64) -> Self {
        let redis = Redis::single_with("appendonly yes\nappendfsync always").await;
        let hosts: Vec<_> = (0..NODES).map(|_| own_address()).collect();
        let targets: Vec<SocketAddr> = hosts.iter().map(|host| (*host, 8443).into()).collect();
        let front_address = SocketAddr::from((own_address(), 8443));
        let url = format!("https://{front_address}");
        let front = Proxy::start(front_address, Entry::Direct, targets.clone(), seed).await;
        let data = folder.join("data");
        let mut nodes = Vec::new();
        for (number, host) in hosts.into_iter().enumerate() {
            nodes.push(node(folder, number, host.into(), &url, &redis, seed).await);
        }
        let (ca, admin) = (data.join("dev-ca.pem"), &nodes[0].admin);
        let (mut agents, mut directories, mut portals) = (Vec::new(), Vec::new(), Vec::new());
        for (name, tenants) in PORTALS {
            let home = Home::new(&folder.join(name));
            let config = Config { id: name.parse().unwrap(), relay: url.clone(), ca_file: Some(ca.clone()) };
            let key = home.init(&config, &System).unwrap();
            let tenants: Vec<TenantId> = tenants.iter().map(|tenant| tenant.parse().unwrap()).collect();
            for tenant in &tenants {
                admin.add_tenant(tenant.clone()).await.unwrap();
            }
            let record = PortalRecord {
                portal: config.id.clone(),
                keys: vec![key],
                tenants: tenants.clone(),
                later: Default::default(),
            };
            admin.put_portal(&record).await.unwrap();
            let portal = Portal::open(home.folder(), System::clock(), System::random()).unwrap();
            for tenant in &tenants {
                let directory = directory(folder, tenant, seed);
                for number in 0..AGENTS_PER_TENANT {
                    let home = folder.join(format!("agent-{tenant}-{number}"));
                    let agent = agent(&home, &portal, tenant, &ca, directory.1, targets.clone(), seed).await;
                    agents.push(agent);
                }
                directories.push(directory.0);
            }
            let (key, clock) = (home.signing_key().unwrap(), Skewed::default());
            let client = || RelayClient::new(&config, key.clone(), clock.shared(), System::random()).unwrap();
            let clients = (0..CLIENTS_PER_PORTAL).map(|_| client()).collect();
            portals.push(Hands { id: config.id.clone(), key: key.clone(), clients, clock, tenants });
        }
        let registry = nodes[0].admin.export().await.unwrap();
        let history = History::new(&folder.join("history.jsonl"));
        Self { nodes, agents, directories, portals, front, redis, history, registry }
    }

    /// What an operator does when the store has come back empty, as soon as a node lets him.
    pub(crate) async fn restore_registry(&self) {
        deadline("the registry is restored", async {
            loop {
                for node in &self.nodes {
                    if node.admin.import(&self.registry).await.is_ok() {
                        return;
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
    }

    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        let nodes = self.nodes.iter().map(|node| &node.process);
        let agents = self.agents.iter().map(|agent| &agent.process);
        nodes.chain(agents).chain(self.directories.iter().map(|directory| &directory.process))
    }

    /// Starts again, as a service manager does, what has ended by itself; for ever.
    pub(crate) async fn supervise(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            for process in self.processes() {
                let Some(status) = process.ended() else { continue };
                let for_good = status.code() == Some(STOPPED_FOR_GOOD.into()) || status.code() == Some(101);
                let (at, name, status) = (self.history.now(), process.name.clone(), status.to_string());
                self.history.record(&Event::Ended { at, process: name, status, for_good });
                process.start();
            }
        }
    }
}

async fn node(folder: &Path, number: usize, host: std::net::IpAddr, url: &str, redis: &Redis, seed: u64) -> Node {
    let name = format!("node-{number}");
    let server = redis.config().urls[0].trim_start_matches("redis://").parse().unwrap();
    let way = SocketAddr::from((own_address(), REDIS_PORT));
    let proxy = Proxy::start(way, Entry::Direct, vec![server], seed).await;
    let key = folder.join("cluster.key");
    PrivateFile::new(&key).replace("one key that all nodes of this cluster share").unwrap();
    let (config, data) = (folder.join(format!("{name}.toml")), folder.join("data"));
    let text = format!(
        "public_url = \"{url}\"\nlisten = \"{host}:8443\"\nops_listen = \"{host}:9443\"\nnode_name = \"{name}\"\n\
         data_dir = {data:?}\nstore = \"redis\"\n[session]\nheartbeat_seconds = 2\nmax_age_seconds = 20\n\
         [limits]\ntenant_commands_per_second = 10000\ntenant_sessions = 10000\n[drain]\ntimeout_seconds = 5\n\
         [redis]\nurls = [\"redis://{way}\"]\ncluster_key_file = {key:?}\n"
    );
    std::fs::write(&config, text).unwrap();
    let process = Process::new(&name, Role::Node { config }, None, folder.join(format!("{name}.log")));
    process.start();
    let (http, ready) = (operator_client().unwrap(), format!("http://{host}:9443/readyz"));
    eventually("the node is ready", async || {
        http.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success())
    })
    .await;
    let admin = AdminClient::new(&format!("http://{host}:9443"), &data.join("admin.token")).unwrap();
    Node { process, redis: proxy, admin }
}

fn directory(folder: &Path, tenant: &TenantId, seed: u64) -> (Directory, SocketAddr) {
    let (host, name) = (own_address(), format!("directory-{tenant}"));
    let log = folder.join(format!("{name}.jsonl"));
    let tenant_name = tenant.to_string();
    let role = Role::Directory { address: host, log, accounts: ACCOUNTS, tenant: tenant_name, seed };
    let process = Process::new(&name, role, None, folder.join(format!("{name}.log")));
    process.start();
    (Directory { process }, address(host))
}

/// Enrolled by its code, approved, and started.
async fn agent(
    home: &Path,
    portal: &Portal,
    tenant: &TenantId,
    ca: &Path,
    directory: SocketAddr,
    nodes: Vec<SocketAddr>,
    seed: u64,
) -> Agent {
    let code = portal.invite(tenant, true).await.unwrap();
    let enrolled = enroll(&AgentHome::new(home), &code, Some(ca), System::clock(), System::random()).await.unwrap();
    let known = portal.agents(tenant).await.unwrap().into_iter().find(|known| known.agent == enrolled.agent).unwrap();
    let keys = known.standing.unwrap().keys().unwrap().clone();
    let way = SocketAddr::from((own_address(), 3128));
    let link = Proxy::start(way, Entry::Connect, nodes, seed).await;
    let role = Role::Agent { home: home.to_owned(), ca: ca.to_owned(), directory };
    let name = home.file_name().unwrap().to_str().unwrap();
    let log = home.with_extension("log");
    let process = Process::new(name, role, Some(format!("http://{way}")), log);
    process.start();
    Agent { process, link, id: enrolled.agent, keys, tenant: tenant.clone() }
}
