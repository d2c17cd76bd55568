//! A group of processes with a limit of memory, where the system lets us make one.

use std::fs;
use std::path::{Path, PathBuf};

/// What a node may have.
pub(crate) const MEMORY: u64 = 512 * 1024 * 1024;

/// A cgroup. Removed when dropped, when its processes have ended.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// None: this system gives us none, and whoever watches the process has to end it.
    pub(crate) fn new() -> Option<Self> {
        let name = format!("writeback-abuse-{}", std::process::id());
        Self::at(Path::new("/sys/fs/cgroup").join(&name), "memory.max", "memory.swap.max", "0").or_else(|| {
            let memory = MEMORY.to_string();
            Self::at(
                Path::new("/sys/fs/cgroup/memory").join(&name),
                "memory.limit_in_bytes",
                "memory.memsw.limit_in_bytes",
                &memory,
            )
        })
    }

    fn at(folder: PathBuf, limit: &str, swap: &str, swap_limit: &str) -> Option<Self> {
        fs::create_dir(&folder).ok()?;
        let group = Self(folder);
        fs::write(group.0.join(limit), MEMORY.to_string()).ok()?;
        // Without swap there is no such file.
        let _ = fs::write(group.0.join(swap), swap_limit);
        group.0.join("cgroup.procs").exists().then_some(group)
    }

    /// What a shell does to be in it.
    pub(crate) fn enter(&self) -> String {
        format!("echo $$ > {} && ", self.0.join("cgroup.procs").display())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
