//! How much memory a process may have, and has, on Linux.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// The smallest limit of the process's control group and those above it (versions 2 and 1), or the host's memory.
pub(super) fn limit() -> Option<u64> {
    let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().filter_map(files).flatten().filter_map(|file| number(&read_to_string(file).ok()?));
    limits.chain(of_host()).min()
}

/// The files that may have a limit of a line of `/proc/self/cgroup`: `0::/system.slice/relay.service`.
fn files(line: &str) -> Option<impl Iterator<Item = PathBuf>> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        controllers if controllers.split(',').any(|controller| controller == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let group = Path::new(root).join(path.trim_start_matches('/'));
    let folders: Vec<PathBuf> =
        group.ancestors().take_while(|folder| folder.starts_with(root)).map(Path::to_owned).collect();
    Some(folders.into_iter().map(move |folder| folder.join(file)))
}

/// `max` is none.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn of_host() -> Option<u64> {
    field(&read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

pub(super) fn resident() -> Option<u64> {
    field(&read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// A field of `/proc`, which has kilobytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(number(value.trim().strip_suffix("kB")?)? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_a_group_is_looked_for_in_it_and_above_it() {
        let found =
            |line: &str| files(line).map(|files| files.map(|file| file.display().to_string()).collect::<Vec<_>>());
        assert_eq!(
            found("0::/a/b").unwrap(),
            ["/sys/fs/cgroup/a/b/memory.max", "/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/memory.max"]
        );
        assert_eq!(
            found("9:cpu,memory:/x").unwrap(),
            ["/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
        assert!(found("3:cpuset:/x").is_none() && found("").is_none());
        assert_eq!((number("max\n"), number("536870912\n")), (None, Some(536_870_912)));
        assert_eq!(field("VmPeak:\t9 kB\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12 * 1024));
    }

    #[test]
    fn this_process_has_memory_and_no_more_than_it_may() {
        assert!(resident().unwrap() > 1024 && resident() < limit());
    }
}
