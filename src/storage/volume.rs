//! Folders that were given to a group of this process with all that is in them, as Kubernetes gives a volume to a pod
//! (`fsGroup`). Before a pod starts, kubelet walks through its volume: everything gets the group, each folder what the group
//! needs and set-gid (`| 02770`), each file `| 0660`, and owners stay (`changeFilePermission` in its
//! `pkg/volume/volume_linux.go`). So a file that was made with 0600 is found with 0660, and perhaps as another user.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::host;

/// Set-gid, and all rights of the group: what kubelet gives each folder, and nobody gives by chance.
const GIVEN: u32 = 0o2070;
/// May everybody write.
pub(super) const OTHERS_WRITE: u32 = 0o002;

/// Who a process is to the file system.
pub(super) struct Process {
    pub(super) user: u32,
    pub(super) groups: Vec<u32>,
}

impl Process {
    pub(super) fn this() -> Self {
        Self { user: host::user_id(), groups: host::group_ids() }
    }

    pub(super) fn trusts(&self, user: u32) -> bool {
        user == self.user || user == 0
    }

    /// Whether a folder of this group and mode was given to a group of ours, and to nobody else.
    fn was_given(&self, group: u32, mode: u32) -> bool {
        mode & GIVEN == GIVEN && mode & OTHERS_WRITE == 0 && self.groups.contains(&group)
    }

    /// Whether this folder was given to us by whoever may give it: this user, root, or who mounted the volume that it lies
    /// on, which is root. In a place of anybody's, whoever shares a group with us could give us his folder.
    pub(super) fn was_rightly_given(&self, path: &Path, folder: &Metadata) -> bool {
        self.was_given(folder.gid(), folder.mode()) && (self.trusts(folder.uid()) || self.has_mounted(path))
    }

    /// Whether this file lies in such a folder and is of its group. A link counts where it leads to.
    pub(super) fn was_given_file(&self, path: &Path, file: &Metadata) -> bool {
        let in_given = || -> io::Result<bool> {
            let real = path.canonicalize()?;
            let folder = real.parent().unwrap_or(Path::new("/"));
            let found = fs::metadata(folder)?;
            Ok(found.gid() == file.gid() && self.was_rightly_given(folder, &found))
        };
        in_given().unwrap_or(false)
    }

    /// Whether the volume that `path` lies on was given to us from its root on.
    fn has_mounted(&self, path: &Path) -> bool {
        let root = || -> io::Result<bool> {
            let mounts = fs::read("/proc/self/mountinfo")?;
            let Some(root) = mount_above(&path.canonicalize()?, &mounts) else { return Ok(false) };
            let found = fs::metadata(root)?;
            Ok(self.was_given(found.gid(), found.mode()))
        };
        root().unwrap_or(false)
    }
}

/// The mount that `path` lies on, unless it is that of everything: proc_pid_mountinfo(5).
fn mount_above(path: &Path, mounts: &[u8]) -> Option<PathBuf> {
    let points = mounts.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let above = points.map(unescaped).filter(|point| path.starts_with(point));
    above.max_by_key(|point| point.as_os_str().len()).filter(|point| point != Path::new("/"))
}

/// A blank, a tab, a line's end and a backslash stand there in octal.
fn unescaped(text: &[u8]) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((&first, behind)) = rest.split_first() {
        let octal = (first == b'\\').then(|| behind.split_first_chunk::<3>()).flatten();
        let value = octal.and_then(|(digits, _)| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (value, octal) {
            (Some(value), Some((_, behind))) => {
                bytes.push(value);
                rest = behind;
            }
            _ => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_folder_is_given_if_it_is_set_gid_and_of_our_group_and_of_nobody_elses() {
        let (mine, other) = (65532, 100);
        let process = Process { user: 1000, groups: vec![1000, mine] };
        for (group, mode, given) in [
            (mine, 0o2770, true),
            (mine, 0o2775, true),
            // A group that may write is not a group that everything is for.
            (mine, 0o770, false),
            (mine, 0o2750, false),
            (mine, 0o2760, false),
            (mine, 0o2700, false),
            (mine, 0o2777, false),
            (other, 0o2770, false),
        ] {
            assert_eq!(process.was_given(group, mode), given, "{group} {mode:o}");
        }
    }

    #[test]
    fn a_path_lies_on_the_deepest_mount_above_it_and_the_root_is_none() {
        let mounts = b"22 1 0:20 / / rw shared:1 - overlay overlay rw\n\
            23 22 0:21 / /var/lib rw - tmpfs tmpfs rw\n\
            24 23 8:1 /x /var/lib/a\\040b\\134 rw - ext4 /dev/sda rw\n";
        let above = |path: &str| mount_above(Path::new(path), mounts).map(|point| point.display().to_string());
        assert_eq!(above("/var/lib/a b\\/c/d").as_deref(), Some("/var/lib/a b\\"));
        assert_eq!(above("/var/lib/a b").as_deref(), Some("/var/lib"));
        assert_eq!(above("/var/lib").as_deref(), Some("/var/lib"));
        assert_eq!(above("/var/library"), None);
        assert_eq!(unescaped(b"\\04").as_os_str().as_bytes(), b"\\04");
    }
}
