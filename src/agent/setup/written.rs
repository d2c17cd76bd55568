//! `agent.toml`, as setup writes it.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::SetupError;
use super::answers::Answers;
use crate::agent::directory::active_directory::Config;
use crate::agent::home::Home;
use crate::protocol::password::Password;
use crate::storage::{FileError, PrivateFile, read_text};

const HEAD: &str = "# Written by writeback-agent setup. All settings, with their defaults: deploy/agent.toml.\n";

/// What is known of the directory.
#[derive(Clone, Default)]
pub(super) struct Found {
    pub(super) directory: String,
    pub(super) start_tls: bool,
    pub(super) name_servers: Vec<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) service_account: String,
    /// None: the one that is kept already, in `password_file`.
    pub(super) password: Option<Zeroizing<String>>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) units: Vec<String>,
}

type Setting = (&'static str, Option<String>);

impl Found {
    /// Each setting of `[directory]`, in TOML.
    fn settings(&self, home: &Home) -> [Setting; 8] {
        let several = self.directory.contains("://");
        let urls = self.directory.split(',').map(str::trim).filter(|url| !url.is_empty());
        [
            ("url", several.then(|| list(urls))),
            ("domain", (!several && !self.directory.is_empty()).then(|| quoted(self.directory.trim()))),
            ("start_tls", self.start_tls.then(|| "true".to_owned())),
            ("name_servers", some_of(&self.name_servers)),
            ("ca_file", self.ca_file.as_deref().map(absolute)),
            ("bind_user", Some(quoted(&self.service_account))),
            ("bind_password_file", Some(quoted(&self.password_file(home).display().to_string()))),
            ("base_dn", some_of(&self.units)),
        ]
    }

    fn password_file(&self, home: &Home) -> PathBuf {
        let own = || home.folder().join("bind-password");
        match (&self.password, &self.password_file) {
            (None, Some(kept)) => kept.clone(),
            _ => own(),
        }
    }

    /// The directory as it would be configured.
    pub(super) fn config(&self, home: &Home) -> Result<Config, String> {
        let settings = self.settings(home);
        let lines = settings.iter().filter_map(|(name, value)| Some(format!("{name} = {}\n", value.as_ref()?)));
        toml::from_str(&lines.collect::<String>()).map_err(|error| error.message().to_owned())
    }

    /// Writes it, and the service account's password into a file that only the agent reads. What else is in `agent.toml`
    /// stays.
    pub(super) fn write(&self, home: &Home) -> Result<(), SetupError> {
        let kind = ("kind", Some(quoted("active_directory")));
        let text = edited(home, "directory", [kind].into_iter().chain(self.settings(home)))?;
        // Where the file can't be changed, the account that is there keeps its password.
        if let Some(password) = &self.password {
            PrivateFile::new(self.password_file(home)).replace(password)?;
        }
        Ok(PrivateFile::new(home.config()).replace(&text)?)
    }
}

/// A directory for trials: these accounts, with this password at first.
pub(super) fn write_demo(home: &Home, accounts: &[String], password: &Password) -> Result<(), SetupError> {
    let file = home.folder().join("demo.json");
    let settings = [
        ("kind", Some(quoted("demo"))),
        ("accounts", Some(list(accounts.iter().map(String::as_str)))),
        ("initial_password", Some(quoted(password.expose()))),
        ("state_file", Some(quoted(&file.display().to_string()))),
    ];
    Ok(PrivateFile::new(home.config()).replace(&edited(home, "directory", settings)?)?)
}

/// The way to the relay, as far as it was answered.
pub(super) fn write_relay(home: &Home, given: &Answers) -> Result<(), SetupError> {
    let ca_file = ("ca_file", given.relay_ca_file.as_deref().map(absolute));
    let proxy = ("proxy", given.proxy.as_deref().map(quoted));
    let mut settings: Vec<Setting> = [ca_file, proxy].into_iter().filter(|(_, value)| value.is_some()).collect();
    if given.proxy.is_some() {
        // They were another proxy's, and this one was tried without.
        settings.extend([("proxy_user", None), ("proxy_password_file", None)]);
    }
    Ok(PrivateFile::new(home.config()).replace(&edited(home, "relay", settings)?)?)
}

/// The text of `agent.toml` with these settings.
fn edited(home: &Home, section: &str, settings: impl IntoIterator<Item = Setting>) -> Result<String, SetupError> {
    let path = home.config();
    let mut text = match read_text(&path) {
        Ok(text) => text.to_string(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => format!("{HEAD}\n[relay]\n\n[directory]\n"),
        Err(error) => return Err(FileError::Io { path, error }.into()),
    };
    // The first stands last in the section, as each is put directly below its head.
    let settings: Vec<_> = settings.into_iter().collect();
    for (key, value) in settings.iter().rev() {
        text = super::edited::set(&text, section, key, value.as_deref())
            .map_err(|why| SetupError::ByHand { path: path.clone(), why })?;
    }
    Ok(text)
}

fn some_of(values: &[String]) -> Option<String> {
    (!values.is_empty()).then(|| list(values.iter().map(String::as_str)))
}

fn list<'a>(values: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", values.map(quoted).collect::<Vec<_>>().join(", "))
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

    fn found(directory: &str) -> Found {
        Found {
            directory: directory.to_owned(),
            ca_file: Some("/etc/corp \"ca\".pem".into()),
            service_account: "CORP\\svc".to_owned(),
            password: Some(Zeroizing::new("hunter2".to_owned())),
            units: vec!["OU=Größe\\, und mehr,DC=b".to_owned()],
            ..Found::default()
        }
    }

    fn read(home: &Home) -> Config {
        let config = AgentConfig::load(&home.config()).unwrap();
        let Some(directory::Config::ActiveDirectory(config)) = config.directory else { panic!() };
        config
    }

    #[test]
    fn what_is_written_is_read_as_it_was_answered() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let given = Answers { proxy: Some("http://proxy:3128".into()), ..Answers::default() };
        write_relay(&home, &given).unwrap();
        found("ldaps://dc1, ldaps://dc2").write(&home).unwrap();
        let text = std::fs::read_to_string(home.config()).unwrap();
        assert!(!text.contains("hunter2") && text.contains("[relay]\nproxy = "), "{text}");
        let config = read(&home);
        assert_eq!((config.url.len(), config.bind_user.as_str()), (2, "CORP\\svc"));
        assert_eq!(config.base_dn, ["OU=Größe\\, und mehr,DC=b"]);
    }

    #[test]
    fn another_proxy_does_not_get_the_credentials_of_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let before = "[relay]\nproxy = \"http://old:1\"\nproxy_user = \"u\"\nproxy_password_file = \"/p\"\n";
        for proxy in ["http://new:1", "none"] {
            std::fs::write(home.config(), before).unwrap();
            write_relay(&home, &Answers { proxy: Some(proxy.into()), ..Answers::default() }).unwrap();
            let text = std::fs::read_to_string(home.config()).unwrap();
            assert!(text.contains(proxy) && !text.contains("proxy_"), "{text}");
            assert!(AgentConfig::load(&home.config()).unwrap().relay.access().is_ok(), "{text}");
        }
    }

    #[test]
    fn where_the_file_can_not_be_changed_the_password_that_is_kept_stays() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        std::fs::write(home.config(), "directory = { bind_user = \"a@b\" }\n").unwrap();
        let kept = PrivateFile::new(home.folder().join("bind-password"));
        kept.replace("before").unwrap();
        assert!(matches!(found("corp.example").write(&home), Err(SetupError::ByHand { .. })));
        assert_eq!(std::fs::read_to_string(kept.path()).unwrap(), "before");
    }

    #[test]
    fn what_is_changed_later_leaves_everything_else_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let before = "[directory]\nkind = \"active_directory\"\nurl = \"ldaps://dc1\"\nbind_user = \"a@b\"\n# Kept by systemd.\n\
                      bind_password_file = \"credential:bind\"\nsites = []\n[execution]\nparallel = 3 # by hand\n";
        std::fs::write(home.config(), before).unwrap();
        let mut changed = found("corp.example");
        (changed.password, changed.password_file) = (None, Some("credential:bind".into()));
        changed.name_servers = vec!["10.0.0.53".to_owned()];
        changed.write(&home).unwrap();
        let text = std::fs::read_to_string(home.config()).unwrap();
        let config = read(&home);
        assert!(text.contains("# Kept by systemd.") && text.contains("parallel = 3 # by hand"), "{text}");
        assert!(config.url.is_empty() && config.domain.as_deref() == Some("corp.example"), "{text}");
        assert_eq!((config.bind_password_file, config.name_servers.len()), ("credential:bind".into(), 1));
    }
}
