//! What a command asks for, opened and checked.

use crate::agent::directory::{Account, Deadline, Directory, DirectoryError, Written};
use crate::agent::execution::answer::Answer;
use crate::agent::keyring::Keyring;
use crate::protocol::command::{Command, Operation, Options};
use crate::protocol::outcome::Code;
use crate::protocol::password::Password;
use crate::protocol::sealed::Secrets;

/// What is to be written.
pub(super) enum Task {
    Reset { new: Password, options: Options },
    Change { current: Password, new: Password },
    Unlock,
}

impl Task {
    /// Of a verified command; or why not, and then nothing was or will be asked of the directory.
    pub(super) fn of(command: &Command, keys: &Keyring) -> Result<Self, Answer> {
        let (operation, options) = (command.operation, command.options);
        if let Some(why) = not_taken(operation, options) {
            return Err(Answer::new(Code::Unsupported, why));
        }
        if operation == Operation::UnlockAccount {
            return Ok(Self::Unlock);
        }
        let opened = keys.open(command).map_err(|error| {
            Answer::new(Code::DecryptionFailed, format!("the sealed password can't be opened: {error}"))
        })?;
        Ok(match opened {
            Secrets { new_password: new, current_password: Some(current) } => Self::Change { current, new },
            Secrets { new_password: new, current_password: None } => Self::Reset { new, options },
        })
    }

    /// Asks the directory.
    pub(super) async fn write(
        &self,
        directory: &dyn Directory,
        account: &Account,
        deadline: &Deadline,
    ) -> Result<Written, DirectoryError> {
        match self {
            Self::Reset { new, options } => directory.reset_password(account, new, *options, deadline).await,
            Self::Change { current, new } => directory.change_password(account, current, new, deadline).await,
            Self::Unlock => directory.unlock_account(account, deadline).await,
        }
    }
}

/// The option that the operation does not take, if there is one. `enforce_history` goes with a change: it always does.
fn not_taken(operation: Operation, options: Options) -> Option<&'static str> {
    let Options { unlock, force_change_at_next_logon, enforce_history } = options;
    match operation {
        Operation::ResetPassword => None,
        Operation::ChangePassword if unlock => {
            Some("change_password does not take the option unlock: send unlock_account before")
        }
        Operation::ChangePassword if force_change_at_next_logon => {
            Some("change_password does not take the option force_change_at_next_logon: the user has just chosen")
        }
        Operation::ChangePassword => None,
        Operation::UnlockAccount if unlock || force_change_at_next_logon || enforce_history => {
            Some("unlock_account takes no options")
        }
        Operation::UnlockAccount => None,
    }
}
