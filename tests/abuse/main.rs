//! Abuse: what a stranger, a tenant gone bad, or an agent that nobody has approved can do to a node, and what its other
//! users notice of that. A real node with little memory, a process that attacks it, and beside it, of another tenant and
//! from another address, what people do all day: each second one asks whether a reset is possible, one resets, and one
//! agent opens a session.
//!
//! Everything an attacker spends is bounded: connections, bytes, seconds. Everything stays on the loopback network.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod arithmetic;
mod attack;
mod attacker;
mod attacks;
mod confined;
mod legitimate;
mod measured;
mod report;
mod run;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod support;
mod verdict;
mod watch;
mod wire;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::run::Settings;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match arguments.as_slice() {
        [role, orders] if role == attacker::ROLE => runtime.block_on(attacker::play(Path::new(orders))),
        _ => runtime.block_on(run::run(Settings::parse())),
    }
}
