//! Folders that are ours: nobody whom we don't trust has made them, or may put anything into them. What somebody else has
//! prepared there would be taken for our own: a token, a key, a store.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::FileError;
use super::volume::{OTHERS_WRITE, Process};
use crate::host;

/// May the group write.
const GROUP_WRITES: u32 = 0o020;

/// Makes a folder that only its owner enters, whatever the umask; one that exists is left as it is if it is ours.
///
/// # Errors
/// If the operating system refuses, or it is not ours.
pub fn make_private_folder(path: &Path) -> Result<(), FileError> {
    make(path).map_err(|error| FileError::Io { path: path.to_owned(), error })?;
    check_folder(path)
}

/// Looks whether a folder is ours: this user's or root's, and nobody else may write into it. A group may if this process
/// is in it and the owner has let it, as Kubernetes does with a volume (`fsGroup`). On a volume that was given to such a group
/// from its root on, a folder may be anybody's: earlier lives of a pod may have been other users.
///
/// # Errors
/// If it is not, is missing, or can't be looked at.
pub fn check_folder(path: &Path) -> Result<(), FileError> {
    look_at(path, &Process::this())
}

/// The same for a program that only reads: root may look into everybody's folder.
///
/// # Errors
/// As [`check_folder`].
pub fn check_folder_to_read(path: &Path) -> Result<(), FileError> {
    let this = Process::this();
    if this.user != 0 {
        return look_at(path, &this);
    }
    let folder = fs::metadata(path).map_err(|error| FileError::Io { path: path.to_owned(), error })?;
    look_at(path, &Process { user: folder.uid(), groups: vec![folder.gid()] })
}

/// A new folder for temporary files, of its owner alone.
///
/// # Errors
/// If there is no place for it; then what to do about it.
pub fn make_temporary_folder(prefix: &str) -> Result<TempDir, FileError> {
    let path = std::env::temp_dir();
    tempfile::Builder::new()
        .prefix(prefix)
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(&path)
        .map_err(|error| FileError::Temporary { path, error: error.kind().into() })
}

impl Process {
    /// Why a folder of this owner, group and mode is not to be used.
    fn objects_to(&self, owner: u32, group: u32, mode: u32) -> Option<Objection> {
        let strange_group = mode & GROUP_WRITES != 0 && !self.groups.contains(&group);
        if !self.trusts(owner) {
            Some(Objection::Owner)
        } else if mode & OTHERS_WRITE != 0 || strange_group {
            Some(Objection::Mode)
        } else {
            None
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Objection {
    Owner,
    Mode,
}

/// With every folder above it that is missing.
fn make(path: &Path) -> io::Result<()> {
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty() && !above.exists()) {
        make(above)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        // The umask may have taken from it.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o700)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn look_at(path: &Path, process: &Process) -> Result<(), FileError> {
    let io = |error| FileError::Io { path: path.to_owned(), error };
    // With a slash at its end, a link would be followed at once.
    let itself: PathBuf = path.components().collect();
    let link = fs::symlink_metadata(&itself).map_err(io)?;
    if link.is_symlink() && !process.trusts(link.uid()) {
        return Err(FileError::ForeignLink { path: itself, owner: host::user_name(link.uid()) });
    }
    let folder = fs::metadata(path).map_err(io)?;
    if !folder.is_dir() {
        return Err(io(ErrorKind::NotADirectory.into()));
    }
    let (path, mode) = (path.to_owned(), folder.mode() & 0o7777);
    match process.objects_to(folder.uid(), folder.gid(), mode) {
        None => Ok(()),
        Some(Objection::Owner) if process.was_rightly_given(&path, &folder) => Ok(()),
        Some(Objection::Owner) => {
            let (owner, user) = (host::user_name(folder.uid()), host::user_name(process.user));
            Err(FileError::ForeignFolder { path, owner, user })
        }
        Some(Objection::Mode) => Err(FileError::OpenFolder { path, mode }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_for_its_owner_alone_with_what_is_above_it_and_found_ours_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("above").join("ours");
        for _ in 0..2 {
            make_private_folder(&folder).unwrap();
            for made in [&folder, &dir.path().join("above")] {
                assert_eq!(fs::metadata(made).unwrap().mode() & 0o7777, 0o700);
            }
        }
        fs::write(dir.path().join("file"), "").unwrap();
        let error = make_private_folder(&dir.path().join("file")).unwrap_err().to_string();
        assert!(error.contains("file: ") && error.contains("not a directory"), "{error}");
    }

    #[test]
    fn a_folder_is_ours_if_we_or_root_have_made_it_and_nobody_but_our_group_may_write_into_it() {
        let (me, stranger, mine, other) = (1000, 1001, 65532, 100);
        let process = Process { user: me, groups: vec![me, mine] };
        for (owner, group, mode, objection) in [
            (me, me, 0o700, None),
            (me, other, 0o755, None),
            (me, mine, 0o770, None),
            (0, 0, 0o755, None),
            // As Kubernetes gives a volume to a pod's group.
            (0, mine, 0o2770, None),
            (0, mine, 0o2775, None),
            (me, other, 0o770, Some(Objection::Mode)),
            (0, other, 0o2770, Some(Objection::Mode)),
            (me, me, 0o777, Some(Objection::Mode)),
            (0, mine, 0o2777, Some(Objection::Mode)),
            (me, me, 0o702, Some(Objection::Mode)),
            // Nobody may remove there what is another's, and everybody may add to it.
            (0, 0, 0o1777, Some(Objection::Mode)),
            (stranger, me, 0o700, Some(Objection::Owner)),
            // Whoever shares a group with us can give it his folder.
            (stranger, mine, 0o2770, Some(Objection::Owner)),
            (stranger, mine, 0o755, Some(Objection::Owner)),
        ] {
            assert_eq!(process.objects_to(owner, group, mode), objection, "{owner} {group} {mode:o}");
        }
        let root = Process { user: 0, groups: vec![0] };
        assert_eq!(root.objects_to(0, 0, 0o700), None);
        assert_eq!(root.objects_to(me, me, 0o700), Some(Objection::Owner));
        assert_eq!(root.objects_to(0, mine, 0o770), Some(Objection::Mode));
    }

    #[test]
    fn a_temporary_folder_is_its_owners_alone() {
        let made = make_temporary_folder("writeback-test-").unwrap();
        assert_eq!(fs::metadata(made.path()).unwrap().mode() & 0o7777, 0o700);
    }
}
