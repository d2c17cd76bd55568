//! `agent.toml`, as setup writes it.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::SetupError;
use super::answers::Answers;
use crate::agent::directory::active_directory::Config;
use crate::agent::home::Home;
use crate::storage::{FileError, PrivateFile};

/// What is known of the directory.
pub(super) struct Found {
    pub(super) directory: String,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) service_account: String,
    pub(super) password: Zeroizing<String>,
    pub(super) units: Vec<String>,
}

fn password_file(home: &Home) -> PrivateFile {
    PrivateFile::new(home.folder().join("bind-password"))
}

/// The service account's password, in a file that only the agent reads.
pub(super) fn keep_password(home: &Home, found: &Found) -> Result<(), FileError> {
    password_file(home).replace(&found.password)
}

/// The directory as it would be configured.
pub(super) fn directory(home: &Home, found: &Found) -> Result<Config, String> {
    toml::from_str(&directory_section(home, found)).map_err(|error| error.message().to_owned())
}

/// Writes the file.
pub(super) fn write(home: &Home, given: &Answers, found: &Found) -> Result<(), SetupError> {
    let mut text =
        "# Written by writeback-agent setup. All settings, with their defaults: deploy/agent.toml.\n\n[relay]\n"
            .to_owned();
    field(&mut text, "ca_file", given.relay_ca_file.as_deref().map(absolute));
    field(&mut text, "proxy", given.proxy.as_deref().map(quoted));
    text.push_str("\n[directory]\nkind = \"active_directory\"\n");
    text.push_str(&directory_section(home, found));
    Ok(PrivateFile::new(home.config()).replace(&text)?)
}

fn directory_section(home: &Home, found: &Found) -> String {
    let mut text = String::new();
    if found.directory.contains("://") {
        let urls: Vec<_> = found.directory.split(',').map(|url| quoted(url.trim())).collect();
        field(&mut text, "url", Some(format!("[{}]", urls.join(", "))));
    } else {
        field(&mut text, "domain", Some(quoted(found.directory.trim())));
    }
    field(&mut text, "ca_file", found.ca_file.as_deref().map(absolute));
    field(&mut text, "bind_user", Some(quoted(&found.service_account)));
    field(&mut text, "bind_password_file", Some(quoted(&password_file(home).path().display().to_string())));
    if !found.units.is_empty() {
        let units: Vec<_> = found.units.iter().map(|unit| quoted(unit)).collect();
        field(&mut text, "base_dn", Some(format!("[{}]", units.join(", "))));
    }
    text
}

fn field(text: &mut String, name: &str, value: Option<String>) {
    if let Some(value) = value {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{name} = {value}");
    }
}

/// Answered relative to where setup runs, read relative to `agent.toml`.
fn absolute(path: &Path) -> String {
    quoted(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string())
}

/// What JSON escapes TOML reads the same.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::config::Config as AgentConfig;
    use crate::agent::directory::config as directory;

    #[test]
    fn what_is_written_is_read_as_it_was_answered() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let found = |directory: &str| Found {
            directory: directory.to_owned(),
            ca_file: Some("/etc/corp \"ca\".pem".into()),
            service_account: "CORP\\svc".to_owned(),
            password: Zeroizing::new("hunter2".to_owned()),
            units: vec!["OU=Größe\\, und mehr,DC=b".to_owned()],
        };
        let given = Answers { proxy: Some("http://proxy:3128".into()), ..Answers::default() };
        write(&home, &given, &found("ldaps://dc1, ldaps://dc2")).unwrap();
        assert!(!std::fs::read_to_string(home.config()).unwrap().contains("hunter2"));
        let config = AgentConfig::load(&home.config()).unwrap();
        let Some(directory::Config::ActiveDirectory(config)) = config.directory else { panic!() };
        assert_eq!((config.url.len(), config.bind_user.as_str()), (2, "CORP\\svc"));
        assert_eq!(config.base_dn, ["OU=Größe\\, und mehr,DC=b"]);
    }
}
