//! Several relay nodes on one Redis, behind a load balancer whose choice the test makes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use writeback_relay::storage::PrivateFile;

use super::own_address;
use super::redis::Redis;
use super::relay::{Relay, TENANT};
use super::wire::Wire;

/// What nodes of one cluster share.
pub(crate) const KEY: &str = "one-key-that-all-nodes-of-this-cluster-share";

/// A load balancer that sends each new connection where the test says.
struct Front {
    address: Ipv4Addr,
    to: Arc<Mutex<SocketAddr>>,
    forwarding: JoinHandle<()>,
}

impl Front {
    async fn start() -> Self {
        let address = own_address();
        let listener = TcpListener::bind((address, 8443)).await.unwrap();
        let to = Arc::new(Mutex::new(SocketAddr::from(([127, 0, 0, 1], 1))));
        let target = Arc::clone(&to);
        let forwarding = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let target = *target.lock().unwrap();
                tokio::spawn(async move {
                    let Ok(mut node) = TcpStream::connect(target).await else { return };
                    let _ = copy_bidirectional(&mut client, &mut node).await;
                });
            }
        });
        Self { address, to, forwarding }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Relay>,
    pub(crate) redis: Arc<Redis>,
    front: Front,
    folder: TempDir,
    settings: String,
}

impl Cluster {
    /// So many nodes, with one tenant.
    pub(crate) async fn start(nodes: usize, redis: Redis) -> Self {
        Self::start_with(nodes, redis, "").await
    }

    /// The same, with more lines in every node's configuration.
    pub(crate) async fn start_with(nodes: usize, redis: Redis, settings: &str) -> Self {
        let mut cluster = Self::empty(redis, settings).await;
        for _ in 0..nodes {
            cluster.add().await;
        }
        cluster.begin().await;
        cluster
    }

    /// Two nodes, with one tenant, each with a way of its own to the one Redis server.
    pub(crate) async fn start_apart(redis: Redis) -> (Self, [Wire; 2]) {
        let wires = [Wire::start(redis.addr(6379)).await, Wire::start(redis.addr(6379)).await];
        let mut cluster = Self::empty(redis, "").await;
        for wire in &wires {
            cluster.add_through(wire).await;
        }
        cluster.begin().await;
        (cluster, wires)
    }

    async fn empty(redis: Redis, settings: &str) -> Self {
        Self {
            nodes: Vec::new(),
            redis: Arc::new(redis),
            front: Front::start().await,
            folder: tempfile::tempdir().unwrap(),
            settings: settings.to_owned(),
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
        self.add_with(&self.redis.settings(&file)).await;
    }

    /// One more node, which has a way of its own to the one Redis server.
    pub(crate) async fn add_through(&mut self, wire: &Wire) {
        let file = self.key_file(KEY);
        self.add_with(&self.redis.settings_through(vec![format!("redis://{}", wire.addr())], &file)).await;
    }

    fn key_file(&self, key: &str) -> PathBuf {
        let file = self.folder.path().join(format!("cluster-{}.key", self.nodes.len()));
        PrivateFile::new(&file).replace(key).unwrap();
        file
    }

    async fn add_with(&mut self, redis: &str) {
        let settings = format!("store = \"redis\"\n{}{redis}", self.settings);
        self.nodes.push(Relay::node(self.front.address, self.folder.path().join("data"), &settings).await);
    }

    /// New connections go to this node.
    pub(crate) fn choose(&self, node: usize) {
        *self.front.to.lock().unwrap() = self.nodes[node].own_addr();
    }
}
