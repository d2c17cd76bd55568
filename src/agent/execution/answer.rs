//! What the agent says about a command, before it is signed.

use std::time::Duration;

use crate::agent::directory::DirectoryError;
use crate::agent::execution::recovery::Finding;
use crate::protocol::command::{Command, Operation};
use crate::protocol::event::Event;
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
}

impl Answer {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(MAX_DETAIL_CHARS) {
            detail.truncate(end);
        }
        Self { code, detail, directory: Duration::ZERO }
    }

    pub(super) fn expired() -> Self {
        Self::new(
            Code::Expired,
            "the command's time was over before the directory was asked to write; nothing was changed",
        )
    }

    /// Of a finding, where `not_done` says why the agent had to ask.
    pub(super) fn found(finding: Finding, not_done: Self) -> Self {
        match finding {
            Finding::Done => Self::new(Code::PasswordReset, "the domain controller confirmed it afterwards"),
            Finding::NotDone => not_done,
            Finding::Unknown => Self::new(
                Code::Unknown,
                "the account was changed, and the domain controller can't tell by whom: try the new password",
            ),
        }
    }

    /// The directory has certainly not changed.
    pub(super) fn retry_safe(&self) -> bool {
        !matches!(self.code.status(), Status::Succeeded | Status::Unknown)
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
            DirectoryError::Expired => Self::expired(),
            DirectoryError::Unavailable(detail) | DirectoryError::Uncertain(detail) => {
                Self::new(Code::DirectoryUnavailable, detail)
            }
        }
    }
}

/// What the agent does not do yet.
pub(super) fn unsupported(command: &Command) -> Option<Answer> {
    let what = match command.operation {
        Operation::ChangePassword => "change_password is not supported by this agent",
        Operation::UnlockAccount => "unlock_account is not supported by this agent",
        Operation::ResetPassword if command.options.enforce_history => {
            "the option enforce_history is not supported by this agent"
        }
        Operation::ResetPassword => return None,
    };
    Some(Answer::new(Code::Unsupported, what))
}
