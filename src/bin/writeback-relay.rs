//! The relay's command line: runs a node, and manages a running one.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::task::JoinHandle;
use writeback_relay::clock::System;
use writeback_relay::protocol::ids::{AgentId, PortalId, TenantId};
use writeback_relay::protocol::jose::PublicKey;
use writeback_relay::relay::admin::client::AdminClient;
use writeback_relay::relay::config::Config;
use writeback_relay::relay::lifecycle::Node;
use writeback_relay::relay::registry::PortalRecord;
use writeback_relay::{host, telemetry};

/// Carries password resets from cloud portals to on-premises agents.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node.
    Run(Run),
    /// Show a reset from end to end: relay, agent and portal in one process, over real TLS on loopback.
    Demo {
        /// Keep relay and agent running afterwards, and print what to try from a second terminal.
        #[arg(long)]
        serve: bool,
    },
    /// Manage tenants.
    #[command(subcommand)]
    Tenant(Tenant),
    /// Manage portals.
    #[command(subcommand)]
    Portal(Portal),
    /// Manage agents.
    #[command(subcommand)]
    Agent(Agent),
    /// List this node's agent sessions.
    Sessions(Admin),
    /// Ask a node to finish what is in flight and stop.
    Drain(Admin),
    /// Save or restore the registry.
    #[command(subcommand)]
    Registry(Registry),
    /// Print the public API as OpenAPI 3.1.
    Openapi,
}

#[derive(Args)]
struct Run {
    /// The configuration file.
    #[arg(long, conflicts_with = "data_dir", required_unless_present = "data_dir")]
    config: Option<PathBuf>,
    /// Make a self-signed certificate in the data directory; clients trust its dev-ca.pem. To try it out.
    #[arg(long)]
    dev_tls: bool,
    /// Without a configuration file: where the store is kept.
    #[arg(long, requires = "dev_tls")]
    data_dir: Option<PathBuf>,
    /// Without a configuration file: where agents and portals connect.
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Without a configuration file: where the operator connects.
    #[arg(long, default_value = "127.0.0.1:9443")]
    ops_listen: SocketAddr,
    /// Without a configuration file: the URL agents and portals use; https://localhost and the port if absent.
    #[arg(long)]
    public_url: Option<String>,
}

/// How to reach a running node.
#[derive(Args)]
struct Admin {
    /// The node's ops_listen, as a URL.
    #[arg(long, env = "WRITEBACK_OPS_URL", default_value = "http://127.0.0.1:9443")]
    ops_url: String,
    /// The file with the admin token; a node makes it in its data directory.
    #[arg(long, env = "WRITEBACK_ADMIN_TOKEN_FILE", default_value = "/var/lib/writeback-relay/admin.token")]
    admin_token_file: PathBuf,
}

#[derive(Subcommand)]
enum Tenant {
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
enum Portal {
    /// Register a portal and grant it tenants; replaces what was registered by this name.
    Add {
        portal: PortalId,
        /// The file with its public key as JWK, as `writeback-portal init` prints it; - for standard input.
        #[arg(long, required = true)]
        key: Vec<PathBuf>,
        /// A tenant it may serve.
        #[arg(long, required = true)]
        tenant: Vec<TenantId>,
        #[command(flatten)]
        admin: Admin,
    },
    /// Grant a registered portal one more tenant.
    Grant {
        portal: PortalId,
        tenant: TenantId,
        #[command(flatten)]
        admin: Admin,
    },
    /// Take a tenant away from a portal.
    Withdraw {
        portal: PortalId,
        tenant: TenantId,
        #[command(flatten)]
        admin: Admin,
    },
    /// Remove a portal: none of its commands is taken any more.
    Remove {
        portal: PortalId,
        #[command(flatten)]
        admin: Admin,
    },
    /// List all portals.
    List(Admin),
}

#[derive(Subcommand)]
enum Agent {
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
}

#[derive(Subcommand)]
enum Registry {
    /// Write the registry to a file: public keys and hashes, no secrets.
    Export {
        file: PathBuf,
        #[command(flatten)]
        admin: Admin,
    },
    /// Add to the registry what it does not have; revocations win over what is there.
    Import {
        file: PathBuf,
        #[command(flatten)]
        admin: Admin,
    },
}

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::main]
async fn main() -> ExitCode {
    match execute(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("writeback-relay: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn execute(command: Command) -> Outcome {
    match command {
        Command::Run(run) => serve(run).await,
        Command::Demo { serve } => {
            telemetry::log_to_stderr("error");
            writeback_relay::demo::run(serve).await
        }
        Command::Tenant(command) => tenant(command).await,
        Command::Portal(command) => portal(command).await,
        Command::Agent(command) => agent(command).await,
        Command::Sessions(admin) => {
            for session in connect(&admin)?.sessions().await? {
                println!("{}  {}  {}", session.session, session.tenant, session.agent);
            }
            Ok(())
        }
        Command::Drain(admin) => Ok(connect(&admin)?.drain().await?),
        Command::Registry(command) => registry(command).await,
        Command::Openapi => {
            print!("{}", writeback_relay::relay::http::openapi()?);
            Ok(())
        }
    }
}

async fn serve(run: Run) -> Outcome {
    host::forbid_core_dumps()?;
    telemetry::log_to_stderr("info");
    let config = match (&run.config, run.data_dir) {
        (Some(file), _) => Config::read(file)?,
        (None, Some(data_dir)) => {
            let url = run.public_url.unwrap_or_else(|| format!("https://localhost:{}", run.listen.port()));
            Config::development(url, run.listen, run.ops_listen, data_dir)
        }
        (None, None) => return Err("--config FILE, or --dev-tls --data-dir FOLDER, is expected".into()),
    };
    let node = Node::start(config, run.dev_tls, System::clock(), System::random()).await?;
    tokio::select! {
        stop = host::stop_requested() => stop?,
        () = node.drain_requested() => {}
    }
    // A second signal does not wait.
    let impatient: JoinHandle<std::io::Result<()>> = tokio::spawn(host::stop_requested());
    tokio::select! {
        () = node.stop() => Ok(()),
        _ = impatient => Err("stopped at once, at the second signal".into()),
    }
}

fn connect(admin: &Admin) -> Result<AdminClient, Box<dyn Error>> {
    Ok(AdminClient::new(&admin.ops_url, &admin.admin_token_file)?)
}

async fn tenant(command: Tenant) -> Outcome {
    match command {
        Tenant::Add { tenant, admin } => connect(&admin)?.add_tenant(tenant).await?,
        Tenant::List(admin) => {
            for tenant in connect(&admin)?.tenants().await? {
                println!("{}", tenant.tenant);
            }
        }
    }
    Ok(())
}

async fn portal(command: Portal) -> Outcome {
    match command {
        Portal::Add { portal, key, tenant, admin } => {
            let keys = key.iter().map(read_key).collect::<Result<_, _>>()?;
            connect(&admin)?.put_portal(&PortalRecord { portal, keys, tenants: tenant }).await?;
        }
        Portal::Grant { portal, tenant, admin } => {
            let client = connect(&admin)?;
            let mut record = registered(&client, &portal).await?;
            if !record.tenants.contains(&tenant) {
                record.tenants.push(tenant);
            }
            client.put_portal(&record).await?;
        }
        Portal::Withdraw { portal, tenant, admin } => {
            let client = connect(&admin)?;
            let mut record = registered(&client, &portal).await?;
            record.tenants.retain(|granted| *granted != tenant);
            client.put_portal(&record).await?;
        }
        Portal::Remove { portal, admin } => connect(&admin)?.remove_portal(&portal).await?,
        Portal::List(admin) => {
            for portal in connect(&admin)?.portals().await? {
                let keys: Vec<_> = portal.keys.iter().map(|key| key.thumbprint().to_string()).collect();
                let tenants: Vec<_> = portal.tenants.iter().map(TenantId::as_str).collect();
                println!("{}  keys {}  tenants {}", portal.portal, keys.join(" "), tenants.join(" "));
            }
        }
    }
    Ok(())
}

async fn registered(client: &AdminClient, portal: &PortalId) -> Result<PortalRecord, Box<dyn Error>> {
    let found = client.portals().await?.into_iter().find(|record| record.portal == *portal);
    found.ok_or_else(|| format!("there is no portal {portal}").into())
}

fn read_key(file: &PathBuf) -> Result<PublicKey, Box<dyn Error>> {
    let text = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())?
    } else {
        std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?
    };
    serde_json::from_str(&text).map_err(|e| format!("{}: no public key as JWK: {e}", file.display()).into())
}

async fn agent(command: Agent) -> Outcome {
    match command {
        Agent::List { tenant, admin } => {
            for agent in connect(&admin)?.agents(&tenant).await? {
                let status = serde_json::to_value(agent.status)?;
                let fingerprint = agent.keys.fingerprint(agent.agent);
                println!("{}  {}  {}  {fingerprint}", agent.agent, status.as_str().unwrap_or_default(), agent.name);
            }
        }
        Agent::Revoke { tenant, agent, admin } => connect(&admin)?.revoke_agent(&tenant, agent).await?,
    }
    Ok(())
}

async fn registry(command: Registry) -> Outcome {
    match command {
        Registry::Export { file, admin } => {
            let snapshot = connect(&admin)?.export().await?;
            std::fs::write(&file, serde_json::to_vec_pretty(&snapshot)?)
                .map_err(|e| format!("{}: {e}", file.display()))?;
        }
        Registry::Import { file, admin } => {
            let text = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            let snapshot =
                serde_json::from_slice(&text).map_err(|e| format!("{}: no exported registry: {e}", file.display()))?;
            connect(&admin)?.import(&snapshot).await?;
        }
    }
    Ok(())
}
