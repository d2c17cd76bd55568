//! The directory an agent writes to.

pub mod active_directory;
pub mod config;
mod deadline;
pub mod demo;
mod finding;

use std::fmt;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::deadline::Deadline;
pub use self::finding::{Check, Extent, Finding, Mending};
use crate::clock::Clock;
use crate::protocol::command::{Options, Subject};
use crate::protocol::outcome::Code;
use crate::protocol::password::Password;
use crate::protocol::scope::ServedDomain;

/// An account, as one domain controller knew it a moment ago.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What never changes about it.
    pub object_guid: Uuid,
    /// Where it stands.
    pub dn: String,
    /// The domain controller that said so, and that is asked again about this account.
    pub controller: String,
    /// `pwdLastSet`: 100 ns since 1601, on that controller's clock; 0 if the user must choose another password.
    pub pwd_last_set: i64,
    /// `lockoutTime`: 100 ns since 1601, on that controller's clock; 0 if it is not locked, or was unlocked. A lock whose
    /// time is over leaves it as it was.
    #[serde(default)]
    pub lockout_time: i64,
}

/// Whether a password is the account's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordCheck {
    /// It is, even if the account may not log on for another reason.
    Right,
    /// It is not.
    Wrong,
    /// The directory would not say (a locked account, for example).
    Unclear,
}

/// Why the directory did not do it, and how sure that is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// It answered, and said no: certainly not done.
    #[error("{detail}")]
    Refused {
        /// Why.
        code: Code,
        /// For people; never a password.
        detail: String,
    },
    /// Its [`Deadline`] was over before the request was sent: certainly not done.
    #[error("the time was over before the directory was asked to write")]
    Expired,
    /// The request was not sent: certainly not done.
    #[error("{0}")]
    Unavailable(String),
    /// The request was sent and no answer came: it may have been done.
    #[error("{0}")]
    Uncertain(String),
}

/// What came of a write in the time that a directory usually needs.
pub enum Written {
    /// The directory has it.
    Done,
    /// The request was sent, the connection stands, and there is no answer yet: it may be done at any moment, or never.
    UnderWay(LateAnswer),
}

/// The answer to a write that takes long. It comes when the directory answers or the connection breaks, and it may be
/// neither for ever.
pub type LateAnswer = BoxFuture<'static, Result<(), DirectoryError>>;

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "Done",
            Self::UnderWay(_) => "UnderWay",
        })
    }
}

/// What an agent asks of a directory. Every method has a deadline of its own and never hangs.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Finds the one account. Writes nothing.
    ///
    /// # Errors
    /// [`DirectoryError::Refused`] with `user_not_found`, `ambiguous_user`, `account_disabled` or `protected_account`, or
    /// [`DirectoryError::Unavailable`].
    async fn find(&self, subject: &Subject) -> Result<Account, DirectoryError>;

    /// Sets a new password, in one write together with what `options` ask for, at the account's controller. The deadline
    /// is asked directly before the write is sent, after everything that may take time.
    ///
    /// # Errors
    /// Any [`DirectoryError`]; refused with `history_unavailable` before anything is written if `enforce_history` is asked
    /// for and can't be done.
    async fn reset_password(
        &self,
        account: &Account,
        new_password: &Password,
        options: Options,
        deadline: &Deadline,
    ) -> Result<Written, DirectoryError>;

    /// Sets a new password if `current` is the account's, at its controller, by the rules for users: the history and the
    /// minimum age count. A wrong one counts as a bad logon. The deadline is asked as for a reset.
    ///
    /// # Errors
    /// Any [`DirectoryError`]; refused with `incorrect_password`, `account_locked` or `password_policy`, among others.
    async fn change_password(
        &self,
        account: &Account,
        current: &Password,
        new_password: &Password,
        deadline: &Deadline,
    ) -> Result<Written, DirectoryError>;

    /// Unlocks the account, at its controller; one that is not locked is left so. The deadline is asked as for a reset.
    ///
    /// # Errors
    /// Any [`DirectoryError`].
    async fn unlock_account(&self, account: &Account, deadline: &Deadline) -> Result<Written, DirectoryError>;

    /// The account's `pwdLastSet` now, at the same controller.
    ///
    /// # Errors
    /// [`DirectoryError::Unavailable`] if that controller does not answer; no other is asked.
    async fn pwd_last_set(&self, account: &Account) -> Result<i64, DirectoryError>;

    /// The account's `lockoutTime` now, at the same controller.
    ///
    /// # Errors
    /// As [`Self::pwd_last_set`].
    async fn lockout_time(&self, account: &Account) -> Result<i64, DirectoryError>;

    /// Tries a password at the same controller. A wrong one counts as a bad logon.
    ///
    /// # Errors
    /// [`DirectoryError::Unavailable`] if that controller does not answer.
    async fn try_password(&self, account: &Account, password: &Password) -> Result<PasswordCheck, DirectoryError>;

    /// Looks whether resets can work: a finding for each thing and place, `clock` being the agent's. Never fails; what is
    /// wrong stands in the findings. Writes nothing.
    async fn preflight(&self, clock: &dyn Clock) -> Vec<Finding>;

    /// The domains that the findings are about, as they are configured. None: they are about the directory as a whole.
    fn domains(&self) -> Vec<ServedDomain> {
        Vec::new()
    }
}
