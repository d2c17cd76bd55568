//! A domain controller that is Samba in everything but what a test says: it takes LDAPS, or StartTLS, with a certificate of
//! its own from Samba's CA, and hands each request on, or answers it itself, holds it, cuts the connection, or changes it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use writeback_relay::net::{crypto_provider, tls_client};

use super::deadline;
use super::ldap_message::{self, Message};
pub(crate) use super::ldap_message::{Entry, Request, Search};
use super::samba::dc;

/// On which side of the controller something happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// It never reaches the controller.
    Before,
    /// The controller has done it, and its answer is not heard.
    After,
}

/// What happens to a kind of request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// To those behind so many that pass.
    after: usize,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Answer { code: u8, diagnostic: String, times: usize },
    Hold(When),
    Cut(When),
}

#[derive(Default)]
struct State {
    rules: HashMap<Request, Rule>,
    asked: HashMap<Request, usize>,
    held: HashMap<Request, usize>,
    accepted: usize,
    open: usize,
}

type SearchRewrite = Box<dyn Fn(&mut Search<'_>) + Send>;
type EntryRewrite = Box<dyn Fn(&mut Entry) + Send>;

#[derive(Default)]
struct Shared {
    state: watch::Sender<State>,
    searches: Mutex<Option<SearchRewrite>>,
    entries: Mutex<Option<EntryRewrite>>,
}

/// The proxy; it and its connections stop when dropped.
pub(crate) struct LdapProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl LdapProxy {
    /// At a free port of 127.0.0.1. Its certificate is for `localhost` and for all hosts of `example.test`, too.
    pub(crate) async fn start() -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// At this address, of the loopback network.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let tcp = TcpListener::bind(address).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(certified(address.ip())));
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = tcp.accept().await {
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&serving));
                connections.spawn(async move {
                    shared
                        .state
                        .send_modify(|state| (state.accepted, state.open) = (state.accepted + 1, state.open + 1));
                    let _ = serve(client, acceptor, &shared).await;
                    shared.state.send_modify(|state| state.open -= 1);
                });
            }
        });
        Self { address, shared, task: task.abort_handle() }
    }

    pub(crate) fn url(&self) -> String {
        format!("ldaps://{}", self.address)
    }

    /// For StartTLS; it is the same port.
    pub(crate) fn start_tls_url(&self) -> String {
        format!("ldap://{}", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How accounts name it as their controller, if [`Self::url`] is configured.
    pub(crate) fn name(&self) -> String {
        self.address.to_string()
    }

    /// Samba's own: one file is right for any number of proxies, and Samba beside them.
    pub(crate) fn ca_file(&self) -> PathBuf {
        dc().ca_file()
    }

    /// From now on each such request is answered so, and does not reach the controller. `pass` ends it.
    pub(crate) fn answer(&self, request: Request, code: u8, diagnostic: &str) {
        self.answer_next(usize::MAX, request, code, diagnostic);
    }

    /// The same for the next so many.
    pub(crate) fn answer_next(&self, times: usize, request: Request, code: u8, diagnostic: &str) {
        self.rule(request, 0, What::Answer { code, diagnostic: diagnostic.to_owned(), times });
    }

    /// The same for all but the next so many.
    pub(crate) fn answer_after(&self, after: usize, request: Request, code: u8, diagnostic: &str) {
        self.rule(request, after, What::Answer { code, diagnostic: diagnostic.to_owned(), times: usize::MAX });
    }

    /// From now on such requests, or their answers, are held back, and what comes behind them on their connections.
    /// `pass` lets them go.
    pub(crate) fn hold(&self, request: Request, when: When) {
        self.rule(request, 0, What::Hold(when));
    }

    /// The same, before the controller, for all but the next so many.
    pub(crate) fn hold_after(&self, after: usize, request: Request) {
        self.rule(request, after, What::Hold(When::Before));
    }

    /// Waits until one is held.
    pub(crate) async fn holds(&self, request: Request) {
        let mut state = self.shared.state.subscribe();
        let held = state.wait_for(|state| state.held.get(&request).is_some_and(|held| *held > 0));
        deadline("a request to hold", held).await.unwrap();
    }

    /// From now on each such request ends its connection.
    pub(crate) fn cut(&self, request: Request, when: When) {
        self.rule(request, 0, What::Cut(when));
    }

    /// The same, before the controller, for all but the next so many.
    pub(crate) fn cut_after(&self, after: usize, request: Request) {
        self.rule(request, after, What::Cut(When::Before));
    }

    /// From now on such requests pass, and those that are held do.
    pub(crate) fn pass(&self, request: Request) {
        self.shared.state.send_modify(|state| {
            state.held.remove(&request);
            state.rules.remove(&request);
        });
    }

    fn rule(&self, request: Request, after: usize, what: What) {
        self.shared.state.send_modify(|state| {
            state.held.remove(&request);
            state.rules.insert(request, Rule { after, what });
        });
    }

    /// From now on each search, the root DSE's too, reaches the controller as this leaves it.
    pub(crate) fn rewrite_searches(&self, rewrite: impl Fn(&mut Search<'_>) + Send + 'static) {
        *self.shared.searches.lock().unwrap() = Some(Box::new(rewrite));
    }

    /// From now on each entry that is found, the root DSE too, reaches the client as this leaves it.
    pub(crate) fn rewrite_entries(&self, rewrite: impl Fn(&mut Entry) + Send + 'static) {
        *self.shared.entries.lock().unwrap() = Some(Box::new(rewrite));
    }

    /// How many such requests there have been.
    pub(crate) fn asked(&self, request: Request) -> usize {
        self.shared.state.borrow().asked.get(&request).copied().unwrap_or_default()
    }

    /// How many connections there have been.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.state.borrow().accepted
    }

    /// Waits until no connection is open any more.
    pub(crate) async fn all_closed(&self) {
        let mut state = self.shared.state.subscribe();
        deadline("the end of all connections", state.wait_for(|state| state.open == 0)).await.unwrap();
    }
}

impl Drop for LdapProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// With a certificate from Samba's CA.
fn certified(address: IpAddr) -> rustls::ServerConfig {
    let ca_key = std::fs::read_to_string(dc().ca_file().with_file_name("ca.key")).unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.distinguished_name = rcgen::DistinguishedName::new();
    ca.distinguished_name.push(DnType::CommonName, "Test CA");
    let ca = Issuer::new(ca, KeyPair::from_pem(&ca_key).unwrap());
    let names = ["localhost".to_owned(), "*.example.test".to_owned(), address.to_string()];
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    rustls::ServerConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap()
}

async fn serve(mut client: TcpStream, acceptor: TlsAcceptor, shared: &Shared) -> std::io::Result<()> {
    /// How a message of LDAP begins, and none of TLS.
    const SEQUENCE: u8 = 0x30;
    let mut first = [0];
    client.peek(&mut first).await?;
    if first == [SEQUENCE] {
        let Some((_, start_tls)) = next(&mut client, &mut Vec::new()).await? else { return Ok(()) };
        client.write_all(&ldap_message::tls_begins(start_tls.id())).await?;
    }
    let client = acceptor.accept(client).await?;
    let host = dc().ldaps_address();
    let name: IpAddr = host.rsplit_once(':').unwrap().0.parse().unwrap();
    let tls = TlsConnector::from(Arc::new(tls_client(Some(&dc().ca_file())).unwrap()));
    let server = tls.connect(ServerName::IpAddress(name.into()), TcpStream::connect(host).await?).await?;
    let ((from_client, to_client), (from_server, to_server)) = (split(client), split(server));
    let to_client = tokio::sync::Mutex::new(to_client);
    let asked = Mutex::new(HashMap::new());
    let way = Way { shared, asked: &asked, to_client: &to_client };
    tokio::select! {
        ended = way.requests(from_client, to_server) => ended,
        ended = way.answers(from_server) => ended,
    }
}

/// The next message; none at the end.
async fn next(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut Vec<u8>,
) -> std::io::Result<Option<(Vec<u8>, Message)>> {
    loop {
        if let Some(message) = ldap_message::take(received) {
            return Ok(Some(message));
        }
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    }
}

/// One connection.
struct Way<'a, C> {
    shared: &'a Shared,
    /// By the message's id.
    asked: &'a Mutex<HashMap<Vec<u8>, Request>>,
    to_client: &'a tokio::sync::Mutex<WriteHalf<C>>,
}

impl<C: AsyncWrite> Way<'_, C> {
    async fn requests(
        &self,
        mut client: ReadHalf<impl AsyncRead>,
        mut server: WriteHalf<impl AsyncWrite>,
    ) -> std::io::Result<()> {
        let mut received = Vec::new();
        while let Some((mut bytes, mut message)) = next(&mut client, &mut received).await? {
            if let Some(request) = message.request() {
                self.shared.state.send_modify(|state| *state.asked.entry(request).or_default() += 1);
                match self.shared.fate(request, When::Before).await {
                    Fate::Pass => {}
                    Fate::Answer(code, diagnostic) => {
                        let answer = ldap_message::answer(message.id(), request, code, &diagnostic);
                        self.answer(&answer).await?;
                        continue;
                    }
                    Fate::Cut => return Ok(()),
                }
                self.asked.lock().unwrap().insert(message.id(), request);
                if let Some(rewrite) = &*self.shared.searches.lock().unwrap()
                    && let Some(mut search) = message.search()
                {
                    rewrite(&mut search);
                    bytes = message.bytes();
                }
            }
            server.write_all(&bytes).await?;
            server.flush().await?;
        }
        Ok(())
    }

    async fn answers(&self, mut server: ReadHalf<impl AsyncRead>) -> std::io::Result<()> {
        let mut received = Vec::new();
        while let Some((mut bytes, message)) = next(&mut server, &mut received).await? {
            let request = self.asked.lock().unwrap().get(&message.id()).copied();
            if let Some(request) = request.filter(|_| !message.is_followed())
                && matches!(self.shared.fate(request, When::After).await, Fate::Cut)
            {
                return Ok(());
            }
            if let Some(rewrite) = &*self.shared.entries.lock().unwrap()
                && let Some(mut entry) = message.entry()
            {
                rewrite(&mut entry);
                bytes = message.with_entry(entry).bytes();
            }
            self.answer(&bytes).await?;
        }
        Ok(())
    }

    async fn answer(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut client = self.to_client.lock().await;
        client.write_all(bytes).await?;
        client.flush().await
    }
}

/// What happens to one request or answer now.
enum Fate {
    Pass,
    Answer(u8, String),
    Cut,
}

impl Shared {
    /// Waits while it is held.
    async fn fate(&self, request: Request, now: When) -> Fate {
        let mut passes = false;
        self.state.send_if_modified(|state| {
            if let Some(rule) = state.rules.get_mut(&request).filter(|rule| rule.after > 0) {
                passes = true;
                rule.after -= usize::from(now == When::Before);
            }
            false
        });
        if passes {
            return Fate::Pass;
        }
        let mut state = self.state.subscribe();
        let holding = |state: &State| state.rules.get(&request).is_some_and(|rule| rule.what == What::Hold(now));
        if holding(&state.borrow_and_update()) {
            self.state.send_modify(|state| *state.held.entry(request).or_default() += 1);
            let _ = state.wait_for(|state| !holding(state)).await;
        }
        let mut fate = Fate::Pass;
        self.state.send_if_modified(|state| {
            match state.rules.get_mut(&request).map(|rule| &mut rule.what) {
                Some(What::Answer { code, diagnostic, times }) if now == When::Before => {
                    fate = Fate::Answer(*code, diagnostic.clone());
                    *times -= 1;
                    if *times == 0 {
                        state.rules.remove(&request);
                    }
                }
                Some(What::Cut(when)) if *when == now => fate = Fate::Cut,
                _ => {}
            }
            false
        });
        fate
    }
}
