//! The nodes that are alive, and the one that is to stop.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Ops;
use crate::audit;
use crate::protocol::ids::ObjectId;
use crate::protocol::problem::ProblemCode;
use crate::protocol::untrusted::Untrusted;
use crate::relay::bus::{Member, Notice};
use crate::relay::faults::Fault;
use crate::relay::http::json::Json;
use crate::relay::http::problem::Refusal;
use crate::relay::ids::NodeId;
use crate::relay::writes::Cause;

/// More than there are: what a node says of itself is not shown without end.
const MAX_FAULTS: usize = 16;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// One start of its process.
    pub node: ObjectId,
    /// Its name.
    pub name: Untrusted,
    /// Its program's version; empty if it is too old to say.
    pub version: Untrusted,
    /// How many sessions it has.
    pub sessions: u32,
    /// It lets its agents move and stops.
    pub draining: bool,
    /// Whether it has the cluster key of the node that tells this.
    pub same_cluster_key: bool,
    /// Whether it is the node that tells this.
    pub answers: bool,
    /// What keeps it from its work, as codes; nothing if it serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Untrusted>,
    /// Whether this is how it is now: `false` if the node that tells this can't know, and says how it was.
    #[serde(default = "yes")]
    pub known: bool,
}

fn yes() -> bool {
    true
}

/// Which node: its name or its id.
#[derive(Debug, Deserialize)]
pub(super) struct WhichNode {
    node: Option<String>,
}

/// The nodes that are alive, by name.
pub(super) fn nodes(ops: &Ops) -> Vec<NodeView> {
    nodes_with(ops, &ops.faults())
}

/// The same, where the one that answers has these faults. The store is one for all: what it refuses to this node, it refuses
/// to the others. That it does not answer may be this node's way to it.
pub(super) fn nodes_with(ops: &Ops, faults: &[Fault]) -> Vec<NodeView> {
    let (bus, own) = (&ops.public.services.bus, ops.public.services.bus.node());
    let is_known = bus.knows_members() && !faults.contains(&Fault::Store(Cause::Away));
    let shared = |fault: &&Fault| !fault.is_of_one_node() && **fault != Fault::Store(Cause::Away);
    let view = |member: Member| {
        let answers = member.node == own;
        let ours = faults.iter().filter(|fault| answers || shared(fault));
        let mut codes: Vec<Untrusted> = ours.map(|fault| fault.as_str().into()).collect();
        for code in member.faults.into_iter().take(MAX_FAULTS) {
            if !codes.contains(&code) {
                codes.push(code);
            }
        }
        NodeView {
            node: member.node.0,
            name: member.name,
            version: member.version,
            sessions: member.load.sessions,
            draining: member.load.draining,
            same_cluster_key: member.is_kin,
            answers,
            known: answers || is_known,
            faults: codes,
        }
    };
    let mut nodes: Vec<_> = bus.members().into_iter().map(view).collect();
    nodes.sort_by(|one, other| (&one.name, one.node).cmp(&(&other.name, other.node)));
    nodes
}

/// The one node that is meant: the one that answers, if none is named.
fn meant(nodes: &[NodeView], which: Option<&str>) -> Result<NodeView, Refusal> {
    let is_meant = |view: &&NodeView| match which {
        Some(which) => view.name == *which || view.node.to_string() == which,
        None => view.answers,
    };
    let found: Vec<_> = nodes.iter().filter(is_meant).collect();
    let (code, detail) = match found[..] {
        [one] if one.same_cluster_key => return Ok(one.clone()),
        [one] => {
            let detail =
                format!("{} has another cluster key and does not hear this node; ask it itself", one.name.cell());
            (ProblemCode::Unprocessable, detail)
        }
        [] => {
            let names: Vec<_> = nodes.iter().map(|node| node.name.cell()).collect();
            let detail = format!("no node of this name or id is alive; there are: {}", names.join(", "));
            (ProblemCode::NotFound, detail)
        }
        _ => {
            let ids: Vec<_> = found.iter().map(|node| node.node.to_string()).collect();
            let detail = format!("several nodes have this name; give an id: {}", ids.join(", "));
            (ProblemCode::Unprocessable, detail)
        }
    };
    Err(Refusal::new(code, detail))
}

pub(super) async fn drain(
    State(ops): State<Ops>,
    Query(WhichNode { node }): Query<WhichNode>,
) -> Result<(StatusCode, Json<NodeView>), Refusal> {
    let found = meant(&nodes(&ops), node.as_deref())?;
    audit!("drain_requested", node = %found.node, name = found.name.cell());
    ops.public.services.bus.tell(Notice::Drain(NodeId(found.node))).await?;
    Ok((StatusCode::ACCEPTED, Json(found)))
}
