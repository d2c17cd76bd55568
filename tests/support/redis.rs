//! Real Redis servers: single, behind Sentinel, or as a Cluster, on a loopback address and in a folder of their own.
//! They go away with the test, or with its process, however that ends.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use rustix::process::{Pid, Signal, kill_process};
use writeback_relay::relay::redis::config::{Config, Topology};
use writeback_relay::storage::PrivateFile;

use super::process::comes_up;
use super::{eventually, own_address};

const PROGRAMS: [&str; 2] = ["/usr/bin/redis-server", "/usr/bin/redis-cli"];

/// The name that sentinels know the master by.
pub(crate) const MASTER: &str = "relay";

/// The password of the user who may do everything.
const ROOTS: &str = "root-password";

/// The password for the sentinels, where they have one.
const SENTINELS: &str = "sentinel-password";

fn login(user: &str, password: &str) -> [String; 5] {
    ["--user", user, "--pass", password, "--no-auth-warning"].map(str::to_owned)
}

/// The file with the key that nodes share.
const KEY: &str = "cluster-key";

/// The script that starts servers, and stops them when its standard input is closed.
struct Keeper {
    script: Child,
    lines: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Keeper {
    fn new(folder: &Path) -> Self {
        if let Some(missing) = PROGRAMS.into_iter().find(|program| !Path::new(program).exists()) {
            panic!("{missing} is missing; run tests/setup");
        }
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/redis.sh"))
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0) // Ctrl-C is for this process; the script cleans up after it
            .spawn()
            .unwrap();
        let (lines, answers) = (script.stdin.take(), BufReader::new(script.stdout.take().unwrap()));
        Self { script, lines, answers }
    }

    fn start(&mut self, name: &str) -> Pid {
        writeln!(self.lines.as_mut().unwrap(), "{name}").unwrap();
        let mut pid = String::new();
        self.answers.read_line(&mut pid).unwrap();
        Pid::from_raw(pid.trim().parse().unwrap()).unwrap()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.lines.take());
        let _ = self.script.wait();
    }
}

/// One server.
struct Server {
    name: String,
    port: u16,
    pid: Mutex<Pid>,
}

/// Writes down everything that a server is asked.
pub(crate) struct Monitor<'a> {
    redis: &'a Redis,
    port: u16,
    cli: Child,
    file: PathBuf,
}

impl Monitor<'_> {
    /// All requests since it was started, with the client that sent each.
    pub(crate) async fn requests(self) -> Vec<String> {
        const END: &str = "\"ECHO\" \"the end of the watch\"";
        self.redis.cli(self.port, &["ECHO", "the end of the watch"]);
        eventually("MONITOR shows the end", async || self.lines().iter().any(|line| line.contains(END))).await;
        let mut lines = self.lines();
        let end = lines.iter().position(|line| line.contains(END)).unwrap();
        // The first line is MONITOR's own answer; then what redis-cli says before the last request.
        lines.drain(..end).skip(1).filter(|line| !line.contains("\"COMMAND\"")).collect()
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.file).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Monitor<'_> {
    fn drop(&mut self) {
        let _ = self.cli.kill();
        let _ = self.cli.wait();
    }
}

/// Servers that belong together.
pub(crate) struct Redis {
    keeper: Mutex<Keeper>,
    folder: PathBuf,
    address: Ipv4Addr,
    topology: Topology,
    servers: Vec<Server>,
    /// What `redis-cli` needs to be let in.
    cli: Vec<String>,
    tls: bool,
    /// Whether they want a certificate of their clients.
    knows_its_clients: bool,
    /// Who signs certificates.
    issuer: Option<Box<rcgen::Issuer<'static, rcgen::KeyPair>>>,
    /// Who else is let in, with this password and these rights. Nobody, if it is absent; then everybody is.
    user: Option<(String, String)>,
}

impl Redis {
    fn new(topology: Topology) -> Self {
        let folder = tempfile::Builder::new().prefix("writeback-redis-").tempdir().unwrap().keep();
        PrivateFile::new(folder.join(KEY)).replace("a key that all nodes of the test share").unwrap();
        let keeper = Mutex::new(Keeper::new(&folder));
        let (address, servers) = (own_address(), Vec::new());
        Self {
            keeper,
            folder,
            address,
            topology,
            servers,
            cli: Vec::new(),
            tls: false,
            knows_its_clients: false,
            issuer: None,
            user: None,
        }
    }

    /// One plain server, which keeps nothing over a restart.
    pub(crate) async fn single() -> Self {
        Self::single_with("").await
    }

    /// The same, with more lines in its configuration.
    pub(crate) async fn single_with(settings: &str) -> Self {
        let mut redis = Self::new(Topology::Single);
        redis.add("server", 6379, &format!("save \"\"\n{settings}")).await;
        redis
    }

    /// A server that lets in only the user `relay` with `password`, who has these rights.
    pub(crate) async fn single_with_user(password: &str, rights: &str) -> Self {
        let mut redis = Self::new(Topology::Single).with_user(password, rights);
        redis.add("server", 6379, "save \"\"").await;
        redis
    }

    /// A server that speaks TLS only, with a certificate of a CA of its own.
    pub(crate) async fn single_with_tls() -> Self {
        let mut redis = Self::new(Topology::Single).with_tls();
        redis.add("server", 6379, "save \"\"").await;
        redis
    }

    /// Servers that speak TLS only, and let nobody in without a certificate of their CA.
    pub(crate) async fn that_knows_its_clients(topology: Topology) -> Self {
        let mut redis = Self::new(topology).with_tls();
        redis.knows_its_clients = true;
        redis.renew_client_certificate();
        let file = |name: &str| redis.folder.join(name).display().to_string();
        let shown = ["--cert".to_owned(), file("cert.pem"), "--key".to_owned(), file("key.pem")];
        redis.cli.extend(shown);
        match topology {
            Topology::Single => {
                redis.add("server", 6379, "save \"\"").await;
                redis
            }
            Topology::Sentinel => redis.watched().await,
            Topology::Cluster => redis.sharded(&[7001, 7002, 7003], 0).await,
        }
    }

    /// Another certificate for the relay, in the same files.
    pub(crate) fn renew_client_certificate(&self) {
        let key = rcgen::KeyPair::generate().unwrap();
        let client = rcgen::CertificateParams::new(["relay".to_owned()]).unwrap();
        let certificate = client.signed_by(&key, self.issuer.as_deref().unwrap()).unwrap();
        self.write_client_certificate(&certificate.pem(), &key.serialize_pem());
    }

    /// One that no server here takes.
    pub(crate) fn spoil_client_certificate(&self) {
        let made = rcgen::generate_simple_self_signed(["relay".to_owned()]).unwrap();
        self.write_client_certificate(&made.cert.pem(), &made.signing_key.serialize_pem());
    }

    fn write_client_certificate(&self, certificate: &str, key: &str) {
        PrivateFile::new(self.folder.join("client-key.pem")).replace(key).unwrap();
        PrivateFile::new(self.folder.join("client.pem")).replace(certificate).unwrap();
    }

    fn with_user(mut self, password: &str, rights: &str) -> Self {
        self.user = Some((password.to_owned(), rights.to_owned()));
        self
    }

    fn with_tls(mut self) -> Self {
        self.tls = true;
        self.issuer = Some(Box::new(self.make_certificate()));
        self.cli.extend(["--tls".to_owned(), "--cacert".to_owned(), self.ca_file().display().to_string()]);
        self
    }

    /// A master with a replica, and nobody who watches them.
    pub(crate) async fn with_a_replica() -> Self {
        let mut redis = Self::new(Topology::Single);
        let address = redis.address;
        redis.add("server", 6379, "save \"\"\nrepl-diskless-sync-delay 0").await;
        let settings = format!("save \"\"\nrepl-diskless-sync-delay 0\nreplicaof {address} 6379");
        redis.add("replica", 6380, &settings).await;
        redis.is_followed(6379).await;
        redis
    }

    /// Makes the replica of [`Self::with_a_replica`] the master of its master.
    pub(crate) async fn swap_with_replica(&self) {
        // WAIT is about what its own connection has written, which is nothing.
        eventually("the replica has everything", async || {
            let said = self.cli(6379, &["INFO", "replication"]);
            let after = |name: &str| said.split_once(name)?.1.split([',', '\r', '\n']).next()?.parse::<u64>().ok();
            after(",offset=").is_some() && after(",offset=") == after("master_repl_offset:")
        })
        .await;
        self.cli(6380, &["REPLICAOF", "NO", "ONE"]);
        self.cli(6379, &["REPLICAOF", &self.address.to_string(), "6380"]);
        self.is_followed(6380).await;
    }

    async fn is_followed(&self, master: u16) {
        eventually("the replica is connected", async || {
            let said = self.cli(master, &["INFO", "replication"]);
            said.contains("connected_slaves:1") && said.contains("state=online")
        })
        .await;
    }

    /// A master with two replicas, watched by three sentinels that miss it after a second.
    pub(crate) async fn sentinel() -> Self {
        Self::new(Topology::Sentinel).watched().await
    }

    /// The same with TLS everywhere; only the user `relay` is let in to the master and the replicas, and nobody without a
    /// password to the sentinels.
    pub(crate) async fn locked_sentinel(password: &str, rights: &str) -> Self {
        Self::new(Topology::Sentinel).with_tls().with_user(password, rights).watched().await
    }

    async fn watched(mut self) -> Self {
        let redis = &mut self;
        let address = redis.address;
        redis.add("master", 6379, "save \"\"\nrepl-diskless-sync-delay 0").await;
        for (name, port) in [("replica-1", 6380), ("replica-2", 6381)] {
            let settings = format!("save \"\"\nrepl-diskless-sync-delay 0\nreplicaof {address} 6379");
            redis.add(name, port, &settings).await;
        }
        for (name, port) in [("sentinel-1", 26379), ("sentinel-2", 26380), ("sentinel-3", 26381)] {
            let settings = format!(
                "sentinel monitor {MASTER} {address} 6379 2\nsentinel down-after-milliseconds {MASTER} 1000\n\
                 sentinel failover-timeout {MASTER} 5000\n{}",
                if redis.user.is_some() {
                    format!(
                        "sentinel auth-user {MASTER} root\nsentinel auth-pass {MASTER} {ROOTS}\n\
                         sentinel sentinel-pass {SENTINELS}"
                    )
                } else {
                    String::new()
                }
            );
            redis.add(name, port, &settings).await;
        }
        let info = ["INFO", "replication"];
        eventually("both replicas are connected", async || {
            let said = redis.cli(6379, &info);
            said.contains("connected_slaves:2") && said.matches("state=online").count() == 2
        })
        .await;
        eventually("each sentinel knows the others and the replicas", async || {
            [26379, 26380, 26381].into_iter().all(|port| {
                let said = redis.cli(port, &["INFO", "sentinel"]);
                said.contains("status=ok") && said.contains("slaves=2,sentinels=3")
            })
        })
        .await;
        self
    }

    /// Three masters that share the slots; without one of them the others go on.
    pub(crate) async fn cluster() -> Self {
        Self::new(Topology::Cluster).sharded(&[7001, 7002, 7003], 0).await
    }

    /// Three masters, each with a replica that takes its place.
    pub(crate) async fn cluster_with_replicas() -> Self {
        let ports = [7001, 7002, 7003, 7004, 7005, 7006];
        let redis = Self::new(Topology::Cluster).sharded(&ports, 1).await;
        for master in [7001, 7002, 7003] {
            redis.is_followed(master).await;
        }
        redis
    }

    /// The same with TLS everywhere, and only the user `relay` is let in.
    pub(crate) async fn locked_cluster(password: &str, rights: &str) -> Self {
        Self::new(Topology::Cluster).with_tls().with_user(password, rights).sharded(&[7001, 7002, 7003], 0).await
    }

    async fn sharded(mut self, ports: &[u16], replicas: usize) -> Self {
        let redis = &mut self;
        for port in ports {
            let settings = format!(
                "save \"\"\nrepl-diskless-sync-delay 0\ncluster-enabled yes\ncluster-config-file nodes-{port}.conf\n\
                 cluster-node-timeout 1000\ncluster-require-full-coverage no"
            );
            redis.add(&format!("node-{port}"), *port, &settings).await;
        }
        // By itself it would wait for ever.
        let mut create = Command::new("timeout");
        create.args(["30", "redis-cli"]).args(redis.cli_for(ports[0])).args(["--cluster", "create"]);
        create.args(ports.iter().map(|port| format!("{}:{port}", redis.address)));
        let replicas = replicas.to_string();
        let created = create.args(["--cluster-replicas", &replicas, "--cluster-yes"]).output().unwrap();
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        eventually("every node sees the whole cluster", async || {
            ports.iter().all(|port| {
                let said = redis.cli(*port, &["CLUSTER", "INFO"]);
                said.contains("cluster_state:ok") && said.contains("cluster_slots_ok:16384")
            })
        })
        .await;
        self
    }

    /// Starts a server and waits until it answers.
    async fn add(&mut self, name: &str, port: u16, settings: &str) {
        // The others learn a server's address from where its connections come from.
        let (address, folder) = (self.address, self.folder.display());
        let known = if self.knows_its_clients { "yes" } else { "no" };
        let port_or_tls = if self.tls {
            format!(
                "port 0\ntls-port {port}\ntls-auth-clients {known}\ntls-replication yes\ntls-cluster yes\n\
                 tls-ca-cert-file {folder}/ca.pem\ntls-cert-file {folder}/cert.pem\ntls-key-file {folder}/key.pem"
            )
        } else {
            format!("port {port}")
        };
        let users = match &self.user {
            Some(_) if name.starts_with("sentinel") => format!("requirepass {SENTINELS}"),
            Some((password, rights)) => format!(
                "user default off\nuser root on >{ROOTS} allcommands allkeys allchannels\nmasteruser root\n\
                 masterauth {ROOTS}\nuser relay on >{password} {rights}"
            ),
            None => String::new(),
        };
        let text = format!(
            "bind {address}\nbind-source-addr {address}\n{port_or_tls}\nprotected-mode no\ndir {folder}\n{users}\n\
             {settings}\n"
        );
        fs::write(self.folder.join(format!("{name}.conf")), text).unwrap();
        let pid = self.keeper.get_mut().unwrap().start(name);
        self.servers.push(Server { name: name.to_owned(), port, pid: Mutex::new(pid) });
        self.answers(port).await;
    }

    async fn answers(&self, port: u16) {
        let Server { name, pid, .. } = self.server(port);
        let (pid, log) = (*pid.lock().unwrap(), self.folder.join(format!("{name}.log")));
        let pong = async || self.cli(port, &["PING"]).trim() == "PONG";
        comes_up(&format!("redis {name} answers"), pid, &log, pong).await;
    }

    fn server(&self, port: u16) -> &Server {
        self.servers.iter().find(|server| server.port == port).unwrap()
    }

    fn signal(&self, port: u16, signal: Signal) {
        kill_process(*self.server(port).pid.lock().unwrap(), signal).unwrap();
    }

    /// Watches a server.
    pub(crate) async fn monitor(&self, port: u16) -> Monitor<'_> {
        let file = self.folder.join("monitor");
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", &self.address.to_string(), "-p", &port.to_string()]).args(self.cli_for(port)).arg("MONITOR");
        let cli = cli.stdout(fs::File::create(&file).unwrap()).spawn().unwrap();
        let monitor = Monitor { redis: self, port, cli, file };
        eventually("MONITOR answers", async || !monitor.lines().is_empty()).await;
        monitor
    }

    /// What `redis-cli` prints; nothing, if the server can't be reached.
    pub(crate) fn cli(&self, port: u16, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", &self.address.to_string(), "-p", &port.to_string()]).args(self.cli_for(port)).args(command);
        String::from_utf8(cli.output().unwrap().stdout).unwrap()
    }

    fn cli_for(&self, port: u16) -> Vec<String> {
        let mut arguments = self.cli.clone();
        match &self.user {
            None => return arguments,
            Some(_) if self.server(port).name.starts_with("sentinel") => arguments.extend(login("default", SENTINELS)),
            Some(_) => arguments.extend(login("root", ROOTS)),
        }
        arguments
    }

    /// SIGKILL. Returns when its port is free.
    pub(crate) async fn kill(&self, port: u16) {
        self.signal(port, Signal::KILL);
        eventually("the killed server is gone", async || {
            tokio::net::TcpStream::connect((self.address, port)).await.is_err()
        })
        .await;
    }

    /// Starts a server again that was killed.
    pub(crate) async fn start_again(&self, port: u16) {
        let server = self.server(port);
        let pid = self.keeper.lock().unwrap().start(&server.name);
        *server.pid.lock().unwrap() = pid;
        self.answers(port).await;
    }

    /// SIGSTOP: it does nothing more, and its sockets stay open.
    pub(crate) fn freeze(&self, port: u16) {
        self.signal(port, Signal::STOP);
    }

    /// Ends [`Self::freeze`].
    pub(crate) fn thaw(&self, port: u16) {
        self.signal(port, Signal::CONT);
    }

    /// Removes everything that is stored.
    pub(crate) fn flush(&self) {
        for server in self.servers.iter().filter(|server| !server.name.starts_with("sentinel")) {
            let said = self.cli(server.port, &["FLUSHALL"]);
            assert!(said.contains("OK") || server.name.starts_with("replica"), "{}: {said}", server.name);
        }
    }

    /// The Cluster's master of the slot of `key`, as `asked` sees it; itself, if it is none.
    pub(crate) fn master_of(&self, asked: u16, key: &str) -> u16 {
        let moved = self.cli(asked, &["EXISTS", key]);
        moved.trim().strip_prefix("MOVED").and_then(|to| to.rsplit(':').next()?.parse().ok()).unwrap_or(asked)
    }

    /// Of all servers.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.servers.iter().map(|server| server.port).collect()
    }

    /// Where one server listens.
    pub(crate) fn addr(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    /// What a relay that uses these servers is configured with.
    pub(crate) fn config(&self) -> Config {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let entries = self
            .servers
            .iter()
            .filter(|server| self.topology != Topology::Sentinel || server.name.starts_with("sentinel"))
            .filter(|server| self.topology != Topology::Single || server.name == "server");
        Config {
            urls: entries.map(|server| format!("{scheme}://{}:{}", self.address, server.port)).collect(),
            topology: self.topology,
            master_name: (self.topology == Topology::Sentinel).then(|| MASTER.to_owned()),
            username: self.user.as_ref().map(|_| "relay".to_owned()),
            sentinel_username: None,
            sentinel_password_file: (self.user.is_some() && self.topology == Topology::Sentinel)
                .then(|| self.private_file("sentinel-password", SENTINELS)),
            password_file: self.user.as_ref().map(|(password, _)| self.password_file(password)),
            ca_file: self.tls.then(|| self.ca_file()),
            cert_file: self.knows_its_clients.then(|| self.folder.join("client.pem")),
            key_file: self.knows_its_clients.then(|| self.folder.join("client-key.pem")),
            connect_timeout_ms: 2_000,
            command_timeout_ms: 2_000,
            cluster_key_file: self.folder.join(KEY),
        }
    }

    /// The same, as it stands in a relay's configuration, with this cluster key.
    pub(crate) fn settings(&self, cluster_key: &Path) -> String {
        self.settings_through(self.config().urls, cluster_key)
    }

    /// The same, for a node that reaches them at `urls`.
    pub(crate) fn settings_through(&self, urls: Vec<String>, cluster_key: &Path) -> String {
        let config = Config { urls, ..self.config() };
        let topology = format!("{:?}", config.topology).to_lowercase();
        let master = config.master_name.map(|name| format!("master_name = \"{name}\"\n")).unwrap_or_default();
        let user = config.username.map(|user| format!("username = \"{user}\"\n")).unwrap_or_default();
        let file = |field: &str, path: Option<PathBuf>| {
            path.map(|path| format!("{field} = \"{}\"\n", path.display())).unwrap_or_default()
        };
        let key = cluster_key.display();
        format!(
            "[redis]\nurls = {:?}\ntopology = \"{topology}\"\n{master}{user}{}{}cluster_key_file = \"{key}\"\n",
            config.urls,
            file("password_file", config.password_file)
                + &file("sentinel_password_file", config.sentinel_password_file)
                + &file("cert_file", config.cert_file)
                + &file("key_file", config.key_file),
            file("ca_file", config.ca_file),
        )
    }

    /// A private file with this password in it.
    pub(crate) fn password_file(&self, password: &str) -> PathBuf {
        self.private_file("password", password)
    }

    /// A private file with this password for the sentinels in it.
    pub(crate) fn sentinel_password_file(&self, password: &str) -> PathBuf {
        self.private_file("sentinel-password", password)
    }

    fn private_file(&self, name: &str, text: &str) -> PathBuf {
        let file = PrivateFile::new(self.folder.join(name));
        file.replace(&format!("{text}\n")).unwrap();
        file.path().to_owned()
    }

    /// The CA of the server's certificate.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    fn make_certificate(&self) -> rcgen::Issuer<'static, rcgen::KeyPair> {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        ca.distinguished_name.push(rcgen::DnType::CommonName, "Test CA");
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let server = rcgen::CertificateParams::new([self.address.to_string()]).unwrap();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let certificate = server.signed_by(&key, &issuer).unwrap();
        for (name, text) in
            [("ca.pem", ca_certificate.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())]
        {
            fs::write(self.folder.join(name), text).unwrap();
        }
        issuer
    }
}
