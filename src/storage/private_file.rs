//! Small files that only their owner reads (mode 0600), replaced in one step, so that a crash leaves the old or the new.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::read_text_from;
use super::volume::Process;
use crate::host;

/// Why a private file can't be used. It names the file and what to do, never what is inside.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Others may read or write it.
    #[error("{path}: others may read this file (mode {mode:o}); run: chmod 600 {path}")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Others may write what we act by.
    #[error(
        "{path}: others may write this file (mode {mode:o}); see that it says what you want and run: chmod o-w {path}"
    )]
    OpenFile {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A newer version of the program has written it.
    #[error(
        "{path}: written by a newer version of this program (format {found}, and this one knows {known}); install that \
         version or a later one, or restore the whole folder from a copy that is older"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The number of its form.
        found: u32,
        /// The greatest number that is known here.
        known: u32,
    },
    /// A file of somebody else's.
    #[error(
        "{path}: this file belongs to the user {owner}, who could have put anything into it; look at what it holds, and make \
         it yours: chown {user} {path}"
    )]
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who is to use it.
        user: String,
    },
    /// A folder of somebody else's.
    #[error(
        "{path}: this folder belongs to the user {owner}, and not to {user}: what is in it may be anybody's, and {owner} \
         could not read what {user} writes into it; run this as that user (runuser -u {owner} -- ...), or name a folder of \
         your own"
    )]
    ForeignFolder {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who is to use it.
        user: String,
    },
    /// Somebody else has said where the folder is.
    #[error(
        "{path}: the user {owner} has made this symbolic link, and may have it lead anywhere; name the folder itself"
    )]
    ForeignLink {
        /// The link.
        path: PathBuf,
        /// Whose it is.
        owner: String,
    },
    /// Others may write into the folder.
    #[error(
        "{path}: others may write into this folder (mode {mode:o}), and what they put there would be taken for ours; see \
         that everything in it is yours and run: chmod 700 {path} (of a volume that everybody may write into, name a folder \
         that is not there yet: it is made)"
    )]
    OpenFolder {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There is no place for temporary files.
    #[error(
        "{path}: no folder for temporary files can be made there: {error}; set TMPDIR to a folder that is there and that \
         you may write into"
    )]
    Temporary {
        /// Where they were to go.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// It does not hold what it should.
    #[error("{path}: the file is damaged and was left as it is ({detail}); restore it from a copy")]
    Contents {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
}

/// A file that only its owner reads.
#[derive(Debug, Clone)]
pub struct PrivateFile {
    path: PathBuf,
}

impl PrivateFile {
    /// At `path`; nothing is touched yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    fn io(&self, error: io::Error) -> FileError {
        FileError::Io { path: self.path.clone(), error }
    }

    /// An error that says the contents are not what they should be.
    #[must_use]
    pub fn contents(&self, detail: impl ToString) -> FileError {
        FileError::Contents { path: self.path.clone(), detail: detail.to_string() }
    }

    /// Looks whether nobody else may read it, and nobody else has made it: nobody but a group of this process that the whole
    /// folder was given to.
    ///
    /// # Errors
    /// If it is missing, open to others, or another's.
    pub fn check(&self) -> Result<(), FileError> {
        self.judge(&fs::metadata(&self.path).map_err(|e| self.io(e))?)
    }

    fn judge(&self, file: &Metadata) -> Result<(), FileError> {
        let (user, owner) = (host::user_id(), file.uid());
        let mode = file.mode() & 0o777;
        let is_private = mode & forbidden(owner, user) == 0;
        let folder = || fs::metadata(folder_of(&self.path)).map(|folder| folder.uid());
        let is_trusted = trusted(owner, user, folder);
        // What was given to a group of ours as a whole is that group's, and nobody else's.
        if (!is_private || !is_trusted) && mode & OTHERS == 0 && Process::this().was_given_file(&self.path, file) {
            return Ok(());
        }
        if !is_private {
            return Err(FileError::Mode { path: self.path.clone(), mode });
        }
        if !is_trusted {
            let (owner, user) = (host::user_name(owner), host::user_name(user));
            return Err(FileError::ForeignFile { path: self.path.clone(), owner, user });
        }
        Ok(())
    }

    /// Reads it, and refuses it if others may read it, or it is another's.
    ///
    /// # Errors
    /// If it is missing, unreadable, open to others, or another's.
    pub fn read(&self) -> Result<Zeroizing<String>, FileError> {
        let mut file = File::open(&self.path).map_err(|e| self.io(e))?;
        // Of the file that is read, and not of one that has its name a moment before.
        self.judge(&file.metadata().map_err(|e| self.io(e))?)?;
        read_text_from(&mut file).map_err(|e| self.io(e))
    }

    /// Opens it for appending, and makes it if it is missing.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn append(&self) -> Result<File, FileError> {
        let open = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path);
        open.map_err(|e| self.io(e))
    }

    /// Removes it, durably, if it is there.
    ///
    /// # Errors
    /// If it can't be removed.
    pub fn remove(&self) -> Result<(), FileError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| sync_folder_of(&self.path)).map_err(|e| self.io(e)),
        }
    }

    /// Writes all of it, durably: after this returns, a crash leaves the new contents; before, the old.
    ///
    /// # Errors
    /// If it can't be written; then the old contents are still there.
    pub fn replace(&self, contents: &str) -> Result<(), FileError> {
        let unfinished = self.path.with_extension("new");
        let write = || {
            if unfinished.exists() {
                fs::remove_file(&unfinished)?;
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
            file.write_all(contents.as_bytes())?;
            file.sync_all()?;
            move_into_place(&unfinished, &self.path)
        };
        write().map_err(|e| self.io(e))
    }
}

/// Looks whether not everybody may write a file that need not be private: a configuration, a certificate.
///
/// # Errors
/// If everybody may, or it can't be looked at.
pub fn check_file(path: &Path) -> Result<(), FileError> {
    let file = fs::metadata(path).map_err(|error| FileError::Io { path: path.to_owned(), error })?;
    let mode = file.mode() & 0o777;
    if mode & 0o002 == 0 { Ok(()) } else { Err(FileError::OpenFile { path: path.to_owned(), mode }) }
}

/// All rights of everybody.
const OTHERS: u32 = 0o007;

/// What others may not do with a private file of `owner` that `user` reads. A file of root's may be for a group: so
/// Kubernetes hands its secrets to a process that is not root. PostgreSQL has the same rule.
fn forbidden(owner: u32, user: u32) -> u32 {
    if owner == 0 && user != 0 { 0o037 } else { 0o077 }
}

/// Whether `user` may take a file of `owner` for what it should be: his own, or root's. Root reads those of a service's
/// user, too, where that one is at home.
fn trusted(owner: u32, user: u32, owner_of_folder: impl FnOnce() -> io::Result<u32>) -> bool {
    owner == user || owner == 0 || user == 0 && owner_of_folder().is_ok_and(|at_home| at_home == owner)
}

/// Lets nobody but the owner read or write `path`. A file of another user, on a volume that was given to a group of ours,
/// stays as it is: whose it is can't be changed, and it is the group's.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    match fs::set_permissions(path, Permissions::from_mode(0o600)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let file = fs::metadata(path)?;
            let given = file.mode() & OTHERS == 0 && Process::this().was_given_file(path, &file);
            if given { Ok(()) } else { Err(error) }
        }
        made => made,
    }
}

/// Renames, and makes the new name durable.
pub(super) fn move_into_place(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder_of(to)
}

/// Makes the name of a new file durable.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_and_refused_when_it_no_longer_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = PrivateFile::new(dir.path().join("key.jwk"));
        file.replace("one").unwrap();
        file.replace("two").unwrap();
        assert_eq!(&**file.read().unwrap(), "two");
        fs::set_permissions(file.path(), Permissions::from_mode(0o640)).unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("chmod 600") && error.contains("key.jwk"), "{error}");
    }

    #[test]
    fn only_what_root_has_given_to_a_group_may_be_read_by_it() {
        let (root, relay, another) = (0, 65532, 1000);
        let refused = |mode: u32, owner, user| mode & forbidden(owner, user) != 0;
        assert!(!refused(0o440, root, relay) && !refused(0o640, root, relay));
        assert!(refused(0o460, root, relay) && refused(0o444, root, relay));
        for owner in [relay, another] {
            assert!(refused(0o440, owner, relay) && !refused(0o400, owner, relay));
        }
        assert!(refused(0o440, root, root));
    }

    #[test]
    fn a_file_is_taken_from_its_reader_or_root_and_by_root_from_whoever_is_at_home_there() {
        let (root, relay, another) = (0, 65532, 1000);
        let taken = |owner, user, at_home| trusted(owner, user, || Ok(at_home));
        assert!(taken(relay, relay, root) && taken(root, relay, another) && taken(root, root, another));
        assert!(!taken(another, relay, relay) && !taken(another, relay, another));
        // What somebody has left for root in a folder of root's, which is perhaps everybody's.
        assert!(taken(another, root, another) && !taken(another, root, root));
    }
}
