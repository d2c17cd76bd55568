//! The stage: a relay, a portal, an agent with a directory in memory, in a folder that is removed at the end.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::agent::directory::demo::Demo;
use crate::agent::{self, Agent, AgentError};
use crate::clock::{Clock, Random, System};
use crate::host;
use crate::portal::{self, Portal};
use crate::protocol::ids::TenantId;
use crate::relay::admin::client::AdminClient;
use crate::relay::config::Config;
use crate::relay::lifecycle::{Node, admin_token_file};
use crate::relay::registry::PortalRecord;
use crate::storage::{FileError, make_temporary_folder};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// The one account of the demo's directory.
pub(super) const USER: &str = "jane@corp.example";
/// Its forgotten password.
pub(super) const OLD_PASSWORD: &str = "Forgotten-2019!";

pub(super) struct World {
    pub(super) tenant: TenantId,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) directory: Demo,
    pub(super) portal: Portal,
    pub(super) portal_home: portal::Home,
    folder: Folder,
    public_url: String,
    agent_home: agent::home::Home,
    node: Node,
    agent: Option<(CancellationToken, JoinHandle<Result<(), AgentError>>)>,
    events_seen: usize,
}

/// One line of the story, at once.
pub(super) fn say(line: &str) {
    // A story that can't be told still ends as it should.
    let _ = host::print(&format!("{line}\n"));
}

/// Whether this is `cargo run`, which builds what is run next: then nothing may be there yet, and it says so itself.
fn started_by_cargo() -> bool {
    std::env::var_os("CARGO_MANIFEST_DIR").is_some()
}

/// How whoever has started this starts another of the programs: they are installed together.
fn program(name: &str) -> String {
    if started_by_cargo() {
        return format!("cargo run -q --bin {name} --");
    }
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(name)).filter(|path| path.exists());
    beside.map_or_else(|| name.to_owned(), |path| path.display().to_string())
}

/// The folder of the demo. Dropped, it is removed.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, FileError> {
        Ok(Self(make_temporary_folder("writeback-demo-")?.keep()))
    }

    fn join(&self, name: &str) -> PathBuf {
        Path::join(&self.0, name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::error!(folder = %self.0.display(), %error, "the demo's folder is left behind");
        }
    }
}

impl World {
    pub(super) async fn new() -> Fallible<Self> {
        let (clock, random) = (System::clock(), System::random());
        let folder = Folder::new()?;
        let loopback = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        // The port stands in the public URL, which has to be known before the listener is there.
        let port = std::net::TcpListener::bind(loopback(0))?.local_addr()?.port();
        let public_url = format!("https://localhost:{port}");
        let config = Config::development(public_url.clone(), loopback(port), loopback(0), folder.join("relay"));
        let token_file = admin_token_file(&config);
        let node = Node::start(config, true, Arc::clone(&clock), Arc::clone(&random)).await?;
        say(&format!("relay      a node is up at {public_url}, with a self-signed certificate"));

        let tenant: TenantId = "contoso".parse()?;
        let operator = AdminClient::new(&format!("http://{}", node.ops_addr()), &token_file)?;
        operator.add_tenant(tenant.clone()).await?;
        say(&format!("operator   tenant {tenant} made"));

        let portal_home = portal::Home::new(&folder.join("portal"));
        let ca_file = folder.join("relay").join("dev-ca.pem");
        let settings = portal::Config { id: "demo-portal".parse()?, relay: public_url.clone(), ca_file: Some(ca_file) };
        let key = portal_home.init(&settings, &*random)?;
        operator
            .put_portal(&PortalRecord {
                portal: settings.id,
                keys: vec![key],
                tenants: vec![tenant.clone()],
                later: Default::default(),
            })
            .await?;
        say(&format!("operator   portal demo-portal registered and granted {tenant}"));
        let portal = Portal::open(portal_home.folder(), Arc::clone(&clock), Arc::clone(&random))?;
        let directory = Demo::new(Arc::clone(&clock), Arc::clone(&random)).with_account(USER, OLD_PASSWORD);
        let agent_home = agent::home::Home::new(folder.join("agent"));
        Ok(Self {
            tenant,
            clock,
            random,
            directory,
            portal,
            portal_home,
            folder,
            public_url,
            agent_home,
            node,
            agent: None,
            events_seen: 0,
        })
    }

    fn ca_file(&self) -> PathBuf {
        self.relay_files().join("dev-ca.pem")
    }

    /// Everything the relay keeps.
    pub(super) fn relay_files(&self) -> PathBuf {
        self.folder.join("relay")
    }

    pub(super) async fn enroll(
        &self,
        code: &crate::protocol::enrolment_code::EnrolmentCode,
    ) -> Fallible<agent::Enrolment> {
        let (clock, random) = (Arc::clone(&self.clock), Arc::clone(&self.random));
        Ok(agent::enroll(&self.agent_home, code, Some(&self.ca_file()), clock, random).await?)
    }

    /// Starts the agent; it connects on its own.
    pub(super) fn start_agent(&mut self) -> Fallible<()> {
        let options = agent::Options { ca_file: Some(self.ca_file()), ..agent::Options::default() };
        let directory = Arc::new(self.directory.clone());
        let (clock, random) = (Arc::clone(&self.clock), Arc::clone(&self.random));
        let agent = Agent::open(&self.agent_home, directory, options, clock, random)?;
        let stop = CancellationToken::new();
        self.agent = Some((stop.clone(), tokio::spawn(agent.run(stop))));
        Ok(())
    }

    pub(super) async fn stop_agent(&mut self) -> Fallible<()> {
        if let Some((stop, running)) = self.agent.take() {
            stop.cancel();
            running.await??;
        }
        Ok(())
    }

    /// Shows what the agent's event log has got since the last call.
    pub(super) fn show_events(&mut self) -> Fallible<()> {
        let log = fs::read_to_string(self.agent_home.events())?;
        for line in log.lines().skip(self.events_seen) {
            self.events_seen += 1;
            let event: serde_json::Value = serde_json::from_str(line)?;
            let text = |name| event.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
            let id = event.get("event_id").and_then(serde_json::Value::as_u64).unwrap_or_default();
            say(&format!("event log    {id} {}: {}", text("name"), text("message")));
        }
        Ok(())
    }

    /// What a second terminal can do with the relay and the agent.
    pub(super) fn show_what_to_try(&self) {
        let portal = format!("{} --home {}", program("writeback-portal"), self.portal_home.folder().display());
        let token = self.relay_files().join("admin.token");
        let admin = format!("--ops-url http://{} --admin-token-file {}", self.node.ops_addr(), token.display());
        say("");
        say(match started_by_cargo() {
            true => "The relay and the agent keep running. From a second terminal, in this folder:",
            false => "The relay and the agent keep running. From a second terminal:",
        });
        say(&format!("  {portal} availability contoso"));
        say(&format!("  {portal} agents contoso"));
        say(&format!("  {portal} reset contoso {USER}"));
        say(&format!("  {} sessions {admin}", program("writeback-relay")));
        say(&format!("The relay is {}, its certificate's CA {}.", self.public_url, self.ca_file().display()));
        say("Ctrl-C ends it.");
    }

    pub(super) async fn end(mut self) -> Fallible<()> {
        let stopped = self.stop_agent().await;
        self.node.stop().await;
        stopped
    }
}
