//! A node's configuration: a TOML file, every field with its default and the reason for it.

mod admin;
mod limits;
mod telemetry;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::uri::Authority;
use serde::Deserialize;

pub use admin::{AdminConfig, OidcConfig};
pub use limits::{AddressSource, ClientAddressConfig, LimitsConfig};
pub use telemetry::TelemetryConfig;

use crate::storage::{FileError, check_file, read_text};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// Others may write it.
    #[error(transparent)]
    Open(#[from] FileError),
    /// A field is unknown, missing, or of the wrong type. The message names it, with its line.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A field's value can't be.
    #[error("{field}: {message}")]
    Value {
        /// The field.
        field: &'static str,
        /// What is wrong, and what would be right.
        message: String,
    },
}

/// A node's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The URL that agents and portals use: the `aud` of every assertion, compared byte for byte. No slash at the end.
    pub public_url: String,
    /// Where agents and portals connect.
    #[serde(default = "defaults::listen")]
    pub listen: SocketAddr,
    /// Where the operator and the orchestrator connect: loopback, or an address that only the cluster reaches.
    #[serde(default = "defaults::ops_listen")]
    pub ops_listen: SocketAddr,
    /// Where the embedded store and the admin token are kept.
    pub data_dir: PathBuf,
    /// Which store.
    #[serde(default)]
    pub store: Store,
    /// With `store = "redis"`: where it is.
    pub redis: Option<super::redis::config::Config>,
    /// The node's name, for people; the host's name if absent.
    pub node_name: Option<String>,
    /// The certificate of the public listener; absent with `--dev-tls`.
    pub tls: Option<TlsFiles>,
    /// Who may operate the node.
    #[serde(default)]
    pub admin: AdminConfig,
    /// Agent sessions.
    #[serde(default)]
    pub session: SessionConfig,
    /// What may happen at the same time, and how often.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Where clients' addresses are seen; none: there are no limits for each address.
    pub client_address: Option<ClientAddressConfig>,
    /// Stopping.
    #[serde(default)]
    pub drain: DrainConfig,
    /// Logs, metrics, traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
}

/// Which store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// Files in `data_dir`: one node.
    #[default]
    Embedded,
    /// Redis or Valkey, as `[redis]` says: any number of nodes.
    Redis,
}

/// PEM files, read again when they change.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// Agent sessions.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionConfig {
    /// Each side says this often that it is alive. Load balancers cut what is idle for 60 s; a dead connection is found
    /// after two and a half of these: with up to 18, in at most 45 s.
    pub heartbeat_seconds: u64,
    /// An agent may take this long for its `Hello`.
    pub hello_timeout_seconds: u64,
    /// A session that is this old, or up to a quarter younger, is asked to move: so agents spread over nodes that came
    /// later. A quarter, so that agents that came together don't go together.
    pub max_age_seconds: u64,
    /// `writeback-agent` below this version is refused, and says so to its administrator. Agents of other makes are not
    /// judged by it.
    pub minimum_agent_version: Option<semver::Version>,
}

impl Default for SessionConfig {
    fn default() -> Self {
        // Found dead after 2.5 heartbeats: in under 45 s. An hour: a node that is added has its share within that, and
        // 15,000 sessions then cost four handshakes a second.
        Self { heartbeat_seconds: 17, hello_timeout_seconds: 5, max_age_seconds: 3600, minimum_agent_version: None }
    }
}

/// Stopping.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrainConfig {
    /// A node that the operator has told to go is not ready for so long, and works on, before it stops: load balancers take
    /// it out meanwhile. Not at SIGTERM, before which Kubernetes' `preStop` has waited.
    pub delay_seconds: u64,
    /// Agents may take this long to move, and commands in flight to end.
    pub timeout_seconds: u64,
    /// When whoever runs the node kills it, after it was told to stop: Kubernetes' `terminationGracePeriodSeconds`. Known
    /// only so that a drain that would be cut off is said at the start.
    pub termination_grace_period_seconds: Option<u64>,
}

impl Default for DrainConfig {
    fn default() -> Self {
        // Kubernetes' default grace period is 30 s.
        Self { delay_seconds: 0, timeout_seconds: 20, termination_grace_period_seconds: None }
    }
}

impl DrainConfig {
    /// What a stop may take beyond [`Self::timeout_seconds`]: the last words on sockets, and the lease given back.
    const FAREWELL_SECONDS: u64 = 5;

    /// What is wrong, if the node would be killed before it has drained.
    #[must_use]
    pub fn cut_off(&self) -> Option<String> {
        let grace = self.termination_grace_period_seconds?;
        let needed = self.timeout_seconds + Self::FAREWELL_SECONDS;
        (needed > grace).then(|| {
            format!(
                "a stop may take {needed} s (drain.timeout_seconds = {} and {} s more), but the node is killed after \
                 drain.termination_grace_period_seconds = {grace}: lower the first or raise the second, and with it \
                 terminationGracePeriodSeconds",
                self.timeout_seconds,
                Self::FAREWELL_SECONDS
            )
        })
    }
}

/// A session that is never moved would stay on the oldest node for ever.
const MAX_AGE_SECONDS: u64 = 7 * 24 * 3600;

mod defaults {
    use std::net::SocketAddr;

    pub(super) fn listen() -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], 8443))
    }

    pub(super) fn ops_listen() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9443))
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// If it can't be read, or a field is wrong; the message names it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read_text(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        check_file(path)?;
        let config: Self = toml::from_str(&text).map_err(|e| ConfigError::Parse {
            path: path.to_owned(),
            message: e.to_string().trim_end().replace('\n', " "),
        })?;
        config.check()?;
        Ok(config)
    }

    /// With every default, for one node with a self-signed certificate.
    #[must_use]
    pub fn development(public_url: String, listen: SocketAddr, ops_listen: SocketAddr, data_dir: PathBuf) -> Self {
        Self {
            public_url,
            listen,
            ops_listen,
            data_dir,
            store: Store::Embedded,
            redis: None,
            node_name: None,
            tls: None,
            admin: AdminConfig::default(),
            session: SessionConfig::default(),
            limits: LimitsConfig::default(),
            client_address: None,
            drain: DrainConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }

    /// Checks what the types can't.
    ///
    /// # Errors
    /// If a field's value can't be; the message names it.
    pub fn check(&self) -> Result<(), ConfigError> {
        let value = |field, message: &str| Err(ConfigError::Value { field, message: message.to_owned() });
        let authority = self.public_url.strip_prefix("https://").and_then(|text| text.parse::<Authority>().ok());
        // A port that is no number, and a user, are part of what the type takes.
        let plain = |authority: &Authority| {
            let port = authority.as_str().rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
            !authority.host().is_empty()
                && !authority.as_str().contains('@')
                && (port.is_none() || authority.port_u16().is_some())
        };
        if !authority.as_ref().is_some_and(plain) {
            return value("public_url", "https://HOST or https://HOST:PORT is expected, with no slash at the end");
        }
        if !(1..=60).contains(&self.session.heartbeat_seconds) {
            return value("session.heartbeat_seconds", "1 to 60 is expected: load balancers cut what is idle longer");
        }
        if self.redis.is_some() != (self.store == Store::Redis) {
            return value("redis", "a [redis] section belongs to store = \"redis\", and that needs one");
        }
        if self.drain.timeout_seconds > 3600 {
            return value("drain.timeout_seconds", "0 to 3600 is expected");
        }
        if self.drain.delay_seconds > 300 {
            return value("drain.delay_seconds", "0 to 300 is expected");
        }
        if !(1..=60).contains(&self.session.hello_timeout_seconds) {
            return value("session.hello_timeout_seconds", "1 to 60 is expected");
        }
        if !(1..=MAX_AGE_SECONDS).contains(&self.session.max_age_seconds) {
            return value("session.max_age_seconds", "1 to 604800 (a week) is expected");
        }
        self.admin.check()?;
        self.limits.check()?;
        self.client_address.as_ref().map_or(Ok(()), ClientAddressConfig::check)?;
        self.telemetry.check()
    }

    /// [`SessionConfig::heartbeat_seconds`].
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.session.heartbeat_seconds)
    }

    /// [`SessionConfig::max_age_seconds`].
    #[must_use]
    pub fn max_age(&self) -> Duration {
        Duration::from_secs(self.session.max_age_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_field_is_named() {
        const GOOD: &str = "public_url = \"https://r.example\"\ndata_dir = \"/tmp/x\"\n";
        let oidc = |issuer: &str, audience: &str, claim: &str, value: &str| {
            format!(
                "{GOOD}[admin.oidc]\nissuer = {issuer:?}\naudience = {audience:?}\nclaim = {claim:?}\nvalue = {value:?}"
            )
        };
        for (text, named) in [
            ("data_dir = \"/tmp/x\"", "public_url"),
            ("public_url = \"https://r.example/\"\ndata_dir = \"/tmp/x\"", "public_url"),
            ("public_url = \"http://r.example\"\ndata_dir = \"/tmp/x\"", "public_url"),
            ("public_url = \"https://:8443\"\ndata_dir = \"/tmp/x\"", "public_url"),
            ("public_url = \"https://h:99999\"\ndata_dir = \"/tmp/x\"", "public_url"),
            ("public_url = \"https://u@h\"\ndata_dir = \"/tmp/x\"", "public_url"),
            (&format!("{GOOD}[drain]\ntimeout_seconds = 9223372036854775807"), "drain.timeout_seconds"),
            (&format!("{GOOD}[drain]\ndelay_seconds = 301"), "drain.delay_seconds"),
            (&format!("{GOOD}colour = 1"), "colour"),
            (&format!("{GOOD}listen = \"nowhere\""), "listen"),
            (&format!("{GOOD}store = \"paper\""), "store"),
            (&format!("{GOOD}[tls]\ncert_file = \"a\""), "key_file"),
            (&format!("{GOOD}[admin]\nstatic_token = false"), "admin.static_token"),
            (&format!("{GOOD}[admin]\ntoken = \"x\""), "token"),
            (&format!("{GOOD}[admin.oidc]\nissuer = \"https://i\"\naudience = \"a\"\nvalue = \"v\""), "claim"),
            (&oidc("http://id.example.com", "a", "c", "v"), "admin.oidc.issuer"),
            (&oidc("https://id.example.com/?a=b", "a", "c", "v"), "admin.oidc.issuer"),
            (&oidc("https://id.example.com/#a", "a", "c", "v"), "admin.oidc.issuer"),
            (&oidc("id.example.com", "a", "c", "v"), "admin.oidc.issuer"),
            (&oidc("https://id.example.com", "", "c", "v"), "admin.oidc.audience"),
            (&oidc("https://id.example.com", "a", " ", "v"), "admin.oidc.claim"),
            (&oidc("https://id.example.com", "a", "c", ""), "admin.oidc.value"),
            (&format!("{GOOD}[session]\nheartbeat_seconds = 0"), "session.heartbeat_seconds"),
            (&format!("{GOOD}[session]\nhello_timeout_seconds = 0"), "session.hello_timeout_seconds"),
            (&format!("{GOOD}[session]\nmax_age_seconds = 0"), "session.max_age_seconds"),
            (&format!("{GOOD}[session]\nmax_age_seconds = 604801"), "session.max_age_seconds"),
            (&format!("{GOOD}[session]\nminimum_agent_version = \"2\""), "minimum_agent_version"),
            (&format!("{GOOD}[limits]\ntls_handshakes = 0"), "limits.tls_handshakes"),
            (&format!("{GOOD}[limits]\ntls_handshakes = -1"), "tls_handshakes"),
            (&format!("{GOOD}[limits]\nsession_openings = 65537"), "limits.session_openings"),
            (&format!("{GOOD}[limits]\nhandshakes = 1"), "handshakes"),
            (&format!("{GOOD}[limits]\ntenant_in_flight = 0"), "limits.tenant_in_flight"),
            (&format!("{GOOD}[limits]\ntenant_sessions = \"many\""), "tenant_sessions"),
            (&format!("{GOOD}[client_address]\nfrom = \"header\""), "from"),
            (&format!("{GOOD}[client_address]\nfrom = \"proxy_protocol\""), "client_address.trusted_proxies"),
            (
                &format!("{GOOD}[client_address]\nfrom = \"forwarded\"\ntrusted_proxies = [\"10.0.0.0\"]"),
                "trusted_proxies",
            ),
            (&format!("{GOOD}[telemetry]\notlp_endpoint = \"collector:4317\""), "telemetry.otlp_endpoint"),
            (&format!("{GOOD}[telemetry]\nlog_format = \"xml\""), "log_format"),
            (&format!("{GOOD}[drain]\ntermination_grace_period_seconds = \"30s\""), "termination_grace_period_seconds"),
        ] {
            let error = error_of(text);
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_drain_that_would_be_cut_off_is_said_with_both_fields() {
        let drain = |timeout_seconds, termination_grace_period_seconds| DrainConfig {
            delay_seconds: 40,
            timeout_seconds,
            termination_grace_period_seconds,
        };
        let said = drain(28, Some(30)).cut_off().unwrap();
        assert!(said.contains("drain.timeout_seconds = 28"), "{said}");
        assert!(said.contains("drain.termination_grace_period_seconds = 30"), "{said}");
        assert_eq!(drain(25, Some(30)).cut_off(), None);
        assert_eq!(drain(3600, None).cut_off(), None);
        assert_eq!(DrainConfig { termination_grace_period_seconds: Some(30), ..Default::default() }.cut_off(), None);
    }
}
