//! The wire between one node and its Redis: it can be slow, or lose what one side says until it is mended, as TCP does
//! over a network that drops packets one way.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// What happens to what is said on it. What is held back arrives when it passes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Redis' words take so long.
    Slow(Duration),
    /// Redis' words are held back.
    Deaf,
    /// The node's words are held back.
    Mute,
    /// Redis' words are held back on subscriptions alone.
    DeafSubscriptions,
}

/// A way to one Redis server; gone when dropped.
pub(crate) struct Wire {
    address: SocketAddr,
    redis: watch::Sender<SocketAddr>,
    fault: watch::Sender<Fault>,
    task: AbortHandle,
}

impl Wire {
    pub(crate) async fn start(redis: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ((redis, to), (fault, faults)) = (watch::channel(redis), watch::channel(Fault::None));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((node, _)) = listener.accept().await {
                connections.spawn(carry(node, *to.borrow(), faults.clone()));
            }
        });
        Self { address, redis, fault, task: task.abort_handle() }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections there; those that are open stay where they are.
    pub(crate) fn lead_to(&self, redis: SocketAddr) {
        self.redis.send_replace(redis);
    }

    /// From now on.
    pub(crate) fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(node: TcpStream, redis: SocketAddr, fault: watch::Receiver<Fault>) {
    let Ok(redis) = TcpStream::connect(redis).await else { return };
    let ((from_node, to_node), (from_redis, to_redis)) = (node.into_split(), redis.into_split());
    let subscribed = Arc::new(AtomicBool::new(false));
    tokio::select! {
        () = node_words(from_node, to_redis, fault.clone(), &subscribed) => {}
        () = redis_words(from_redis, to_node, fault, &subscribed) => {}
    }
}

async fn node_words(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut fault: watch::Receiver<Fault>,
    subscribed: &AtomicBool,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if buffer[..length].windows(10).any(|word| word == b"SSUBSCRIBE") {
            subscribed.store(true, Ordering::SeqCst);
        }
        if fault.wait_for(|fault| *fault != Fault::Mute).await.is_err()
            || to.write_all(&buffer[..length]).await.is_err()
        {
            return;
        }
    }
}

async fn redis_words(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut fault: watch::Receiver<Fault>,
    subscribed: &AtomicBool,
) {
    let (mut buffer, mut waiting) = (vec![0; 64 * 1024], VecDeque::<(Instant, Vec<u8>)>::new());
    loop {
        let now = *fault.borrow_and_update();
        let held = now == Fault::Deaf || (now == Fault::DeafSubscriptions && subscribed.load(Ordering::SeqCst));
        let due = waiting.front().filter(|_| !held).map(|(due, _)| *due);
        tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(length @ 1..) => {
                    let delay = if let Fault::Slow(delay) = now { delay } else { Duration::ZERO };
                    waiting.push_back((Instant::now() + delay, buffer[..length].to_vec()));
                }
                _ => return,
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let Some((_, words)) = waiting.pop_front() else { continue };
                if to.write_all(&words).await.is_err() {
                    return;
                }
            }
            changed = fault.changed() => if changed.is_err() { return },
        }
    }
}
