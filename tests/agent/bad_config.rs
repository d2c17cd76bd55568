//! `agent.toml` with one thing wrong in it: one sentence that names the file, the field, and what is expected.

use std::collections::BTreeSet;
use std::path::Path;

use writeback_relay::storage::PrivateFile;

use crate::support::cli::{Cli, Said};

const AGENT: &str = env!("CARGO_BIN_EXE_writeback-agent");

/// A directory that would do.
const AD: &str =
    "[directory]\nkind = \"active_directory\"\nbind_user = \"svc@corp.example\"\nbind_password_file = \"PASSWORD\"\n";
const URL: &str = "url = \"ldaps://dc1.corp.example\"\n";
const DEMO: &str = "[directory]\nkind = \"demo\"\n";

async fn run(home: &Path, config: &str) -> Said {
    let password = home.join("password");
    PrivateFile::new(&password).replace("hunter1").unwrap();
    let config = config.replace("PASSWORD", &password.display().to_string());
    PrivateFile::new(home.join("agent.toml")).replace(&config).unwrap();
    Cli::new(AGENT, &["--home", home.to_str().unwrap()]).run(&["run"]).await
}

/// Each wrong value, with its field, and what the sentence says of what is expected.
fn wrong() -> Vec<(String, &'static str, &'static str)> {
    let relay = |line: &str| format!("[relay]\n{line}\n{DEMO}accounts = []\ninitial_password = \"hunter2\"\n");
    let after = |section: &str| format!("{DEMO}accounts = []\ninitial_password = \"hunter2\"\n{section}\n");
    let ad = |line: &str| format!("{AD}{URL}{line}\n");
    let no_url = |line: &str| format!("{AD}{line}\n");
    vec![
        (relay("ca_file = 7"), "ca_file", "a text is expected"),
        (relay("proxy = \"socks5://svc:hunter2@proxy:1080\""), "proxy", "http://"),
        (relay("proxy = \"http://proxy\\nx\""), "proxy", "http://"),
        (relay("proxy_user = \"svc\""), "proxy_user", "proxy_password_file"),
        (
            relay("proxy = \"http://proxy:3128\"\nproxy_user = \"svc\"\nproxy_password_file = \"/nowhere/pw\""),
            "/nowhere/pw",
            "No such file",
        ),
        (relay("sessions = 3"), "sessions", "1 or 2"),
        (relay("session = 1"), "session", "sessions"),
        (after("[execution]\nparallel = 0"), "parallel", "1 to 64"),
        (after("[execution]\nresets_per_hour = \"five\""), "resets_per_hour", "a number is expected"),
        (after("[keys]\nrotate_every_days = 1000"), "rotate_every_days", "730"),
        (after("[telemetry]\notlp_endpoint = \"collector:4318\""), "otlp_endpoint", "http"),
        (after("[telemetry]\notlp_ca_file = []"), "otlp_ca_file", "a text is expected"),
        (after("[telemetry]\nlog_format = \"xml\""), "log_format", "json"),
        (after("[telemetry]\nmetrics_listen = \"0.0.0.0:9444\""), "metrics_listen", "127.0.0.1"),
        (String::new(), "[directory]", "which directory"),
        ("[directory]\naccounts = []\n".into(), "kind", "missing"),
        ("[directory]\nkind = \"ldap\"\n".into(), "kind", "active_directory"),
        (format!("{DEMO}accounts = []\n"), "initial_password", "missing"),
        (format!("{DEMO}initial_password = \"hunter2\"\n"), "accounts", "missing"),
        (format!("{DEMO}accounts = \"jane\"\ninitial_password = \"hunter2\"\n"), "accounts", "a list is expected"),
        (no_url(""), "url", "ldaps://dc1.corp.example"),
        (no_url("url = []"), "url", "ldaps://dc1.corp.example"),
        (no_url("url = 7"), "url", "list of URLs"),
        (no_url("url = \"dc1.corp.example\""), "url", "ldaps"),
        (no_url("url = \"ldap://dc1.corp.example\""), "url", "start_tls = true"),
        (no_url("url = \"ldaps://[2001:db8::1]\""), "url", "write the host's name"),
        (no_url("url = [\"ldaps://dc1\", \"ldaps://dc1:636\"]"), "url", "twice"),
        (no_url("url = \"ldaps://dc1.corp.example:3269\""), "url", "global catalog"),
        (no_url("domain = \"ldaps://corp.example\""), "domain", "corp.example"),
        (ad("domain = \"corp.example\""), "domain", "one of url, domain"),
        (ad("sites = [\"Berlin\"]"), "sites", "go with domain"),
        (ad("name_servers = [\"ns1.corp.example\"]"), "name_servers", "10.0.0.53"),
        (ad("start_tls = true"), "url", "ldap:// URLs"),
        (ad("start_tls = \"yes\""), "start_tls", "true or false"),
        (ad("ca_file = \"/nowhere/ca.pem\""), "ca_file", "/nowhere/ca.pem"),
        (ad("base_dn = \"Staff\""), "base_dn", "OU=Staff,DC=corp,DC=example"),
        (ad("base_dn = 7"), "base_dn", "distinguished name"),
        (ad("connect_timeout_seconds = 0"), "connect_timeout_seconds", "between 1 and 60"),
        (ad("operation_timeout_seconds = 61"), "operation_timeout_seconds", "between 1 and 60"),
        (ad("password = \"hunter2\""), "password", "bind_password_file"),
        (
            format!("[directory]\nkind = \"active_directory\"\n{URL}bind_password_file = \"PASSWORD\"\n"),
            "bind_user",
            "missing",
        ),
        (format!("{AD}{URL}").replace("svc@corp.example", "svc"), "bind_user", "svc@corp.example"),
        (format!("{AD}{URL}").replace("PASSWORD", "/nowhere/password"), "bind_password_file", "/nowhere/password"),
        (format!("{AD}{URL}").replace("PASSWORD", "env:NOT_SET"), "bind_password_file", "no such variable"),
        (format!("{AD}{URL}").replace("PASSWORD", "credential:pw"), "bind_password_file", "LoadCredential"),
        (no_url("[[directory.domains]]\nupn_suffixes = [\"a.example\"]"), "name", "missing"),
        (
            no_url("[[directory.domains]]\nname = \"a.example\"\nupn_suffixes = \"b\""),
            "upn_suffixes",
            "a list is expected",
        ),
        (no_url("[[directory.domains]]\nname = \"a.example\"\nurl = \"dc1\""), "a.example", "ldaps"),
        ("[relay\n".into(), "line 1", "expected"),
    ]
}

#[tokio::test]
async fn whatever_is_wrong_in_the_configuration_is_one_sentence_with_file_field_and_what_is_expected() {
    let (mut named, mut poor) = (BTreeSet::new(), Vec::new());
    for (config, field, expected) in wrong() {
        let home = tempfile::tempdir().unwrap();
        let said = run(home.path(), &config).await;
        let sentence = said.err.trim_end();
        let one = said.status == 1 && sentence.starts_with("writeback-agent: ") && sentence.lines().count() == 1;
        let placed = sentence.contains("agent.toml") || sentence.contains('[');
        let helpful = sentence.contains(field) && sentence.contains(expected);
        if !(one && placed && helpful) || sentence.contains("hunter") {
            poor.push(format!("{config}\n  should say {field:?} and {expected:?}: {sentence}"));
        }
        named.extend(config.lines().filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())));
    }
    assert!(poor.is_empty(), "{}", poor.join("\n\n"));
    // Every setting that there is has been wrong once.
    for line in std::fs::read_to_string("deploy/agent.toml").unwrap().lines() {
        let Some((name, _)) = line.trim_start_matches("# ").split_once(" = ") else { continue };
        assert!(name.contains(' ') || named.contains(name), "{name} is never wrong here");
    }
}
