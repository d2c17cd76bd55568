//! Everything that one measurement needs, running: servers, agents, and connections of portals.

mod servers;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tempfile::TempDir;

use super::Fallible;
use super::agents::{Opened, Orders};
use super::callers::Caller;
use super::population::Population;
use super::process::Process;
use super::subject::Subject;
use super::wire::Dialer;
use crate::host;
use crate::storage::make_temporary_folder;

/// Enough hands to open connections quickly, few enough not to be a storm.
const GENTLY: usize = 32;
/// From the end of a process' connections to its own.
const DYING: Duration = Duration::from_millis(500);
/// Files that a process needs beside its connections.
pub(super) const SPARE_FILES: usize = 200;

/// What is put on a stage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    pub(super) subject: Subject,
    pub(super) agents: usize,
    pub(super) portals: usize,
    /// Relay nodes on one Redis; none is one node with its embedded store.
    pub(super) redis_nodes: usize,
    /// On a file system in memory, where a commit waits for no disk.
    pub(super) in_memory: bool,
}

/// A scene that runs.
pub(super) struct Stage {
    pub(super) scene: Scene,
    pub(super) everybody: Arc<Population>,
    /// Agents, and after them what they hang on: killed in this order.
    agents: Vec<Process>,
    servers: Vec<Process>,
    addresses: Vec<SocketAddr>,
    folder: TempDir,
}

impl Stage {
    /// Starts the servers; nobody is connected.
    pub(super) async fn new(scene: Scene) -> Fallible<Self> {
        let prefix = "writeback-bench-";
        let folder =
            if scene.in_memory { TempDir::with_prefix_in(prefix, "/dev/shm")? } else { make_temporary_folder(prefix)? };
        let everybody = Arc::new(Population::new(scene.agents, scene.portals)?);
        let (servers, addresses) = servers::start(scene, &everybody, folder.path()).await?;
        Ok(Self { scene, everybody, agents: Vec::new(), servers, addresses, folder })
    }

    /// All agents connect, a few at a time; how long that took.
    pub(super) async fn agents(&mut self) -> Fallible<Opened> {
        self.connect(0..self.scene.agents, GENTLY, false).await
    }

    /// These agents connect: so many at the same time, and with `bare` no further than TLS.
    pub(super) async fn connect(
        &mut self,
        which: std::ops::Range<usize>,
        at_once: usize,
        bare: bool,
    ) -> Fallible<Opened> {
        let seats = self.everybody.seats.get(which).ok_or("so many agents there are not")?;
        let (room, nodes) = (host::max_open_files().saturating_sub(SPARE_FILES), self.addresses.len());
        let mut begun = Vec::new();
        for (node, server) in self.addresses.iter().enumerate() {
            let its: Vec<_> = seats.iter().filter(|seat| seat.number % nodes == node).cloned().collect();
            for seats in its.chunks(room) {
                let (subject, ca) = (self.scene.subject, self.ca());
                let orders = Orders { subject, server: *server, ca, seats: seats.to_vec(), at_once, bare };
                let name = format!("agents-{}", self.agents.len() + begun.len());
                let file = self.folder.path().join(format!("{name}.json"));
                std::fs::write(&file, serde_json::to_string(&orders)?)?;
                let mut command = Command::new(std::env::current_exe()?);
                let process = Process::start(&name, command.arg("agents").arg(file), self.folder.path())?;
                begun.push((self.folder.path().join(format!("{name}.log")), process));
            }
        }
        let mut all = Opened { seconds: 0.0, refused: 0 };
        for (log, process) in begun {
            let opened = opened(&process).await;
            let log = || std::fs::read_to_string(log).unwrap_or_default();
            let opened = opened.map_err(|e| format!("agents could not connect: {e} {}", log()).into());
            let opened = self.explained(opened).await?;
            all = Opened { seconds: all.seconds.max(opened.seconds), refused: all.refused + opened.refused };
            self.agents.push(process);
        }
        Ok(all)
    }

    /// Connections of portals, to all nodes in turn.
    pub(super) async fn callers(&self, count: usize) -> Fallible<Vec<Caller>> {
        let dialers = self.addresses.iter().map(|server| Dialer::new(*server, &self.ca()));
        let dialers = dialers.collect::<Fallible<Vec<_>>>()?;
        let opening = dialers
            .iter()
            .cycle()
            .zip(self.scene.agents..)
            .take(count)
            .map(|(dialer, number)| Caller::open(self.scene.subject, dialer, number, &self.everybody));
        self.explained(stream::iter(opening).buffered(GENTLY).try_collect().await).await
    }

    /// CPU time of all servers.
    pub(super) fn cpu(&self) -> Fallible<Duration> {
        self.servers.iter().map(Process::cpu).sum()
    }

    /// Resident memory of the largest server, in MiB.
    pub(super) fn largest(&self) -> Fallible<f64> {
        let kib = self.servers.iter().map(Process::resident).collect::<Fallible<Vec<_>>>()?.into_iter().max();
        #[expect(clippy::cast_precision_loss, reason = "a size")]
        Ok(kib.ok_or("no server")? as f64 / 1024.0)
    }

    /// Why a measurement failed: if a process has died, that is why.
    pub(super) async fn explained<T>(&self, measured: Fallible<T>) -> Fallible<T> {
        let error = match measured {
            Ok(measured) => return Ok(measured),
            Err(error) => error,
        };
        let died = async {
            loop {
                match self.servers.iter().chain(&self.agents).find_map(Process::ended) {
                    Some(died) => return died,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        // A process that is killed hangs up first, and has ended a moment later.
        Err(tokio::time::timeout(DYING, died).await.map_or(error, Into::into))
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("dev-ca.pem")
    }
}

/// Waits for the line in which a process of agents says that all are connected.
async fn opened(process: &Process) -> Fallible<Opened> {
    let stdout = process.stdout().ok_or("no output")?;
    let line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map(|_| line)
    });
    let line = line.await??;
    Ok(serde_json::from_str(&line).map_err(|_| "their process has ended")?)
}
