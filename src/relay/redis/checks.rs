//! What is refused at the start, so that it is found by whoever starts the relay, and not by a user who waits for a reset.

use std::collections::HashMap;

use futures_util::future::join_all;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, cmd};

use super::absence::may_pass;
use super::config::{Config, ConfigError};
use super::keys;
use super::link::{Link, LinkError};
use crate::net::tls_fault::WANTS_A_CERTIFICATE;
use crate::protocol::untrusted::Untrusted;

/// The oldest version whose commands and scripts do what we need: shard channels came with it.
const OLDEST: u32 = 7;

/// Why a relay does not start on these servers.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nobody there yet, or not quite: it may come by itself.
    #[error(
        "redis at {server} can't be used yet: {detail}; see that it runs, and that redis.urls (with Sentinel: \
         redis.master_name) are right"
    )]
    Away {
        /// Where.
        server: String,
        /// What was tried, and what it led to.
        detail: String,
    },
    /// Nobody that we can talk to.
    #[error(
        "redis at {server} can't be used: {detail}; check that it runs and that redis.urls (with TLS: redis.ca_file, \
         with Sentinel: redis.master_name) are right"
    )]
    Unreachable {
        /// Where.
        server: String,
        /// What was tried, and what it led to.
        detail: String,
    },
    /// The server knows its clients by certificates.
    #[error(
        "redis at {server} wants a certificate of its clients: set redis.cert_file and redis.key_file (or tls-auth-clients \
         no in its own configuration); {detail}"
    )]
    NoCertificate {
        /// Where.
        server: String,
        /// What it said.
        detail: String,
    },
    /// Wrong name or password, or none.
    #[error(
        "redis at {server} does not let us in: {detail}; check redis.username and redis.password_file (for the sentinels \
         themselves: redis.sentinel_username and redis.sentinel_password_file)"
    )]
    Credentials {
        /// Where.
        server: String,
        /// What it said.
        detail: String,
    },
    /// The user may not do what a relay does.
    #[error("redis at {server}: the user may not run {command} on a relay's keys; let it: {}", keys::ACL)]
    Right {
        /// Where.
        server: String,
        /// What it may not.
        command: String,
    },
    /// Too old.
    #[error("redis at {server} is version {version}; Redis {OLDEST}, or Valkey, or newer is needed")]
    Version {
        /// Where.
        server: String,
        /// What it says.
        version: String,
    },
    /// Nodes with different keys do not hear each other.
    #[error(
        "node {} ({node}) runs on the same redis with another redis.cluster_key_file: give all nodes the same key; to \
         change it, stop them all first",
        name.cell()
    )]
    ClusterKey {
        /// The other node's name.
        name: Untrusted,
        /// Who it is.
        node: String,
    },
    /// It may forget agents, revocations and outcomes when its memory is full.
    #[error(
        "redis at {server} may evict keys (maxmemory-policy {policy}), agents and revocations among them; run: \
         CONFIG SET maxmemory-policy noeviction"
    )]
    Eviction {
        /// Where.
        server: String,
        /// How.
        policy: String,
    },
}

impl CheckError {
    /// Whether the same relay may start on the same servers later, though nobody changes anything.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

/// Opens the link, and checks every server that it will write to.
///
/// # Errors
/// If a relay can't work on them, or would not keep its word; the message says where and what to do.
pub async fn checked(config: Config) -> Result<Link, CheckError> {
    let servers = config.urls.join(" ");
    let link = Link::open(config).await.map_err(|error| match error {
        LinkError::Config(error) => CheckError::Config(error),
        LinkError::Redis { error, .. } => refused(&servers, "connecting", &error),
    })?;
    let info = everywhere(&link, &servers, cmd("INFO").arg("everything")).await?;
    for (server, info) in &info {
        judge(server, info)?;
    }
    rights(&link, &servers).await?;
    for (server, info) in &info {
        if field(info, "aof_enabled") == Some("0") && !saves(&link, server).await {
            tracing::warn!(
                %server,
                "redis keeps nothing over a restart: agents would have to enrol again; run: CONFIG SET appendonly yes"
            );
        }
    }
    Ok(link)
}

async fn everywhere(link: &Link, servers: &str, command: &Cmd) -> Result<Vec<(String, String)>, CheckError> {
    link.everywhere(command).await.map_err(|error| refused(servers, &name(command), &error))
}

/// Whether the server writes snapshots. One that does not let us see its configuration is run by people who know.
async fn saves(link: &Link, server: &str) -> bool {
    let mut settings = cmd("CONFIG");
    settings.arg("GET").arg("save");
    let found: Result<Vec<(String, HashMap<String, String>)>, _> = link.everywhere(&settings).await;
    let found = found.unwrap_or_default().into_iter().find(|(name, _)| name == server);
    found.is_none_or(|(_, settings)| settings.get("save").is_some_and(|save| !save.is_empty()))
}

/// A line of `INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Judges a server by what `INFO` says.
fn judge(server: &str, info: &str) -> Result<(), CheckError> {
    let server = server.to_owned();
    let version = field(info, "redis_version").unwrap_or("unknown");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST) {
        return Err(CheckError::Version { server, version: version.to_owned() });
    }
    let policy = field(info, "maxmemory_policy").unwrap_or("noeviction");
    if field(info, "maxmemory") != Some("0") && policy != "noeviction" {
        return Err(CheckError::Eviction { server, policy: policy.to_owned() });
    }
    Ok(())
}

/// Runs every command that a relay runs, on keys of its own, and removes them.
pub(super) async fn rights(link: &Link, server: &str) -> Result<(), CheckError> {
    let [hash, set, mark] = ["hash", "set", "mark"].map(keys::probe);
    let channel = keys::probe("channel");
    let commands: &[&[&str]] = &[
        &["HSET", &hash, "a", "1"],
        &["HSETNX", &hash, "a", "1"],
        &["HINCRBY", &hash, "a", "1"],
        &["HGET", &hash, "a"],
        &["HMGET", &hash, "a"],
        &["HGETALL", &hash],
        &["HKEYS", &hash],
        &["HLEN", &hash],
        &["EXISTS", &hash],
        &["PSETEX", &mark, "1000", "1"],
        &["PTTL", &mark],
        &["HEXISTS", &hash, "a"],
        &["HDEL", &hash, "a"],
        &["SADD", &set, "a"],
        &["SMEMBERS", &set],
        &["SREM", &set, "a"],
        &["SET", &mark, "1", "NX", "EX", "60"],
        &["SET", &mark, "1", "PX", "60000", "GET"],
        &["GET", &mark],
        &["PEXPIRE", &mark, "60000"],
        &["EXISTS", &mark],
        &["DEL", &mark],
        &[
            "EVAL",
            "redis.call('INFO', 'replication') redis.call('TIME') return redis.call('HEXISTS', KEYS[1], 'a')",
            "1",
            &hash,
        ],
        &["EVALSHA", "0000000000000000000000000000000000000000", "1", &hash],
        &["SPUBLISH", &channel, ""],
    ];
    // All at once: a server that is slow is not waited for two dozen times.
    let asked = commands.iter().map(|parts| async move {
        let mut command = Cmd::new();
        command.arg(*parts);
        allowed(server, &command, link.answer(&command).await)
    });
    join_all(asked).await.into_iter().collect::<Result<(), _>>()?;
    let mut wait = cmd("WAIT");
    wait.arg(0).arg(1);
    allowed(server, &wait, link.answer_beside(&hash, &wait).await)
}

/// Whether the user may run it. That it has no such script, for one, is no refusal.
fn allowed<T>(server: &str, command: &Cmd, answer: Result<T, RedisError>) -> Result<(), CheckError> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => Ok(()),
        Err(error) => Err(refused(server, &name(command), &error)),
    }
}

fn name(command: &Cmd) -> String {
    match command.args_iter().next() {
        Some(redis::Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => String::new(),
    }
}

fn refused(server: &str, what: &str, error: &RedisError) -> CheckError {
    let (server, detail) = (server.to_owned(), format!("{what}: {error}"));
    // Connecting to a Cluster, the library tells the kind in words only.
    let said = |word: &str| error.code() == Some(word) || detail.contains(word);
    if error.kind() == ErrorKind::AuthenticationFailed || said("WRONGPASS") || said("NOAUTH") {
        CheckError::Credentials { server, detail }
    } else if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) {
        CheckError::Right { server, command: what.to_owned() }
    } else if said("CertificateRequired") || said(WANTS_A_CERTIFICATE) {
        CheckError::NoCertificate { server, detail }
    } else if may_pass(error) {
        CheckError::Away { server, detail }
    } else {
        CheckError::Unreachable { server, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(version: &str, maxmemory: u64, policy: &str) -> String {
        format!("# Server\r\nredis_version:{version}\r\nmaxmemory:{maxmemory}\r\nmaxmemory_policy:{policy}\r\n")
    }

    #[test]
    fn a_server_that_is_too_old_is_named_with_its_version() {
        assert!(judge("a:1", &info("7.2.4", 0, "noeviction")).is_ok(), "valkey says so, too");
        assert!(judge("a:1", &info("10.0.1", 0, "noeviction")).is_ok());
        for old in ["6.2.14", "unknown"] {
            let said = judge("a:1", &info(old, 0, "noeviction")).unwrap_err().to_string();
            assert!(said.contains("a:1") && said.contains(old) && said.contains("Redis 7"), "{said}");
        }
        assert!(matches!(judge("a:1", "nothing"), Err(CheckError::Version { .. })));
    }

    #[test]
    fn a_server_that_may_evict_keys_is_refused_and_one_without_a_limit_is_not() {
        assert!(judge("a:1", &info("7.0.15", 0, "allkeys-lru")).is_ok());
        assert!(judge("a:1", &info("7.0.15", 1000, "noeviction")).is_ok());
        let said = judge("a:1", &info("7.0.15", 1000, "volatile-ttl")).unwrap_err().to_string();
        assert!(said.contains("a:1") && said.contains("volatile-ttl") && said.contains("noeviction"), "{said}");
    }
}
