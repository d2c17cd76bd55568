//! Who a client is, behind load balancers and proxies that say so.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use ppp::v2::{Addresses, Command, Header};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::super::config::{AddressSource, ClientAddressConfig};

/// How long a proxy may take to say whom it speaks for. It has said so before anything else.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The fixed part of a header of the PROXY protocol, version 2.
const FIXED_BYTES: usize = 16;
/// The longest rest that is read: addresses, and what else a proxy tells.
const MAX_REST_BYTES: usize = 1024;

/// How it is found out who a client is.
#[derive(Clone, Debug)]
pub struct Origin(Option<Arc<ClientAddressConfig>>);

impl Origin {
    /// As configured.
    #[must_use]
    pub fn new(config: Option<ClientAddressConfig>) -> Self {
        Self(config.map(Arc::new))
    }

    /// Reads what stands before TLS. Nothing, if the client's address is not known.
    ///
    /// # Errors
    /// If the PROXY protocol's header is expected, and does not come, or comes from somebody who may not say so.
    pub(super) async fn of(&self, peer: IpAddr, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
        let Some(config) = &self.0 else { return Ok(None) };
        match config.from {
            AddressSource::Connection | AddressSource::Forwarded => Ok(Some(peer)),
            AddressSource::ProxyProtocol if is_trusted(config, peer) => {
                let header = timeout(HEADER_TIMEOUT, header(stream)).await;
                let said = header.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
                Ok(Some(said.unwrap_or(peer)))
            }
            AddressSource::ProxyProtocol => {
                Err(io::Error::other(format!("{peer} is none of client_address.trusted_proxies")))
            }
        }
    }

    /// Whether many clients come over the connections of this one: it is a proxy's that says whom each request is from.
    #[must_use]
    pub(super) fn is_shared(&self, peer: IpAddr) -> bool {
        let of = |config: &ClientAddressConfig| config.from == AddressSource::Forwarded && is_trusted(config, peer);
        self.0.as_deref().is_some_and(of)
    }

    /// Whom a request is from that came over a connection of `peer`.
    #[must_use]
    pub(super) fn of_request(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        match &self.0 {
            Some(config) if config.from == AddressSource::Forwarded => forwarded(config, peer, headers),
            _ => peer,
        }
    }
}

fn is_trusted(config: &ClientAddressConfig, address: IpAddr) -> bool {
    config.trusted_proxies.iter().any(|network| network.contains(&address.to_canonical()))
}

/// The source that a header names; nothing if the proxy speaks for itself, as with its health checks.
async fn header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let malformed = |detail: String| io::Error::new(io::ErrorKind::InvalidData, detail);
    let mut bytes = vec![0; FIXED_BYTES];
    stream.read_exact(&mut bytes).await?;
    let rest = match bytes.as_slice() {
        [.., high, low] => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    };
    // Before so much is waited for from somebody who says something else.
    if !bytes.starts_with(ppp::v2::PROTOCOL_PREFIX) || rest > MAX_REST_BYTES {
        return Err(malformed("a header of the PROXY protocol, version 2, is expected".to_owned()));
    }
    bytes.resize(FIXED_BYTES + rest, 0);
    stream.read_exact(bytes.get_mut(FIXED_BYTES..).unwrap_or_default()).await?;
    let header = Header::try_from(bytes.as_slice()).map_err(|e| malformed(e.to_string()))?;
    Ok(match (header.command, header.addresses) {
        (Command::Proxy, Addresses::IPv4(addresses)) => Some(addresses.source_address.into()),
        (Command::Proxy, Addresses::IPv6(addresses)) => Some(addresses.source_address.into()),
        _ => None,
    })
}

/// The last address that no trusted proxy has, as the trusted ones say it: whatever stands before it, anybody may have
/// written.
fn forwarded(config: &ClientAddressConfig, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let mut address = peer;
    let lines: Vec<_> = headers.get_all("forwarded").iter().filter_map(|line| line.to_str().ok()).collect();
    for element in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        if !is_trusted(config, address) {
            return address;
        }
        let said = element.split(';').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            name.trim().eq_ignore_ascii_case("for").then(|| node(value.trim().trim_matches('"')))?
        });
        // One that says nothing of whom it speaks for speaks for itself.
        let Some(said) = said else { return address };
        address = said;
    }
    address
}

/// A node of RFC 7239 §6: an address, of version 6 in brackets, with a port or without.
fn node(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(text) => text.split(']').next()?.parse().ok(),
        None => text.split(':').next()?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(from: AddressSource) -> Origin {
        Origin::new(Some(ClientAddressConfig { from, trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()] }))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn many_clients_share_the_connections_of_a_trusted_proxy_that_forwards_and_no_others() {
        let [forwarded, connection] = [AddressSource::Forwarded, AddressSource::Connection].map(origin);
        assert!(forwarded.is_shared(ip("10.0.0.1")) && !forwarded.is_shared(ip("192.0.2.9")));
        assert!(!connection.is_shared(ip("10.0.0.1")) && !Origin::new(None).is_shared(ip("10.0.0.1")));
    }

    #[test]
    fn only_what_trusted_proxies_say_is_believed() {
        let origin = origin(AddressSource::Forwarded);
        let seen = |peer: &str, lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("forwarded", line.parse().unwrap());
            }
            origin.of_request(ip(peer), &headers).to_string()
        };
        assert_eq!(seen("10.0.0.1", &["for=192.0.2.7"]), "192.0.2.7");
        assert_eq!(seen("10.0.0.1", &["proto=https;For=\"[2001:db8::1]:4711\""]), "2001:db8::1");
        assert_eq!(seen("10.0.0.1", &["for=198.51.100.1, for=192.0.2.7"]), "192.0.2.7", "the client wrote the first");
        assert_eq!(seen("10.0.0.1", &["for=198.51.100.1", "for=192.0.2.7:1, for=10.0.0.2"]), "192.0.2.7");
        assert_eq!(seen("10.0.0.1", &["for=_hidden"]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(seen("192.0.2.9", &["for=198.51.100.1"]), "192.0.2.9", "nobody else is believed");
    }

    #[tokio::test]
    async fn the_proxy_protocols_header_is_read_to_its_end_and_nothing_of_what_follows() {
        let origin = origin(AddressSource::ProxyProtocol);
        let of = async |peer: &str, bytes: &[u8]| {
            let mut rest = bytes;
            let found = origin.of(ip(peer), &mut rest).await.map_err(|error| error.to_string());
            (found, rest.len())
        };
        let v4 = [
            ppp::v2::PROTOCOL_PREFIX,
            b"\x21\x11\x00\x0f",
            &[192, 0, 2, 7, 10, 0, 0, 1, 1, 1, 1, 1],
            &[4, 0, 0],
            b"TLS",
        ];
        assert_eq!(of("10.0.0.1", &v4.concat()).await, (Ok(Some(ip("192.0.2.7"))), 3));
        let local = [ppp::v2::PROTOCOL_PREFIX, b"\x20\x00\x00\x00", b"TLS"].concat();
        assert_eq!(of("10.0.0.1", &local).await, (Ok(Some(ip("10.0.0.1"))), 3));
        for bad in
            [&b"\x16\x03\x01\x02\x00 a client's hello"[..], &v4.concat()[..20], b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"]
        {
            assert!(of("10.0.0.1", bad).await.0.is_err());
        }
        let (refused, left) = of("192.0.2.9", &v4.concat()).await;
        assert!(refused.unwrap_err().contains("trusted_proxies") && left == v4.concat().len());
    }
}
