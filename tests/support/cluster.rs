//! Several relay nodes on one Redis, behind a load balancer whose choice the test makes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use writeback_relay::storage::PrivateFile;

use super::own_address;
use super::redis::Redis;
use super::relay::{Relay, TENANT};

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
                    client.set_nodelay(true).unwrap();
                    node.set_nodelay(true).unwrap();
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
}

impl Cluster {
    /// So many nodes, with one tenant.
    pub(crate) async fn start(nodes: usize, redis: Redis) -> Self {
        let mut cluster = Self {
            nodes: Vec::new(),
            redis: Arc::new(redis),
            front: Front::start().await,
            folder: tempfile::tempdir().unwrap(),
        };
        for _ in 0..nodes {
            cluster.add().await;
        }
        cluster.choose(0);
        cluster.nodes[0].admin().add_tenant(TENANT.parse().unwrap()).await.unwrap();
        cluster
    }

    /// One more node.
    pub(crate) async fn add(&mut self) {
        self.add_with_key("one-key-that-all-nodes-of-this-cluster-share").await;
    }

    /// One more node, with this cluster key.
    pub(crate) async fn add_with_key(&mut self, key: &str) {
        let settings = self.settings(key);
        self.nodes.push(Relay::node(self.front.address, self.data(), &settings).await);
    }

    /// What one more node, with this cluster key, logs before it refuses to start.
    pub(crate) async fn refuses_with_key(&self, key: &str) -> String {
        Relay::refusing_node(self.front.address, self.data(), &self.settings(key)).await
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    fn settings(&self, key: &str) -> String {
        let file = self.folder.path().join(format!("cluster-{}.key", self.nodes.len()));
        PrivateFile::new(&file).replace(key).unwrap();
        format!("store = \"redis\"\n{}", self.redis.settings(&file))
    }

    /// New connections go to this node.
    pub(crate) fn choose(&self, node: usize) {
        *self.front.to.lock().unwrap() = self.nodes[node].own_addr();
    }
}
