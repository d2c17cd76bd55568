//! What an administrator sends to whoever helps him: one text that he can read first, without any secret.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::error::AgentError;
use super::events::history;
use super::home::Home;
use super::status::status;
use crate::clock::Clock;
use crate::host;

/// The last events, which name accounts.
const EVENTS: usize = 2000;
/// In place of what is left out.
const LEFT_OUT: &str = "(left out)";

/// The bundle of the agent in a folder. No key, no password, no command, no code is in it; names of accounts are.
///
/// # Errors
/// If the agent's identity or keys can't be read; [`status`] says more.
pub fn support_bundle(home: &Home, clock: &dyn Clock) -> Result<String, AgentError> {
    let mut text = format!(
        "writeback-agent {}\nhost {}, {} {}\ntime {} (seconds since 1970)\n\nNo key and no password is in this text. \
         Names of accounts, hosts and portals are: read it before you send it.\n",
        env!("CARGO_PKG_VERSION"),
        host::name(),
        std::env::consts::OS,
        std::env::consts::ARCH,
        clock.now().0
    );
    section(&mut text, "status", &status(home)?);
    section(&mut text, "agent.toml", &configuration(&home.config()));
    section(&mut text, "files", &files(home.folder()));
    let events =
        history(&home.events()).map(|mut lines| lines.split_off(lines.len().saturating_sub(EVENTS)).join("\n"));
    section(&mut text, "events", &events.unwrap_or_else(|error| error.to_string()));
    Ok(text)
}

fn section(text: &mut String, name: &str, inside: &str) {
    // Writing to a text does not fail.
    let _ = write!(text, "\n==== {name} ====\n{}\n", inside.trim_end());
}

/// Names, modes and sizes.
fn files(folder: &Path) -> String {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(Result::ok),
        Err(error) => return error.to_string(),
    };
    let mut lines: Vec<String> = entries
        .map(|entry| match entry.metadata() {
            Ok(meta) => {
                let (mode, len) = (meta.permissions().mode() & 0o7777, meta.len());
                format!("{mode:04o} {len:>10} {}", entry.file_name().display())
            }
            Err(error) => format!("{}: {error}", entry.file_name().display()),
        })
        .collect();
    lines.sort_by(|one, other| one.get(16..).cmp(&other.get(16..)));
    lines.join("\n")
}

fn configuration(path: &Path) -> String {
    let parsed = match fs::read_to_string(path) {
        // The error would show a line, in which a secret may stand.
        Ok(text) => text.parse::<toml::Table>().map_err(|_| "it is not TOML, and is left out".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let shown = |table| serde_json::to_string_pretty(&without_secrets(toml::Value::Table(table)));
    parsed.map_or_else(|error| error, |table| shown(table).unwrap_or_else(|error| error.to_string()))
}

fn without_secrets(value: toml::Value) -> toml::Value {
    match value {
        toml::Value::Table(table) => {
            let kept = |(key, value): (String, toml::Value)| {
                let value = if is_secret(&key) { toml::Value::from(LEFT_OUT) } else { without_secrets(value) };
                (key, value)
            };
            toml::Value::Table(table.into_iter().map(kept).collect())
        }
        toml::Value::Array(values) => toml::Value::Array(values.into_iter().map(without_secrets).collect()),
        toml::Value::String(text) => toml::Value::from(without_user(&text)),
        other => other,
    }
}

/// What a file is called is no secret.
fn is_secret(key: &str) -> bool {
    let named = ["password", "secret", "token", "key", "credential"].iter().any(|word| key.contains(word));
    named && !key.ends_with("_file")
}

/// A URL without the user and password that may stand in it.
fn without_user(text: &str) -> String {
    match text.split_once("://").map(|(scheme, rest)| (scheme, rest.rsplit_once('@'))) {
        Some((scheme, Some((_, host)))) => format!("{scheme}://{LEFT_OUT}@{host}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::Enrolled;

    #[tokio::test]
    async fn it_tells_what_helps_and_no_secret() {
        let agent = Enrolled::new().await;
        let home = agent.home();
        let config = "[relay]\nproxy = \"http://svc:hunter1@proxy:3128\"\nca_file = \"ca.pem\"\n[directory]\n\
                      kind = \"demo\"\naccounts = [\"jane@corp.example\"]\ninitial_password = \"hunter2\"\n";
        fs::write(home.config(), config).unwrap();
        let text = support_bundle(&home, &*agent.clock).unwrap();
        let keys = home.keys().unwrap();
        for secret in ["hunter1", "hunter2", &keys.signing.to_jwk(), &keys.sealing.to_jwk().unwrap()] {
            assert!(!text.contains(secret), "{text}");
        }
        let (id, mode) = (agent.identity.agent.to_string(), "0600");
        for told in
            [&id, mode, "signing-key.jwk", "jane@corp.example", "ca.pem", "proxy:3128", LEFT_OUT, "==== events ===="]
        {
            assert!(text.contains(told), "{told} is not in {text}");
        }
        fs::write(home.config(), "password = hunter3").unwrap();
        assert!(!support_bundle(&home, &*agent.clock).unwrap().contains("hunter3"));
    }
}
