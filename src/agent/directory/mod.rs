//! The directory an agent writes to.

pub mod active_directory;
pub mod config;
mod deadline;
pub mod demo;
mod finding;
mod logon;

use std::fmt;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::deadline::Deadline;
pub use self::finding::{Check, Finding, Mending};
pub use self::logon::{Logon, LogonHours};
use crate::clock::Clock;
use crate::protocol::account::FoundAccount;
use crate::protocol::command::{Options, Subject};
use crate::protocol::outcome::Code;
use crate::protocol::password::Password;

/// An account, as one domain controller knew it a moment ago.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What never changes about it.
    pub object_guid: Uuid,
    /// Where it stands.
    pub dn: String,
    /// Its `userPrincipalName`, if it has one. Journals of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upn: Option<String>,
    /// The domain controller that said so, and that is asked again about this account.
    pub controller: String,
    /// `pwdLastSet`: 100 ns since 1601, on that controller's clock; 0 if the user must choose another password.
    pub pwd_last_set: i64,
    /// `lockoutTime`: 100 ns since 1601, on that controller's clock; 0 if it is not locked, or was unlocked. A lock whose
    /// time is over leaves it as it was.
    #[serde(default)]
    pub lockout_time: i64,
    /// What decides whether its user may log on; absent if nobody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logon: Option<Logon>,
}

impl Account {
    /// As it is told to others.
    #[must_use]
    pub fn told(&self) -> Box<FoundAccount> {
        Box::new(FoundAccount::new(self.object_guid, self.upn.as_deref(), &self.dn))
    }
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
    /// The account was found, and is left alone whatever rights the service account has: certainly not done.
    #[error("{detail}")]
    LeftAlone {
        /// Which one.
        account: Box<Account>,
        /// Why: it is disabled or protected.
        code: Code,
        /// For people.
        detail: String,
    },
    /// Its [`Deadline`] was over before the request was sent: certainly not done.
    #[error("the time was over before the directory was asked to write")]
    Expired,
    /// The request was not sent, or answered with no more than that the directory can't do it now: certainly not done, and
    /// another place may be asked.
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
    /// Finds the one account that the subject names, under the fold of [`crate::protocol::account::FoldedName`]. Writes
    /// nothing.
    ///
    /// # Errors
    /// [`DirectoryError::Refused`] with `user_not_found`, `ambiguous_user` or `insufficient_rights`,
    /// [`DirectoryError::LeftAlone`] with `account_disabled` or `protected_account`, or [`DirectoryError::Unavailable`].
    async fn find(&self, subject: &Subject) -> Result<Account, DirectoryError>;

    /// Sets a new password, in one write together with what `options` ask for, at the account's controller. Every write
    /// looks once more whether the account is one to leave alone, and then writes to what has its `object_guid`, whatever it
    /// is called by then. The deadline is asked directly before the write is sent, after everything that may take time.
    ///
    /// # Errors
    /// Any [`DirectoryError`]; refused before anything is written if an option is asked for and can't be done: with
    /// `history_unavailable`, or with `unsupported` if the account is such that it would change nothing.
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
    /// Any [`DirectoryError`]; refused with `incorrect_password`, `account_locked`, `password_policy` or
    /// `user_cannot_change_password`, among others.
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
}
