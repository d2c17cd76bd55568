//! What the nodes and agents look like, for people and for programs.

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use writeback_relay::host;
use writeback_relay::protocol::api::PreflightState;
use writeback_relay::protocol::ids::TenantId;
use writeback_relay::protocol::untrusted::{Untrusted, one_line};
use writeback_relay::relay::admin::client::{NodeView, Overview, SeenSession, Trouble};
use writeback_relay::relay::faults::Fault;

use super::Outcome;
use super::operator::Admin;

/// More lines than this are for programs.
const MAX_TROUBLES: usize = 50;

#[derive(Args)]
pub(super) struct Status {
    #[command(flatten)]
    admin: Admin,
}

#[derive(Args)]
pub(super) struct Sessions {
    /// Only this tenant's.
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Only those on this node, by its name.
    #[arg(long)]
    node: Option<String>,
    #[command(flatten)]
    admin: Admin,
}

pub(super) async fn status(Status { admin }: Status) -> Result<ExitCode, Box<dyn Error>> {
    let overview = admin.connect()?.overview().await?;
    let failed = overview.troubles.iter().filter(|trouble| trouble.state == PreflightState::Failed).count();
    admin.answer(&overview, || text(&overview))?;
    if failed > 0 && !admin.json() {
        let said =
            if failed == 1 { "one of these fails resets".to_owned() } else { format!("{failed} of these fail resets") };
        host::complain("writeback-relay", &said);
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) async fn sessions(Sessions { tenant, node, admin }: Sessions) -> Outcome {
    let mut sessions = admin.connect()?.presence(tenant.as_ref()).await?;
    sessions.retain(|session| node.as_ref().is_none_or(|node| session.node == **node));
    let rows = sessions.iter().map(|SeenSession { node, tenant, agent, name, version, session }| {
        let version = version.as_ref().map(Untrusted::cell).unwrap_or_default();
        [node.cell(), tenant.to_string(), agent.to_string(), name.cell(), version, session.to_string()]
    });
    admin.answer(&sessions, || table(["NODE", "TENANT", "AGENT", "HOST", "VERSION", "SESSION"], rows))
}

fn text(overview: &Overview) -> String {
    let rows = overview.nodes.iter().map(|node| {
        let name = if node.answers { format!("{} *", node.name.cell()) } else { node.name.cell() };
        [name, node.node.to_string(), node.version.cell(), node.sessions.to_string(), state(node)]
    });
    let mut text = table(["NODE", "ID", "VERSION", "SESSIONS", "STATE"], rows);
    registered(&mut text, overview);
    for rotation in &overview.rotations {
        let (portal, agents) = (&rotation.portal, rotation.agents);
        let _ = writeln!(
            text,
            "key {} of {portal}: taken by {} of {}",
            rotation.seq,
            rotation.acknowledged,
            count(agents, "agent")
        );
    }
    troubles(&mut text, &overview.troubles);
    text
}

/// Whether a node serves, or what keeps it from that.
fn state(node: &NodeView) -> String {
    let faults: Vec<_> = node
        .faults
        .iter()
        .map(|code| match Fault::from_code(code) {
            Some(fault) => fault.detail().to_owned(),
            None => code.cell(),
        })
        .collect();
    match node {
        NodeView { same_cluster_key: false, .. } => "another cluster key".to_owned(),
        _ if !faults.is_empty() => format!("does no resets: {}", faults.join(", ")),
        NodeView { known: false, .. } => "not known now".to_owned(),
        NodeView { draining: true, .. } => "draining".to_owned(),
        _ => "serving".to_owned(),
    }
}

/// What the registry has.
fn registered(text: &mut String, overview: &Overview) {
    let Overview { tenants: Some(tenants), portals: Some(portals), agents: Some(agents), .. } = overview else {
        return text.push_str("\ntenants, portals and agents: not known now\n");
    };
    let versions: Vec<_> =
        agents.versions.iter().map(|(version, count)| format!("{count} of {}", version.cell())).collect();
    // Writing to a text does not fail.
    let _ = writeln!(text, "\n{}, {}", count(*tenants, "tenant"), count(*portals, "portal"));
    let _ = writeln!(
        text,
        "agents: {} in service, {} of them connected; {} approval, {} revoked",
        agents.approved,
        agents.online,
        if agents.pending == 1 { "1 waits for".to_owned() } else { format!("{} wait for", agents.pending) },
        agents.revoked
    );
    if !versions.is_empty() {
        let _ = writeln!(text, "versions: {}", versions.join(", "));
    }
}

/// So many of these.
fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn troubles(text: &mut String, troubles: &[Trouble]) {
    if troubles.is_empty() {
        text.push_str("\nnothing is wrong\n");
        return;
    }
    text.push('\n');
    for trouble in troubles.iter().take(MAX_TROUBLES) {
        let Trouble { state, tenant, agent, detail, .. } = trouble;
        let state = if *state == PreflightState::Failed { "FAILED " } else { "warning" };
        let whose: String = tenant.iter().map(|tenant| format!("{tenant}  ")).collect();
        let whose = agent.iter().fold(whose, |whose, agent| format!("{whose}{agent}  "));
        // The node's words, in which an agent's are quoted.
        let _ = writeln!(text, "{state}  {whose}{}", one_line(detail.as_data()));
        if let Some(advice) = trouble.advice() {
            let _ = writeln!(text, "         {advice}");
        }
    }
    if let Some(more) = troubles.len().checked_sub(MAX_TROUBLES).filter(|more| *more > 0) {
        let _ = writeln!(text, "and {more} more; --json has all");
    }
}

fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = [head.map(str::to_owned)].into_iter().chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}
