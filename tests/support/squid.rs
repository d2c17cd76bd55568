//! Squid, the HTTP proxy of many companies, on a loopback address of its own.

use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::own_address;
use super::process::{Process, Signal};

const SQUID: &str = "/usr/sbin/squid";
const NCSA: &str = "/usr/lib/squid/basic_ncsa_auth";
const CERTGEN: &str = "/usr/lib/squid/security_file_certgen";
/// The account that Squid works as, when root starts it.
const ACCOUNT: &str = "proxy";

pub(crate) const USER: &str = "agent";
/// With what has to be escaped in a URL.
pub(crate) const PASSWORD: &str = "Pr0xy@pass:w/rd";

/// A running Squid. Dropped, it is killed and its folder removed.
pub(crate) struct Squid {
    folder: TempDir,
    address: Ipv4Addr,
    process: Process,
}

impl Squid {
    /// For everybody.
    pub(crate) async fn open() -> Self {
        Self::start("", |_, _| "http_access allow all".to_owned()).await
    }

    /// For [`USER`] with [`PASSWORD`] alone (Basic, RFC 7617).
    pub(crate) async fn with_password() -> Self {
        Self::with_password_and_host("localhost", Ipv4Addr::LOCALHOST).await
    }

    /// The same, and it alone knows this host.
    pub(crate) async fn with_password_and_host(name: &str, address: Ipv4Addr) -> Self {
        Self::start("", |folder, _| {
            let hosts = folder.join("hosts");
            std::fs::write(&hosts, format!("{address} {name}\n")).unwrap();
            let users = folder.join("users");
            let hash = output(Command::new("openssl").args(["passwd", "-apr1", PASSWORD]));
            std::fs::write(&users, format!("{USER}:{hash}")).unwrap();
            format!(
                "auth_param basic program {NCSA} {}\nauth_param basic realm test\nacl known proxy_auth REQUIRED\n\
                 http_access allow known\nhosts_file {}",
                users.display(),
                hosts.display()
            )
        })
        .await
    }

    /// One that opens every TLS connection, looks inside, and makes certificates with a CA of its own:
    /// [`Self::ca_file`]. It takes any certificate from the other side: it can't compare addresses with certificates.
    /// Upgrades to WebSocket pass if it is told so.
    pub(crate) async fn inspecting(websockets: bool) -> Self {
        let upgrade = if websockets { "allow" } else { "deny" };
        let port = "ssl-bump generate-host-certificates=on tls-cert=ca.pem";
        Self::start(port, |folder, account| {
            let ca = folder.join("ca.pem").display().to_string();
            output(Command::new("openssl").args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]).args(
                [
                    "-subj",
                    "/CN=Inspecting Proxy",
                    "-addext",
                    "basicConstraints=critical,CA:TRUE",
                    "-addext",
                    "keyUsage=critical,keyCertSign,cRLSign",
                    "-keyout",
                    &ca,
                    "-out",
                    &ca,
                ],
            ));
            // The certificate alone, for those who are to trust it.
            output(Command::new("openssl").args(["x509", "-in", &ca, "-out"]).arg(folder.join("trusted.pem")));
            let made = folder.join("made");
            output(Command::new(CERTGEN).arg("-c").arg("-s").arg(&made).args(["-M", "4MB"]));
            give(&made, account);
            format!(
                "sslcrtd_program {CERTGEN} -s {} -M 4MB\nssl_bump stare all\nssl_bump bump all\n\
                 sslproxy_cert_error allow all\nsslproxy_cert_sign signTrusted all\nhttp_upgrade_request_protocols websocket {upgrade} all\n\
                 http_access allow all",
                made.display()
            )
        })
        .await
    }

    /// `rules` gets the folder and the account's number.
    async fn start(port_options: &str, rules: impl FnOnce(&Path, u32) -> String) -> Self {
        assert!(Path::new(CERTGEN).exists(), "squid-openssl is missing; run tests/setup");
        let account = output(Command::new("id").args(["-u", ACCOUNT])).trim().parse().unwrap();
        let (folder, address) = (tempfile::tempdir().unwrap(), own_address());
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let rules = rules(folder.path(), account);
        let at = |file: &str| folder.path().join(file).display().to_string();
        let port_options = port_options.replace("ca.pem", &at("ca.pem"));
        let config = format!(
            "http_port {address}:3128 {port_options}\n{rules}\nhttp_access deny all\ncache deny all\n\
             pid_filename none\nvisible_hostname proxy.test\nshutdown_lifetime 0 seconds\n\
             cache_effective_user {ACCOUNT}\ncoredump_dir {}\nnetdb_filename none\n\
             access_log stdio:{}\ncache_log {}\n",
            folder.path().display(),
            at("access.log"),
            at("cache.log")
        );
        std::fs::write(at("squid.conf"), config).unwrap();
        give(folder.path(), account);
        let mut command = Command::new(SQUID);
        let said = std::fs::File::create(at("said")).unwrap();
        command
            .args(["-N", "-f", &at("squid.conf")])
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said);
        let squid = Self { folder, address, process: Process::spawn(&mut command) };
        let listens = || async { TcpStream::connect((address, 3128)).await.is_ok() };
        squid.process.comes_up("squid listens", &squid.folder.path().join("said"), listens).await;
        squid
    }

    /// From now on nothing passes, and no connection ends: a black hole.
    pub(crate) fn freeze(&self) {
        self.process.freeze();
    }

    pub(crate) fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    /// `HOST:PORT`.
    pub(crate) fn place(&self) -> String {
        format!("{}:3128", self.address)
    }

    /// Who it lets in with a password, as a URL has it.
    pub(crate) fn login(&self) -> String {
        let escaped = PASSWORD.replace('@', "%40").replace(':', "%3A").replace('/', "%2F");
        format!("{USER}:{escaped}")
    }

    /// The CA of the certificates that it makes.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("trusted.pem")
    }

    /// What it has been asked for, one line each: `… TCP_TUNNEL/200 … CONNECT host:port …`. Written when a tunnel ends.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default()
    }
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Squid reads and writes this folder as another user.
fn give(folder: &Path, account: u32) {
    chown(folder, Some(account), Some(account)).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { give(&path, account) } else { chown(&path, Some(account), Some(account)).unwrap() }
    }
}
