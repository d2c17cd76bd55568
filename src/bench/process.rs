//! A process that is measured: what the operating system says it has used.

use std::fs::File;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use parking_lot::Mutex;

use super::Fallible;
use crate::host::process::Usage;

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
        Ok(Duration::from_secs_f64(self.usage()?.cpu))
    }

    /// Resident memory, in KiB.
    pub(super) fn resident(&self) -> Fallible<u64> {
        Ok(self.usage()?.resident / 1024)
    }

    fn usage(&self) -> Fallible<Usage> {
        Ok(Usage::of(self.pid).ok_or("the kernel does not say what the process has used")?)
    }
}
