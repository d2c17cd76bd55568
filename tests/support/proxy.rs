//! A TCP proxy between the code under test and a server, which can hold answers back, or cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);

/// What happens to the bytes of a connection. A request is what the client writes before it waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They pass.
    Pass,
    /// So many requests from now on are answered; later ones reach the server, and the answers are held back for ever.
    HoldAfter(usize),
    /// So many requests from now on are answered; later ones never reach the server.
    StopAfter(usize),
    /// So many requests from now on are answered; the next reaches the server, and the connection is cut at the answer.
    CutAfter(usize),
    /// On the connections that are open now answers are held back for ever; on new ones they pass.
    HoldOpen,
    /// All connections are cut, and new ones too.
    Cut,
}

/// The proxy; it stops when dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    open: watch::Receiver<usize>,
    accepted: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Proxy {
    /// In front of `server` (`host:port`).
    pub(crate) async fn start(server: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, _) = watch::channel(Mode::Pass);
        let (open, open_now) = watch::channel(0);
        let open = Arc::new(open);
        let accepted = Arc::new(AtomicUsize::new(0));
        let (modes, count) = (mode.clone(), Arc::clone(&accepted));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let (server, mode, open) = (server.clone(), modes.subscribe(), Arc::clone(&open));
                connections.spawn(async move {
                    open.send_modify(|open| *open += 1);
                    let _ = carry(client, &server, mode).await;
                    open.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { address, mode, open: open_now, accepted, task: task.abort_handle() }
    }

    /// Where it listens, at 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many connections there have been.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Waits until no connection is open any more.
    pub(crate) async fn all_closed(&self) {
        let mut open = self.open.clone();
        timeout(DEADLINE, open.wait_for(|open| *open == 0)).await.expect("connections stay open").unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, server: &str, mode: watch::Receiver<Mode>) -> std::io::Result<()> {
    if *mode.borrow() == Mode::Cut {
        return Ok(());
    }
    let server = TcpStream::connect(server).await?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (fate, fate_now) = watch::channel(Fate::Pass);
    let mut cut = mode.clone();
    tokio::select! {
        ended = requests(from_client, to_server, mode, fate) => ended,
        ended = answers(from_server, to_client, fate_now) => ended,
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => Ok(()),
    }
}

/// What becomes of answers.
#[derive(Clone, Copy)]
enum Fate {
    Pass,
    Hold,
    Cut,
}

async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    fate: watch::Sender<Fate>,
) -> std::io::Result<()> {
    let (mut buffer, mut since_set, mut set_while_open) = ([0; 16 * 1024], 0, false);
    loop {
        let length = client.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let set = mode.has_changed().unwrap_or(false);
        since_set = if set { 1 } else { since_set + 1 };
        set_while_open |= set;
        match *mode.borrow_and_update() {
            Mode::StopAfter(answered) if since_set > answered => continue,
            Mode::HoldAfter(answered) if since_set > answered => fate.send_replace(Fate::Hold),
            Mode::HoldOpen if set_while_open => fate.send_replace(Fate::Hold),
            Mode::CutAfter(answered) if since_set > answered => fate.send_replace(Fate::Cut),
            _ => fate.send_replace(Fate::Pass),
        };
        server.write_all(&buffer[..length]).await?;
    }
}

async fn answers(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    fate: watch::Receiver<Fate>,
) -> std::io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = server.read(&mut buffer).await?;
        let now = *fate.borrow();
        match now {
            _ if length == 0 => return Ok(()),
            Fate::Pass => client.write_all(&buffer[..length]).await?,
            Fate::Hold => {}
            Fate::Cut => return Ok(()),
        }
    }
}
