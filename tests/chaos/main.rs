//! Chaos: real nodes, a real Redis, real agents and a directory, each a process of its own, through proxies that break
//! what passes; portals submit all the time, and every second something breaks. Then everything is healed, and a
//! checker proves from the histories that nothing was lost, done twice, or answered falsely.
//!
//! A seed repeats the commands and the faults, and their order; not how the processes' steps fall between them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod checker;
mod clock;
mod dice;
mod directory;
mod faults;
mod history;
mod load;
mod process;
mod proxy;
mod report;
mod roles;
mod run;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod support;
mod world;

use std::process::ExitCode;

use clap::Parser;

use crate::roles::Role;
use crate::run::Settings;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = |threads: usize| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap()
    };
    if let Some(role) = Role::parse(&arguments) {
        // A directory answers in the order in which it is asked.
        let threads = if matches!(role, Role::Directory { .. }) { 1 } else { 2 };
        return runtime(threads).block_on(role.play());
    }
    // Its worker threads start the processes, which die with the thread that started them.
    runtime(4).block_on(async { tokio::spawn(run::run(Settings::parse())).await.unwrap() })
}
