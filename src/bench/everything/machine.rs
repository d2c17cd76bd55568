//! What it was measured on, and with.

use std::fs::read_to_string;
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::bench::Fallible;

/// A machine, and the programs on it.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    cpu: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    rustc: &'static str,
    nats_server: String,
    redis: String,
    writeback: &'static str,
    build: &'static str,
}

impl Machine {
    pub(super) fn here() -> Fallible<Self> {
        let kib: u64 = field("/proc/meminfo", "MemTotal")?.trim_end_matches(" kB").parse()?;
        Ok(Self {
            // Not every architecture has names.
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|_| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: (kib + (1 << 19)) >> 20,
            kernel: read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            rustc: env!("COMPILED_BY"),
            nats_server: version("nats-server"),
            redis: version("redis-server"),
            writeback: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
        })
    }

    /// As a list of Markdown.
    pub(super) fn list(&self) -> String {
        let Self { cpu, cores, memory_gib, kernel, rustc, nats_server, redis, writeback, build } = self;
        format!(
            "- {cpu}, {cores} cores, {memory_gib} GiB of memory, Linux {kernel}\n- writeback-relay {writeback}, {build} \
             build by {rustc}\n- {nats_server}\n- {redis}\n"
        )
    }
}

fn field(file: &str, name: &str) -> Fallible<String> {
    let text = read_to_string(file)?;
    let value = text.lines().filter_map(|line| line.split_once(':')).find(|(field, _)| field.trim() == name);
    Ok(value.ok_or_else(|| format!("no {name} in {file}"))?.1.trim().to_owned())
}

/// What a program says of itself, or that it isn't there.
fn version(program: &str) -> String {
    let said = Command::new(program).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let said = said.ok().and_then(|said| String::from_utf8(said.stdout).ok());
    let line = said.as_deref().and_then(|said| said.lines().next());
    line.map_or_else(|| format!("{program} is not installed"), ToOwned::to_owned)
}
