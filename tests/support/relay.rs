//! A relay as its users meet it: a process of its own, on a loopback address of its own, that can be killed.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use writeback_relay::clock::{Clock, System, UnixTime};
use writeback_relay::portal::{Config, Home, Portal};
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::assertion::PortalAssertion;
use writeback_relay::protocol::command::{Command as Claims, Operation, Options, Subject};
use writeback_relay::protocol::ids::{AgentId, CommandId, ObjectId, PortalId, TenantId};
use writeback_relay::protocol::jose::{PublicKey, SigningKey, Validity};
use writeback_relay::protocol::password::Password;
use writeback_relay::protocol::problem::Problem;
use writeback_relay::protocol::sealed::{Secrets, seal_for};
use writeback_relay::relay::admin::client::AdminClient;
use writeback_relay::relay::registry::PortalRecord;

use super::process::{comes_up, freeze, in_a_terminal};
use super::{eventually, https_client, own_address};

const RELAY: &str = env!("CARGO_BIN_EXE_writeback-relay");

/// The one tenant of most tests.
pub(crate) const TENANT: &str = "contoso";

/// A running relay. Dropped, it is killed and its folder removed.
pub(crate) struct Relay {
    folder: TempDir,
    place: Place,
    process: Child,
}

/// Where a relay runs, and as what it is known.
#[derive(Clone)]
struct Place {
    /// What is run.
    program: &'static str,
    /// Its own address.
    address: Ipv4Addr,
    /// The host in its public URL: its own address, a load balancer's, or a name.
    public: String,
    data: PathBuf,
    settings: String,
    /// What the shell that becomes the process does first: limits that a process can only set for itself.
    before: String,
}

impl Relay {
    /// A relay with one tenant.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same, with more lines in its configuration.
    pub(crate) async fn start_with(settings: &str) -> Self {
        Self::start_after("", settings).await
    }

    /// The same of another build of the program.
    pub(crate) async fn start_of(program: &'static str) -> Self {
        let (address, folder) = (own_address(), tempfile::tempdir().unwrap());
        let (data, public) = (folder.path().join("data"), address.to_string());
        let (settings, before) = (String::new(), String::new());
        let relay = Self::start_at(folder, Place { program, address, public, data, settings, before }).await;
        assert!(relay.operator(&["tenant", "add", TENANT]));
        relay
    }

    /// From its next start on, it is this build of the program.
    pub(crate) fn becomes(&mut self, program: &'static str) {
        self.place.program = program;
    }

    /// The same, as a process that may have so many files open.
    pub(crate) async fn start_with_files(files: u32) -> Self {
        Self::start_after(&format!("ulimit -n {files}; "), "").await
    }

    /// The same, with its files in this folder.
    pub(crate) async fn start_in(data: PathBuf) -> Self {
        let address = own_address();
        Self::alone_as(address, &address.to_string(), tempfile::tempdir().unwrap(), data, ("", "")).await
    }

    /// The same, when the shell that becomes the process has done this.
    pub(crate) async fn start_after(before: &str, settings: &str) -> Self {
        let (address, folder) = (own_address(), tempfile::tempdir().unwrap());
        let data = folder.path().join("data");
        Self::alone_as(address, &address.to_string(), folder, data, (settings, before)).await
    }

    /// The same, under a name that only a proxy knows.
    pub(crate) async fn named(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Self::alone_as(own_address(), name, folder, data, ("", "")).await
    }

    async fn alone_as(
        address: Ipv4Addr,
        public: &str,
        folder: TempDir,
        data: PathBuf,
        (settings, before): (&str, &str),
    ) -> Self {
        let (settings, before) = (settings.to_owned(), before.to_owned());
        let place = Place { program: RELAY, address, public: public.to_owned(), data, settings, before };
        let relay = Self::start_at(folder, place).await;
        relay.admin().add_tenant(TENANT.parse().unwrap()).await.unwrap();
        relay
    }

    /// A node of a cluster behind a load balancer; nodes share the certificate and the admin token in `data`.
    pub(crate) async fn node(public: Ipv4Addr, data: PathBuf, settings: &str) -> Self {
        Self::node_of(RELAY, public, data, settings).await
    }

    /// The same of another build of the program.
    pub(crate) async fn node_of(program: &'static str, public: Ipv4Addr, data: PathBuf, settings: &str) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), own_address());
        let (public, settings, before) = (public.to_string(), settings.to_owned(), String::new());
        let place = Place { program, address, public, data, settings, before };
        Self::start_at(folder, place).await
    }

    /// A node whose store may not be there yet, when the shell that becomes the process has done this. It is not waited for.
    pub(crate) fn beginning(before: &str, public: Ipv4Addr, data: PathBuf, settings: &str) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), own_address());
        let (public, settings, before) = (public.to_string(), settings.to_owned(), before.to_owned());
        let place = Place { program: RELAY, address, public, data, settings, before };
        let process = spawn(folder.path(), &place);
        Self { folder, place, process }
    }

    /// From its next start on, the shell that becomes the process does this first, perhaps to become another user's: whoever
    /// it is may read its configuration.
    pub(crate) fn starts_after(&mut self, before: &str) {
        self.place.before = before.to_owned();
        std::fs::set_permissions(self.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// A node that refuses to start; all that it logged.
    pub(crate) async fn refusing_node(public: Ipv4Addr, data: PathBuf, settings: &str) -> String {
        let (folder, address) = (tempfile::tempdir().unwrap(), own_address());
        let (public, settings) = (public.to_string(), settings.to_owned());
        let place = Place { program: RELAY, address, public, data, settings, before: String::new() };
        let process = spawn(folder.path(), &place);
        let mut relay = Self { folder, place, process };
        assert!(!relay.ended().await.success());
        relay.log()
    }

    /// What `/readyz` says.
    pub(crate) async fn readiness(&self) -> (u16, String) {
        let url = format!("{}/readyz", self.ops_url());
        let answer = https_client(None).unwrap().get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The same, of one that may be busy with coming up.
    pub(crate) async fn readiness_or_none(&self) -> Option<(u16, String)> {
        let asked = https_client(None).unwrap().get(format!("{}/readyz", self.ops_url()));
        let answer = asked.timeout(Duration::from_secs(5)).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    async fn start_at(folder: TempDir, place: Place) -> Self {
        let process = spawn(folder.path(), &place);
        let relay = Self { folder, place, process };
        relay.ready().await;
        relay
    }

    /// Waits until it is.
    pub(crate) async fn ready(&self) {
        let (http, url) = (https_client(None).unwrap(), format!("{}/readyz", self.ops_url()));
        let (pid, log) = (Pid::from_child(&self.process), self.folder.path().join("log"));
        comes_up("the relay is ready", pid, &log, || async {
            http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    /// What agents and portals use.
    pub(crate) fn url(&self) -> String {
        format!("https://{}:8443", self.place.public)
    }

    /// Where that leads.
    pub(crate) fn public_addr(&self) -> SocketAddr {
        (self.place.public.parse().unwrap_or(self.place.address), 8443).into()
    }

    /// Its own listener, behind any load balancer.
    pub(crate) fn own_addr(&self) -> SocketAddr {
        (self.place.address, 8443).into()
    }

    pub(crate) fn ops_url(&self) -> String {
        format!("http://{}:9443", self.place.address)
    }

    /// Where the relay keeps everything.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.place.data.clone()
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.path().join("relay.toml")
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.data_dir().join("dev-ca.pem")
    }

    /// All that the relay has logged, over restarts.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    pub(crate) fn admin(&self) -> AdminClient {
        AdminClient::new(&self.ops_url(), &self.data_dir().join("admin.token")).unwrap()
    }

    /// Runs `writeback-relay` as the operator; whether it went well.
    pub(crate) fn operator(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new(self.place.program);
        command.args(arguments).arg("--ops-url").arg(self.ops_url());
        command.arg("--admin-token-file").arg(self.data_dir().join("admin.token"));
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// SIGKILL: nothing is finished.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGSTOP: it does nothing more, and its sockets stay open. [`Self::kill`] ends that.
    pub(crate) fn freeze(&self) {
        freeze(Pid::from_child(&self.process));
    }

    /// Ends [`Self::freeze`].
    pub(crate) fn thaw(&self) {
        kill_process(Pid::from_child(&self.process), Signal::CONT).unwrap();
    }

    /// What a probe of the operator's listener is answered with: `livez` or `readyz`.
    pub(crate) async fn probe(&self, name: &str) -> u16 {
        let url = format!("{}/{name}", self.ops_url());
        https_client(None).unwrap().get(url).timeout(super::PATIENCE).send().await.unwrap().status().as_u16()
    }

    /// SIGTERM; returns the exit status when it has ended.
    pub(crate) async fn terminate(&mut self) -> std::process::ExitStatus {
        self.signal_to_stop();
        self.ended().await
    }

    /// SIGTERM.
    pub(crate) fn signal_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// How many bytes it has logged, over restarts.
    #[allow(dead_code, reason = "the abuse program asks for it")]
    pub(crate) fn logged(&self) -> u64 {
        std::fs::metadata(self.folder.path().join("log")).unwrap().len()
    }

    /// How it has ended, if it has.
    #[allow(dead_code, reason = "the abuse program asks for it")]
    pub(crate) fn has_ended(&mut self) -> Option<std::process::ExitStatus> {
        self.process.try_wait().unwrap()
    }

    /// Returns when it has ended by itself; its exit status.
    pub(crate) async fn ended(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        eventually("the relay stops", || {
            status = self.process.try_wait().unwrap();
            std::future::ready(status.is_some())
        })
        .await;
        status.unwrap()
    }

    /// Starts it again on the same files and the same address, after [`Self::kill`] or [`Self::terminate`].
    pub(crate) async fn start_again(&mut self) {
        self.process = spawn(self.folder.path(), &self.place);
        self.ready().await;
    }

    /// The same, when it does not come up; all that it has logged.
    pub(crate) async fn refuses_to_start_again(&mut self) -> String {
        self.process = spawn(self.folder.path(), &self.place);
        assert!(!self.ended().await.success());
        self.log()
    }

    /// Registers a portal that serves `tenants`.
    pub(crate) async fn grant(&self, portal: &PortalId, key: &PublicKey, tenants: &[&str]) {
        let tenants = tenants.iter().map(|tenant| tenant.parse().unwrap()).collect();
        let record =
            PortalRecord { portal: portal.clone(), keys: vec![key.clone()], tenants, later: Default::default() };
        self.admin().put_portal(&record).await.unwrap();
    }

    /// A portal with a folder of its own, registered and granted [`TENANT`].
    pub(crate) async fn portal(&self, name: &str) -> TestPortal {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(&folder.path().join("portal"));
        let config = Config { id: name.parse().unwrap(), relay: self.url(), ca_file: Some(self.ca_file()) };
        let key = home.init(&config, &System).unwrap();
        self.grant(&config.id, &key, &[TENANT]).await;
        let portal = Portal::open(home.folder(), System::clock(), System::random()).unwrap();
        let raw = RawPortal { id: config.id, key: home.signing_key().unwrap(), relay: self.url(), ca: self.ca_file() };
        TestPortal { portal, raw, folder }
    }

    /// The metrics, in Prometheus' text format.
    pub(crate) async fn metrics(&self) -> String {
        let url = format!("{}/metrics", self.ops_url());
        https_client(None).unwrap().get(url).send().await.unwrap().text().await.unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(folder: &Path, Place { program: relay, address, public, data, settings, before }: &Place) -> Child {
    let config = folder.join("relay.toml");
    let text = format!(
        "public_url = \"https://{public}:8443\"\nlisten = \"{address}:8443\"\nops_listen = \"{address}:9443\"\n\
         data_dir = \"{}\"\nnode_name = \"test\"\n{settings}\n",
        data.display()
    );
    std::fs::write(&config, text).unwrap();
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let certificate = if settings.contains("[tls]") { None } else { Some("--dev-tls") };
    let mut program = in_a_terminal("sh");
    program.args(["-c", &format!("{before}exec \"$0\" \"$@\""), relay]);
    program
        .arg("run")
        .args(certificate)
        .arg("--config")
        .arg(config)
        .env("RUST_LOG", "debug")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// A portal: the client as people use it, and its bare hands.
pub(crate) struct TestPortal {
    pub(crate) portal: Portal,
    pub(crate) raw: RawPortal,
    folder: TempDir,
}

impl TestPortal {
    /// Its folder.
    pub(crate) fn home(&self) -> Home {
        Home::new(&self.folder.path().join("portal"))
    }

    /// One more process of the same portal, with connections of its own.
    pub(crate) fn another(&self) -> Portal {
        Portal::open(&self.folder.path().join("portal"), System::clock(), System::random()).unwrap()
    }
}

/// A portal that can send anything.
#[derive(Clone)]
pub(crate) struct RawPortal {
    pub(crate) id: PortalId,
    pub(crate) key: SigningKey,
    pub(crate) relay: String,
    pub(crate) ca: PathBuf,
}

/// What the relay answered.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answered {
    /// The problem's code; fails the test if the answer is not a complete problem.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text());
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!((problem.status, problem.trace_id.as_data().len()), (self.status, 32));
        assert!(!problem.detail.is_empty());
        assert_eq!(problem.kind.as_data(), format!("urn:writeback:problem:{}", problem.code.as_data()));
        problem.code.into_data()
    }

    /// What it says to people.
    pub(crate) fn detail(&self) -> String {
        self.json::<Problem>().detail.into_data()
    }

    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl RawPortal {
    /// The claims of a good assertion.
    pub(crate) fn assertion(&self) -> PortalAssertion {
        PortalAssertion {
            iss: self.id.clone(),
            sub: self.id.clone(),
            aud: self.relay.clone(),
            jti: ObjectId::new(&System, &System),
            validity: Validity::starting(System.now(), Duration::from_secs(60)),
        }
    }

    /// The claims of a good reset, not sealed yet.
    pub(crate) fn command(&self, agent: AgentId, user: &str) -> Claims {
        Claims {
            iss: self.id.clone(),
            aud: agent,
            tenant: TENANT.parse().unwrap(),
            jti: CommandId::new(&System, &System),
            validity: Validity::starting(System.now(), Duration::from_secs(60)),
            sub_id: Subject::upn(user).unwrap(),
            operation: Operation::ResetPassword,
            options: Options::default(),
            sealed: None,
        }
    }

    /// A complete reset: sealed and signed.
    pub(crate) fn reset(
        &self,
        agent: AgentId,
        sealing_key: &PublicKey,
        user: &str,
        password: &str,
    ) -> (Claims, String) {
        self.sealed(self.command(agent, user), sealing_key, password)
    }

    /// Seals a password into `command`, and signs it.
    pub(crate) fn sealed(&self, mut command: Claims, sealing_key: &PublicKey, password: &str) -> (Claims, String) {
        let secrets = Secrets { new_password: Password::new(password.to_owned()).unwrap(), current_password: None };
        command.sealed = Some(seal_for(&command, &secrets, sealing_key, &System).unwrap());
        let jws = command.sign(&self.key).unwrap();
        (command, jws)
    }

    pub(crate) async fn send(
        &self,
        request: impl FnOnce(&reqwest::Client, &str) -> reqwest::RequestBuilder,
    ) -> Answered {
        let http = https_client(Some(&self.ca)).unwrap();
        let answer = request(&http, &self.relay).timeout(super::PATIENCE).send().await.unwrap();
        Answered {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: answer.bytes().await.unwrap().to_vec(),
        }
    }

    /// Submits these bytes to the tenant, waiting `wait` seconds.
    pub(crate) async fn submit(&self, jws: &str, wait: u64) -> Answered {
        let bearer = self.assertion().sign(&self.key).unwrap();
        self.send(|http, relay| {
            http.post(format!("{relay}/v1/tenants/{TENANT}/commands"))
                .bearer_auth(bearer)
                .header("content-type", "application/jose")
                .header("prefer", format!("wait={wait}"))
                .body(jws.to_owned())
        })
        .await
    }

    /// Waits for a command's end.
    pub(crate) async fn concluded(&self, command: CommandId) -> CommandView {
        let answered = self.follow(command, super::PATIENCE.as_secs() - 5).await;
        let view: CommandView = answered.json();
        assert_eq!(view.state, CommandState::Concluded, "{}", answered.text());
        view
    }

    /// Asks what became of a command.
    pub(crate) async fn follow(&self, command: CommandId, wait: u64) -> Answered {
        let bearer = self.assertion().sign(&self.key).unwrap();
        self.send(|http, relay| {
            http.get(format!("{relay}/v1/tenants/{TENANT}/commands/{command}"))
                .bearer_auth(bearer)
                .header("prefer", format!("wait={wait}"))
        })
        .await
    }
}

/// The tenant of most tests.
pub(crate) fn tenant() -> TenantId {
    TENANT.parse().unwrap()
}

/// Now, for claims.
pub(crate) fn now() -> UnixTime {
    System.now()
}
