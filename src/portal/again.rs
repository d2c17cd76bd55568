//! Whether a new command for the same wish makes sense, in one line for people.

use crate::clock::UnixTime;
use crate::protocol::outcome::{Code, Outcome, Status};

/// What to say behind "a new command may be sent". `at` shows a time.
pub(super) fn again(outcome: &Outcome, at: impl Fn(UnixTime) -> String) -> String {
    let when = match (outcome.retry_safe, outcome.retry_at, outcome.status) {
        (false, ..) => return "no".to_owned(),
        (true, Some(time), _) => format!("not before {}", at(time)),
        (true, None, Status::Rejected) => format!("only {}", what_has_to_change(outcome)),
        (true, None, _) => "yes".to_owned(),
    };
    format!("{when}, nothing was changed")
}

/// The same again is refused again; so what has to be different. Of a code that is not known here, nobody can say.
fn what_has_to_change(outcome: &Outcome) -> &'static str {
    let known = Code::ALL.iter().find(|code| outcome.code == *code.as_str());
    match known {
        Some(Code::PasswordPolicy) => "with another password",
        Some(Code::IncorrectPassword) => "with the right current password",
        Some(Code::HistoryUnavailable) => "without enforce_history",
        Some(Code::Unsupported) => "without what is unsupported, as the agent says",
        Some(Code::UserNotFound) => "for another name, or when there is such an account",
        Some(Code::AmbiguousUser) => "by an objectGUID, or when the name is one account's",
        Some(Code::AccountDisabled) => "when the account has been enabled",
        Some(Code::AccountLocked) => "when the account has been unlocked",
        Some(Code::ProtectedAccount) => "when an administrator has taken the account out of all protected groups",
        Some(Code::UserCannotChangePassword) => "as a reset, or when the user may change the password",
        Some(Code::InsufficientRights) => {
            "when the agent's service account has been given the right: until then the same is refused again"
        }
        _ => "when what the agent says has been mended: until then the same is refused again",
    }
}
