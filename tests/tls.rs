//! The public listener's certificate is replaced while the relay runs.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use writeback_relay::net::tls_client;

use crate::support::relay::Relay;
use crate::support::{deadline, eventually};

/// A self-signed certificate for localhost, in the two files; gives it as it is on the wire.
fn write_new(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    replace(&folder.join("key.pem"), &made.signing_key.serialize_pem());
    replace(&folder.join("cert.pem"), &made.cert.pem());
    made.cert.der().clone()
}

/// In one step, as everybody does who replaces certificates.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// What the relay shows a new connection that trusts `trusted`; nothing if they don't come together.
async fn shown(relay: &Relay, trusted: &CertificateDer<'static>, folder: &Path) -> Option<CertificateDer<'static>> {
    let ca = folder.join("trusted.pem");
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, trusted);
    std::fs::write(&ca, format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")).unwrap();
    let tcp = TcpStream::connect(relay.public_addr()).await.unwrap();
    let connector = TlsConnector::from(Arc::new(tls_client(Some(&ca)).unwrap()));
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = deadline("a handshake", connector.connect(name, tcp)).await.ok()?;
    let certificate = tls.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    tls.shutdown().await.unwrap();
    Some(certificate)
}

#[tokio::test]
async fn new_certificate_files_are_used_by_new_connections_and_broken_ones_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = write_new(folder.path());
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let relay = Relay::start_with(&format!("[tls]\ncert_file = {cert:?}\nkey_file = {key:?}")).await;
    assert_eq!(shown(&relay, &first, folder.path()).await.as_ref(), Some(&first));

    let second = write_new(folder.path());
    eventually("the second certificate", || async {
        shown(&relay, &second, folder.path()).await.as_ref() == Some(&second)
    })
    .await;
    assert!(shown(&relay, &first, folder.path()).await.is_none(), "the first is gone");

    // A file that is none, and a pair that is none: the second stays, and the log says why.
    let times_refused = || relay.log().matches("the new certificate is no use; the old one stays in force").count();
    for (round, (file, text)) in [(&cert, "not a certificate".to_owned()), (&cert, pem_of_another())].iter().enumerate()
    {
        replace(file, text);
        eventually("it is noticed", || std::future::ready(times_refused() == round + 1)).await;
        assert_eq!(shown(&relay, &second, folder.path()).await.as_ref(), Some(&second));
    }
    assert!(relay.log().contains(&cert.display().to_string()));
    std::fs::remove_file(&key).unwrap();
    eventually("it is noticed", || std::future::ready(times_refused() == 3)).await;
    assert_eq!(shown(&relay, &second, folder.path()).await.as_ref(), Some(&second));

    let third = write_new(folder.path());
    eventually("the third certificate", || async {
        shown(&relay, &third, folder.path()).await.as_ref() == Some(&third)
    })
    .await;
}

/// A certificate of another key.
fn pem_of_another() -> String {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem()
}

#[tokio::test]
async fn a_certificate_and_its_key_may_be_der_as_windows_exports_them() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let [cert, key] = ["cert.cer", "key.der"].map(|name| folder.path().join(name));
    std::fs::write(&cert, made.cert.der()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_der()).unwrap();
    let relay = Relay::start_with(&format!("[tls]\ncert_file = {cert:?}\nkey_file = {key:?}")).await;
    assert_eq!(shown(&relay, made.cert.der(), folder.path()).await.as_ref(), Some(made.cert.der()));
}
