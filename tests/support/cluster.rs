//! Several relay nodes on one Redis, behind a load balancer: it does as the test says, or as load balancers do.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use writeback_relay::storage::PrivateFile;

use super::redis::Redis;
use super::relay::{Relay, TENANT};
use super::wire::Wire;
use super::{https_client, own_address};

/// What nodes of one cluster share.
pub(crate) const KEY: &str = "one-key-that-all-nodes-of-this-cluster-share";

/// How often a load balancer looks which nodes are ready.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A node, behind the load balancer.
#[derive(Clone)]
struct Upstream {
    address: SocketAddr,
    ready_url: String,
    ready: bool,
}

/// Where a new connection goes. Those that exist stay where they are.
struct Choice {
    upstreams: Vec<Upstream>,
    next: usize,
}

impl Choice {
    /// The next one that was ready when it was last looked at.
    fn next(&mut self) -> Option<SocketAddr> {
        let (count, from) = (self.upstreams.len(), self.next);
        let found = (0..count).map(|n| (from + n) % count).find(|at| self.upstreams[*at].ready)?;
        self.next = found + 1;
        Some(self.upstreams[found].address)
    }
}

/// A load balancer.
struct Front {
    address: Ipv4Addr,
    choice: Arc<Mutex<Choice>>,
    _running: JoinSet<()>,
}

impl Front {
    async fn start() -> Self {
        let address = own_address();
        let listener = TcpListener::bind((address, 8443)).await.unwrap();
        let choice = Arc::new(Mutex::new(Choice { upstreams: Vec::new(), next: 0 }));
        let mut running = JoinSet::new();
        running.spawn(forward(listener, Arc::clone(&choice)));
        running.spawn(look(Arc::clone(&choice)));
        Self { address, choice, _running: running }
    }
}

async fn forward(listener: TcpListener, choice: Arc<Mutex<Choice>>) {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let Some(target) = choice.lock().unwrap().next() else { continue };
        tokio::spawn(async move {
            let Ok(mut node) = TcpStream::connect(target).await else { return };
            client.set_nodelay(true).unwrap();
            node.set_nodelay(true).unwrap();
            let _ = copy_bidirectional(&mut client, &mut node).await;
        });
    }
}

/// Asks the nodes whether they are ready, if there is more than one to choose from.
async fn look(choice: Arc<Mutex<Choice>>) {
    let http = https_client(None).unwrap();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let upstreams = choice.lock().unwrap().upstreams.clone();
        for upstream in upstreams.iter().filter(|_| upstreams.len() > 1) {
            let answer = http.get(&upstream.ready_url).timeout(LOOK_EVERY * 5).send().await;
            let ready = answer.is_ok_and(|answer| answer.status().is_success());
            let mut choice = choice.lock().unwrap();
            if let Some(known) = choice.upstreams.iter_mut().find(|known| known.address == upstream.address) {
                known.ready = ready;
            }
        }
    }
}

/// For tests whose agents send no heartbeats.
const PATIENT: &str = "[session]\nheartbeat_seconds = 60\n";

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Relay>,
    pub(crate) redis: Arc<Redis>,
    front: Front,
    settings: String,
    folder: TempDir,
}

impl Cluster {
    /// So many nodes, with one tenant. Their agents may be silent for longer than any test waits.
    pub(crate) async fn start(nodes: usize, redis: Redis) -> Self {
        Self::start_with(nodes, redis, PATIENT).await
    }

    /// So many nodes, with one tenant and these lines in every node's configuration.
    pub(crate) async fn start_with(nodes: usize, redis: Redis, settings: &str) -> Self {
        let mut cluster = Self::empty(redis, settings).await;
        for _ in 0..nodes {
            cluster.add().await;
        }
        cluster.begin().await;
        cluster
    }

    /// One node of each of these builds of the program, with one tenant.
    pub(crate) async fn start_of(programs: &[&'static str], redis: Redis) -> Self {
        let mut cluster = Self::empty(redis, "").await;
        for program in programs {
            let settings = cluster.settings(&cluster.redis.settings(&cluster.key_file(KEY)));
            cluster.nodes.push(Relay::node_of(program, cluster.front.address, cluster.data(), &settings).await);
        }
        cluster.begin().await;
        cluster
    }

    /// Two nodes, with one tenant, each with a way of its own to the one Redis server.
    pub(crate) async fn start_apart(redis: Redis) -> (Self, [Wire; 2]) {
        let wires = [Wire::start(redis.addr(6379)).await, Wire::start(redis.addr(6379)).await];
        let mut cluster = Self::empty(redis, PATIENT).await;
        for wire in &wires {
            cluster.add_through(wire).await;
        }
        cluster.begin().await;
        (cluster, wires)
    }

    /// Three nodes, with one tenant, each with a way of its own to the one Redis server.
    pub(crate) async fn start_three_apart(redis: Redis) -> (Self, Vec<Wire>) {
        let (mut wires, address) = (Vec::new(), redis.addr(6379));
        let mut cluster = Self::empty(redis, "").await;
        for _ in 0..3 {
            let wire = Wire::start(address).await;
            cluster.add_through(&wire).await;
            wires.push(wire);
        }
        cluster.begin().await;
        (cluster, wires)
    }

    async fn empty(redis: Redis, settings: &str) -> Self {
        Self {
            nodes: Vec::new(),
            redis: Arc::new(redis),
            front: Front::start().await,
            settings: settings.to_owned(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    async fn begin(&self) {
        self.choose(0);
        self.nodes[0].admin().add_tenant(TENANT.parse().unwrap()).await.unwrap();
    }

    /// One more node.
    pub(crate) async fn add(&mut self) {
        self.add_with_key(KEY).await;
    }

    /// One more node, with this cluster key.
    pub(crate) async fn add_with_key(&mut self, key: &str) {
        let file = self.key_file(key);
        let redis = self.redis.settings(&file);
        self.add_with(&redis).await;
    }

    /// One more node, which has a way of its own to the one Redis server.
    pub(crate) async fn add_through(&mut self, wire: &Wire) {
        let file = self.key_file(KEY);
        let redis = self.redis.settings_through(vec![format!("redis://{}", wire.addr())], &file);
        self.add_with(&redis).await;
    }

    /// One more node, with a folder of its own: it knows nothing of what the others have seen.
    pub(crate) async fn add_in(&mut self, data: PathBuf) {
        let settings = self.settings(&self.redis.settings(&self.key_file(KEY)));
        self.nodes.push(Relay::node(self.front.address, data, &settings).await);
    }

    async fn add_with(&mut self, redis: &str) {
        self.nodes.push(Relay::node(self.front.address, self.data(), &self.settings(redis)).await);
    }

    /// What one more node, with this cluster key, logs before it refuses to start.
    pub(crate) async fn refuses_with_key(&self, key: &str) -> String {
        let settings = self.settings(&self.redis.settings(&self.key_file(key)));
        Relay::refusing_node(self.front.address, self.data(), &settings).await
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn key_file(&self, key: &str) -> PathBuf {
        let file = self.folder.path().join(format!("cluster-{}.key", self.nodes.len()));
        PrivateFile::new(&file).replace(key).unwrap();
        file
    }

    fn settings(&self, redis: &str) -> String {
        format!("store = \"redis\"\n{redis}\n{}", self.settings)
    }

    /// New connections go to this node.
    pub(crate) fn choose(&self, node: usize) {
        self.forward_to(&self.nodes[node..=node]);
    }

    /// New connections go to the nodes in turn, to those that are ready.
    pub(crate) fn spread(&self) {
        self.forward_to(&self.nodes);
    }

    fn forward_to(&self, nodes: &[Relay]) {
        let upstream = |node: &Relay| Upstream {
            address: node.own_addr(),
            ready_url: format!("{}/readyz", node.ops_url()),
            ready: true,
        };
        *self.front.choice.lock().unwrap() = Choice { upstreams: nodes.iter().map(upstream).collect(), next: 0 };
    }

    /// How many sessions each node has.
    pub(crate) async fn sessions(&self) -> Vec<usize> {
        let mut counts = Vec::new();
        for node in &self.nodes {
            counts.push(node.admin().sessions().await.unwrap().len());
        }
        counts
    }
}
