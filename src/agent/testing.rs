//! What the tests of the agent share: a portal, an agent with files of its own, and a directory that does as told.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use super::directory::{Account, Deadline, Directory, DirectoryError, Finding, PasswordCheck, Written};
use super::error::AgentError;
use super::events::EventLog;
use super::execution::Executor;
use super::format::Format;
use super::home::{Home, Identity, Keys};
use super::journal::Journal;
use super::keyring::Keyrings;
use super::options::Options;
use super::pin::Pin;
use super::portals::Portals;
use crate::clock::{Clock, System, UnixTime};
use crate::protocol::command::{Command, Operation, Options as CommandOptions, Subject};
use crate::protocol::frame::v1;
use crate::protocol::ids::{AgentId, CommandId, JournalId};
use crate::protocol::jose::{PublicKey, SealingKey, SigningKey, Validity};
use crate::protocol::outcome::Outcome;
use crate::protocol::password::Password;
use crate::protocol::sealed::{Secrets, seal_for};

pub(super) const JANE: &str = "jane@corp.example";
pub(super) const NEW_PASSWORD: &str = "New-Passw0rd";
/// When tests take place.
pub(super) const NOW: i64 = 1_800_000_000;

/// Every wait of a test has an end.
pub(super) async fn deadline<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it took too long")
}

/// A clock that stands still until it is told otherwise.
pub(super) struct Hands(AtomicU64);

impl Hands {
    pub(super) fn at(seconds: i64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(u64::try_from(seconds).unwrap() * 1000)))
    }

    pub(super) fn set(&self, seconds: i64) {
        self.0.store(u64::try_from(seconds).unwrap() * 1000, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Options with short times.
pub(super) fn quick() -> Options {
    Options {
        recovery_interval: Duration::from_millis(5),
        backoff_base: Duration::from_millis(1),
        backoff_max: Duration::from_millis(20),
        unknown_agent_pause: Duration::from_millis(20),
        resets_per_hour: 100,
        stop_deadline: Duration::from_secs(5),
        ..Options::default()
    }
}

/// An enrolled agent in a folder of its own, and the portal it trusts.
pub(super) struct Enrolled {
    pub(super) dir: TempDir,
    pub(super) identity: Arc<Identity>,
    pub(super) keys: Arc<Keys>,
    pub(super) portal: SigningKey,
    pub(super) clock: Arc<Hands>,
}

impl Enrolled {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let portal = SigningKey::generate(&System).unwrap();
        let journal = JournalId::new(&System, &System);
        let identity = Identity {
            format: Format,
            agent: AgentId::new(&System, &System),
            tenant: "contoso".parse().unwrap(),
            relay: "https://127.0.0.1:1".into(),
            journal,
            portals: [("portal-1".parse().unwrap(), Pin::new(portal.public().clone()))].into(),
        };
        let keys = Keys { signing: SigningKey::generate(&System).unwrap(), sealing: SealingKey::generate().unwrap() };
        home.signing_key_file().replace(&keys.signing.to_jwk()).unwrap();
        home.sealing_key_file().replace(&keys.sealing.to_jwk().unwrap()).unwrap();
        super::home::write_json(&home.identity_file(), &identity).unwrap();
        drop(Journal::create(&home.journal(), journal).await.unwrap());
        Self { dir, identity: Arc::new(identity), keys: Arc::new(keys), portal, clock: Hands::at(NOW) }
    }

    pub(super) fn home(&self) -> Home {
        Home::new(self.dir.path())
    }

    pub(super) fn journal(&self) -> Journal {
        Journal::open(&self.home().journal(), self.identity.journal).unwrap()
    }

    pub(super) fn executor(&self, directory: Arc<dyn Directory>) -> (Executor, mpsc::Receiver<AgentError>) {
        self.executor_with(directory, self.journal(), quick())
    }

    pub(super) fn executor_with(
        &self,
        directory: Arc<dyn Directory>,
        journal: Journal,
        options: Options,
    ) -> (Executor, mpsc::Receiver<AgentError>) {
        let events = EventLog::open(&self.home().events(), self.clock.clone()).unwrap();
        let (identity, keys, clock) =
            (self.identity.clone(), Keyrings::open(&self.home()).unwrap(), self.clock.clone());
        let portals = Portals::open(&self.home(), clock.clone()).unwrap();
        Executor::new(identity, Arc::new(keys), portals, directory, journal, events, &options, clock, System::random())
    }

    /// The numbers in the event log, in order.
    pub(super) fn event_ids(&self) -> Vec<u64> {
        let lines = super::events::history(&self.home().events()).unwrap();
        let id = |line: String| serde_json::from_str::<serde_json::Value>(&line).unwrap()["event_id"].as_u64().unwrap();
        lines.into_iter().map(id).collect()
    }

    /// A change of an account's password, sealed; not signed yet.
    pub(super) fn change(&self, account: &str, current: &str) -> Command {
        let mut command = Command { operation: Operation::ChangePassword, ..self.command(account) };
        let [new_password, current] = [NEW_PASSWORD, current].map(|text| Password::new(text.into()).unwrap());
        let secrets = Secrets { new_password, current_password: Some(current) };
        command.sealed = Some(seal_for(&command, &secrets, self.keys.sealing.public(), &System).unwrap());
        command
    }

    /// An unlock of an account; not signed yet.
    pub(super) fn unlock(&self, account: &str) -> Command {
        Command { operation: Operation::UnlockAccount, sealed: None, ..self.command(account) }
    }

    /// A reset for an account, sealed; not signed yet.
    pub(super) fn command(&self, account: &str) -> Command {
        let mut command = Command {
            iss: "portal-1".parse().unwrap(),
            aud: self.identity.agent,
            tenant: self.identity.tenant.clone(),
            jti: CommandId::new(&System, &System),
            validity: Validity { iat: UnixTime(NOW), exp: UnixTime(NOW + 120) },
            sub_id: Subject::from_text(account).unwrap(),
            operation: Operation::ResetPassword,
            options: CommandOptions::default(),
            sealed: None,
        };
        self.seal(&mut command, NEW_PASSWORD);
        command
    }

    pub(super) fn seal_to(&self, command: &mut Command, key: &PublicKey) {
        let secrets = Secrets { new_password: Password::new(NEW_PASSWORD.into()).unwrap(), current_password: None };
        command.sealed = Some(seal_for(command, &secrets, key, &System).unwrap());
    }

    pub(super) fn seal(&self, command: &mut Command, password: &str) {
        let secrets = Secrets { new_password: Password::new(password.into()).unwrap(), current_password: None };
        command.sealed = Some(seal_for(command, &secrets, self.keys.sealing.public(), &System).unwrap());
    }

    pub(super) fn delivery(&self, command: &Command) -> v1::Deliver {
        v1::Deliver {
            command_jws: command.sign(&self.portal).unwrap(),
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
            attempt: 1,
        }
    }

    /// As the portal would read it.
    pub(super) fn outcome(&self, jws: &str, command: &Command) -> Outcome {
        Outcome::verify(jws, self.keys.signing.public(), command).unwrap()
    }
}

type Script<T> = Mutex<VecDeque<Result<T, DirectoryError>>>;

/// A directory that answers as scripted, and remembers what it was asked. Each account is its own.
#[derive(Default)]
pub(super) struct Scripted {
    /// Of every write.
    resets: Script<()>,
    pwd_last_set: Script<i64>,
    lockout_times: Script<i64>,
    checks: Script<PasswordCheck>,
    /// Where accounts are found, one after another; then always at the last.
    controllers: Mutex<Vec<&'static str>>,
    calls: Mutex<Vec<String>>,
    called: Notify,
    on_find: Option<Box<dyn Fn() + Send + Sync>>,
    /// What happens before a reset asks whether there is time for it.
    on_reset: Option<Box<dyn Fn() + Send + Sync>>,
    /// While it is set, writes wait for it.
    gate: Option<Arc<tokio::sync::Semaphore>>,
    /// While it is set, writes are under way until they may be answered.
    late: Option<Arc<tokio::sync::Semaphore>>,
}

fn next<T>(script: &Script<T>, what: &str) -> Result<T, DirectoryError> {
    script.lock().unwrap().pop_front().unwrap_or_else(|| panic!("{what} was not expected"))
}

impl Scripted {
    pub(super) fn account(pwd_last_set: i64) -> Account {
        Account {
            object_guid: Uuid::from_u128(1),
            dn: "CN=jane".into(),
            upn: Some(JANE.into()),
            controller: "dc1".into(),
            pwd_last_set,
            lockout_time: 0,
            logon: None,
        }
    }

    pub(super) fn resets(self, script: impl IntoIterator<Item = Result<(), DirectoryError>>) -> Self {
        Self { resets: Mutex::new(script.into_iter().collect()), ..self }
    }

    pub(super) fn pwd_last_set(self, script: impl IntoIterator<Item = Result<i64, DirectoryError>>) -> Self {
        Self { pwd_last_set: Mutex::new(script.into_iter().collect()), ..self }
    }

    pub(super) fn lockout_times(self, script: impl IntoIterator<Item = Result<i64, DirectoryError>>) -> Self {
        Self { lockout_times: Mutex::new(script.into_iter().collect()), ..self }
    }

    pub(super) fn checks(self, script: impl IntoIterator<Item = Result<PasswordCheck, DirectoryError>>) -> Self {
        Self { checks: Mutex::new(script.into_iter().collect()), ..self }
    }

    pub(super) fn controllers(self, controllers: &[&'static str]) -> Self {
        Self { controllers: Mutex::new(controllers.to_vec()), ..self }
    }

    pub(super) fn on_find(self, f: impl Fn() + Send + Sync + 'static) -> Self {
        Self { on_find: Some(Box::new(f)), ..self }
    }

    pub(super) fn on_reset(self, f: impl Fn() + Send + Sync + 'static) -> Self {
        Self { on_reset: Some(Box::new(f)), ..self }
    }

    pub(super) fn gated(self, gate: Arc<tokio::sync::Semaphore>) -> Self {
        Self { gate: Some(gate), ..self }
    }

    /// Each write is under way until `answers` has a permit for it.
    pub(super) fn late(self, answers: Arc<tokio::sync::Semaphore>) -> Self {
        Self { late: Some(answers), ..self }
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// Returns when `count` calls that begin with `prefix` have been made.
    pub(super) async fn called(&self, prefix: &str, count: usize) {
        deadline(async {
            loop {
                let called = self.called.notified();
                tokio::pin!(called);
                called.as_mut().enable();
                if self.calls().iter().filter(|call| call.starts_with(prefix)).count() >= count {
                    return;
                }
                called.await;
            }
        })
        .await;
    }

    async fn write(&self, a: &Account, what: String, deadline: &Deadline) -> Result<Written, DirectoryError> {
        if let Some(f) = &self.on_reset {
            f();
        }
        deadline.allows()?;
        self.call(what);
        if let Some(late) = self.late.clone() {
            let answer = next(&self.resets, "a write");
            return Ok(Written::UnderWay(Box::pin(async move {
                late.acquire().await.unwrap().forget();
                answer
            })));
        }
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        self.call(format!("done {}", a.dn));
        next(&self.resets, "a write").map(|()| Written::Done)
    }

    fn call(&self, what: impl Into<String>) {
        self.calls.lock().unwrap().push(what.into());
        self.called.notify_waiters();
    }
}

#[async_trait]
impl Directory for Scripted {
    async fn find(&self, subject: &Subject) -> Result<Account, DirectoryError> {
        self.call(format!("find {subject}"));
        if let Some(f) = &self.on_find {
            f();
        }
        let guid = match subject {
            Subject::ObjectGuid(guid) => *guid,
            Subject::Upn(upn) if upn == JANE => Uuid::from_u128(1),
            Subject::Upn(upn) => Uuid::from_u128(upn.bytes().map(u128::from).sum::<u128>() + 1000),
        };
        let mut account = Account { object_guid: guid, dn: format!("CN={subject}"), ..Self::account(7) };
        let mut controllers = self.controllers.lock().unwrap();
        if let Some(first) = controllers.first() {
            account.controller = (*first).to_owned();
        }
        if controllers.len() > 1 {
            controllers.remove(0);
        }
        Ok(account)
    }

    async fn reset_password(
        &self,
        a: &Account,
        p: &Password,
        _: CommandOptions,
        deadline: &Deadline,
    ) -> Result<Written, DirectoryError> {
        self.write(a, format!("reset {} {}", a.dn, p.expose()), deadline).await
    }

    async fn change_password(
        &self,
        a: &Account,
        current: &Password,
        new: &Password,
        deadline: &Deadline,
    ) -> Result<Written, DirectoryError> {
        self.write(a, format!("change {} {} {}", a.dn, current.expose(), new.expose()), deadline).await
    }

    async fn unlock_account(&self, a: &Account, deadline: &Deadline) -> Result<Written, DirectoryError> {
        self.write(a, format!("unlock {}", a.dn), deadline).await
    }

    async fn lockout_time(&self, _: &Account) -> Result<i64, DirectoryError> {
        self.call("lockout_time");
        next(&self.lockout_times, "lockout_time")
    }

    async fn pwd_last_set(&self, _: &Account) -> Result<i64, DirectoryError> {
        self.call("pwd_last_set");
        next(&self.pwd_last_set, "pwd_last_set")
    }

    async fn try_password(&self, _: &Account, _: &Password) -> Result<PasswordCheck, DirectoryError> {
        self.call("try_password");
        next(&self.checks, "try_password")
    }

    async fn preflight(&self, _: &dyn Clock) -> Vec<Finding> {
        self.call("preflight");
        Vec::new()
    }
}
