//! What the domain name system says: addresses, and which hosts serve something.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError as LookupError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

/// The usual port of a name server.
const DNS_PORT: u16 = 53;
/// How long a name server is waited for before it is asked again, or another one is.
const ANSWER: Duration = Duration::from_secs(2);

/// Why a name says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has no address.
    #[error("{host}: this name can't be resolved ({detail}); check its spelling and this host's name servers")]
    NoAddress {
        /// The name.
        host: String,
        /// Why.
        detail: String,
    },
    /// It has no SRV records.
    #[error(
        "{name}: the name servers know no such SRV records ({detail}); check the domain's name, and that this host asks the domain's name servers"
    )]
    NoService {
        /// The whole name.
        name: String,
        /// Why.
        detail: String,
    },
    /// There is no resolver.
    #[error("no name server can be asked: {0}")]
    NoResolver(String),
}

/// One SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The smallest first.
    pub priority: u16,
    /// Among equals: its share.
    pub weight: u16,
    /// The host, in small letters, without the dot at the end.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Who is asked.
pub enum Names {
    /// Addresses as the operating system finds them, with its hosts file; the rest from its name servers.
    System,
    /// These name servers alone.
    Servers(Box<TokioResolver>),
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::System => "Names::System",
            Self::Servers(_) => "Names::Servers",
        })
    }
}

impl Names {
    /// These name servers, or the system's if there are none. A port of 0 is the usual one.
    ///
    /// # Errors
    /// If no resolver can be made.
    pub fn at(servers: &[SocketAddr]) -> Result<Self, NameError> {
        if servers.is_empty() {
            return Ok(Self::System);
        }
        let name_server = |server: &SocketAddr| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = if server.port() == 0 { DNS_PORT } else { server.port() };
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.to_vec())
        };
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(name_server).collect());
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.with_options(options()).build().map_err(|e| NameError::NoResolver(e.to_string()))?;
        Ok(Self::Servers(Box::new(resolver)))
    }

    /// A host's addresses, in the order in which they are to be tried; at least one.
    ///
    /// # Errors
    /// If there is none.
    pub async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, NameError> {
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let none = |detail: String| NameError::NoAddress { host: host.to_owned(), detail };
        let addresses: Vec<_> = match self {
            Self::System => tokio::net::lookup_host((host, port)).await.map_err(|e| none(e.to_string()))?.collect(),
            Self::Servers(resolver) => {
                let found = resolver.lookup_ip(absolute(host)).await.map_err(|e| none(said(&e)))?;
                found.iter().map(|address| SocketAddr::new(address, port)).collect()
            }
        };
        if addresses.is_empty() { Err(none("it has no address".to_owned())) } else { Ok(addresses) }
    }

    /// The SRV records of a name such as `_ldap._tcp.corp.example`; at least one, in no order.
    ///
    /// # Errors
    /// If there is none, or nobody answers.
    pub async fn services(&self, name: &str) -> Result<Vec<Service>, NameError> {
        let none = |detail: String| NameError::NoService { name: name.to_owned(), detail };
        let found = match self {
            Self::Servers(resolver) => resolver.srv_lookup(absolute(name)).await,
            // Read anew each time: the host may have moved to another network.
            Self::System => {
                let builder = TokioResolver::builder_tokio().map_err(|e| NameError::NoResolver(said(&e)))?;
                let resolver = builder.with_options(options()).build().map_err(|e| NameError::NoResolver(said(&e)))?;
                resolver.srv_lookup(absolute(name)).await
            }
        };
        let found = found.map_err(|e| none(said(&e)))?;
        let services = found.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(Service {
                priority: srv.priority,
                weight: srv.weight,
                host: srv.target.to_ascii().trim_end_matches('.').to_ascii_lowercase(),
                port: srv.port,
            }),
            _ => None,
        });
        // A single dot says: not here (RFC 2782).
        let services: Vec<_> = services.filter(|service| !service.host.is_empty()).collect();
        if services.is_empty() { Err(none("there is no record".to_owned())) } else { Ok(services) }
    }
}

/// Both families, and an answer, or none, within a few seconds.
fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.timeout = ANSWER;
    options
}

/// No search list: what is configured is the whole name.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

/// In few words: the library's own tell the whole query.
fn said(error: &LookupError) -> String {
    if error.is_nx_domain() {
        "there is no such name".to_owned()
    } else if error.is_no_records_found() {
        "there is no such record".to_owned()
    } else {
        error.to_string()
    }
}
