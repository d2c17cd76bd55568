//! What the administrator writes, and the checks that need no network.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use serde::Deserialize;

use super::one_or_many::{base_dns, urls};
use crate::net::NetError;
use crate::net::names::{NameError, Names};
use crate::storage::{FileError, Secret};

/// Timeouts longer than this only hide a fault.
const LONGEST_TIMEOUT_SECONDS: u64 = 60;

const LDAP_PORT: u16 = 389;
const LDAPS_PORT: u16 = 636;
const DNS_PORT: u16 = 53;
/// The global catalog's ([MS-ADTS] 6.1.1.1): it shows a part of every domain, and takes no writes.
const GLOBAL_CATALOG_PORTS: [u16; 2] = [3268, 3269];

/// How an agent reaches its Active Directory.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The domain controllers: one URL or a list, tried in order. `ldaps://dc1.corp.example`, or
    /// `ldap://dc1.corp.example` with `start_tls`. Each names one domain controller, not the domain: a reset is always
    /// followed up at the controller that took it.
    #[serde(default, deserialize_with = "urls")]
    pub url: Vec<String>,
    /// In place of `url`: the domain's DNS name, `corp.example`. Its domain controllers are those that its DNS names.
    #[serde(default)]
    pub domain: Option<String>,
    /// With `domain`: the Active Directory sites whose controllers come first, in this order.
    #[serde(default)]
    pub sites: Vec<String>,
    /// Who is asked for names: `["10.0.0.53"]`. Default: this host's own name servers.
    #[serde(default)]
    pub name_servers: Vec<NameServer>,
    /// The domains of a forest, in place of `url` and `domain`. What one does not say is as it is said here for all.
    #[serde(default)]
    pub domains: Vec<DomainConfig>,
    /// Turn TLS on inside a plain connection (`StartTLS`, RFC 4511 §4.14). For `ldap://` URLs, which are refused
    /// without it. Default: false.
    #[serde(default)]
    pub start_tls: bool,
    /// PEM file with the CA that signed the domain controllers' certificates, beside the system's roots. Default: none.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The agent's service account: `svc-reset@corp.example`, `CORP\svc-reset`, or its distinguished name.
    pub bind_user: String,
    /// File (mode 0600) with its password and nothing else; a newline at the end doesn't count. It is read again for
    /// each connection, so a new password needs no restart. Or `credential:NAME`, a systemd credential, or `env:NAME`, a
    /// variable of the environment. The password itself has no place in the configuration.
    pub bind_password_file: PathBuf,
    /// Where accounts are looked for: one unit or a list, `OU=Staff,DC=corp,DC=example`. Their rights are checked for each
    /// of them. Default: the whole domain.
    #[serde(default, deserialize_with = "base_dns")]
    pub base_dn: Vec<String>,
    /// Groups whose members are left alone, beside those that always are (Domain Admins and the like): each by its name, its
    /// distinguished name or its SID. One that is not found protects everybody, until it is. Default: none.
    #[serde(default)]
    pub protected_groups: Option<Vec<String>>,
    /// How long TCP and TLS may take, in seconds, 1 to 60. Default: 5.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout_seconds: u64,
    /// How long a domain controller may take for one answer, in seconds, 1 to 60. Default: 10.
    #[serde(default = "default_operation_timeout")]
    pub operation_timeout_seconds: u64,
}

/// One domain of several.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainConfig {
    /// Its DNS name: its accounts have it as their UPN suffix. Its domain controllers are found by it if there is no `url`.
    pub name: String,
    /// Further UPN suffixes of its accounts. Default: none.
    #[serde(default)]
    pub upn_suffixes: Vec<String>,
    /// As [`Config::url`].
    #[serde(default, deserialize_with = "urls")]
    pub url: Vec<String>,
    /// As [`Config::sites`].
    #[serde(default)]
    pub sites: Vec<String>,
    /// As [`Config::base_dn`].
    #[serde(default, deserialize_with = "base_dns")]
    pub base_dn: Vec<String>,
    /// As [`Config::protected_groups`], in place of those that are named for all.
    #[serde(default)]
    pub protected_groups: Option<Vec<String>>,
    /// As [`Config::ca_file`].
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// As [`Config::bind_user`], with a password of its own.
    #[serde(default)]
    pub bind_user: Option<String>,
    /// As [`Config::bind_password_file`].
    #[serde(default)]
    pub bind_password_file: Option<PathBuf>,
}

/// A name server: an address, with a port if that is not 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct NameServer(pub SocketAddr);

impl TryFrom<String> for NameServer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let address = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT)));
        address.map(Self).map_err(|_| format!("{text:?} is not the address of a name server, such as 10.0.0.53"))
    }
}

fn default_connect_timeout() -> u64 {
    5
}

fn default_operation_timeout() -> u64 {
    10
}

/// Why a configuration can't work.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `url = []`.
    #[error(
        "url: name at least one domain controller, for example ldaps://dc1.corp.example, or the domain in its place"
    )]
    NoUrl,
    /// Two ways to say where the domain controllers are.
    #[error(
        "{0}: give one of url, domain and [[directory.domains]]; sites go with domain, and base_dn with its domain"
    )]
    Both(&'static str),
    /// Not a DNS name.
    #[error("domain: {0:?} is not a domain's DNS name, such as corp.example")]
    Domain(String),
    /// Something about one domain of several.
    #[error("domains: {name}: {error}")]
    OneOf {
        /// Which domain.
        name: String,
        /// What.
        error: Box<ConfigError>,
    },
    /// Nobody can be asked for names.
    #[error("name_servers: {0}")]
    Names(#[from] NameError),
    /// Not an LDAP URL with a host and nothing else.
    #[error("url: {url}: {detail}; write ldaps://dc1.corp.example")]
    Url {
        /// As it was written.
        url: String,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// The same controller twice.
    #[error("url: {0} is named twice")]
    Twice(String),
    /// Passwords would travel in the clear.
    #[error("url: {0} would send passwords without encryption; write ldaps://, or set start_tls = true")]
    NoTls(String),
    /// A name that Active Directory does not take in a simple bind.
    #[error("bind_user: {0:?} is not svc@corp.example, CORP\\svc or a distinguished name")]
    BindUser(String),
    /// The password file is no use.
    #[error("bind_password_file: {0}")]
    BindPassword(#[from] FileError),
    /// Nothing inside: that would be an anonymous bind.
    #[error("bind_password_file: {0} is empty")]
    EmptyPassword(PathBuf),
    /// The CA file is no use, or there is no TLS at all.
    #[error("ca_file: {0}")]
    Tls(#[from] NetError),
    /// Not a distinguished name, or one twice.
    #[error("base_dn: {0:?} is not a distinguished name, or stands there twice; write OU=Staff,DC=corp,DC=example")]
    BaseDn(String),
    /// Too short or too long.
    #[error("{field}: {seconds} is not between 1 and {LONGEST_TIMEOUT_SECONDS}")]
    Timeout {
        /// Which one.
        field: &'static str,
        /// What was written.
        seconds: u64,
    },
}

/// One domain controller's address, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
    /// The host, with the port if it is not the usual one: how accounts, errors and reports name the controller.
    pub(super) name: String,
}

impl Endpoint {
    /// With TLS from the beginning. SRV records name LDAP's own port, so this is the usual one.
    pub(super) fn ldaps(host: &str, _ldap_port: u16) -> Self {
        Self::new(LDAPS_PORT, host, LDAPS_PORT)
    }

    /// With TLS turned on inside.
    pub(super) fn start_tls(host: &str, port: u16) -> Self {
        Self::new(LDAP_PORT, host, port)
    }

    fn new(usual_port: u16, host: &str, port: u16) -> Self {
        let name = if port == usual_port { host.to_owned() } else { format!("{host}:{port}") };
        Self { host: host.to_owned(), port, name }
    }
}

impl Config {
    /// Who is asked for names.
    pub(super) fn names(&self) -> Result<Names, ConfigError> {
        let servers: Vec<_> = self.name_servers.iter().map(|NameServer(address)| *address).collect();
        Ok(Names::at(&servers)?)
    }

    /// The domain controllers, in order.
    pub(super) fn endpoints(&self) -> Result<Vec<Endpoint>, ConfigError> {
        let mut endpoints = Vec::with_capacity(self.url.len());
        for url in &self.url {
            let endpoint = self.endpoint(url)?;
            if endpoints.contains(&endpoint) {
                return Err(ConfigError::Twice(endpoint.name));
            }
            endpoints.push(endpoint);
        }
        if endpoints.is_empty() { Err(ConfigError::NoUrl) } else { Ok(endpoints) }
    }

    fn endpoint(&self, text: &str) -> Result<Endpoint, ConfigError> {
        let refused = |detail| ConfigError::Url { url: text.to_owned(), detail };
        let url: Uri = text.parse().map_err(|_| refused("this is not a URL"))?;
        let usual_port = match url.scheme_str() {
            Some("ldaps") if self.start_tls => return Err(refused("start_tls is for ldap:// URLs")),
            Some("ldaps") => LDAPS_PORT,
            Some("ldap") if !self.start_tls => return Err(ConfigError::NoTls(text.to_owned())),
            Some("ldap") => LDAP_PORT,
            _ => return Err(refused("the scheme is ldaps or ldap")),
        };
        let host = url.host().filter(|host| !host.is_empty()).ok_or(refused("there is no host"))?.to_ascii_lowercase();
        if host.starts_with('[') {
            return Err(refused("an IPv6 address can't be checked against a certificate; write the host's name"));
        }
        if url.authority().is_some_and(|a| a.as_str().contains('@')) || !matches!(url.path(), "" | "/") {
            return Err(refused("only a host and a port may stand in it"));
        }
        let port = url.port_u16().unwrap_or(usual_port);
        if GLOBAL_CATALOG_PORTS.contains(&port) {
            return Err(refused(
                "this is a port of the global catalog, which can be read and not written: leave the port away",
            ));
        }
        Ok(Endpoint::new(usual_port, &host, port))
    }

    /// The service account's name, and where its password is, which is read once to see that it is of use.
    pub(super) fn service_account(&self) -> Result<(String, Secret), ConfigError> {
        if !self.bind_user.contains(['@', '\\', '=']) {
            return Err(ConfigError::BindUser(self.bind_user.clone()));
        }
        let password = Secret::at(&self.bind_password_file);
        if password.read()?.trim_end_matches(['\r', '\n']).is_empty() {
            return Err(ConfigError::EmptyPassword(self.bind_password_file.clone()));
        }
        Ok((self.bind_user.clone(), password))
    }

    /// The units to look in, in order; none for the whole domain.
    pub(super) fn base_dns(&self) -> Result<Vec<String>, ConfigError> {
        let mut units: Vec<String> = Vec::with_capacity(self.base_dn.len());
        for unit in &self.base_dn {
            if !unit.contains('=') || units.iter().any(|other| other.eq_ignore_ascii_case(unit)) {
                return Err(ConfigError::BaseDn(unit.clone()));
            }
            units.push(unit.clone());
        }
        Ok(units)
    }

    pub(super) fn connect_timeout(&self) -> Result<Duration, ConfigError> {
        seconds("connect_timeout_seconds", self.connect_timeout_seconds)
    }

    pub(super) fn operation_timeout(&self) -> Result<Duration, ConfigError> {
        seconds("operation_timeout_seconds", self.operation_timeout_seconds)
    }
}

fn seconds(field: &'static str, seconds: u64) -> Result<Duration, ConfigError> {
    match seconds {
        1..=LONGEST_TIMEOUT_SECONDS => Ok(Duration::from_secs(seconds)),
        _ => Err(ConfigError::Timeout { field, seconds }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::storage::PrivateFile;

    pub(in super::super) fn config(lines: &str) -> Config {
        toml::from_str(&format!("bind_user = 'svc@corp.example'\nbind_password_file = '/nowhere'\n{lines}")).unwrap()
    }

    fn names(lines: &str) -> Result<Vec<String>, String> {
        let endpoints = config(lines).endpoints().map_err(|e| e.to_string())?;
        Ok(endpoints.into_iter().map(|endpoint| endpoint.name).collect())
    }

    #[test]
    fn one_url_or_a_list_names_the_controllers() {
        assert_eq!(names("url = 'ldaps://DC1.corp.example'").unwrap(), ["dc1.corp.example"]);
        assert_eq!(names("url = ['ldaps://dc1:636/', 'ldaps://dc1:3636']").unwrap(), ["dc1", "dc1:3636"]);
        assert_eq!(names("url = 'ldap://dc1'\nstart_tls = true").unwrap(), ["dc1"]);
    }

    #[test]
    fn plain_ldap_is_refused_with_a_sentence() {
        let error = names("url = 'ldap://dc1'").unwrap_err();
        assert!(error.contains("ldap://dc1") && error.contains("start_tls"), "{error}");
    }

    #[test]
    fn what_is_not_a_domain_controllers_url_is_refused() {
        for lines in [
            "url = []",
            "url = 'https://dc1'",
            "url = 'dc1'",
            "url = 'ldaps://'",
            "url = 'ldaps://[::1]'",
            "url = 'ldaps://user@dc1'",
            "url = 'ldaps://dc1/DC=corp'",
            "url = 'ldaps://dc1:3269'",
            "url = 'ldap://dc1:3268'\nstart_tls = true",
            "url = 'ldaps://dc1'\nstart_tls = true",
            "url = ['ldaps://dc1', 'ldaps://DC1:636']",
        ] {
            let error = names(lines).unwrap_err();
            assert!(error.starts_with("url: "), "{lines}: {error}");
        }
    }

    #[test]
    fn a_name_server_is_an_address_with_or_without_a_port() {
        let servers = |text: &str| {
            toml::from_str::<Config>(&format!("bind_user = 'a'\nbind_password_file = 'b'\nname_servers = {text}"))
        };
        let given = servers("['10.0.0.53', '10.0.0.53:5353', '::1', '[::1]:53']").unwrap().name_servers;
        let ports: Vec<_> = given.iter().map(|NameServer(address)| address.port()).collect();
        assert_eq!(ports, [53, 5353, 53, 53]);
        assert!(servers("['dns.corp.example']").unwrap_err().to_string().contains("dns.corp.example"));
    }

    #[test]
    fn a_field_nobody_knows_and_a_timeout_of_nothing_are_refused() {
        assert!(
            toml::from_str::<Config>("url = 'ldaps://a'\nbind_user = 'a'\nbind_password_file = 'b'\nsure = 1").is_err()
        );
        let error = config("url = 'ldaps://a'\nconnect_timeout_seconds = 0").connect_timeout().unwrap_err().to_string();
        assert!(error.contains("connect_timeout_seconds"), "{error}");
    }

    #[test]
    fn accounts_are_looked_for_in_one_unit_in_several_or_in_the_whole_domain() {
        let units = |lines: &str| config(&format!("url = 'ldaps://a'\n{lines}")).base_dns().map_err(|e| e.to_string());
        assert_eq!(units("").unwrap(), [""; 0]);
        assert_eq!(units("base_dn = 'OU=A,DC=b'").unwrap(), ["OU=A,DC=b"]);
        assert_eq!(units("base_dn = ['OU=A,DC=b', 'OU=B,DC=b']").unwrap(), ["OU=A,DC=b", "OU=B,DC=b"]);
        for wrong in ["base_dn = 'Staff'", "base_dn = ['OU=A,DC=b', 'ou=a,dc=b']"] {
            assert!(units(wrong).unwrap_err().starts_with("base_dn: "), "{wrong}");
        }
    }

    #[test]
    fn a_bare_name_and_an_empty_password_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = PrivateFile::new(dir.path().join("password"));
        file.replace("\n").unwrap();
        let mut config = config("url = 'ldaps://a'");
        config.bind_password_file = file.path().to_owned();
        assert!(matches!(config.service_account(), Err(ConfigError::EmptyPassword(_))));
        config.bind_user = "svc".to_owned();
        assert!(matches!(config.service_account(), Err(ConfigError::BindUser(_))));
    }
}
