//! `writeback-portal`, as its users run it.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use writeback_relay::protocol::ids::AgentId;

use super::cli::{Call, Cli, Said};
use super::hosts::Hosts;
use super::relay::{Relay, TENANT};

/// A portal's folder.
pub(crate) struct PortalCli {
    folder: TempDir,
    cli: Cli,
}

impl PortalCli {
    /// Initialised, and registered at the relay with what `init` printed.
    pub(crate) async fn init(relay: &Relay) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("portal").display().to_string();
        let cli = Cli::new(env!("CARGO_BIN_EXE_writeback-portal"), &["--home", &home]);
        let ca_file = relay.ca_file().display().to_string();
        let said = cli.run(&["init", "--id", "portal-1", "--relay", &relay.url(), "--ca-file", &ca_file]).await;
        assert_eq!(said.status, 0, "{said:?}");
        let jwk = said.out.trim();
        let told = format!("writeback-relay portal add portal-1 --key - --tenant TENANT <<'END'\n{jwk}\nEND\n");
        assert!(said.err.contains(&told), "{}", said.err);
        let operator = Cli::new(env!("CARGO_BIN_EXE_writeback-relay"), &[]);
        let token = relay.data_dir().join("admin.token").display().to_string();
        let admin = ["--ops-url", &relay.ops_url(), "--admin-token-file", &token];
        let add = [["portal", "add", "portal-1", "--key", "-", "--tenant", TENANT].as_slice(), &admin].concat();
        let said = operator.run_with(&add, jwk.as_bytes()).await;
        assert_eq!(said.status, 0, "{said:?}");
        Self { folder, cli }
    }

    /// Its calls send their spans there.
    pub(crate) fn traced(&mut self, collector: &str) {
        self.cli.set("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
    }

    /// Its calls go through this proxy.
    pub(crate) fn proxied(&mut self, proxy: &str) {
        self.cli.set("HTTPS_PROXY", proxy);
    }

    /// Its calls have this hosts file.
    pub(crate) fn knowing(&mut self, hosts: &Hosts) {
        self.cli.knowing(hosts.file().as_ref());
    }

    /// Its calls trust this CA alone.
    pub(crate) fn trust(&self, ca_file: &Path) {
        let file = self.folder.path().join("portal/portal.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let kept = text.lines().filter(|line| !line.starts_with("ca_file"));
        let text: String = kept.map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, format!("{text}ca_file = {ca_file:?}\n")).unwrap();
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Said {
        self.cli.run(arguments).await
    }

    pub(crate) async fn run_with(&self, arguments: &[&str], input: &[u8]) -> Said {
        self.cli.run_with(arguments, input).await
    }

    /// An enrolment code.
    pub(crate) async fn invite(&self) -> String {
        let said = self.run(&["invite", TENANT]).await;
        assert_eq!(said.status, 0, "{said:?}");
        assert!(said.err.contains("This is a secret"), "{}", said.err);
        said.out.trim().to_owned()
    }

    pub(crate) async fn approve(&self, agent: AgentId, fingerprint: &str) -> Said {
        self.run(&["approve", TENANT, &agent.to_string(), "--fingerprint", fingerprint]).await
    }

    pub(crate) async fn availability(&self) -> Said {
        self.run(&["availability", TENANT]).await
    }

    /// Begins a reset, with the password on standard input.
    pub(crate) fn start_reset(&self, user: &str, password: &str, more: &[&str]) -> Call {
        let arguments = [["reset", TENANT, user].as_slice(), more].concat();
        self.cli.start(&arguments, format!("{password}\n").as_bytes())
    }

    pub(crate) async fn reset(&self, user: &str, password: &str, more: &[&str]) -> Said {
        self.start_reset(user, password, more).said().await
    }

    /// Begins a change, with both passwords on standard input.
    pub(crate) fn start_change(&self, user: &str, current: &str, new: &str) -> Call {
        self.cli.start(&["change", TENANT, user], format!("{current}\n{new}\n").as_bytes())
    }

    pub(crate) async fn change(&self, user: &str, current: &str, new: &str) -> Said {
        self.start_change(user, current, new).said().await
    }

    /// Begins an unlock.
    pub(crate) fn start_unlock(&self, user: &str) -> Call {
        self.cli.start(&["unlock", TENANT, user], b"")
    }

    pub(crate) async fn unlock(&self, user: &str) -> Said {
        self.start_unlock(user).said().await
    }

    pub(crate) async fn status(&self, command: &str, more: &[&str]) -> Said {
        self.run(&[["status", TENANT, command].as_slice(), more].concat()).await
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("portal")
    }

    /// Everything that all calls have said.
    pub(crate) fn transcript(&self) -> String {
        self.cli.transcript()
    }
}
