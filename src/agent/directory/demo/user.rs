//! One account, and the rules that hold for it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::agent::directory::{DirectoryError, Logon};
use crate::protocol::jose::{base64url, sha256};
use crate::protocol::outcome::Code;
use crate::protocol::password::Password;

/// Wrong passwords that lock an account.
pub(super) const LOCKOUT_THRESHOLD: u32 = 5;
const MIN_CHARS: usize = 10;
/// How many of an account's earlier passwords are remembered.
const HISTORY: usize = 5;
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct User {
    pub(super) guid: Uuid,
    password_sha256: String,
    pub(super) pwd_last_set: i64,
    pub(super) disabled: bool,
    bad_logons: u32,
    #[serde(default)]
    pub(super) lockout_time: i64,
    #[serde(default)]
    pub(super) protected: bool,
    /// Digests of earlier passwords, the newest first.
    #[serde(default)]
    history: Vec<String>,
}

impl User {
    pub(super) fn new(guid: Uuid, password: &str, now: i64) -> Self {
        Self {
            guid,
            password_sha256: digest(guid, password),
            pwd_last_set: now,
            disabled: false,
            bad_logons: 0,
            lockout_time: 0,
            protected: false,
            history: Vec::new(),
        }
    }

    pub(super) fn has_password(&self, password: &str) -> bool {
        self.password_sha256 == digest(self.guid, password)
    }

    pub(super) fn locked(&self) -> bool {
        self.lockout_time != 0
    }

    pub(super) fn logon(&self) -> Logon {
        Logon { locked: self.locked(), password_must_change: self.pwd_last_set == 0, ..Logon::default() }
    }

    pub(super) fn unlock(&mut self) {
        (self.bad_logons, self.lockout_time) = (0, 0);
    }

    /// Whether this is the password; a wrong one counts. Nobody asks when the account is locked.
    pub(super) fn try_password(&mut self, password: &Password, now: i64) -> bool {
        let right = self.has_password(password.expose());
        if !right {
            self.bad_logons += 1;
            if self.bad_logons >= LOCKOUT_THRESHOLD {
                self.lockout_time = now;
            }
        }
        right
    }

    pub(super) fn check_history(&self, password: &Password) -> Result<(), DirectoryError> {
        let new = digest(self.guid, password.expose());
        if self.password_sha256 == new || self.history.contains(&new) {
            return Err(refused(Code::PasswordPolicy, format!("the password is one of the last {HISTORY}")));
        }
        Ok(())
    }

    pub(super) fn set_password(&mut self, password: &Password, now: i64) {
        let old = std::mem::replace(&mut self.password_sha256, digest(self.guid, password.expose()));
        self.history.insert(0, old);
        self.history.truncate(HISTORY);
        self.pwd_last_set = now.max(self.pwd_last_set + 1);
    }
}

fn digest(guid: Uuid, password: &str) -> String {
    let salted = zeroize::Zeroizing::new([guid.as_bytes().as_slice(), password.as_bytes()].concat());
    base64url(&sha256(&salted))
}

/// At least ten characters, and three of upper case, lower case, digits and others.
pub(super) fn check_policy(password: &Password) -> Result<(), DirectoryError> {
    let password = password.expose();
    let kinds: [fn(char) -> bool; 4] =
        [char::is_uppercase, char::is_lowercase, char::is_numeric, |c| !c.is_alphanumeric()];
    let kinds = kinds.iter().filter(|kind| password.chars().any(**kind)).count();
    if password.chars().count() >= MIN_CHARS && kinds >= 3 {
        return Ok(());
    }
    let rule = "at least 10 characters, and three of upper case, lower case, digits and others";
    Err(refused(Code::PasswordPolicy, format!("the policy asks for {rule}")))
}

pub(super) fn refused(code: Code, detail: impl Into<String>) -> DirectoryError {
    DirectoryError::Refused { code, detail: detail.into() }
}
