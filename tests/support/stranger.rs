//! A host that takes connections and is not what is looked for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It is taken, and that is all.
    Silent,
    /// It is closed at once.
    Closes,
    /// It is answered in HTTP.
    Http,
}

/// It stops when dropped.
pub(crate) struct Stranger {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Stranger {
    /// At this address, of the loopback network.
    pub(crate) async fn at(address: SocketAddr, manner: Manner) -> Self {
        let tcp = TcpListener::bind(address).await.unwrap();
        let (address, accepted) = (tcp.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Ok((mut connection, _)) = tcp.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                match manner {
                    Manner::Silent => taken.push(connection),
                    Manner::Closes => drop(connection),
                    Manner::Http => {
                        let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
                        taken.push(connection);
                    }
                }
            }
        });
        Self { address, accepted, task: task.abort_handle() }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections there have been.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.task.abort();
    }
}
