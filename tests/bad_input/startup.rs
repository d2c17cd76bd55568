use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::relay::Relay;

/// Runs the relay until it refuses to start; what it says.
fn refusal(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_writeback-relay")).args(arguments).output().unwrap();
    assert!(!output.status.success(), "it started: {arguments:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    text.lines().last().unwrap_or_default().to_owned()
}

fn dev(folder: &Path, more: &[&str]) -> String {
    let data = folder.join("data").display().to_string();
    let fixed = ["run", "--dev-tls", "--data-dir", &data, "--listen", "127.0.0.1:0", "--ops-listen"];
    refusal(&[&fixed, more].concat())
}

#[test]
fn a_port_in_use_is_named_with_its_field() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = dev(dir.path(), &[&address]);
    assert!(said.contains(&address) && said.contains("ops_listen") && said.contains("in use"), "{said}");
}

#[test]
fn a_wrong_configuration_is_named_with_its_field_and_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    let path = file.display().to_string();
    assert!(refusal(&["run", "--config", &path]).contains("relay.toml"));
    let good = format!("public_url = \"https://r.example\"\ndata_dir = {:?}\n", dir.path().join("data"));
    fs::write(&file, format!("{good}warp = 9\n")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_writeback-relay")).args(["run", "--config", &path]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("relay.toml") && said.contains("warp"), "{said}");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
    assert!(refusal(&["run", "--config", &path]).contains("others may write this file (mode 666)"));
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&file, good).unwrap();
    let said = refusal(&["run", "--config", &path]);
    assert!(said.contains("cert_file") && said.contains("--dev-tls"), "{said}");
}

#[test]
fn a_certificate_that_is_no_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let config = |cert: &str, key: &str| {
        let text = format!(
            "public_url = \"https://r.example\"\nlisten = \"127.0.0.1:0\"\nops_listen = \"127.0.0.1:0\"\n\
             data_dir = \"{}\"\n[tls]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n",
            at("data")
        );
        fs::write(dir.path().join("relay.toml"), text).unwrap();
        refusal(&["run", "--config", &at("relay.toml")])
    };
    assert!(config("/nowhere/cert.pem", "/nowhere/key.pem").contains("/nowhere/cert.pem"));
    fs::write(dir.path().join("cert.pem"), "not a certificate").unwrap();
    let said = config(&at("cert.pem"), "/nowhere/key.pem");
    assert!(said.contains("cert.pem"), "{said}");
    fs::set_permissions(dir.path().join("cert.pem"), PermissionsExt::from_mode(0o646)).unwrap();
    let said = config(&at("cert.pem"), "/nowhere/key.pem");
    assert!(said.contains("others may write this file (mode 646)") && said.contains("cert.pem"), "{said}");
}

#[tokio::test]
async fn a_damaged_store_is_named_and_left_as_it_is() {
    for name in ["registry.redb", "ledger.redb"] {
        let mut relay = Relay::start().await;
        relay.terminate().await;
        let file = relay.data_dir().join(name);
        let damaged = fs::read(&file).unwrap()[..5000].to_vec();
        fs::write(&file, &damaged).unwrap();
        let config = relay.data_dir().with_file_name("relay.toml").display().to_string();
        let said = refusal(&["run", "--dev-tls", "--config", &config]);
        assert!(said.contains(name) && said.contains("damaged"), "{said}");
        assert_eq!(fs::read(&file).unwrap(), damaged);
    }
}

#[tokio::test]
async fn a_ledgers_log_without_its_file_is_named_and_left_as_it_is() {
    let mut relay = Relay::start().await;
    relay.terminate().await;
    fs::remove_file(relay.data_dir().join("ledger.redb")).unwrap();
    let config = relay.data_dir().with_file_name("relay.toml").display().to_string();
    let said = refusal(&["run", "--dev-tls", "--config", &config]);
    assert!(said.contains("ledger.0.wal") && said.contains("ledger.redb, which is missing"), "{said}");
    assert!(relay.data_dir().join("ledger.0.wal").exists());
}

#[tokio::test]
async fn a_second_relay_on_the_same_files_is_refused() {
    let relay = Relay::start().await;
    let said = dev(&relay.data_dir().join(".."), &["127.0.0.1:0"]);
    assert!(said.contains("another process") && said.contains("registry.redb"), "{said}");
}

#[test]
fn an_admin_token_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("data/admin.token");
    fs::create_dir_all(token.parent().unwrap()).unwrap();
    fs::write(&token, "a".repeat(40)).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let said = dev(dir.path(), &["127.0.0.1:0"]);
    assert!(said.contains("chmod 600") && said.contains("admin.token"), "{said}");
}

/// A setting, a value that is wrong, and what it needs beside it: sections are begun by the setting's own.
const WRONG: &[(&str, &str, &str)] = &[
    ("public_url", "\"https://r.example/\"", ""),
    ("listen", "\"everywhere\"", ""),
    ("ops_listen", "9443", ""),
    ("data_dir", "[]", ""),
    ("store", "\"paper\"", ""),
    ("node_name", "5", ""),
    ("tls.cert_file", "\"/nowhere/tls.crt\"", "key_file = \"/nowhere/tls.key\""),
    ("tls.key_file", "5", "cert_file = \"/nowhere/tls.crt\""),
    ("session.heartbeat_seconds", "61", ""),
    ("session.hello_timeout_seconds", "0", ""),
    ("session.max_age_seconds", "604801", ""),
    ("session.minimum_agent_version", "\"two\"", ""),
    ("limits.tls_handshakes", "0", ""),
    ("limits.session_openings", "65537", ""),
    ("limits.tenant_commands_per_second", "0", ""),
    ("limits.tenant_in_flight", "\"many\"", ""),
    ("limits.tenant_sessions", "0", ""),
    ("limits.portal_requests", "0", ""),
    ("limits.requests", "\"all\"", ""),
    ("limits.portal_connections", "65537", ""),
    ("limits.address_connections", "0", ""),
    ("limits.tenant_stored_mib", "0", ""),
    ("limits.agent_forgotten_outcomes", "-1", ""),
    ("limits.session_frames_per_second", "0", ""),
    ("limits.tenant_invitations", "0", ""),
    ("limits.tenant_agents", "1000001", ""),
    ("limits.tenant_unapproved_agents", "0", ""),
    ("limits.address_handshakes_per_second", "0", ""),
    ("limits.address_rejections_per_minute", "-1", ""),
    ("client_address.from", "\"header\"", ""),
    ("client_address.trusted_proxies", "[\"10.0.0.1\"]", "from = \"forwarded\""),
    ("client_address.trusted_proxies", "[]", "from = \"proxy_protocol\""),
    ("admin.static_token", "false", ""),
    ("admin.token_file", "\"/nowhere/admin.token\"", ""),
    ("admin.oidc.issuer", "\"http://id.example.com\"", OPERATORS),
    ("admin.oidc.audience", "\"\"", "issuer = \"https://id.example\"\nclaim = \"groups\"\nvalue = \"operators\""),
    ("admin.oidc.claim", "\"\"", "issuer = \"https://id.example\"\naudience = \"relay\"\nvalue = \"operators\""),
    ("admin.oidc.value", "5", "issuer = \"https://id.example\"\naudience = \"relay\"\nclaim = \"groups\""),
    ("admin.oidc.ca_file", "\"/nowhere/id-ca.pem\"", ISSUER),
    ("drain.timeout_seconds", "3601", ""),
    ("drain.delay_seconds", "301", ""),
    ("drain.termination_grace_period_seconds", "\"30s\"", ""),
    ("telemetry.otlp_endpoint", "\"collector:4318\"", ""),
    ("telemetry.otlp_ca_file", "\"/nowhere/otlp-ca.pem\"", "otlp_endpoint = \"https://127.0.0.1:1\""),
    ("telemetry.log_format", "\"xml\"", ""),
    ("telemetry.tenant_label", "\"some\"", ""),
    ("redis.urls", "[\"127.0.0.1:1\"]", KEY),
    ("redis.urls", "[]", KEY),
    ("redis.topology", "\"ring\"", REDIS),
    ("redis.master_name", "\"relay\"", REDIS),
    ("redis.username", "5", REDIS),
    ("redis.password_file", "\"/nowhere/redis-password\"", REDIS),
    ("redis.sentinel_username", "\"relay\"", REDIS),
    ("redis.sentinel_password_file", "\"/nowhere/sentinel\"", REDIS),
    ("redis.ca_file", "\"/nowhere/redis-ca.pem\"", REDISS),
    ("redis.cert_file", "\"/nowhere/redis-client.pem\"", REDISS),
    ("redis.cert_file", "\"/nowhere/redis-client.pem\"", REDIS),
    ("redis.key_file", "\"/nowhere/redis-client.key\"", REDISS),
    ("redis.connect_timeout_ms", "0", REDIS),
    ("redis.command_timeout_ms", "60001", REDIS),
    ("redis.cluster_key_file", "\"/nowhere/cluster.key\"", "urls = [\"redis://127.0.0.1:1\"]"),
];
const OPERATORS: &str = "audience = \"relay\"\nclaim = \"groups\"\nvalue = \"operators\"";
const ISSUER: &str = "issuer = \"https://id.example\"\naudience = \"relay\"\nclaim = \"groups\"\nvalue = \"operators\"";
const KEY: &str = "cluster_key_file = \"cluster.key\"";
const REDISS: &str = "urls = [\"rediss://127.0.0.1:1\"]\ncluster_key_file = \"cluster.key\"";
const REDIS: &str = "urls = [\"redis://127.0.0.1:1\"]\ncluster_key_file = \"cluster.key\"";

#[test]
fn each_setting_of_the_configuration_that_is_wrong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cluster.key"), "k".repeat(40)).unwrap();
    fs::set_permissions(dir.path().join("cluster.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let data = format!("{:?}", dir.path().join("data").display().to_string());
    for (setting, value, beside) in WRONG {
        let (section, key) = setting.rsplit_once('.').unwrap_or(("", setting));
        let mut text = String::new();
        for (right, as_it_is) in [
            ("public_url", "\"https://r.example\""),
            ("listen", "\"127.0.0.1:0\""),
            ("ops_listen", "\"127.0.0.1:0\""),
            ("data_dir", &data),
            ("store", if section == "redis" { "\"redis\"" } else { "\"embedded\"" }),
            ("node_name", "\"test\""),
        ] {
            text += &format!("{right} = {}\n", if right == *setting { value } else { as_it_is });
        }
        if !section.is_empty() {
            text += &format!("[{section}]\n{key} = {value}\n{beside}\n");
        }
        fs::write(dir.path().join("relay.toml"), text).unwrap();
        let mut relay = Command::new(env!("CARGO_BIN_EXE_writeback-relay"));
        relay.current_dir(dir.path()).args(["run", "--config", "relay.toml"]);
        // With a certificate of its own, whatever else is wrong.
        let output = if section == "tls" { relay.output() } else { relay.arg("--dev-tls").output() }.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{setting} = {value}: it started");
        let file = value.trim_matches('"');
        assert!(said.contains(key) || file.starts_with('/') && said.contains(file), "{setting} = {value}: {said}");
        assert!(!said.contains("panicked") && !said.contains("Connection refused"), "{setting}: {said}");
    }
    // Nothing can be set that is not tried here.
    let described = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/relay.toml")).unwrap();
    let mut section = String::new();
    for line in described.lines().map(|line| line.trim_start_matches("# ")) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            let setting = format!("{section}{key}");
            assert!(WRONG.iter().any(|(tried, ..)| *tried == setting), "no wrong {setting} is tried");
        }
    }
}
