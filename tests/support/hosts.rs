//! A hosts file of its own for one program: a name with several addresses, as the operating system tells them.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Names that only the programs know that are started with it.
pub(crate) struct Hosts {
    folder: TempDir,
}

impl Hosts {
    /// This name, at these addresses.
    pub(crate) fn of(name: &str, addresses: &[IpAddr]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines: String = addresses.iter().map(|address| format!("{address} {name}\n")).collect();
        std::fs::write(folder.path().join("hosts"), format!("127.0.0.1 localhost\n{lines}")).unwrap();
        Self { folder }
    }

    pub(crate) fn file(&self) -> String {
        self.folder.path().join("hosts").display().to_string()
    }
}

/// The same command, for which `hosts` is the hosts file: in a mount namespace of its own. It is the same process.
pub(crate) fn knowing(hosts: &Path, command: &Command) -> Command {
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let mut wrapped = Command::new("unshare");
    wrapped.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(hosts);
    wrapped.arg(command.get_program()).args(command.get_args());
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped
}
