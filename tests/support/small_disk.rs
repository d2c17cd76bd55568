//! A small disk that gets really full: a file system of its own, in a mount namespace of a process that does nothing else.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The disk, until this is dropped.
pub(crate) struct SmallDisk {
    holder: Child,
    folder: PathBuf,
}

impl SmallDisk {
    /// Of 64 MiB.
    pub(crate) fn new() -> Self {
        let script =
            "mkdir -p /tmp/disk; mount -t tmpfs -o size=64m tmpfs /tmp/disk && echo mounted && exec sleep infinity";
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n", "no mount namespace can be made here: unshare --user --mount");
        let folder = PathBuf::from(format!("/proc/{}/root/tmp/disk", holder.id()));
        Self { holder, folder }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// Somebody else takes all that is left.
    pub(crate) fn fill(&self) {
        let mut file = fs::File::options().create(true).append(true).open(self.folder.join("filler")).unwrap();
        let block = vec![b'x'; 64 * 1024];
        loop {
            match file.write(&block) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// He gives it back.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.folder.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
