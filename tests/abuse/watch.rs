//! What a process uses, looked at all the time.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::task::AbortHandle;
use tokio::time::sleep;
use writeback_relay::host::clock_ticks_per_second;

use crate::confined::MEMORY;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Resident memory, in bytes; 0 if the process is gone.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// CPU time, its own and the kernel's for it.
pub(crate) fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything: proc_pid_stat(5), fields 14 and 15.
    let fields = stat.rsplit_once(')').map_or("", |(_, behind)| behind).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_micros(ticks * 1_000_000 / clock_ticks_per_second())
}

/// Open files, connections among them.
pub(crate) fn files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// How many bytes a folder's own files take.
pub(crate) fn stored(folder: &Path) -> u64 {
    let lengths =
        fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
    lengths.sum()
}

/// Watches a process until it is dropped; ends one that has taken more memory than a node may have.
pub(crate) struct Watch {
    peak: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Watch {
    pub(crate) fn start(pid: u32) -> Self {
        let peak = Arc::<AtomicU64>::default();
        let highest = Arc::clone(&peak);
        let task = tokio::spawn(async move {
            loop {
                let now = resident(pid);
                highest.fetch_max(now, Ordering::Relaxed);
                if now > MEMORY {
                    // It may have ended already.
                    let _ = kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL);
                }
                sleep(LOOK_EVERY).await;
            }
        });
        Self { peak, task: task.abort_handle() }
    }

    /// The most memory it has had, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
