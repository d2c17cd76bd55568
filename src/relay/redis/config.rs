//! `[redis]`: where it is, and who we are to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::{ClientTlsConfig, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, TlsCertificates};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;

use crate::net::certificates::{key_to_pem, read_authorities, read_chain, read_private_key, to_pem};
use crate::storage::{FileError, PrivateFile};

/// Reads the certificates in a file; why not, for people.
type CertificatesIn = fn(&Path) -> Result<Vec<CertificateDer<'static>>, String>;

/// `[redis]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// One or more servers: `redis://HOST:PORT` or, with TLS, `rediss://HOST:PORT`. For Sentinel, the sentinels; for a
    /// Cluster, some of its nodes. No password stands here.
    pub urls: Vec<String>,
    /// How they belong together.
    #[serde(default)]
    pub topology: Topology,
    /// With Sentinel: the name of the master.
    pub master_name: Option<String>,
    /// Who we are (ACL); `default` if absent.
    pub username: Option<String>,
    /// A file (mode 0600) with the password and nothing else.
    pub password_file: Option<PathBuf>,
    /// With Sentinel: who we are to the sentinels themselves; `default` if absent.
    pub sentinel_username: Option<String>,
    /// With Sentinel: a file (mode 0600) with the password for the sentinels themselves; none is sent if absent.
    pub sentinel_password_file: Option<PathBuf>,
    /// A PEM file with the CA of the servers' certificates, instead of the system's roots.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the relay's own certificate and what stands above it, for servers that want one of their clients
    /// (`tls-auth-clients`, which is Redis' default); the sentinels are shown it, too. Read anew for each connection.
    pub cert_file: Option<PathBuf>,
    /// A PEM file (mode 0600) with its private key.
    pub key_file: Option<PathBuf>,
    /// How long a connection may take to come up. Failing over to another node is quicker than waiting.
    #[serde(default = "connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// How long one command may take. A healthy server answers in 1 ms; a portal's user waits behind this.
    #[serde(default = "command_timeout_ms")]
    pub command_timeout_ms: u64,
    /// A file (mode 0600) with the key, at least 32 characters, that all nodes share and sign their messages with.
    pub cluster_key_file: PathBuf,
}

/// How the servers belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// One server.
    #[default]
    Single,
    /// A master and its replicas, watched by sentinels.
    Sentinel,
    /// Redis Cluster.
    Cluster,
}

fn connect_timeout_ms() -> u64 {
    2_000
}

fn command_timeout_ms() -> u64 {
    2_000
}

/// Why a configuration can't work.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `urls` is empty, has more than one for a single server, or one that is none.
    #[error("redis.urls: {0}")]
    Urls(String),
    /// Sentinel without a master's name, or the other way round.
    #[error("redis.master_name: it belongs to topology = \"sentinel\", and to that only")]
    MasterName,
    /// A password for sentinels without sentinels.
    #[error("redis.{0}: it belongs to topology = \"sentinel\" only")]
    Sentinel(&'static str),
    /// A file is no use.
    #[error("redis.{field}: {error}")]
    File {
        /// Which one.
        field: &'static str,
        /// Why.
        error: FileError,
    },
    /// A file for TLS is no use.
    #[error("redis.{field}: {path}: {detail}")]
    TlsFile {
        /// Which one.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// One of two that belong together, or without TLS.
    #[error(
        "redis.{0}: cert_file and key_file belong together, and to servers that are spoken to over TLS (rediss://)"
    )]
    ClientCertificate(&'static str),
    /// Zero.
    #[error("redis.{0}: 1 to 60000 milliseconds are expected")]
    Timeout(&'static str),
}

impl Config {
    /// Checks what the types can't.
    ///
    /// # Errors
    /// If it can't work; the message names the field.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.urls.is_empty() {
            return Err(ConfigError::Urls("name at least one server, for example redis://127.0.0.1:6379".to_owned()));
        }
        if self.topology == Topology::Single && self.urls.len() > 1 {
            return Err(ConfigError::Urls("several servers need topology = \"sentinel\" or \"cluster\"".to_owned()));
        }
        for url in &self.urls {
            let known = url.starts_with("redis://") || url.starts_with("rediss://");
            if !known || url.contains('@') || url.as_str().into_connection_info().is_err() {
                let expected = "redis://HOST:PORT or rediss://HOST:PORT is expected, without a password";
                return Err(ConfigError::Urls(expected.to_owned()));
            }
        }
        if self.master_name.is_some() != (self.topology == Topology::Sentinel) {
            return Err(ConfigError::MasterName);
        }
        for (field, given) in [
            ("sentinel_username", self.sentinel_username.is_some()),
            ("sentinel_password_file", self.sentinel_password_file.is_some()),
        ] {
            if given && self.topology != Topology::Sentinel {
                return Err(ConfigError::Sentinel(field));
            }
        }
        for (field, given, other) in
            [("cert_file", &self.cert_file, &self.key_file), ("key_file", &self.key_file, &self.cert_file)]
        {
            if given.is_some() && (other.is_none() || !self.tls()) {
                return Err(ConfigError::ClientCertificate(field));
            }
        }
        for (field, value) in
            [("connect_timeout_ms", self.connect_timeout_ms), ("command_timeout_ms", self.command_timeout_ms)]
        {
            if !(1..=60_000).contains(&value) {
                return Err(ConfigError::Timeout(field));
            }
        }
        Ok(())
    }

    /// How long a connection may take to come up.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    /// How long one command may take.
    #[must_use]
    pub fn command_timeout(&self) -> Duration {
        Duration::from_millis(self.command_timeout_ms)
    }

    /// Whether the servers speak TLS.
    #[must_use]
    pub fn tls(&self) -> bool {
        self.urls.iter().any(|url| url.starts_with("rediss://"))
    }

    /// The secret that nodes sign their messages with.
    ///
    /// # Errors
    /// If the file can't be read, others may read it, or it is too short.
    pub fn cluster_key(&self) -> Result<zeroize::Zeroizing<String>, ConfigError> {
        let file = PrivateFile::new(&self.cluster_key_file);
        let text = file.read().and_then(|text| {
            if text.trim().len() >= 32 { Ok(text) } else { Err(file.contents("at least 32 characters are expected")) }
        });
        text.map_err(|error| ConfigError::File { field: "cluster_key_file", error })
    }

    /// Who we are to a server.
    pub(super) fn credentials(&self) -> Result<RedisConnectionInfo, ConfigError> {
        named(self.username.as_ref(), "password_file", self.password_file.as_ref())
    }

    /// Who we are to a sentinel.
    pub(super) fn sentinel_credentials(&self) -> Result<RedisConnectionInfo, ConfigError> {
        named(self.sentinel_username.as_ref(), "sentinel_password_file", self.sentinel_password_file.as_ref())
    }

    /// Whom we trust, and who we are to the servers: as the files say now.
    pub(super) fn certificates(&self) -> Result<TlsCertificates, ConfigError> {
        let root_cert = self.ca_file.as_ref().map(|path| pem("ca_file", path, read_authorities)).transpose()?;
        let client_tls = match (&self.cert_file, &self.key_file) {
            (Some(cert_file), Some(key_file)) => Some(ClientTlsConfig {
                client_cert: pem("cert_file", cert_file, read_chain)?,
                client_key: private_key("key_file", key_file)?,
            }),
            _ => None,
        };
        Ok(TlsCertificates { client_tls, root_cert })
    }

    /// The files that a connection is made of.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.ca_file, &self.cert_file, &self.key_file, &self.password_file].into_iter().flatten()
    }
}

// The client reads nothing but PEM.

fn pem(field: &'static str, path: &Path, read: CertificatesIn) -> Result<Vec<u8>, ConfigError> {
    let found = read(path).map_err(|why| {
        let detail = format!("no certificate can be read from this file: {why}");
        ConfigError::TlsFile { field, path: path.to_owned(), detail }
    })?;
    Ok(to_pem(&found).into_bytes())
}

fn private_key(field: &'static str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    PrivateFile::new(path).check().map_err(|error| ConfigError::File { field, error })?;
    let key = read_private_key(path).map_err(|why| {
        let detail = format!("no private key can be read from this file: {why}");
        ConfigError::TlsFile { field, path: path.to_owned(), detail }
    })?;
    Ok(key_to_pem(&key).as_bytes().to_vec())
}

fn named(
    username: Option<&String>,
    field: &'static str,
    password_file: Option<&PathBuf>,
) -> Result<RedisConnectionInfo, ConfigError> {
    let mut info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    if let Some(username) = username {
        info = info.set_username(username);
    }
    if let Some(path) = password_file {
        let password = PrivateFile::new(path).read().map_err(|error| ConfigError::File { field, error })?;
        info = info.set_password(password.trim_end_matches(['\r', '\n']));
    }
    Ok(info)
}
