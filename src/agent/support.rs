//! What an administrator sends to whoever helps him: one text that he can read first, without any secret. It is asked for
//! when something is broken, so each part stands by itself, and one that can't be had says why.

mod surroundings;

use std::fmt::{Display, Write};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use super::config::Config;
use super::control::{self, Ask, ControlError, Running};
use super::events::{Filter, tail};
use super::home::Home;
use super::preflight;
use super::status::commands;
use crate::clock::{Clock, Random};
use crate::host;
use crate::protocol::untrusted::{lines, one_line};
use crate::storage::read_text;

/// The last events, which name accounts.
const EVENTS: usize = 2000;
/// In place of what is left out.
const LEFT_OUT: &str = "(left out)";

/// The settings whose values are shown. What is not among them may be a secret under a name that was mistyped.
const SHOWN: [&str; 30] = [
    "accounts",
    "base_dn",
    "bind_password_file",
    "bind_user",
    "ca_file",
    "connect_timeout_seconds",
    "domain",
    "kind",
    "log_format",
    "metrics_listen",
    "minimum_age_seconds",
    "delay_before_ms",
    "delay_after_ms",
    "name",
    "name_servers",
    "operation_timeout_seconds",
    "otlp_ca_file",
    "otlp_endpoint",
    "parallel",
    "proxy",
    "proxy_password_file",
    "proxy_user",
    "resets_per_hour",
    "rotate_every_days",
    "sessions",
    "sites",
    "start_tls",
    "state_file",
    "upn_suffixes",
    "url",
];

/// A part of the bundle, or why there is none.
type Part = (&'static str, Result<String, String>);

/// The bundle of the agent in a folder. No key, no password, no command, no code is in it; names of accounts are.
pub async fn support_bundle(home: &Home, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> String {
    let mut text = format!(
        "writeback-agent {}\nhost {}, {} {}, user {}\ntime {} (seconds since 1970)\nfolder {}\n\nNo key and no password is \
         in this text. Names of accounts, hosts and portals are: read it before you send it.\n",
        env!("CARGO_PKG_VERSION"),
        host::name(),
        std::env::consts::OS,
        std::env::consts::ARCH,
        host::user_id(),
        clock.now().0,
        home.folder().display(),
    );
    let events = tail(&home.events(), EVENTS, &Filter::default()).map(|(events, _)| events.join("\n"));
    let asked = control::ask(home, Ask::Status).await;
    let running = asked.as_ref().ok().cloned().flatten();
    let looked = surroundings::look(home, running.as_ref(), clock, random).await;
    let parts: [Part; 12] = [
        ("running agent", told(asked)),
        ("check", looked.check),
        ("clocks", looked.clocks),
        ("domain controllers", looked.controllers),
        ("way to the relay", looked.relay),
        ("identity", identity(home)),
        ("keys", keys(home)),
        ("journal", commands(home, running.as_ref()).map_err(said)),
        ("configuration", Config::load(&home.config()).map(|_| "it can be read".to_owned()).map_err(said)),
        ("agent.toml", settings(&home.config())),
        ("files", files(home.folder()).map_err(said)),
        ("events", events.map_err(|error| format!("{}: {error}", home.events().display()))),
    ];
    for (name, part) in &parts {
        // Writing to a text does not fail.
        if let Err(why) = part {
            let _ = write!(text, "\nNot to be had: {name}: {why}");
        }
    }
    if parts.iter().any(|(_, part)| part.is_err()) {
        text.push('\n');
    }
    for (name, part) in parts {
        let inside = part.unwrap_or_else(|why| format!("not to be had: {why}"));
        let _ = write!(text, "\n==== {name} ====\n{}\n", inside.trim_end());
    }
    lines(&text).into_owned()
}

/// How the running agent is, and its own last check.
fn told(asked: Result<Option<Running>, ControlError>) -> Result<String, String> {
    match asked.map_err(said)? {
        None => Ok("it does not run".to_owned()),
        Some(mut running) => {
            let report = running.preflight.take();
            let text = serde_json::to_string_pretty(&running).map_err(said)?;
            let check =
                report.map(|report| format!("\n\nchecked at {}\n{}", report.checked_at, preflight::table(&report)));
            Ok(text + &check.unwrap_or_default())
        }
    }
}

fn said(error: impl Display) -> String {
    one_line(&error.to_string()).into_owned()
}

fn identity(home: &Home) -> Result<String, String> {
    let identity = home.identity().map_err(said)?.ok_or("the agent is not enrolled")?;
    let mut text = format!(
        "agent {}\ntenant {}\nrelay {}\njournal {}\n",
        identity.agent,
        identity.tenant,
        one_line(&identity.relay),
        identity.journal
    );
    for (portal, pin) in &identity.portals {
        let _ = writeln!(text, "portal {portal}: key {}, rotation {}", pin.key.thumbprint(), pin.seq);
    }
    Ok(text)
}

fn keys(home: &Home) -> Result<String, String> {
    let ring = home.keyring().map_err(said)?;
    let (signing, sealing) = (ring.keys.signing.kid(), ring.keys.sealing.kid());
    let mut text = format!("rotation {} since {}\nsigning {signing}\nsealing {sealing}\n", ring.seq, ring.since);
    if let Some(next) = &ring.next {
        let _ = writeln!(text, "rotation {} has begun", next.seq);
    }
    for retired in &ring.retired {
        let _ = writeln!(text, "retired sealing {} since {}", retired.sealing.kid(), retired.since);
    }
    Ok(text)
}

/// Names, owners, modes and sizes.
fn files(folder: &Path) -> std::io::Result<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder)?.filter_map(Result::ok) {
        let name = said(entry.file_name().display());
        let told = match entry.metadata() {
            Ok(meta) => {
                let mode = meta.permissions().mode() & 0o7777;
                format!("{mode:04o} {}:{} {:>10} {name}", meta.uid(), meta.gid(), meta.len())
            }
            Err(error) => format!("{name}: {error}"),
        };
        lines.push((name, told));
    }
    lines.sort();
    Ok(lines.into_iter().map(|(_, told)| told + "\n").collect())
}

fn settings(path: &Path) -> Result<String, String> {
    let text = read_text(path).map_err(said)?;
    // The error would show a line, in which a secret may stand.
    let table = text.parse::<toml::Table>().map_err(|_| "it is not TOML, and is left out".to_owned())?;
    serde_json::to_string_pretty(&without_secrets("", toml::Value::Table(table))).map_err(said)
}

fn without_secrets(name: &str, value: toml::Value) -> toml::Value {
    match value {
        toml::Value::Table(table) => {
            let kept = |(name, value): (String, toml::Value)| {
                let value = without_secrets(&name, value);
                (name, value)
            };
            toml::Value::Table(table.into_iter().map(kept).collect())
        }
        toml::Value::Array(values) => {
            toml::Value::Array(values.into_iter().map(|value| without_secrets(name, value)).collect())
        }
        toml::Value::String(text) if ["proxy", "url", "otlp_endpoint"].contains(&name) => {
            toml::Value::from(without_user(&text))
        }
        value if SHOWN.contains(&name) => value,
        _ => toml::Value::from(LEFT_OUT),
    }
}

/// A URL, or a host, without the user and password that may stand before it.
fn without_user(text: &str) -> String {
    let (scheme, rest) = text.find("://").map_or(("", text), |at| text.split_at(at + 3));
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}{LEFT_OUT}@{host}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::Enrolled;
    use crate::clock::System;

    #[tokio::test]
    async fn it_tells_what_helps_and_no_secret() {
        let agent = Enrolled::new().await;
        let home = agent.home();
        let config = "[relay]\nproxy = \"http://svc:hunter1@proxy:3128\"\nca_file = \"ca.pem\"\n[directory]\n\
                      kind = \"demo\"\naccounts = [\"jane@corp.example\"]\ninitial_password = \"hunter2\"\n\
                      bind_pasword = \"hunter3\"\n[[directory.domains]]\nname = \"corp.example\"\npasswd = [\"hunter4\"]\n";
        fs::write(home.config(), config).unwrap();
        let text = support_bundle(&home, agent.clock.clone(), System::random()).await;
        let keys = home.keys().unwrap();
        for secret in ["hunter", &*keys.signing.to_jwk(), &*keys.sealing.to_jwk().unwrap()] {
            assert!(!text.contains(secret), "{text}");
        }
        let (id, mode) = (agent.identity.agent.to_string(), "0600");
        for told in
            [&id, mode, "signing-key.jwk", "jane@corp.example", "ca.pem", "proxy:3128", LEFT_OUT, "==== events ===="]
        {
            assert!(text.contains(told), "{told} is not in {text}");
        }
        for broken in ["password = hunter3", "[relay]\nproxy = \"svc:hunter1@proxy:3128\""] {
            fs::write(home.config(), broken).unwrap();
            assert!(!support_bundle(&home, agent.clock.clone(), System::random()).await.contains("hunter"));
        }
    }

    #[test]
    fn every_setting_but_the_passwords_is_shown() {
        let all = fs::read_to_string("deploy/agent.toml").unwrap();
        let name = |line: &str| Some(line.trim_start_matches("# ").split_once(" = ")?.0.to_owned());
        for name in all.lines().filter_map(name).filter(|name| !name.contains(' ')) {
            assert_eq!(SHOWN.contains(&name.as_str()), name != "initial_password", "{name}");
        }
    }

    #[tokio::test]
    async fn whatever_is_broken_the_rest_is_told_and_what_is_broken_too() {
        let whole =
            ["identity.json", "signing-key.jwk", "sealing-key.jwk", "journal.redb", "agent.toml", "events.jsonl"];
        for broken in whole {
            let agent = Enrolled::new().await;
            let home = agent.home();
            fs::write(home.config(), "[execution]\nparallel = 3\n").unwrap();
            fs::write(home.events(), "{\"event_id\": 31015}\n").unwrap();
            let path = home.folder().join(broken);
            // Of another form, and gone; the configuration and the log may be.
            fs::write(&path, [b'{', 0xff, 0xfe]).unwrap();
            let damaged = support_bundle(&home, agent.clock.clone(), System::random()).await;
            fs::remove_file(&path).unwrap();
            let gone = support_bundle(&home, agent.clock.clone(), System::random()).await;
            // The log's lines are shown as they are.
            let (log, may_be_missing) = (broken == "events.jsonl", broken == "agent.toml");
            for (text, said) in [(&damaged, !log), (&gone, !log && !may_be_missing)] {
                assert!(!said || text.contains("Not to be had: "), "{broken}: {text}");
                let id = agent.identity.agent.to_string();
                for (told, of) in [
                    (id.as_str(), "identity.json"),
                    ("signing ", "-key.jwk"),
                    ("without an outcome", ".redb"),
                    ("parallel", "agent.toml"),
                    ("31015", "events.jsonl"),
                ] {
                    let needed = of == "identity.json" && broken == "identity.json" || broken.ends_with(of);
                    let needs_identity = of == ".redb" && broken == "identity.json";
                    assert!(needed || needs_identity || text.contains(told), "{broken}: no {told} in {text}");
                }
            }
        }
        let nothing = tempfile::tempdir().unwrap();
        let text = support_bundle(&Home::new(nothing.path().join("gone")), System::clock(), System::random()).await;
        assert!(text.contains("not enrolled") && text.contains("Not to be had: files"), "{text}");
    }
}
