//! `agent.toml`: what people decide about an agent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::directory::config as directory;
use crate::net::outbound::Access;
use crate::net::proxy::{Proxy, ProxyUrlError, Via};
use crate::storage::{FileError, PrivateFile, read_text};
use crate::telemetry::log::Format;
use crate::telemetry::otlp::{self, Collector};

/// How many accounts are written at the same time, if nobody says otherwise: a domain controller serves that easily.
pub const DEFAULT_PARALLEL: usize = 8;

/// How often one account may be reset within an hour, if nobody says otherwise: somebody who mistypes his new password
/// needs two or three, and whoever has taken over a portal gets no more than this.
pub const DEFAULT_RESETS_PER_HOUR: usize = 5;

/// How many sessions are held, if nobody says otherwise: a node may go at any time, and the other session stays.
pub const DEFAULT_SESSIONS: usize = 2;

/// How old the agent's keys become, if nobody says otherwise: half a year.
pub const DEFAULT_ROTATE_EVERY: Duration = Duration::from_secs(DEFAULT_ROTATE_DAYS * DAY);

const DEFAULT_ROTATE_DAYS: u64 = 182;
const DAY: u64 = 24 * 3600;

/// The configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[relay]`.
    #[serde(default)]
    pub relay: Relay,
    /// `[directory]`. Needed to run, not to enrol.
    #[serde(default)]
    pub directory: Option<directory::Config>,
    /// `[execution]`.
    #[serde(default)]
    pub execution: Execution,
    /// `[keys]`.
    #[serde(default)]
    pub keys: Keys,
    /// `[telemetry]`.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// What the agent says about itself, and where.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// The base URL of an OpenTelemetry collector that takes OTLP over HTTP. Without it there are no spans.
    pub otlp_endpoint: Option<String>,
    /// A file with a private CA that the collector's certificate is from.
    pub otlp_ca_file: Option<PathBuf>,
    /// How a line of the log looks; text at a terminal and JSON elsewhere, if absent.
    pub log_format: Option<Format>,
    /// Where Prometheus finds metrics: an address of this host alone. Nobody else is to see what happens here.
    pub metrics_listen: Option<SocketAddr>,
}

impl Telemetry {
    /// Where spans go.
    #[must_use]
    pub fn collector(&self) -> Collector<'_> {
        Collector { endpoint: self.otlp_endpoint.as_deref(), ca_file: self.otlp_ca_file.as_deref() }
    }
}

/// How the relay is reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relay {
    /// A file with a private CA that is trusted beside the system's; relative to `agent.toml`.
    pub ca_file: Option<PathBuf>,
    /// The HTTP proxy on the way to the relay, or "none" for a direct way. Absent: as the environment says.
    pub proxy: Option<ProxySetting>,
    /// Who the agent is to the proxy, if that wants to know.
    pub proxy_user: Option<String>,
    /// A file (mode 0600) with the password for `proxy_user` and nothing else; relative to `agent.toml`.
    pub proxy_password_file: Option<PathBuf>,
    /// How many sessions are held, each on a node of its own if the relay has as many: 1 or 2.
    pub sessions: usize,
}

impl Default for Relay {
    fn default() -> Self {
        Self { ca_file: None, proxy: None, proxy_user: None, proxy_password_file: None, sessions: DEFAULT_SESSIONS }
    }
}

/// `[relay] proxy`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ProxySetting {
    /// `"none"`: none, whatever the environment says.
    None,
    /// This one, whatever the environment says.
    Proxy(Proxy),
}

impl TryFrom<String> for ProxySetting {
    type Error = ProxyUrlError;

    fn try_from(text: String) -> Result<Self, ProxyUrlError> {
        let text = Zeroizing::new(text);
        if text.as_str() == "none" { Ok(Self::None) } else { text.parse().map(Self::Proxy) }
    }
}

impl Relay {
    /// How the relay is reached. The proxy's password is read from its file.
    ///
    /// # Errors
    /// If the file is no use, or there is a user or a password without the other, or without a proxy.
    pub fn access(&self) -> Result<Access, ConfigError> {
        let via = match (&self.proxy, &self.proxy_user, &self.proxy_password_file) {
            (None, None, None) => Via::Environment,
            (Some(ProxySetting::None), None, None) => Via::Direct,
            (Some(ProxySetting::Proxy(proxy)), None, None) => Via::Proxy(proxy.clone()),
            (Some(ProxySetting::Proxy(proxy)), Some(user), Some(file)) => {
                let password = PrivateFile::new(file).read().map_err(ConfigError::ProxyPassword)?;
                let known = proxy.clone().with_credentials(user, password.trim_end_matches(['\r', '\n']));
                Via::Proxy(known.map_err(ConfigError::ProxyUser)?)
            }
            _ => return Err(ConfigError::ProxyFields),
        };
        Ok(Access { ca_file: self.ca_file.clone(), via })
    }
}

/// How commands are executed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Execution {
    /// How many accounts are written at the same time: 1 to 64.
    pub parallel: usize,
    /// How often one account may be reset within an hour, and how often it may be unlocked: 1 to 1000. What the directory
    /// refused does not count. A change is not limited: wrong current passwords lock the account.
    pub resets_per_hour: usize,
}

impl Default for Execution {
    fn default() -> Self {
        Self { parallel: DEFAULT_PARALLEL, resets_per_hour: DEFAULT_RESETS_PER_HOUR }
    }
}

/// How the agent's own keys change.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// How old they become, in days, before the agent makes new ones: 0 for never by itself, or 1 to 730.
    pub rotate_every_days: u64,
}

impl Default for Keys {
    fn default() -> Self {
        Self { rotate_every_days: DEFAULT_ROTATE_DAYS }
    }
}

impl Keys {
    /// How old they become; nothing for ever.
    #[must_use]
    pub fn rotate_every(&self) -> Option<Duration> {
        (self.rotate_every_days > 0).then(|| Duration::from_secs(self.rotate_every_days * DAY))
    }
}

/// Why the configuration is no use.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error("{path}: the configuration can't be read: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{path}: {detail}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where, and what.
        detail: String,
    },
    /// It holds a secret, and is no use, or open to others.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file with the proxy's password is no use, or open to others.
    #[error("[relay] proxy_password_file: {0}")]
    ProxyPassword(FileError),
    /// What belongs together is not there together.
    #[error("[relay] proxy_user and proxy_password_file belong together, and to a proxy = \"http://HOST:PORT\"")]
    ProxyFields,
    /// The credentials can't be used.
    #[error("[relay] proxy_user: {0}")]
    ProxyUser(ProxyUrlError),
}

impl Config {
    /// Reads it. A file that is missing is the same as an empty one.
    ///
    /// # Errors
    /// If it can't be read, or holds something that is unknown or not of its form.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = match read_text(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            text => text.map_err(|error| ConfigError::Read { path: path.to_owned(), error })?,
        };
        let mut config = Self::parse(&text).map_err(|detail| ConfigError::Invalid { path: path.to_owned(), detail })?;
        let beside = |file: PathBuf| path.with_file_name("").join(file);
        config.relay.ca_file = config.relay.ca_file.map(beside);
        config.relay.proxy_password_file = config.relay.proxy_password_file.map(beside);
        if matches!(&config.relay.proxy, Some(ProxySetting::Proxy(proxy)) if proxy.has_credentials()) {
            // There is a password in it.
            PrivateFile::new(path).read()?;
        }
        Ok(config)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| {
            // The library's own display shows the line, in which a secret may stand.
            let span = error.span().unwrap_or_default();
            let before = text.get(..span.start).unwrap_or_default();
            let line = text.lines().nth(before.matches('\n').count()).unwrap_or_default();
            let field = line.split('=').next().unwrap_or_default().trim();
            format!("line {}, {field}: {}", before.matches('\n').count() + 1, plain(error.message()))
        })?;
        if !(1..=2).contains(&config.relay.sessions) {
            return Err("[relay] sessions: 1 or 2 is expected".to_owned());
        }
        if !(1..=64).contains(&config.execution.parallel) {
            return Err("[execution] parallel: a number from 1 to 64 is expected".to_owned());
        }
        if !(1..=1000).contains(&config.execution.resets_per_hour) {
            return Err("[execution] resets_per_hour: a number from 1 to 1000 is expected".to_owned());
        }
        if config.keys.rotate_every_days > 730 {
            return Err("[keys] rotate_every_days: a number from 0 (never) to 730 is expected".to_owned());
        }
        if let Some(endpoint) = &config.telemetry.otlp_endpoint {
            otlp::check(endpoint).map_err(|error| error.to_string())?;
        }
        if config.telemetry.metrics_listen.is_some_and(|address| !address.ip().is_loopback()) {
            return Err(
                "[telemetry] metrics_listen: an address of this host alone is expected, like 127.0.0.1:9444".to_owned()
            );
        }
        Ok(config)
    }

    /// The directory.
    ///
    /// # Errors
    /// If there is none in the file.
    pub fn directory(&self, path: &Path) -> Result<&directory::Config, ConfigError> {
        let detail = "[directory] is missing: it says which directory the agent writes to; run: writeback-agent setup";
        let missing = || ConfigError::Invalid { path: path.to_owned(), detail: detail.to_owned() };
        self.directory.as_ref().ok_or_else(missing)
    }
}

/// What the library says of types, as people say it.
fn plain(message: &str) -> String {
    let numbers =
        message.replace("expected usize", "a number is expected").replace("expected u64", "a number is expected");
    let lists = numbers.replace("expected a sequence", "a list is expected: [\"...\", \"...\"]");
    lists
        .replace("expected path string", "a text is expected")
        .replace("expected a boolean", "true or false is expected")
        .replace("expected a string", "a text is expected")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        fs::write(&path, text).unwrap();
        Config::load(&path).map_err(|e| e.to_string())
    }

    #[test]
    fn an_empty_file_has_the_defaults_and_a_full_one_is_read() {
        assert_eq!(load("").unwrap().execution.parallel, DEFAULT_PARALLEL);
        let config = load(
            "[relay]\nca_file = \"ca.pem\"\n[directory]\nkind = \"demo\"\naccounts = [\"a@b\"]\n\
             initial_password = \"x\"\n[execution]\nparallel = 2",
        )
        .unwrap();
        assert!(config.relay.ca_file.unwrap().is_absolute());
        assert_eq!(config.execution.parallel, 2);
        assert!(matches!(config.directory, Some(directory::Config::Demo(_))));
    }

    #[test]
    fn the_proxy_is_the_environments_unless_the_file_names_one_or_none() {
        let via = |text: &str| load(text).unwrap().relay.access().map(|access| access.via).map_err(|e| e.to_string());
        assert_eq!(via("").unwrap(), Via::Environment);
        assert_eq!(via("[relay]\nproxy = \"none\"").unwrap(), Via::Direct);
        assert_eq!(via("[relay]\nproxy = \"http://p:1\"").unwrap(), Via::Proxy("http://p:1".parse().unwrap()));
        for fields in [
            "proxy_user = \"u\"",
            "proxy = \"none\"\nproxy_password_file = \"f\"",
            "proxy = \"p:1\"\nproxy_user = \"u\"",
        ] {
            let error = via(&format!("[relay]\n{fields}")).unwrap_err();
            assert!(error.contains("proxy_password_file"), "{error}");
        }
    }

    #[test]
    fn a_proxys_password_stands_in_a_private_file_wherever_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let chmod = |file: &Path, mode| {
            fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        fs::write(&path, "[relay]\nproxy = \"http://u:hunter2@p:1\"").unwrap();
        chmod(&path, 0o644);
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(error.contains("agent.toml") && error.contains("chmod 600") && !error.contains("hunter2"), "{error}");
        chmod(&path, 0o600);
        let inside = Config::load(&path).unwrap();
        assert!(!format!("{inside:?}").contains("hunter2"));

        let password = dir.path().join("proxy-password");
        fs::write(&path, "[relay]\nproxy = \"p:1\"\nproxy_user = \"u\"\nproxy_password_file = \"proxy-password\"")
            .unwrap();
        fs::write(&password, "hunter2\n").unwrap();
        chmod(&path, 0o644);
        chmod(&password, 0o640);
        let beside = Config::load(&path).unwrap();
        let error = beside.relay.access().unwrap_err().to_string();
        assert!(error.contains("proxy-password") && error.contains("chmod 600"), "{error}");
        chmod(&password, 0o600);
        assert_eq!(beside.relay.access().unwrap().via, inside.relay.access().unwrap().via);
    }

    #[test]
    fn an_error_names_the_file_and_the_field_and_repeats_no_secret() {
        for (text, field) in [
            ("[relay]\nca = \"x\"", "ca"),
            ("[relay]\nsessions = 3", "sessions"),
            ("[relay]\nproxy = \"socks5://u:hunter2@p:1\"", "proxy"),
            ("[relay]\nproxy = \"http://u:hunter2@p:x\"", "proxy"),
            ("[execution]\nparallel = \"many\"", "parallel"),
            ("[execution]\nparallel = 0", "parallel"),
            ("[execution]\nresets_per_hour = 0", "resets_per_hour"),
            ("[execution]\nresets_per_hour = 1001", "resets_per_hour"),
            ("[keys]\nrotate_every_days = 731", "rotate_every_days"),
            ("[telemetry]\nmetrics_listen = \"0.0.0.0:9444\"", "metrics_listen"),
            ("[telemetry]\notlp_endpoint = \"collector\"", "otlp_endpoint"),
            ("[directory]\nkind = \"demo\"\naccounts = []", "initial_password"),
            ("[directory]\nkind = \"other\"", "other"),
            ("[directory]\nkind = \"demo\"\naccounts = []\ninitial_password = \"hunter2\"\nx = 1", "x"),
            ("nothing", "nothing"),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains("agent.toml") && error.contains(field), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
