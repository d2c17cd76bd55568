//! TCP to a host that may have several addresses: each is tried, of both families, and the first that answers is taken.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::names::{NameError, Names};
use super::race::{Lost, Raced, race};
use crate::host;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum TcpError {
    /// The name says nothing.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No address answered.
    #[error("{host}: no connection ({tried})")]
    NoAnswer {
        /// The host.
        host: String,
        /// Each address, and what came of it.
        tried: Tried,
    },
}

/// Addresses that were tried in vain, in the order in which they failed.
#[derive(Debug, Default)]
pub struct Tried(Vec<(SocketAddr, io::Error)>);

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (address, error)) in self.0.iter().enumerate() {
            write!(f, "{}{address}: {error}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// Longer than whoever calls [`connect`] waits.
const NO_DEADLINE: Duration = Duration::from_secs(3600);

impl From<Vec<(SocketAddr, io::Error)>> for Tried {
    fn from(tried: Vec<(SocketAddr, io::Error)>) -> Self {
        Self(tried)
    }
}

/// Connects to one address.
///
/// # Errors
/// If it does not take the connection. There is no deadline here: whoever calls has one.
pub async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Small messages that somebody waits for, on connections that are idle for long. What the operating system refuses
    // here only makes a dead peer be noticed later.
    let _ = stream.set_nodelay(true);
    let _ = host::notice_dead_peers(&stream);
    Ok(stream)
}

/// Connects, by TCP alone: whoever needs more than that to know that the host serves races the whole of it. There is no
/// deadline here: whoever calls has one.
///
/// # Errors
/// If the name has no address, or none of them takes the connection.
pub async fn connect(names: &Names, host: &str, port: u16) -> Result<TcpStream, TcpError> {
    let addresses = names.addresses(host, port).await?;
    first(alternating(addresses)).await.map_err(|tried| TcpError::NoAnswer { host: host.to_owned(), tried })
}

/// In the resolver's order (RFC 6724), one family after the other in turn (RFC 8305 §4): a broken IPv6 costs one delay.
#[must_use]
pub fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut these, mut others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let mut ordered = Vec::with_capacity(these.len() + others.len());
    let (mut these, mut others) = (these.drain(..), others.drain(..));
    loop {
        let pair = [these.next(), others.next()];
        if pair == [None, None] {
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

async fn first(addresses: Vec<SocketAddr>) -> Result<TcpStream, Tried> {
    let Raced { won, lost } = race(addresses, NO_DEADLINE, |address, _| open(address)).await;
    let failed = |lost| match lost {
        Lost::Failed(error) => error,
        Lost::Silent(_) => io::ErrorKind::TimedOut.into(),
    };
    let tried = || lost.into_iter().map(|(address, lost)| (address, failed(lost))).collect::<Vec<_>>().into();
    won.map(|(_, stream)| stream).ok_or_else(tried)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn families_take_turns() {
        let addresses = ["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1"].map(|text| text.parse().unwrap());
        let expected = ["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1"].map(|text| text.parse().unwrap());
        assert_eq!(alternating(addresses.to_vec()), expected);
        assert!(alternating(Vec::new()).is_empty());
    }

    #[tokio::test]
    async fn every_address_is_tried_and_a_silent_one_delays_the_next_only_a_moment() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let refusing = {
            let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            gone.local_addr().unwrap()
        };
        // A listener whose queue is full answers nothing at all.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = socket.listen(1).unwrap();
        let silent = full.local_addr().unwrap();
        let mut queue = Vec::new();
        while let Ok(waiting) = std::net::TcpStream::connect_timeout(&silent, Duration::from_millis(50)) {
            queue.push(waiting);
        }
        let stream = tokio::time::timeout(Duration::from_secs(10), first(vec![refusing, silent, good]));
        assert_eq!(stream.await.unwrap().unwrap().peer_addr().unwrap(), good);
    }

    #[tokio::test]
    async fn without_any_answer_each_address_is_named() {
        let gone = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let addresses: Vec<_> = (0..2).map(gone).collect();
        let tried = first(addresses.clone()).await.unwrap_err().to_string();
        assert!(addresses.iter().all(|address| tried.contains(&address.to_string())), "{tried}");
        assert!(first(Vec::new()).await.is_err());
    }
}
