//! What a measurement needs of this machine, said before it begins.

use std::fs::read_to_string;

use super::Fallible;
use super::stage::{SPARE_FILES, Scene};
use super::wire::PER_ADDRESS;
use crate::host;

/// Resident memory that an agent takes, on both sides, with what is more for the largest server measured.
const KIB_PER_AGENT: u64 = 120;

/// Whether this machine can carry these scenes at the same time, each with so many connections of portals.
///
/// # Errors
/// What is too little, how much is there, and what to do.
pub(super) fn check(scenes: &[Scene], callers: usize) -> Fallible<()> {
    let may = host::max_open_files();
    let connections = callers * scenes.len() + SPARE_FILES;
    if connections > may {
        return Err(format!(
            "connections of portals need {connections} open files in one process, and it may have {may}: raise \
             \"ulimit -n\", or take fewer"
        )
        .into());
    }
    for scene in scenes {
        let servers = scene.redis_nodes.max(1);
        let files = scene.agents.div_ceil(servers) + callers + SPARE_FILES;
        if files > may {
            return Err(format!(
                "{} agents on {servers} server(s) need {files} open files in one process, and it may have {may}: raise \
                 \"ulimit -n\", or take fewer agents",
                scene.agents
            )
            .into());
        }
    }
    let range = read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let ports: Vec<usize> = range.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    // Each scene uses the same addresses.
    let ports_needed: usize = scenes.iter().map(|scene| PER_ADDRESS.min(scene.agents + callers)).sum();
    if let [first, last] = ports[..]
        && last.saturating_sub(first) < ports_needed
    {
        return Err(format!(
            "ports {first} to {last} are too few for {ports_needed} connections from one address: widen \
             net.ipv4.ip_local_port_range, or take fewer agents or subjects"
        )
        .into());
    }
    let text = read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).ok_or("no MemAvailable")?;
    let available: u64 = line.split_whitespace().next().ok_or("no MemAvailable")?.parse()?;
    let agents: usize = scenes.iter().map(|scene| scene.agents).sum();
    let needed = KIB_PER_AGENT * u64::try_from(agents)?;
    if needed > available {
        return Err(format!(
            "{agents} agents and their servers need about {} MiB of memory, and {} MiB are available: take fewer agents",
            needed / 1024,
            available / 1024
        )
        .into());
    }
    Ok(())
}
