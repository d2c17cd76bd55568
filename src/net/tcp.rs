//! TCP to one address of a host, and in which order those that it has are tried.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::names::NameError;
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

impl Tried {
    pub(super) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let addresses = ["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1"].map(|text| text.parse().unwrap());
        let expected = ["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1"].map(|text| text.parse().unwrap());
        assert_eq!(alternating(addresses.to_vec()), expected);
        assert!(alternating(Vec::new()).is_empty());
    }
}
