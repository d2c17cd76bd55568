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
    fs::write(&file, "public_url = \"https://r.example\"\ndata_dir = \"/tmp/x\"\nwarp = 9\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_writeback-relay")).args(["run", "--config", &path]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("relay.toml") && said.contains("warp"), "{said}");
    fs::write(&file, "public_url = \"https://r.example\"\ndata_dir = \"/tmp/x\"\n").unwrap();
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
    assert!(said.contains("ledger.wal") && said.contains("ledger.redb, which is missing"), "{said}");
    assert!(relay.data_dir().join("ledger.wal").exists());
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
