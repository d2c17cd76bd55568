//! What the agent says about a command, before it is signed.

use std::time::Duration;

use crate::agent::directory::{Account, DirectoryError};
use crate::agent::execution::finding::Finding;
use crate::clock::UnixTime;
use crate::protocol::account::FoundAccount;
use crate::protocol::command::Operation;
use crate::protocol::event::Event;
use crate::protocol::hindrance::Hindrance;
use crate::protocol::ids::PortalId;
use crate::protocol::outcome::{Code, Status};

/// A detail longer than this would not fit into a frame with the rest; nobody reads so much.
const MAX_DETAIL_CHARS: usize = 1000;

/// How a command went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: Code,
    /// For people; never a password.
    pub(super) detail: String,
    /// How long the directory took.
    pub(super) directory: Duration,
    /// Before this time the answer will be the same.
    pub(super) retry_at: Option<UnixTime>,
    /// What still keeps the user from logging on after a success, if that is known.
    pub(super) hindrances: Option<Vec<Hindrance>>,
    /// The account that was found.
    pub(super) account: Option<Box<FoundAccount>>,
}

impl Answer {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(MAX_DETAIL_CHARS) {
            detail.truncate(end);
        }
        let (directory, retry_at, hindrances, account) = (Duration::ZERO, None, None, None);
        Self { code, detail, directory, retry_at, hindrances, account }
    }

    /// About this account.
    pub(super) fn of(self, account: &Account) -> Self {
        Self { account: Some(account.told()), ..self }
    }

    pub(super) fn expired() -> Self {
        Self::new(
            Code::Expired,
            "the command's time was over before the directory was asked to write; nothing was changed",
        )
    }

    /// Somebody on this host has taken the portal's trust away.
    pub(super) fn not_trusted(portal: &PortalId) -> Self {
        let detail = format!(
            "this agent takes no commands of portal {portal} any more: somebody on its host has run writeback-agent trust \
             --remove; nothing was changed"
        );
        Self::new(Code::PortalNotTrusted, detail)
    }

    /// The directory has taken it.
    pub(super) fn done(operation: Operation) -> Self {
        let detail = match operation {
            Operation::ResetPassword => "the new password is set",
            Operation::ChangePassword => "the password is changed",
            Operation::UnlockAccount => "the account is unlocked",
        };
        Self::new(success(operation), detail)
    }

    /// It was done `most` times within the hour.
    pub(super) fn rate_limited(operation: Operation, most: usize, retry_at: UnixTime, now: UnixTime) -> Self {
        let done = match operation {
            Operation::ResetPassword => "the account's password was reset",
            Operation::ChangePassword => "the account's password was changed",
            Operation::UnlockAccount => "the account was unlocked",
        };
        let minutes = now.until(retry_at).as_secs().div_ceil(60);
        let detail = format!(
            "{done} {most} times within an hour, and no more is allowed (resets_per_hour in agent.toml); nothing was \
             changed. Again in {minutes} minutes"
        );
        Self { retry_at: Some(retry_at), ..Self::new(Code::RateLimited, detail) }
    }

    /// Of a finding, where `not_done` says why the agent had to ask.
    pub(super) fn found(finding: Finding, operation: Operation, not_done: &Self) -> Self {
        match finding {
            Finding::Done => Self::new(success(operation), "the domain controller confirmed it afterwards"),
            Finding::NotDone => not_done.clone(),
            Finding::Silent => Self::new(
                Code::Unknown,
                "the domain controller that was asked to write has not answered since, and is not asked any more",
            ),
            Finding::Unknown(doubt) => Self::new(Code::Unknown, doubt.text()),
        }
    }

    /// A success, with what still keeps the user from logging on. Anything else stays as it is.
    pub(super) fn hindered_by(self, hindrances: Option<Vec<Hindrance>>) -> Self {
        if self.code.status() != Status::Succeeded {
            return self;
        }
        let texts: Vec<_> = hindrances.iter().flatten().map(|hindrance| hindrance.text()).collect();
        let detail = match texts.as_slice() {
            [] => self.detail,
            texts => format!("{}. What still keeps the user from logging on: {}", self.detail, texts.join("; ")),
        };
        Self { directory: self.directory, retry_at: self.retry_at, hindrances, ..Self::new(self.code, detail) }
    }

    /// The directory has certainly not changed.
    pub(super) fn retry_safe(&self) -> bool {
        !matches!(self.code.status(), Status::Succeeded | Status::Unknown)
    }

    /// The event that the outcome names.
    pub(super) fn event(&self, operation: Operation) -> Event {
        self.events(operation).first().copied().unwrap_or(Event::UnknownError)
    }

    /// The events of this answer: its cause, and then, if the operation did not succeed, that.
    pub(super) fn events(&self, operation: Operation) -> Vec<Event> {
        let failed = match operation {
            Operation::ChangePassword => Event::ChangePasswordFail,
            Operation::ResetPassword | Operation::UnlockAccount => Event::PasswordResetFail,
        };
        match (self.code.event(), self.code.status()) {
            (event, Status::Succeeded) => vec![event],
            (Event::PasswordResetFail, _) => vec![failed],
            (cause, _) => vec![cause, failed],
        }
    }
}

impl From<DirectoryError> for Answer {
    /// Of an error that says nothing was written. (Whoever may have written asks the directory first.)
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Refused { code, detail } => Self::new(code, detail),
            DirectoryError::LeftAlone { account, code, detail } => Self::new(code, detail).of(&account),
            DirectoryError::Expired => Self::expired(),
            DirectoryError::Unavailable(detail) | DirectoryError::Uncertain(detail) => {
                Self::new(Code::DirectoryUnavailable, detail)
            }
        }
    }
}

fn success(operation: Operation) -> Code {
    match operation {
        Operation::ResetPassword => Code::PasswordReset,
        Operation::ChangePassword => Code::PasswordChanged,
        Operation::UnlockAccount => Code::AccountUnlocked,
    }
}
