//! Each fault of a server's certificate, or of its TLS, has one plain sentence with what to do, wherever TLS is spoken: to a
//! domain controller, to the relay, to a URL, to Redis. Nothing of it is the library's debugging output.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use redis::Cmd;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use writeback_relay::agent::directory::Check;
use writeback_relay::agent::directory::active_directory::{ActiveDirectory, Config};
use writeback_relay::clock::System;
use writeback_relay::net::fetch::Fetch;
use writeback_relay::net::outbound::{Access, Outbound};
use writeback_relay::relay::redis::config::{Config as RedisConfig, Topology};
use writeback_relay::relay::redis::link::Link;
use writeback_relay::storage::PrivateFile;

use crate::support::deadline;
use crate::support::tls_server::{Files, TlsServer};

/// What stands in errors that were made for programmers.
const DEBUG: &[&str] = &[
    "Other(",
    "Error(",
    "Context",
    "UnknownIssuer",
    "NotValid",
    "Peer",
    "Alert",
    "Invalid",
    "BadSignature",
    "{",
    "[",
    "peer certificate",
];

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn ca(name: &str) -> CertificateParams {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// A certificate from "Test Root", whose CA clients trust.
fn from_the_root(change: impl FnOnce(&mut CertificateParams)) -> Files {
    let (files, ca_key, leaf_key) = (Files::new(), key(), key());
    let mut leaf = params("localhost", &["localhost"]);
    change(&mut leaf);
    files.write("ca.pem", &ca("Test Root").self_signed(&ca_key).unwrap().pem());
    let issuer = Issuer::new(ca("Test Root"), ca_key);
    files.write("cert.pem", &leaf.signed_by(&leaf_key, &issuer).unwrap().pem());
    files.write("key.pem", &leaf_key.serialize_pem());
    files
}

/// One from an intermediate CA, which is sent along or not.
fn from_an_intermediate(sent: bool) -> Files {
    let (files, root_key, between_key, leaf_key) = (Files::new(), key(), key(), key());
    files.write("ca.pem", &ca("Test Root").self_signed(&root_key).unwrap().pem());
    let between = ca("Issuing CA 2").signed_by(&between_key, &Issuer::new(ca("Test Root"), root_key)).unwrap();
    let leaf = params("localhost", &["localhost"]);
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(ca("Issuing CA 2"), between_key)).unwrap();
    if sent {
        files.write("chain.pem", &between.pem());
    }
    files.write("cert.pem", &leaf.pem());
    files.write("key.pem", &leaf_key.serialize_pem());
    files
}

/// One that is signed by itself, and trusted or not.
fn self_signed(params: &CertificateParams, trusted: bool) -> Files {
    let (files, key) = (Files::new(), key());
    let pem = params.self_signed(&key).unwrap().pem();
    files.write("cert.pem", &pem);
    files.write("key.pem", &key.serialize_pem());
    let another = ca("Another CA").self_signed(&self::key()).unwrap().pem();
    files.write("ca.pem", if trusted { &pem } else { &another });
    files
}

/// One from a CA, where clients trust another one.
fn from_another(trusted: &str) -> Files {
    let files = from_the_root(|_| ());
    files.write("ca.pem", &ca(trusted).self_signed(&key()).unwrap().pem());
    files
}

/// One that OpenSSL makes and signs with itself; it is trusted.
async fn by_openssl(arguments: &[&str]) -> Files {
    let files = Files::new();
    let usual = [
        "req",
        "-x509",
        "-nodes",
        "-days",
        "10",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
    ];
    files.openssl(&[&usual, arguments].concat()).await;
    files.write("ca.pem", &std::fs::read_to_string(files.folder().join("cert.pem")).unwrap());
    files
}

/// One from a CA whose key is too short.
async fn from_a_weak_ca() -> Files {
    let files = Files::new();
    let root = [
        "req",
        "-x509",
        "-nodes",
        "-days",
        "10",
        "-newkey",
        "rsa:1024",
        "-subj",
        "/CN=Weak CA",
        "-addext",
        "keyUsage=keyCertSign",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    ];
    files.openssl(&root).await;
    files.openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem"]).await;
    files.openssl(&["req", "-new", "-key", "key.pem", "-subj", "/CN=localhost", "-out", "csr.pem"]).await;
    files.write("extensions", "subjectAltName=DNS:localhost\n");
    let sign = [
        "x509",
        "-req",
        "-in",
        "csr.pem",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "10",
        "-extfile",
        "extensions",
        "-out",
        "cert.pem",
    ];
    files.openssl(&sign).await;
    files
}

/// What is said of the server at this place, by everything that speaks TLS to one.
async fn told(place: &str, files: &Files) -> Vec<(&'static str, String)> {
    let ca_file = Some(files.ca_file());
    let password = PrivateFile::new(files.folder().join("password"));
    password.replace("anything").unwrap();
    let directory = Config {
        url: vec![format!("ldaps://{place}")],
        domain: None,
        sites: Vec::new(),
        name_servers: Vec::new(),
        domains: Vec::new(),
        start_tls: false,
        ca_file: ca_file.clone(),
        bind_user: "svc@example.test".to_owned(),
        bind_password_file: password.path().to_owned(),
        base_dn: Vec::new(),
        protected_groups: None,
        connect_timeout_seconds: 5,
        operation_timeout_seconds: 5,
    };
    let rows = ActiveDirectory::look_for(&directory, &System).await.unwrap();
    let row = rows.into_iter().find(|row| row.check == Check::Tls).unwrap();
    let url = format!("https://{place}");
    let outbound = Outbound::new(&Access::from(ca_file.as_ref())).unwrap();
    let relay = deadline("the relay", outbound.reach(&url.parse().unwrap())).await.unwrap_err();
    let fetch = Fetch::new(ca_file.as_deref(), "server", 1000, Duration::from_secs(10)).unwrap();
    let fetched = deadline("a document", fetch.get(&url)).await.unwrap_err();
    vec![("directory", row.detail), ("relay", relay.to_string()), ("url", fetched.to_string())]
}

/// Of Redis, whose library shows no certificate.
async fn told_of_redis(place: &str, files: &Files) -> String {
    let config = RedisConfig {
        urls: vec![format!("rediss://{place}")],
        topology: Topology::Single,
        master_name: None,
        username: None,
        password_file: None,
        sentinel_username: None,
        sentinel_password_file: None,
        ca_file: Some(files.ca_file()),
        cert_file: None,
        key_file: None,
        connect_timeout_ms: 5000,
        command_timeout_ms: 5000,
        cluster_key_file: files.folder().join("cluster-key"),
    };
    let link = Link::open(config).await.unwrap();
    let asked: Result<(), _> = deadline("redis", link.command(&Cmd::get("x"))).await;
    asked.unwrap_err().to_string()
}

#[track_caller]
fn plain(what: &str, said: &str, expected: &str) {
    assert!(said.contains(expected), "{what}: {said}");
    // What a name server or a port is called does not count.
    let words = said.replace("localhost", "");
    for debug in DEBUG {
        assert!(!words.contains(debug), "{what}: {debug} in {said}");
    }
}

#[tokio::test]
async fn each_fault_of_a_certificate_has_its_own_sentence_everywhere() {
    let day = 24 * 3600;
    let mut a_cas_own = params("localhost", &["localhost"]);
    a_cas_own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let now = i64::try_from(writeback_relay::clock::Clock::now_ms(&System) / 1000).unwrap();
    let at = |seconds: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(seconds).unwrap());
    let renewed = from_an_intermediate(true);
    renewed.write("ca.pem", &ca("Test Root").self_signed(&key()).unwrap().pem());
    for (what, files, expected) in [
        ("no subjectAltName", from_the_root(|leaf| leaf.subject_alt_names.clear()), "names no host in subjectAltName"),
        (
            "another name",
            from_the_root(|leaf| leaf.subject_alt_names = params("", &["dc9.example.test"]).subject_alt_names),
            "for another host name: for \"dc9.example.test\"",
        ),
        ("an intermediate that is not sent", from_an_intermediate(false), "leads to \"Issuing CA 2\" and no further"),
        ("an unknown CA", from_another("Another CA"), "leads to \"Test Root\" and no further"),
        ("a CA with a new key", from_another("Test Root"), "the key of the CA \"Test Root\" that this host trusts"),
        ("a CA with a new key above an intermediate", renewed, "the key of the CA \"Test Root\" that this host trusts"),
        ("self-signed", self_signed(&params("localhost", &["localhost"]), false), "but signed by itself"),
        ("a trusted CA itself", self_signed(&a_cas_own, true), "CA:TRUE"),
        (
            "for clients alone",
            from_the_root(|leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            "extendedKeyUsage has no serverAuth",
        ),
        ("expired", from_the_root(|leaf| leaf.not_after = at(now - day)), "has expired"),
        ("not yet valid", from_the_root(|leaf| leaf.not_before = at(now + day)), "is not valid yet"),
        (
            "RSA 1024",
            by_openssl(&["-newkey", "rsa:1024"]).await,
            "the key of its certificate is too short: RSA with 1024 bits",
        ),
        ("a weak CA", from_a_weak_ca().await, "from the CA \"Weak CA\", whose key is too short: RSA with 1024 bits"),
        ("SHA-1", by_openssl(&["-newkey", "rsa:2048", "-sha1"]).await, "SHA-1"),
    ] {
        let server = TlsServer::start(files.folder(), &["-cipher", "DEFAULT@SECLEVEL=0"]).await;
        for (whom, said) in told(&server.place(), &files).await {
            plain(&format!("{what}, {whom}"), &said, expected);
        }
        let said = told_of_redis(&server.place(), &files).await;
        plain(&format!("{what}, redis"), &said, "certificate");
    }
}

#[tokio::test]
async fn each_way_in_which_tls_itself_fails_has_its_own_sentence_everywhere() {
    let files = from_the_root(|_| ());
    for (what, more, expected) in [
        (
            "CBC alone",
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0"][..],
            "takes none of the cipher suites",
        ),
        ("TLS 1.1", &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], "speaks neither TLS 1.2 nor TLS 1.3"),
        ("TLS 1.0", &["-tls1", "-cipher", "DEFAULT@SECLEVEL=0"], "speaks neither TLS 1.2 nor TLS 1.3"),
    ] {
        let server = TlsServer::start(files.folder(), more).await;
        let of_redis = told_of_redis(&server.place(), &files).await;
        for (whom, said) in told(&server.place(), &files).await.into_iter().chain([("redis", of_redis)]) {
            plain(&format!("{what}, {whom}"), &said, expected);
        }
    }
}

#[tokio::test]
async fn what_speaks_no_tls_or_hangs_up_is_said_to_do_so() {
    let files = from_the_root(|_| ());
    for (greeting, expected) in
        [("220 mail.corp.example ESMTP\r\n", "does not speak TLS"), ("", "hung up in the middle of TLS")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = format!("localhost:{}", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // The client has to be heard, or it would be told of a reset.
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await;
                let _ = stream.write_all(greeting.as_bytes()).await;
            }
        });
        for (whom, said) in told(&place, &files).await {
            if whom != "url" || !greeting.is_empty() {
                plain(&format!("{greeting:?}, {whom}"), &said, expected);
            }
        }
    }
}

#[tokio::test]
async fn a_certificate_with_nothing_wrong_is_taken() {
    for files in
        [from_the_root(|_| ()), from_an_intermediate(true), self_signed(&params("localhost", &["localhost"]), true)]
    {
        let server = TlsServer::start(files.folder(), &[]).await;
        let outbound = Outbound::new(&Access::from(Some(&files.ca_file()))).unwrap();
        let url = format!("https://{}", server.place());
        deadline("a connection", outbound.reach(&url.parse().unwrap())).await.unwrap();
    }
}
