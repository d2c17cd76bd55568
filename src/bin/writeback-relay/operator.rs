//! The operator's commands: calls to a running node.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use writeback_relay::host;
use writeback_relay::protocol::api::AgentStatus;
use writeback_relay::protocol::ids::{AgentId, TenantId};
use writeback_relay::protocol::json;
use writeback_relay::protocol::untrusted::{Untrusted, lines, one_line};
use writeback_relay::relay::admin::client::{AdminClient, RevokedByImport, readiness};
use writeback_relay::relay::registry::AgentRecord;
use writeback_relay::storage::read_text;
use zeroize::Zeroizing;

use super::Outcome;

/// Where a running node is.
#[derive(Args)]
pub(super) struct Ops {
    /// The node's ops_listen, as a URL.
    #[arg(long, env = "WRITEBACK_OPS_URL", default_value = "http://127.0.0.1:9443")]
    ops_url: String,
    /// Print JSON, for programs: what was asked for, or why it could not be had.
    #[arg(long)]
    json: bool,
}

/// The answer to what asks for nothing but to be done.
#[derive(Serialize)]
struct Done {
    result: &'static str,
}

impl Ops {
    /// Prints what was asked for.
    fn answer(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Outcome {
        Ok(host::print(&if self.json { format!("{}\n", serde_json::to_string_pretty(value)?) } else { text() })?)
    }
}

/// How to reach a running node.
#[derive(Args)]
pub(super) struct Admin {
    #[command(flatten)]
    ops: Ops,
    /// The file with the operator's token: the one that a node makes in its data directory, or an access token of
    /// admin.oidc. If no file is named, the token is in WRITEBACK_ADMIN_TOKEN, or in
    /// /var/lib/writeback-relay/admin.token.
    #[arg(long, env = "WRITEBACK_ADMIN_TOKEN_FILE")]
    admin_token_file: Option<PathBuf>,
}

/// Where a node makes the static token, unless it is configured otherwise.
const TOKEN_FILE: &str = "/var/lib/writeback-relay/admin.token";
/// The token itself: no argument, since anybody on the host reads those.
const TOKEN_VARIABLE: &str = "WRITEBACK_ADMIN_TOKEN";

#[derive(Subcommand)]
pub(super) enum Tenant {
    /// Add a tenant.
    Add {
        tenant: TenantId,
        #[command(flatten)]
        admin: Admin,
    },
    /// List all tenants.
    List(Admin),
}

#[derive(Subcommand)]
pub(super) enum Agent {
    /// List a tenant's agents.
    List {
        tenant: TenantId,
        #[command(flatten)]
        admin: Admin,
    },
    /// Revoke an agent: its sockets drop at once and it can't come back.
    Revoke {
        tenant: TenantId,
        agent: AgentId,
        #[command(flatten)]
        admin: Admin,
    },
    /// Forget a revoked agent, so that it no longer counts as one of its tenant's. A copy of the registry from before its
    /// revocation, if it is imported later, brings it back.
    Forget {
        tenant: TenantId,
        agent: AgentId,
        #[command(flatten)]
        admin: Admin,
    },
}

#[derive(Subcommand)]
pub(super) enum Registry {
    /// Write the registry to a file: public keys and hashes, no secrets.
    Export {
        file: PathBuf,
        #[command(flatten)]
        admin: Admin,
    },
    /// Add to the registry what it does not have; revocations win over what is there. One that was lost is restored by that.
    Import {
        file: PathBuf,
        #[command(flatten)]
        admin: Admin,
    },
    /// Say that the registry is to be as it is now, though it came back empty or older: those whom it does not have are told
    /// that nobody knows them.
    Accept(Admin),
}

impl Admin {
    pub(super) fn json(&self) -> bool {
        self.ops.json
    }

    /// Prints what was asked for.
    pub(super) fn answer(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Outcome {
        self.ops.answer(value, text)
    }

    /// It was done, and for programs there is nothing else to say.
    fn done(&self, text: impl FnOnce() -> String) -> Outcome {
        self.answer(&Done { result: "done" }, text)
    }

    pub(super) fn connect(&self) -> Result<AdminClient, Box<dyn Error>> {
        let url = &self.ops.ops_url;
        let token = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()).map(Zeroizing::new);
        Ok(match (&self.admin_token_file, token) {
            (Some(file), _) => AdminClient::new(url, file)?,
            (None, Some(token)) => AdminClient::with_token(url, &token)?,
            (None, None) => AdminClient::new(url, Path::new(TOKEN_FILE))?,
        })
    }
}

pub(super) async fn tenant(command: Tenant) -> Outcome {
    match command {
        Tenant::Add { tenant, admin } => {
            admin.connect()?.add_tenant(tenant).await?;
            admin.done(String::new)
        }
        Tenant::List(admin) => {
            let tenants = admin.connect()?.tenants().await?;
            admin.answer(&tenants, || tenants.iter().map(|record| format!("{}\n", record.tenant)).collect())
        }
    }
}

pub(super) async fn agent(command: Agent) -> Outcome {
    match command {
        Agent::List { tenant, admin } => {
            let agents: Vec<_> = admin.connect()?.agents(&tenant).await?.into_iter().map(ListedAgent::from).collect();
            admin.answer(&agents, || agents.iter().map(ListedAgent::line).collect())
        }
        Agent::Revoke { tenant, agent, admin } => {
            admin.connect()?.revoke_agent(&tenant, agent).await?;
            admin.done(|| format!("agent {agent} of {tenant} is revoked for good; what it has open is closed\n"))
        }
        Agent::Forget { tenant, agent, admin } => {
            admin.connect()?.forget_agent(&tenant, agent).await?;
            admin.done(|| format!("that agent {agent} of {tenant} was revoked is forgotten\n"))
        }
    }
}

/// An agent, as people compare it.
#[derive(Serialize)]
struct ListedAgent {
    fingerprint: String,
    #[serde(flatten)]
    record: AgentRecord,
}

impl From<AgentRecord> for ListedAgent {
    fn from(record: AgentRecord) -> Self {
        Self { fingerprint: record.keys.fingerprint(record.agent), record }
    }
}

impl ListedAgent {
    fn line(&self) -> String {
        let Self { fingerprint, record: AgentRecord { agent, status, name, .. } } = self;
        let status = match status {
            AgentStatus::Pending => "pending",
            AgentStatus::Approved => "approved",
            AgentStatus::Revoked => "revoked",
        };
        format!("{agent}  {status}  {}  {fingerprint}\n", name.cell())
    }
}

pub(super) async fn registry(command: Registry) -> Outcome {
    match command {
        Registry::Export { file, admin } => {
            let snapshot = admin.connect()?.export().await?;
            // Whoever looks into it may do so at a terminal.
            let text = serde_json::to_string_pretty(&snapshot)?;
            save(&file, lines(&text).as_bytes()).map_err(|e| format!("{}: {e}", file.display()))?;
            // It is the answer itself.
            if file == Path::new("/dev/stdout") { Ok(()) } else { admin.done(String::new) }
        }
        Registry::Import { file, admin } => {
            let text = read_text(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            let snapshot = json::read_with_nulls(text.as_bytes())
                .map_err(|e| format!("{}: no exported registry: {e}", file.display()))?;
            let imported = admin.connect()?.import(&snapshot).await?;
            let line = |RevokedByImport { tenant, agent }: &RevokedByImport| {
                format!("agent {agent} of {tenant} was in service, and is revoked for good by this import\n")
            };
            admin.answer(&imported, || imported.revoked.iter().map(line).collect())
        }
        Registry::Accept(admin) => {
            let accepted = admin.connect()?.accept_registry().await?;
            admin.answer(&accepted, || match accepted.accepted {
                0 => "nothing was lost, and nothing has changed\n".to_owned(),
                _ => "the registry is taken as it is now, by every node\n".to_owned(),
            })
        }
    }
}

/// An export that breaks off takes away nothing of the one before.
fn save(file: &Path, text: &[u8]) -> std::io::Result<()> {
    // Only a plain file is replaced: never a pipe, a device, or a link such as /dev/stdout, whatever it leads to.
    if std::fs::symlink_metadata(file).is_ok_and(|known| !known.is_file()) {
        return std::fs::write(file, text);
    }
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(".new");
    let mut new = std::fs::File::create(&unfinished)?;
    new.write_all(text)?;
    new.sync_all()?;
    std::fs::rename(&unfinished, file)
}

pub(super) async fn drain(node: Option<String>, admin: &Admin) -> Outcome {
    let node = admin.connect()?.drain(node.as_deref()).await?;
    admin.answer(&node, || {
        let sessions =
            if node.sessions == 1 { "one session".to_owned() } else { format!("{} sessions", node.sessions) };
        format!(
            "{} ({}) lets its {sessions} move and stops; writeback-relay status shows how far it is\n",
            node.name.cell(),
            node.node
        )
    })
}

pub(super) async fn ready(ops: &Ops) -> Outcome {
    let said = readiness(&ops.ops_url).await?;
    ops.answer(&Ready { result: "ready", says: &said }, || match said == *"ok" {
        true => "ok\n".to_owned(),
        false => format!("it serves, and says {}\n", said.quoted()),
    })
}

/// A node that serves.
#[derive(Serialize)]
struct Ready<'a> {
    result: &'static str,
    /// `ok`, and what is wrong though it serves.
    says: &'a Untrusted,
}

pub(super) async fn log_level(level: Option<String>, admin: &Admin) -> Outcome {
    let client = admin.connect()?;
    match level {
        Some(level) => {
            client.set_log_level(level).await?;
            admin.done(String::new)
        }
        None => {
            let level = client.log_level().await?;
            admin.answer(&level, || format!("{}\n", one_line(&level.level)))
        }
    }
}
