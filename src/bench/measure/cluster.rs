//! Nodes on one Redis: agents and portals reach them in turn, so most commands cross from one node to another.

use super::commands::{Commands, side_by_side};
use super::scene;
use crate::bench::Fallible;
use crate::bench::report::Report;
use crate::bench::stage::Scene;
use crate::bench::subject::Subject;

/// What the column is called.
pub(in crate::bench) fn column(nodes: usize) -> String {
    format!("{nodes} on Redis")
}

/// CPU time of all nodes and Redis together, for each of these numbers of nodes.
///
/// # Errors
/// If this machine can't carry it, or a command fails.
pub async fn cluster(nodes: &[usize], plan: &Commands) -> Fallible<Report> {
    super::redis()?;
    let scenes =
        nodes.iter().map(|nodes| Scene { redis_nodes: *nodes, ..scene(Subject::Relay, plan.agents, plan.portals) });
    let columns: Vec<_> = nodes.iter().map(|nodes| column(*nodes)).collect();
    let columns: Vec<_> = columns.iter().map(String::as_str).collect();
    let title = format!("Nodes on Redis: {} agents, {} commands in flight", plan.agents, plan.in_flight);
    let mut report = side_by_side(title, &columns, scenes.collect(), plan).await?;
    report.notes.push("CPU is that of all nodes and of Redis.".to_owned());
    Ok(report)
}
