//! A process that is measured: what the operating system says it has used.

use std::fs::{File, read_to_string};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use parking_lot::Mutex;

use super::Fallible;
use crate::host::clock_ticks_per_second;

/// Killed when this is dropped.
pub(super) struct Process {
    name: String,
    child: Mutex<Child>,
    pid: u32,
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Process {
    /// Starts `command`, which logs into a file of this name.
    pub(super) fn start(name: &str, command: &mut Command, folder: &Path) -> Fallible<Self> {
        let log = File::create(folder.join(format!("{name}.log")))?;
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn();
        let child = child.map_err(|e| format!("{}: {e}", command.get_program().display()))?;
        Ok(Self { name: name.to_owned(), pid: child.id(), child: Mutex::new(child) })
    }

    /// What it prints, once.
    pub(super) fn stdout(&self) -> Option<ChildStdout> {
        self.child.lock().stdout.take()
    }

    /// What is wrong, if it has ended.
    pub(super) fn ended(&self) -> Option<String> {
        let status = self.child.lock().try_wait().ok().flatten()?;
        Some(format!("{} (process {}) died in the middle: {status}", self.name, self.pid))
    }

    /// CPU time, its own and the kernel's for it.
    pub(super) fn cpu(&self) -> Fallible<Duration> {
        let stat = read_to_string(format!("/proc/{}/stat", self.pid))?;
        // Behind the name, which may hold anything: proc_pid_stat(5), fields 14 and 15.
        let fields = stat.rsplit_once(')').map_or("", |(_, behind)| behind).split_whitespace();
        let ticks = fields.skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_micros(ticks * 1_000_000 / clock_ticks_per_second()))
    }

    /// Resident memory, in KiB.
    pub(super) fn resident(&self) -> Fallible<u64> {
        let status = read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().next().ok_or("no VmRSS")?.parse()?)
    }
}
