//! The operator's commands about portals.

use std::error::Error;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use writeback_relay::protocol::ids::{PortalId, TenantId};
use writeback_relay::protocol::jose::PublicKey;
use writeback_relay::protocol::json;
use writeback_relay::relay::admin::client::PortalChanged;
use writeback_relay::relay::registry::PortalRecord;
use writeback_relay::storage::{read_text, read_text_from};

use super::Outcome;
use super::operator::Admin;

#[derive(Subcommand)]
pub(super) enum Portal {
    /// Register a portal and grant it tenants. One that is registered keeps what it has; it is granted these beside.
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
    /// Put these keys in place of all that a registered portal has: it has lost its own. Its tenants stay.
    ReplaceKeys {
        portal: PortalId,
        /// The file with its public key as JWK; - for standard input.
        #[arg(long, required = true)]
        key: Vec<PathBuf>,
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

pub(super) async fn portal(command: Portal) -> Outcome {
    match command {
        Portal::Add { portal, key, tenant, admin } => {
            let keys = key.iter().map(|file| read_key(file)).collect::<Result<_, _>>()?;
            let record = PortalRecord { portal, keys, tenants: tenant, later: Default::default() };
            let change = admin.connect()?.add_portal(&record).await?;
            admin.answer(&change, || told(&change))
        }
        Portal::Grant { portal, tenant, admin } => {
            let change = admin.connect()?.grant(&portal, &tenant).await?;
            admin.answer(&change, || told(&change))
        }
        Portal::Withdraw { portal, tenant, admin } => {
            let change = admin.connect()?.withdraw(&portal, &tenant).await?;
            admin.answer(&change, || told(&change))
        }
        Portal::Remove { portal, admin } => {
            let removed = admin.connect()?.remove_portal(&portal).await?;
            admin.answer(&removed, || {
                format!("portal {portal} is removed; it served {}\n", names(&removed.portal.tenants))
            })
        }
        Portal::ReplaceKeys { portal, key, admin } => {
            let keys = key.iter().map(|file| read_key(file)).collect::<Result<_, _>>()?;
            let client = admin.connect()?;
            let known = client.portals().await?.into_iter().find(|known| known.portal == portal);
            let tenants = known.ok_or_else(|| format!("there is no portal {portal}"))?.tenants;
            let record = PortalRecord { portal, keys, tenants, later: Default::default() };
            let change = client.put_portal(&record).await?;
            admin.answer(&change, || told(&change))
        }
        Portal::List(admin) => {
            let portals = admin.connect()?.portals().await?;
            admin.answer(&portals, || portals.iter().map(line).collect())
        }
    }
}

fn line(portal: &PortalRecord) -> String {
    let keys: Vec<_> = portal.keys.iter().map(|key| key.thumbprint().to_string()).collect();
    let tenants: Vec<_> = portal.tenants.iter().map(TenantId::as_str).collect();
    format!("{}  keys {}  tenants {}\n", portal.portal, keys.join(" "), tenants.join(" "))
}

fn names<T: Display>(all: &[T]) -> String {
    if all.is_empty() { "no tenant".to_owned() } else { all.iter().map(T::to_string).collect::<Vec<_>>().join(", ") }
}

/// What was changed, and what it has now.
fn told(change: &PortalChanged) -> String {
    let portal = &change.portal.portal;
    let mut said = Vec::new();
    if change.new {
        said.push("is registered".to_owned());
    }
    let mut add = |what: &str, all: &[String]| {
        if !all.is_empty() {
            said.push(format!("{what} {}", all.join(", ")));
        }
    };
    let tenants = |all: &[TenantId]| all.iter().map(TenantId::to_string).collect::<Vec<_>>();
    add("may serve from now on:", &tenants(&change.granted));
    add("may not serve any more:", &tenants(&change.withdrawn));
    if !change.new {
        add("has one more key:", &change.keys_added);
        add("has no longer the key:", &change.keys_dropped);
    }
    if said.is_empty() {
        said.push("is as it was".to_owned());
    }
    format!("portal {portal} {}\nit serves {}\n", said.join("; "), names(&change.portal.tenants))
}

fn read_key(file: &Path) -> Result<PublicKey, Box<dyn Error>> {
    let text = if file.as_os_str() == "-" {
        read_text_from(&mut std::io::stdin())?
    } else {
        read_text(file).map_err(|e| format!("{}: {e}", file.display()))?
    };
    json::read(text.as_bytes()).map_err(|e| format!("{}: no public key as JWK: {e}", file.display()).into())
}
