//! A TLS server of OpenSSL's, with whatever certificate and whatever cipher suites: what rustls would not show.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::deadline;

/// `openssl s_server`; it is killed when dropped.
pub(crate) struct TlsServer {
    port: u16,
    child: Child,
}

impl TlsServer {
    /// With the certificate `cert.pem`, what is to be sent with it in `chain.pem`, if there is such a file, and `key.pem`, all
    /// in a folder. It takes everything that OpenSSL knows, but for what `more` says.
    pub(crate) async fn start(folder: &Path, more: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "key.pem"]);
        if folder.join("chain.pem").exists() {
            command.args(["-cert_chain", "chain.pem"]);
        }
        command.args(more).current_dir(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, told) = oneshot::channel();
        std::thread::spawn(move || {
            let address =
                said.by_ref().map_while(Result::ok).find_map(|line| Some(line.strip_prefix("ACCEPT ")?.to_owned()));
            let _ = tell.send(address);
            // It is read to its end, so that the server never waits for a reader.
            said.for_each(drop);
        });
        let address = deadline("openssl s_server", told).await.unwrap().expect("openssl s_server has ended");
        Self { port: address.rsplit_once(':').unwrap().1.trim().parse().unwrap(), child }
    }

    /// Its host and its port.
    pub(crate) fn place(&self) -> String {
        format!("localhost:{}", self.port)
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Files of a certificate.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    /// The CA that clients are to trust.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.0.path().join("ca.pem")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    /// Runs `openssl` there: for what no other library makes any more.
    pub(crate) async fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null());
        let output = deadline("openssl", spawn_blocking(move || command.output())).await.unwrap().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
