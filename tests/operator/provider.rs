//! A real OpenID provider, npm's oidc-provider, as a process of its own on an address of its own.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::support::https_client;
use serde_json::{Value, json};
use tempfile::TempDir;
use writeback_relay::relay::tls;

use crate::support::process::Process;
use crate::support::{PATIENCE, own_address};

/// Who tokens for the relay are for.
pub(super) const AUDIENCE: &str = "writeback-relay";

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A running provider, over TLS with a CA of its own. Dropped, it is killed.
pub(super) struct Provider {
    folder: TempDir,
    address: Ipv4Addr,
    process: Process,
}

impl Provider {
    pub(super) async fn start() -> Self {
        static ONCE: OnceLock<()> = OnceLock::new();
        ONCE.get_or_init(|| {
            let status = Command::new(project("tests/operator/setup")).status().expect("tests/operator/setup");
            assert!(status.success(), "the OpenID provider is not installed: run tests/setup");
        });
        let (folder, address) = (tempfile::tempdir().unwrap(), own_address());
        tls::development(folder.path(), &[address.to_string()]).unwrap();
        let process = spawn(folder.path(), address);
        let provider = Self { folder, address, process };
        provider.answers().await;
        provider
    }

    async fn answers(&self) {
        let log = self.folder.path().join("log");
        let ask = || async { self.call("/test/requests", json!({"path": "/"})).await.is_ok() };
        self.process.comes_up("the provider answers", &log, ask).await;
    }

    /// Its process is killed: nobody answers.
    pub(super) fn kill(&mut self) {
        self.process.kill();
    }

    /// After [`Self::kill`], on the same address, with new keys.
    pub(super) async fn start_again(&mut self) {
        self.process = spawn(self.folder.path(), self.address);
        self.answers().await;
    }

    pub(super) fn issuer(&self) -> String {
        format!("https://{}:9000", self.address)
    }

    /// The relay's configuration: whoever is in the group is an operator.
    pub(super) fn settings(&self) -> String {
        self.settings_with("groups", "relay-operators")
    }

    pub(super) fn settings_with(&self, claim: &str, value: &str) -> String {
        format!(
            "[admin.oidc]\nissuer = \"{}\"\naudience = \"{AUDIENCE}\"\nclaim = \"{claim}\"\nvalue = \"{value}\"\n\
             ca_file = \"{}\"\n",
            self.issuer(),
            self.ca_file().display()
        )
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.path().join("dev-ca.pem")
    }

    /// A token by the client-credentials grant (RFC 6749 §4.4) for a resource (RFC 8707).
    pub(super) async fn token(&self, client: &str, audience: &str, alg: &str, scope: &str) -> String {
        let scope = scope.replace(' ', "+");
        let form = format!("grant_type=client_credentials&resource=urn:{audience}:{alg}&scope={scope}");
        let http = https_client(Some(&self.ca_file())).unwrap();
        let request = http.post(format!("{}/token", self.issuer())).basic_auth(client, Some("secret"));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
        let answer: Value = request.timeout(PATIENCE).send().await.unwrap().json().await.unwrap();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// A token of an operator, for the relay.
    pub(super) async fn operators(&self) -> String {
        self.token("operator", AUDIENCE, "RS256", "").await
    }

    /// A token like this one, but for some of its header and claims, signed by somebody: see provider.mjs.
    pub(super) async fn forge(&self, token: &str, change: Value) -> String {
        let mut change = change;
        change["token"] = token.into();
        self.call("/test/forge", change).await.unwrap()
    }

    /// Its keys are replaced by new ones.
    pub(super) async fn rotate(&self) {
        self.call("/test/rotate", json!({})).await.unwrap();
    }

    /// From now on it answers something else to this path.
    pub(super) async fn instead(&self, path: &str, mut answer: Value) {
        answer["path"] = path.into();
        self.call("/test/instead", answer).await.unwrap();
    }

    /// How often it was asked for its keys.
    pub(super) async fn keys_asked_for(&self) -> u32 {
        self.call("/test/requests", json!({"path": "/jwks"})).await.unwrap().parse().unwrap()
    }

    async fn call(&self, path: &str, body: Value) -> Result<String, String> {
        let http = https_client(Some(&self.ca_file())).unwrap();
        let request = http.post(format!("{}{path}", self.issuer())).timeout(PATIENCE).body(body.to_string());
        let answer = request.send().await.map_err(|e| e.to_string())?;
        let (status, text) = (answer.status(), answer.text().await.map_err(|e| e.to_string())?);
        assert!(status.is_success(), "{path}: {status} {text}");
        Ok(text)
    }
}

fn spawn(folder: &Path, address: Ipv4Addr) -> Process {
    let task = json!({
        "host": address.to_string(), "port": 9000,
        "cert": folder.join("dev-cert.pem"), "key": folder.join("dev-key.pem"),
    });
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    Process::spawn(
        Command::new(project("target/node/bin/node"))
            .current_dir(project("target/openid-provider"))
            .args(["--input-type=module", "--eval", include_str!("provider.mjs"), "--"])
            .arg(task.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log),
    )
}
