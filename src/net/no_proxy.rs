//! Which hosts are reached without the proxy: `NO_PROXY`, in the forms that curl and others understand.

use std::convert::Infallible;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// A list with commas or spaces. An entry is `*`, a host name (which stands for everything below it, too, with or without
/// a dot or `*.` before it), an address, or a network as `10.0.0.0/8`; each may end in `:PORT`. What is none of these
/// matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoProxy(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    host: Host,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Any,
    Network(IpNet),
    Name(String),
}

impl FromStr for NoProxy {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let entries = text.split([',', ' ', '\t']).map(str::trim).filter(|entry| !entry.is_empty());
        Ok(Self(entries.map(Entry::new).collect()))
    }
}

impl NoProxy {
    /// Whether this host is reached without the proxy. An IPv6 address may stand in brackets.
    #[must_use]
    pub fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = address(&host);
        let is = |entry: &Entry| match (&entry.host, address) {
            (Host::Any, _) => true,
            (Host::Network(network), Some(address)) => network.contains(&address),
            (Host::Name(name), None) => {
                host.strip_suffix(name.as_str()).is_some_and(|below| below.is_empty() || below.ends_with('.'))
            }
            (Host::Network(_), None) | (Host::Name(_), Some(_)) => false,
        };
        self.0.iter().any(|entry| entry.port.is_none_or(|only| only == port) && is(entry))
    }
}

/// Whether this is a name or an address of this very host: `localhost` and what is below it (RFC 6761 §6.3), 127.0.0.0/8,
/// `::1`. No proxy elsewhere could lead there.
#[must_use]
pub fn is_this_host(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    match address(&host) {
        Some(address) => address.to_canonical().is_loopback(),
        None => host.strip_suffix("localhost").is_some_and(|below| below.is_empty() || below.ends_with('.')),
    }
}

impl Entry {
    fn new(text: &str) -> Self {
        // An IPv6 address outside brackets ends in something that looks like a port.
        let with_port = || {
            let (host, port) = text.rsplit_once(':').filter(|_| address(text).is_none())?;
            Some(Self { host: Host::new(host), port: Some(port.parse().ok()?) })
        };
        with_port().unwrap_or_else(|| Self { host: Host::new(text), port: None })
    }
}

impl Host {
    fn new(text: &str) -> Self {
        if text == "*" {
            return Self::Any;
        }
        match text.parse().ok().or_else(|| address(text).map(IpNet::from)) {
            Some(network) => Self::Network(network),
            None => {
                let name = text.strip_prefix('*').unwrap_or(text);
                Self::Name(name.trim_matches('.').to_ascii_lowercase())
            }
        }
    }
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_covers_what_it_names_and_nothing_else() {
        for (list, host, port, expected) in [
            ("", "relay.example", 443, false),
            ("*", "relay.example", 443, true),
            ("*:8443", "relay.example", 443, false),
            ("relay.example", "Relay.Example.", 443, true),
            ("relay.example", "a.relay.example", 443, true),
            ("relay.example", "myrelay.example", 443, false),
            (".relay.example", "relay.example", 443, true),
            ("*.relay.example", "a.relay.example", 443, true),
            ("other, relay.example", "relay.example", 443, true),
            ("other relay.example", "relay.example", 443, true),
            ("relay.example:8443", "relay.example", 443, false),
            ("relay.example:8443", "relay.example", 8443, true),
            ("10.0.0.0/8", "10.20.30.40", 443, true),
            ("10.0.0.0/8", "11.0.0.1", 443, false),
            ("10.0.0.0/8", "10.example", 443, false),
            ("10.0.0.0/8:8443", "10.1.1.1", 443, false),
            ("192.168.1.7", "192.168.1.7", 443, true),
            ("192.168.1.7:443", "192.168.1.7", 443, true),
            ("192.168.1.7", "192.168.1.70", 443, false),
            ("::1", "[::1]", 443, true),
            ("[::1]:8443", "::1", 443, false),
            ("[::1]:8443", "::1", 8443, true),
            ("fd00::/8", "[fd12::1]", 443, true),
            ("fd00::/8", "[fe80::1]", 443, false),
            ("10.0.0.0/99", "10.0.0.1", 443, false),
        ] {
            let list_of: NoProxy = list.parse().unwrap();
            assert_eq!(list_of.covers(host, port), expected, "{list} {host} {port}");
        }
    }

    #[test]
    fn this_host_is_told_from_others_that_are_named_like_it() {
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost.", true),
            ("relay.localhost", true),
            ("127.0.0.1", true),
            ("127.1.2.3", true),
            ("::1", true),
            ("[::1]", true),
            ("[::ffff:127.0.0.1]", true),
            ("mylocalhost", false),
            ("localhost.example", false),
            ("127.0.0.1.example", false),
            ("128.0.0.1", false),
            ("0.0.0.0", false),
            ("[::2]", false),
            ("", false),
        ] {
            assert_eq!(is_this_host(host), expected, "{host}");
        }
    }
}
