//! A TCP proxy that breaks what goes through it: cut, delayed, held back in one direction or both, or half open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::dice::Dice;

/// A server that takes no connection for so long is passed over.
const CONNECT: Duration = Duration::from_secs(1);

/// What happens to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// Connections are cut, and new ones too.
    Cut,
    /// Bytes wait, towards the server, towards the client, or both, until that is over.
    Hold {
        up: bool,
        down: bool,
    },
    /// Bytes take so much longer.
    Delay(Duration),
}

#[derive(Clone, Copy, Debug)]
struct State {
    mode: Mode,
    /// On connections with a smaller number nothing ever passes again.
    stalled: u64,
    /// Connections with a smaller number are cut.
    cut: u64,
    /// The number of the next connection.
    next: u64,
}

/// How a client finds its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It connects to the proxy as if that were the server.
    Direct,
    /// It says HTTP CONNECT first.
    Connect,
}

/// A proxy in front of some servers: each connection goes to one that takes it. Clones share it.
#[derive(Clone)]
pub(crate) struct Proxy {
    state: Arc<watch::Sender<State>>,
}

impl Proxy {
    pub(crate) async fn start(address: SocketAddr, entry: Entry, servers: Vec<SocketAddr>, seed: u64) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let state = Arc::new(watch::Sender::new(State { mode: Mode::Pass, stalled: 0, cut: 0, next: 0 }));
        let proxy = Self { state: Arc::clone(&state) };
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let mut number = 0;
                state.send_modify(|state| {
                    number = state.next;
                    state.next += 1;
                });
                let mut order = servers.clone();
                let mut dice = Dice::of(seed, "server", number);
                for at in (1..order.len()).rev() {
                    order.swap(at, dice.index(at + 1));
                }
                let state = state.subscribe();
                tokio::spawn(async move { carry(client, entry, order, number, state).await });
            }
        });
        proxy
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.state.send_modify(|state| {
            state.mode = mode;
            if mode == Mode::Cut {
                state.cut = state.next;
            }
        });
    }

    /// Nothing passes on the connections that are open now, and neither end is told. [`Self::close_stalled`] ends that.
    pub(crate) fn stall_open(&self) {
        self.state.send_modify(|state| state.stalled = state.next);
    }

    pub(crate) fn close_stalled(&self) {
        self.state.send_modify(|state| state.cut = state.cut.max(state.stalled));
    }
}

async fn carry(
    mut client: TcpStream,
    entry: Entry,
    servers: Vec<SocketAddr>,
    number: u64,
    mut state: watch::Receiver<State>,
) -> Option<()> {
    if state.borrow().mode == Mode::Cut {
        return None;
    }
    if entry == Entry::Connect {
        timeout(CONNECT, connect_request(&mut client)).await.ok()??;
    }
    let mut found = None;
    for server in servers {
        if let Ok(Ok(server)) = timeout(CONNECT, TcpStream::connect(server)).await {
            found = Some(server);
            break;
        }
    }
    let server = found?;
    client.set_nodelay(true).ok()?;
    server.set_nodelay(true).ok()?;
    if entry == Entry::Connect {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (up, down) = (state.clone(), state.clone());
    let both = async {
        tokio::join!(pump(from_client, to_server, number, up, true), pump(from_server, to_client, number, down, false))
    };
    tokio::select! {
        _ = both => {}
        _ = state.wait_for(|state| number < state.cut) => {}
    }
    Some(())
}

/// Reads up to the empty line, and not further.
async fn connect_request(client: &mut TcpStream) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(client.read_u8().await.ok()?);
    }
    request.starts_with(b"CONNECT ").then_some(())
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: u64,
    mut state: watch::Receiver<State>,
    upwards: bool,
) -> Option<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await.ok()?;
        let held = |state: &State| match state.mode {
            Mode::Hold { up, down } => {
                if upwards {
                    up
                } else {
                    down
                }
            }
            _ => false,
        };
        let passes = |state: &State| number >= state.stalled && !held(state);
        let mode = state.wait_for(passes).await.ok()?.mode;
        if let Mode::Delay(delay) = mode {
            sleep(delay).await;
        }
        if length == 0 {
            return to.shutdown().await.ok();
        }
        to.write_all(&buffer[..length]).await.ok()?;
    }
}
