//! A domain controller that never was: LDAP over TLS, one account, and whatever a test wants it to offer. For what Samba
//! does not have.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use lber::common::TagClass;
use lber::structure::StructureTag;
use lber::structures::{ASNTag, Enumerated, Integer, OctetString, Sequence, Set, Tag};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;
use writeback_relay::net::crypto_provider;

use super::hostile::Attack;

/// Its only account.
pub(crate) const ACCOUNT: &str = "jane@example.test";

/// Application tags of RFC 4511.
const BIND: u64 = 0;
const SEARCH: u64 = 3;
const MODIFY: u64 = 6;

/// What it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// What it is, before anybody has logged on.
    RootDse,
    Logon,
    /// For the account.
    Account,
    /// To change the account.
    Modify,
}

/// The server; it stops when dropped.
pub(crate) struct FakeDc {
    pub(crate) url: String,
    pub(crate) ca_file: PathBuf,
    seen: Arc<Mutex<Seen>>,
    working: Arc<watch::Sender<bool>>,
    task: AbortHandle,
    _dir: TempDir,
}

struct Seen {
    /// `supportedControl` of the root DSE.
    controls: Vec<String>,
    /// `supportedCapabilities` of the root DSE.
    capabilities: Vec<String>,
    /// `defaultNamingContext` of the root DSE.
    domain: String,
    /// `dnsHostName` of the root DSE.
    name: String,
    /// How often somebody has logged on.
    binds: usize,
    /// The answer to a modify.
    answer: (i64, String),
    /// Each modify, byte for byte.
    modifies: Vec<Vec<u8>>,
    /// How many of them it has done.
    done: i64,
    /// How often the account was read.
    searches: usize,
    /// What is answered with what, in place of the answer.
    attack: Option<(Question, Attack)>,
}

impl FakeDc {
    /// It offers these controls.
    pub(crate) async fn offering(controls: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, certified.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let tls = rustls::ServerConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ldaps://localhost:{}", tcp.local_addr().unwrap().port());
        let controls = controls.iter().map(|&oid| oid.to_owned()).collect();
        let seen = Arc::new(Mutex::new(Seen {
            controls,
            capabilities: Vec::new(),
            domain: "DC=example,DC=test".to_owned(),
            name: "localhost".to_owned(),
            binds: 0,
            answer: (0, String::new()),
            modifies: Vec::new(),
            done: 0,
            searches: 0,
            attack: None,
        }));
        let working = Arc::new(watch::Sender::new(false));
        let (shared, at_work) = (Arc::clone(&seen), Arc::clone(&working));
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = tcp.accept().await {
                tokio::spawn(serve(tcp, acceptor.clone(), Arc::clone(&shared), at_work.subscribe()));
            }
        });
        Self { url, ca_file, seen, working, task: task.abort_handle(), _dir: dir }
    }

    /// From now on it has this capability.
    pub(crate) fn can(&self, oid: &str) {
        self.seen.lock().unwrap().capabilities.push(oid.to_owned());
    }

    /// From now on it calls its domain and itself so.
    pub(crate) fn calls_itself(&self, domain: &str, name: &str) {
        let mut seen = self.seen.lock().unwrap();
        (seen.domain, seen.name) = (domain.to_owned(), name.to_owned());
    }

    /// How often somebody has logged on.
    pub(crate) fn binds(&self) -> usize {
        self.seen.lock().unwrap().binds
    }

    /// From now on, each modify is answered with this result and message.
    pub(crate) fn answer(&self, result: i64, message: &str) {
        self.seen.lock().unwrap().answer = (result, message.to_owned());
    }

    /// From now on it works on each modify until it is told that it has been done. Other connections are served meanwhile.
    pub(crate) fn work(&self) {
        self.working.send_replace(true);
    }

    /// What it has been working on is done, and answered.
    pub(crate) fn finish(&self) {
        self.working.send_replace(false);
    }

    /// From now on, this question is answered with an attack.
    pub(crate) fn attack(&self, at: Question, with: Attack) {
        self.seen.lock().unwrap().attack = Some((at, with));
    }

    /// How often the account was read.
    pub(crate) fn searches(&self) -> usize {
        self.seen.lock().unwrap().searches
    }

    /// Each modify that came, byte for byte.
    pub(crate) fn modifies(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap().modifies.clone()
    }
}

impl Drop for FakeDc {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Until the client hangs up.
async fn serve(tcp: TcpStream, acceptor: TlsAcceptor, seen: Arc<Mutex<Seen>>, mut working: watch::Receiver<bool>) {
    let Ok(mut stream) = acceptor.accept(tcp).await else { return };
    let (mut received, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let whole = match lber::parse::parse_tag(&received) {
            Ok((rest, message)) => Some((received.len() - rest.len(), message)),
            Err(lber::Err::Incomplete(_)) => None,
            Err(other) => panic!("not BER: {other:?}"),
        };
        if let Some((length, message)) = whole {
            let bytes: Vec<u8> = received.drain(..length).collect();
            let (id, question) = asked(&message);
            let attack = seen.lock().unwrap().attack;
            if let Some((_, attack)) = attack.filter(|(at, _)| question == Some(*at)) {
                return attack.send(id, stream).await;
            }
            let modifies = seen.lock().unwrap().modifies.len();
            let answers = answers(message, bytes, &seen);
            if seen.lock().unwrap().modifies.len() > modifies {
                let _ = working.wait_for(|working| !working).await;
                let mut seen = seen.lock().unwrap();
                seen.done += i64::from(seen.answer.0 == 0);
            }
            for answer in answers {
                if stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
            continue;
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(length) => received.extend_from_slice(&chunk[..length]),
        }
    }
}

fn asked(message: &StructureTag) -> (u8, Option<Question>) {
    let mut parts = message.clone().expect_constructed().unwrap().into_iter();
    let id = *parts.next().unwrap().expect_primitive().unwrap().last().unwrap();
    let operation = parts.next().unwrap();
    let question = match operation.id {
        BIND => Question::Logon,
        MODIFY => Question::Modify,
        SEARCH => {
            let base = operation.expect_constructed().unwrap().remove(0).expect_primitive().unwrap();
            if base.is_empty() { Question::RootDse } else { Question::Account }
        }
        _ => return (id, None),
    };
    (id, Some(question))
}

fn answers(message: StructureTag, bytes: Vec<u8>, seen: &Mutex<Seen>) -> Vec<Vec<u8>> {
    let mut parts = message.expect_constructed().unwrap().into_iter();
    let id = i64::from(*parts.next().unwrap().expect_primitive().unwrap().last().unwrap());
    let operation = parts.next().unwrap();
    let mut seen = seen.lock().unwrap();
    match operation.id {
        BIND => {
            seen.binds += 1;
            vec![envelope(id, result(BIND + 1, 0, ""))]
        }
        SEARCH => {
            let base = operation.expect_constructed().unwrap().remove(0).expect_primitive().unwrap();
            let found = if base.is_empty() {
                root_dse(&seen)
            } else {
                let attribute = b"pwdLastSet";
                seen.searches += usize::from(bytes.windows(attribute.len()).any(|part| part == attribute));
                account(seen.done)
            };
            vec![envelope(id, found), envelope(id, result(SEARCH + 2, 0, ""))]
        }
        MODIFY => {
            seen.modifies.push(bytes);
            vec![envelope(id, result(MODIFY + 1, seen.answer.0, &seen.answer.1))]
        }
        // Unbind and abandon are not answered.
        _ => vec![],
    }
}

fn envelope(id: i64, operation: Tag) -> Vec<u8> {
    let message = Sequence {
        inner: vec![Tag::Integer(Integer { inner: id, ..Default::default() }), operation],
        ..Default::default()
    };
    let mut bytes = bytes::BytesMut::new();
    lber::write::encode_into(&mut bytes, message.into_structure()).unwrap();
    bytes.to_vec()
}

fn text(text: impl Into<Vec<u8>>) -> Tag {
    Tag::OctetString(OctetString { inner: text.into(), ..Default::default() })
}

fn application(id: u64, inner: Vec<Tag>) -> Tag {
    Tag::Sequence(Sequence { id, class: TagClass::Application, inner })
}

fn result(id: u64, code: i64, message: &str) -> Tag {
    let code = Tag::Enumerated(Enumerated { inner: code, ..Default::default() });
    application(id, vec![code, text(""), text(message)])
}

fn entry(dn: &str, attributes: Vec<(&str, Vec<Vec<u8>>)>) -> Tag {
    let attributes = attributes.into_iter().map(|(name, values)| {
        let values = Set { inner: values.into_iter().map(text).collect(), ..Default::default() };
        Tag::Sequence(Sequence { inner: vec![text(name), Tag::Set(values)], ..Default::default() })
    });
    let attributes = Tag::Sequence(Sequence { inner: attributes.collect(), ..Default::default() });
    application(SEARCH + 1, vec![text(dn), attributes])
}

fn root_dse(seen: &Seen) -> Tag {
    let bytes = |oids: &[String]| oids.iter().map(|oid| oid.clone().into_bytes()).collect();
    entry(
        "",
        vec![
            ("defaultNamingContext", vec![seen.domain.clone().into_bytes()]),
            ("dnsHostName", vec![seen.name.clone().into_bytes()]),
            ("supportedControl", bytes(&seen.controls)),
            ("supportedCapabilities", bytes(&seen.capabilities)),
            ("tokenGroups", vec![sid(1104), sid(DOMAIN_USERS)]),
        ],
    )
}

/// A self-relative security descriptor with a list that is empty.
const NOBODY_MAY: [u8; 28] = [1, 0, 4, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 2, 0, 8, 0, 0, 0, 0, 0];
const DOMAIN_USERS: u32 = 513;

/// An account or a group of its domain.
fn sid(rid: u32) -> Vec<u8> {
    let words = [21, 1, 2, 3, rid].map(u32::to_le_bytes).concat();
    [&[1, 5, 0, 0, 0, 0, 0, 5], &words[..]].concat()
}

fn account(written: i64) -> Tag {
    entry(
        "CN=jane,OU=Staff,DC=example,DC=test",
        vec![
            ("objectGUID", vec![Uuid::from_u128(1).to_bytes_le().to_vec()]),
            ("userPrincipalName", vec![ACCOUNT.as_bytes().to_vec()]),
            ("objectSid", vec![sid(1105)]),
            ("tokenGroups", vec![sid(DOMAIN_USERS)]),
            ("nTSecurityDescriptor", vec![NOBODY_MAY.to_vec()]),
            ("pwdLastSet", vec![(133_000_000_000_000_000 + written).to_string().into_bytes()]),
            ("userAccountControl", vec![b"512".to_vec()]),
        ],
    )
}
