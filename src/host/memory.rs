//! How much memory a process may have, and has, on Linux.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// A control group that has a limit, of version 2 or 1.
struct Group {
    folder: PathBuf,
    files: &'static Files,
    limit: u64,
}

/// What a version of control groups calls things.
struct Files {
    root: &'static str,
    limit: &'static str,
    used: &'static str,
    /// Fields of `memory.stat`: what the kernel can take back at once.
    spare: [&'static str; 2],
}

const VERSION_2: Files = Files {
    root: "/sys/fs/cgroup",
    limit: "memory.max",
    used: "memory.current",
    spare: ["active_file ", "inactive_file "],
};
const VERSION_1: Files = Files {
    root: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    spare: ["total_active_file ", "total_inactive_file "],
};

/// How much memory this process may have, and has.
pub struct Memory {
    group: Option<Group>,
    host: Option<u64>,
}

impl Memory {
    /// Looks whose limit holds: that of the control group, or of one above it, or the host's memory.
    #[must_use]
    pub fn of_process() -> Self {
        let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limits = groups.lines().filter_map(folders).flat_map(|(files, folders)| {
            folders.into_iter().filter_map(move |folder| {
                let limit = number(&read_to_string(folder.join(files.limit)).ok()?)?;
                Some(Group { folder, files, limit })
            })
        });
        let host = read_to_string("/proc/meminfo").ok().and_then(|text| kilobytes(&text, "MemTotal:"));
        // Version 1 has a limit where there is none: more than any host has.
        let group = limits.min_by_key(|group| group.limit).filter(|group| host.is_none_or(|host| group.limit < host));
        Self { group, host }
    }

    /// The most that it may have, in bytes, if that is known.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.group.as_ref().map(|group| group.limit).or(self.host)
    }

    /// What it has now, in bytes: its own, and what the kernel has for it, such as what waits in its sockets.
    #[must_use]
    pub fn used(&self) -> Option<u64> {
        let own = read_to_string("/proc/self/status").ok().and_then(|text| kilobytes(&text, "VmRSS:"));
        own.max(self.group.as_ref().and_then(Group::used))
    }
}

impl Group {
    fn used(&self) -> Option<u64> {
        let used = number(&read_to_string(self.folder.join(self.files.used)).ok()?)?;
        let stat = read_to_string(self.folder.join("memory.stat")).ok()?;
        Some(used.saturating_sub(spare(&stat, self.files)))
    }
}

fn spare(stat: &str, files: &Files) -> u64 {
    let of = |field: &str| stat.lines().find_map(|line| number(line.strip_prefix(field)?));
    files.spare.iter().filter_map(|field| of(field)).sum()
}

/// The group of a line of `/proc/self/cgroup`, `0::/system.slice/relay.service`, and those above it.
fn folders(line: &str) -> Option<(&'static Files, Vec<PathBuf>)> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let files = match controllers {
        "" => &VERSION_2,
        controllers if controllers.split(',').any(|controller| controller == "memory") => &VERSION_1,
        _ => return None,
    };
    let group = Path::new(files.root).join(path.trim_start_matches('/'));
    Some((files, group.ancestors().take_while(|folder| folder.starts_with(files.root)).map(Path::to_owned).collect()))
}

/// `max` is none.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A field of `/proc`, which has kilobytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(number(value.trim().strip_suffix("kB")?)? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_a_group_is_looked_for_in_it_and_above_it() {
        let found = |line: &str| {
            let (files, folders) = folders(line)?;
            Some((files.limit, folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>()))
        };
        let two = ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"].map(str::to_owned).to_vec();
        assert_eq!(found("0::/a/b"), Some(("memory.max", two)));
        let one = ["/sys/fs/cgroup/memory/x", "/sys/fs/cgroup/memory"].map(str::to_owned).to_vec();
        assert_eq!(found("9:cpu,memory:/x"), Some(("memory.limit_in_bytes", one)));
        assert!(found("3:cpuset:/x").is_none() && found("").is_none());
    }

    #[test]
    fn numbers_are_read_as_the_kernel_writes_them() {
        assert_eq!((number("max\n"), number("536870912\n")), (None, Some(536_870_912)));
        assert_eq!(kilobytes("VmPeak:\t9 kB\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(spare("anon 5\ninactive_file 7\nactive_file 3\n", &VERSION_2), 10);
    }

    #[test]
    fn this_process_has_memory_and_no_more_than_it_may() {
        let memory = Memory::of_process();
        assert!(memory.used().unwrap() > 1024 && memory.used() < memory.limit());
    }
}
