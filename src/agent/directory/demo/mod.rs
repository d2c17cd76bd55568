//! A directory in memory, for trying the product out and for tests. It has a password policy, a history, a minimum age, a
//! lockout and `pwdLastSet`, as a domain controller has. It keeps digests of passwords, and with a state file it outlives a restart.

mod user;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::Deserialize;
use uuid::Uuid;

use self::user::{User, check_policy, refused};
use super::{Account, Check, Deadline, Directory, DirectoryError, Finding, PasswordCheck, Written};
use crate::clock::{Clock, Random};
use crate::protocol::account::FoldedName;
use crate::protocol::command::{Options, Subject};
use crate::protocol::outcome::Code;
use crate::protocol::password::Password;
use crate::storage::{FileError, PrivateFile};

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
    /// How old a password has to be before its user may change it, in seconds. Default: 0.
    #[serde(default)]
    pub minimum_age_seconds: u32,
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

/// By folded user principal name.
type Users = BTreeMap<String, User>;

/// The directory. Clones share it.
#[derive(Clone)]
pub struct Demo {
    users: Arc<Mutex<Users>>,
    state_file: Option<PrivateFile>,
    minimum_age: Duration,
    delay_before: Duration,
    delay_after: Duration,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Demo {
    /// Without accounts.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let (minimum_age, delay_before, delay_after) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        Self { users: Arc::default(), state_file: None, minimum_age, delay_before, delay_after, clock, random }
    }

    /// With the accounts of a configuration; those in its state file keep what they have there.
    ///
    /// # Errors
    /// If a name is not valid or the state file is no use.
    pub fn configured(config: &Config, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Self, DemoError> {
        let mut demo = Self::new(clock, random);
        demo.minimum_age = Duration::from_secs(config.minimum_age_seconds.into());
        demo.delay_before = Duration::from_millis(config.delay_before_ms);
        demo.delay_after = Duration::from_millis(config.delay_after_ms);
        demo.state_file = config.state_file.as_ref().map(PrivateFile::new);
        if let Some(file) = demo.state_file.as_ref().filter(|file| file.exists()) {
            *demo.users.lock() = serde_json::from_str(&file.read()?).map_err(|e| file.contents(e))?;
        }
        for name in &config.accounts {
            Subject::upn(name).map_err(|error| DemoError::Account { name: name.clone(), error: error.to_string() })?;
            if !demo.users.lock().contains_key(FoldedName::of(name).as_str()) {
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

    /// Passwords must be this old before their users may change them.
    #[must_use]
    pub fn with_minimum_age(self, minimum_age: Duration) -> Self {
        Self { minimum_age, ..self }
    }

    /// Disables an account.
    pub fn disable(&self, upn: &str) {
        if let Some(user) = self.users.lock().get_mut(FoldedName::of(upn).as_str()) {
            user.disabled = true;
        }
    }

    /// Makes an account one of a protected group.
    pub fn protect(&self, upn: &str) {
        if let Some(user) = self.users.lock().get_mut(FoldedName::of(upn).as_str()) {
            user.protected = true;
        }
    }

    /// Whether this is the account's password. It counts as no logon.
    #[must_use]
    pub fn password_is(&self, upn: &str, password: &str) -> bool {
        self.users.lock().get(FoldedName::of(upn).as_str()).is_some_and(|user| user.has_password(password))
    }

    /// The account's objectGUID.
    #[must_use]
    pub fn object_guid(&self, upn: &str) -> Option<Uuid> {
        self.users.lock().get(FoldedName::of(upn).as_str()).map(|user| user.guid)
    }

    fn add(&self, upn: &str, password: &str) {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes);
        let guid = uuid::Builder::from_random_bytes(bytes).into_uuid();
        let user = User::new(guid, password, self.now());
        self.users.lock().insert(FoldedName::of(upn).into_string(), user);
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

    /// One write, in the time that it takes here.
    async fn write(
        &self,
        account: &Account,
        deadline: &Deadline,
        f: impl FnOnce(&mut User, i64) -> Result<(), DirectoryError>,
    ) -> Result<Written, DirectoryError> {
        tokio::time::sleep(self.delay_before).await;
        deadline.allows()?;
        let now = self.now();
        let written = self.by_guid(account.object_guid, |user| f(user, now))?;
        // A refusal may have counted as a bad logon.
        self.save().map_err(|e| DirectoryError::Uncertain(e.to_string()))?;
        tokio::time::sleep(self.delay_after).await;
        written.map(|()| Written::Done)
    }
}

#[async_trait]
impl Directory for Demo {
    async fn find(&self, subject: &Subject) -> Result<Account, DirectoryError> {
        let users = self.users.lock();
        let found = match subject {
            Subject::Upn(upn) => users.get_key_value(FoldedName::of(upn).as_str()),
            Subject::ObjectGuid(guid) => users.iter().find(|(_, user)| user.guid == *guid),
        };
        let (upn, user) = found.ok_or_else(|| refused(Code::UserNotFound, "there is no such account"))?;
        let account = Account {
            object_guid: user.guid,
            dn: format!("CN={upn},OU=Demo"),
            upn: Some(upn.clone()),
            controller: CONTROLLER.to_owned(),
            pwd_last_set: user.pwd_last_set,
            lockout_time: user.lockout_time,
            logon: Some(user.logon()),
        };
        let (code, why) = match (user.disabled, user.protected) {
            (true, _) => (Code::AccountDisabled, "the account is disabled"),
            (false, true) => (Code::ProtectedAccount, "the account is in a protected group"),
            (false, false) => return Ok(account),
        };
        Err(DirectoryError::LeftAlone { account: Box::new(account), code, detail: why.to_owned() })
    }

    async fn reset_password(
        &self,
        account: &Account,
        new_password: &Password,
        options: Options,
        deadline: &Deadline,
    ) -> Result<Written, DirectoryError> {
        check_policy(new_password)?;
        self.write(account, deadline, |user, now| {
            if options.enforce_history {
                user.check_history(new_password)?;
            }
            user.set_password(new_password, now);
            if options.force_change_at_next_logon {
                user.pwd_last_set = 0;
            }
            if options.unlock {
                user.unlock();
            }
            Ok(())
        })
        .await
    }

    async fn change_password(
        &self,
        account: &Account,
        current: &Password,
        new_password: &Password,
        deadline: &Deadline,
    ) -> Result<Written, DirectoryError> {
        let minimum_age = i64::try_from(self.minimum_age.as_nanos() / 100).unwrap_or(i64::MAX);
        self.write(account, deadline, |user, now| {
            if user.locked() {
                return Err(refused(Code::AccountLocked, "the account is locked"));
            }
            if !user.try_password(current, now) {
                return Err(refused(Code::IncorrectPassword, "the current password is wrong"));
            }
            check_policy(new_password)?;
            user.check_history(new_password)?;
            // Of a password that must be changed, the age does not count.
            if user.pwd_last_set != 0 && now < user.pwd_last_set.saturating_add(minimum_age) {
                return Err(refused(Code::PasswordPolicy, "the password is too young to be changed"));
            }
            user.set_password(new_password, now);
            Ok(())
        })
        .await
    }

    async fn unlock_account(&self, account: &Account, deadline: &Deadline) -> Result<Written, DirectoryError> {
        self.write(account, deadline, |user, _| {
            user.unlock();
            Ok(())
        })
        .await
    }

    async fn pwd_last_set(&self, account: &Account) -> Result<i64, DirectoryError> {
        self.by_guid(account.object_guid, |user| user.pwd_last_set)
    }

    async fn lockout_time(&self, account: &Account) -> Result<i64, DirectoryError> {
        self.by_guid(account.object_guid, |user| user.lockout_time)
    }

    async fn try_password(&self, account: &Account, password: &Password) -> Result<PasswordCheck, DirectoryError> {
        let now = self.now();
        self.by_guid(account.object_guid, |user| match user.locked() {
            true => PasswordCheck::Unclear,
            false if user.try_password(password, now) => PasswordCheck::Right,
            false => PasswordCheck::Wrong,
        })
    }

    async fn preflight(&self, _clock: &dyn Clock) -> Vec<Finding> {
        let detail = format!("{} accounts in memory; this directory is for trials only", self.users.lock().len());
        vec![Finding::warning(Check::Demo, CONTROLLER, detail)]
    }
}

#[cfg(test)]
mod tests;
