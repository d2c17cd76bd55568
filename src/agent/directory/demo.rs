//! A directory in memory, for trying the product out and for tests. It has a password policy, a lockout and
//! `pwdLastSet`, as a domain controller has. It keeps digests of passwords, and with a state file it outlives a restart.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Account, Check, Deadline, Directory, DirectoryError, Finding, PasswordCheck};
use crate::clock::{Clock, Random};
use crate::protocol::command::{Options, Subject};
use crate::protocol::jose::{base64url, sha256};
use crate::protocol::outcome::Code;
use crate::protocol::password::Password;
use crate::storage::{FileError, PrivateFile};

/// Wrong passwords that lock an account.
const LOCKOUT_THRESHOLD: u32 = 5;
const MIN_CHARS: usize = 10;
/// The controller's name.
const CONTROLLER: &str = "demo";
/// Milliseconds between 1601, where `pwdLastSet` begins, and 1970.
const SINCE_1601_MS: u64 = 11_644_473_600_000;

/// `[directory]` with `kind = "demo"`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// User principal names.
    pub accounts: Vec<String>,
    /// The password each of them has at first.
    pub initial_password: Password,
    /// Where changes are kept over a restart; without it they are lost.
    #[serde(default)]
    pub state_file: Option<PathBuf>,
    /// How long a write waits before it takes effect, in milliseconds.
    #[serde(default)]
    pub delay_before_ms: u64,
    /// How long a write waits after it has taken effect and before it answers, in milliseconds.
    #[serde(default)]
    pub delay_after_ms: u64,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "demo::Config({} accounts)", self.accounts.len())
    }
}

/// Why a demo directory can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A name that is no user principal name.
    #[error("[directory] accounts: {name:?} is not valid: {error}")]
    Account {
        /// The name.
        name: String,
        /// Why.
        error: String,
    },
    /// The state file.
    #[error(transparent)]
    File(#[from] FileError),
}

#[derive(Clone, Serialize, Deserialize)]
struct User {
    guid: Uuid,
    password_sha256: String,
    pwd_last_set: i64,
    disabled: bool,
    bad_logons: u32,
}

impl User {
    fn locked(&self) -> bool {
        self.bad_logons >= LOCKOUT_THRESHOLD
    }
}

/// By lowercase user principal name.
type Users = BTreeMap<String, User>;

/// The directory. Clones share it.
#[derive(Clone)]
pub struct Demo {
    users: Arc<Mutex<Users>>,
    state_file: Option<PrivateFile>,
    delay_before: Duration,
    delay_after: Duration,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

fn digest(guid: Uuid, password: &str) -> String {
    let salted = zeroize::Zeroizing::new([guid.as_bytes().as_slice(), password.as_bytes()].concat());
    base64url(&sha256(&salted))
}

/// At least ten characters, and three of upper case, lower case, digits and others.
fn meets_policy(password: &str) -> bool {
    let kinds: [fn(char) -> bool; 4] =
        [char::is_uppercase, char::is_lowercase, char::is_numeric, |c| !c.is_alphanumeric()];
    let kinds = kinds.iter().filter(|kind| password.chars().any(**kind)).count();
    password.chars().count() >= MIN_CHARS && kinds >= 3
}

fn refused(code: Code, detail: impl Into<String>) -> DirectoryError {
    DirectoryError::Refused { code, detail: detail.into() }
}

impl Demo {
    /// Without accounts.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let (delay_before, delay_after) = (Duration::ZERO, Duration::ZERO);
        Self { users: Arc::default(), state_file: None, delay_before, delay_after, clock, random }
    }

    /// With the accounts of a configuration; those in its state file keep what they have there.
    ///
    /// # Errors
    /// If a name is not valid or the state file is no use.
    pub fn configured(config: &Config, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Self, DemoError> {
        let mut demo = Self::new(clock, random);
        demo.delay_before = Duration::from_millis(config.delay_before_ms);
        demo.delay_after = Duration::from_millis(config.delay_after_ms);
        demo.state_file = config.state_file.as_ref().map(PrivateFile::new);
        if let Some(file) = demo.state_file.as_ref().filter(|file| file.exists()) {
            *demo.users.lock() = serde_json::from_str(&file.read()?).map_err(|e| file.contents(e))?;
        }
        for name in &config.accounts {
            Subject::upn(name).map_err(|error| DemoError::Account { name: name.clone(), error: error.to_string() })?;
            if !demo.users.lock().contains_key(&name.to_lowercase()) {
                demo.add(name, config.initial_password.expose());
            }
        }
        demo.save()?;
        Ok(demo)
    }

    /// One account more. The policy is not asked.
    #[must_use]
    pub fn with_account(self, upn: &str, password: &str) -> Self {
        self.add(upn, password);
        self
    }

    /// Writes take this long before and after they take effect.
    #[must_use]
    pub fn with_delays(self, before: Duration, after: Duration) -> Self {
        Self { delay_before: before, delay_after: after, ..self }
    }

    /// Disables an account.
    pub fn disable(&self, upn: &str) {
        if let Some(user) = self.users.lock().get_mut(&upn.to_lowercase()) {
            user.disabled = true;
        }
    }

    /// Whether this is the account's password. It counts as no logon.
    #[must_use]
    pub fn password_is(&self, upn: &str, password: &str) -> bool {
        self.users
            .lock()
            .get(&upn.to_lowercase())
            .is_some_and(|user| user.password_sha256 == digest(user.guid, password))
    }

    /// The account's objectGUID.
    #[must_use]
    pub fn object_guid(&self, upn: &str) -> Option<Uuid> {
        self.users.lock().get(&upn.to_lowercase()).map(|user| user.guid)
    }

    fn add(&self, upn: &str, password: &str) {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes);
        let guid = uuid::Builder::from_random_bytes(bytes).into_uuid();
        let (password_sha256, pwd_last_set) = (digest(guid, password), self.now());
        let user = User { guid, password_sha256, pwd_last_set, disabled: false, bad_logons: 0 };
        self.users.lock().insert(upn.to_lowercase(), user);
    }

    fn now(&self) -> i64 {
        i64::try_from((self.clock.now_ms() + SINCE_1601_MS) * 10_000).unwrap_or(i64::MAX)
    }

    fn save(&self) -> Result<(), FileError> {
        let Some(file) = &self.state_file else { return Ok(()) };
        // Under the lock, so that an older state never replaces a newer one.
        let users = self.users.lock();
        file.replace(&serde_json::to_string(&*users).map_err(|e| file.contents(e))?)
    }

    fn by_guid<T>(&self, guid: Uuid, f: impl FnOnce(&mut User) -> T) -> Result<T, DirectoryError> {
        let mut users = self.users.lock();
        let user = users.values_mut().find(|user| user.guid == guid);
        user.map(f).ok_or_else(|| refused(Code::UserNotFound, "there is no such account any more"))
    }
}

#[async_trait]
impl Directory for Demo {
    async fn find(&self, subject: &Subject) -> Result<Account, DirectoryError> {
        let users = self.users.lock();
        let found = match subject {
            Subject::Upn(upn) => users.get_key_value(&upn.to_lowercase()),
            Subject::ObjectGuid(guid) => users.iter().find(|(_, user)| user.guid == *guid),
        };
        let (upn, user) = found.ok_or_else(|| refused(Code::UserNotFound, "there is no such account"))?;
        if user.disabled {
            return Err(refused(Code::AccountDisabled, "the account is disabled"));
        }
        Ok(Account {
            object_guid: user.guid,
            dn: format!("CN={upn},OU=Demo"),
            controller: CONTROLLER.to_owned(),
            pwd_last_set: user.pwd_last_set,
        })
    }

    async fn reset_password(
        &self,
        account: &Account,
        new_password: &Password,
        options: Options,
        deadline: &Deadline,
    ) -> Result<(), DirectoryError> {
        if !meets_policy(new_password.expose()) {
            let rule = "at least 10 characters, and three of upper case, lower case, digits and others";
            return Err(refused(Code::PasswordPolicy, format!("the policy asks for {rule}")));
        }
        tokio::time::sleep(self.delay_before).await;
        deadline.allows()?;
        let now = self.now();
        self.by_guid(account.object_guid, |user| {
            user.password_sha256 = digest(user.guid, new_password.expose());
            let later = now.max(user.pwd_last_set + 1);
            user.pwd_last_set = if options.force_change_at_next_logon { 0 } else { later };
            if options.unlock {
                user.bad_logons = 0;
            }
        })?;
        self.save().map_err(|e| DirectoryError::Uncertain(e.to_string()))?;
        tokio::time::sleep(self.delay_after).await;
        Ok(())
    }

    async fn pwd_last_set(&self, account: &Account) -> Result<i64, DirectoryError> {
        self.by_guid(account.object_guid, |user| user.pwd_last_set)
    }

    async fn try_password(&self, account: &Account, password: &Password) -> Result<PasswordCheck, DirectoryError> {
        self.by_guid(account.object_guid, |user| {
            if user.locked() {
                PasswordCheck::Unclear
            } else if user.password_sha256 == digest(user.guid, password.expose()) {
                PasswordCheck::Right
            } else {
                user.bad_logons += 1;
                PasswordCheck::Wrong
            }
        })
    }

    async fn preflight(&self, _clock: &dyn Clock) -> Vec<Finding> {
        let detail = format!("{} accounts in memory; this directory is for trials only", self.users.lock().len());
        vec![Finding::warning(Check::Demo, CONTROLLER, detail)]
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::agent::testing::{Hands, NOW};
    use crate::clock::{System, UnixTime};

    const JANE: &str = "Jane@corp.example";

    fn password(text: &str) -> Password {
        Password::new(text.into()).unwrap()
    }

    fn in_time() -> Deadline {
        Deadline::new(UnixTime(i64::MAX), System::clock())
    }

    fn demo() -> Demo {
        Demo::new(System::clock(), System::random()).with_account(JANE, "Old-Passw0rd")
    }

    #[tokio::test]
    async fn a_reset_sets_the_password_and_moves_pwd_last_set() {
        let demo = demo();
        let account = demo.find(&Subject::upn("jane@CORP.example").unwrap()).await.unwrap();
        let guid = Subject::ObjectGuid(demo.object_guid(JANE).unwrap());
        assert_eq!(demo.find(&guid).await.unwrap(), account);
        demo.reset_password(&account, &password("New-Passw0rd"), Options::default(), &in_time()).await.unwrap();
        assert!(demo.password_is(JANE, "New-Passw0rd") && !demo.password_is(JANE, "Old-Passw0rd"));
        assert!(demo.pwd_last_set(&account).await.unwrap() > account.pwd_last_set);
        let forced = Options { force_change_at_next_logon: true, ..Options::default() };
        demo.reset_password(&account, &password("Newer-Passw0rd"), forced, &in_time()).await.unwrap();
        assert_eq!(demo.pwd_last_set(&account).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn the_policy_refuses_and_nothing_changes() {
        let demo = demo();
        let account = demo.find(&Subject::upn(JANE).unwrap()).await.unwrap();
        for weak in ["Sh0rt-pw!", "onlylowercase", "lower0123456789"] {
            let result = demo.reset_password(&account, &password(weak), Options::default(), &in_time()).await;
            assert!(matches!(result, Err(DirectoryError::Refused { code: Code::PasswordPolicy, .. })), "{weak}");
        }
        assert!(demo.password_is(JANE, "Old-Passw0rd"));
    }

    #[tokio::test]
    async fn time_that_runs_out_just_before_the_write_keeps_it_from_being_written() {
        let demo = demo().with_delays(Duration::from_millis(50), Duration::ZERO);
        let account = demo.find(&Subject::upn(JANE).unwrap()).await.unwrap();
        let (clock, password) = (Hands::at(NOW), password("New-Passw0rd"));
        let deadline = Deadline::new(UnixTime(NOW + 1), clock.clone());
        let mut reset = demo.reset_password(&account, &password, Options::default(), &deadline);
        assert!((&mut reset).now_or_never().is_none(), "it did not wait");
        clock.set(NOW + 1);
        assert_eq!(reset.await, Err(DirectoryError::Expired));
        assert!(demo.password_is(JANE, "Old-Passw0rd"));
        assert_eq!(demo.pwd_last_set(&account).await.unwrap(), account.pwd_last_set);
    }

    #[tokio::test]
    async fn wrong_passwords_lock_and_a_reset_with_unlock_unlocks() {
        let demo = demo();
        let account = demo.find(&Subject::upn(JANE).unwrap()).await.unwrap();
        for _ in 0..LOCKOUT_THRESHOLD {
            assert_eq!(demo.try_password(&account, &password("wrong")).await.unwrap(), PasswordCheck::Wrong);
        }
        let right = password("New-Passw0rd");
        demo.reset_password(&account, &right, Options::default(), &in_time()).await.unwrap();
        assert_eq!(demo.try_password(&account, &right).await.unwrap(), PasswordCheck::Unclear);
        let unlock = Options { unlock: true, ..Options::default() };
        demo.reset_password(&account, &right, unlock, &in_time()).await.unwrap();
        assert_eq!(demo.try_password(&account, &right).await.unwrap(), PasswordCheck::Right);
    }

    #[tokio::test]
    async fn a_state_file_outlives_the_directory_and_holds_no_password() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("demo.json");
        let toml = format!("accounts = [{JANE:?}]\ninitial_password = \"Old-Passw0rd\"\nstate_file = {file:?}");
        let config: Config = toml::from_str(&toml).unwrap();
        let open = || Demo::configured(&config, System::clock(), System::random()).unwrap();
        let account = open().find(&Subject::upn(JANE).unwrap()).await.unwrap();
        open().reset_password(&account, &password("New-Passw0rd"), Options::default(), &in_time()).await.unwrap();
        assert!(open().password_is(JANE, "New-Passw0rd"));
        assert!(!std::fs::read_to_string(&file).unwrap().contains("Passw0rd"));
        assert!(!format!("{config:?}").contains("Passw0rd"));
    }
}
