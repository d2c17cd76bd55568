//! Was it done? The question after a crash between "started" and an outcome, and after a write that nobody answered.
//! Only the domain controller that was asked to write knows.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::agent::backoff::Backoff;
use crate::agent::directory::{Account, Directory, DirectoryError, PasswordCheck};
use crate::clock::Random;
use crate::protocol::password::Password;

/// What the domain controller's answers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The account has the new password.
    Done,
    /// The account has not been written.
    NotDone,
    /// Somebody has written the account, and it can't be said who.
    Unknown,
}

/// How patiently it asks.
#[derive(Clone)]
pub(super) struct Patience {
    /// Between the two questions.
    pub(super) interval: Duration,
    /// The first pause after a question that was not answered.
    pub(super) backoff_base: Duration,
    /// The longest such pause.
    pub(super) backoff_max: Duration,
}

/// Asks the account's controller until it answers, however long that takes. `before` is the account as it was before
/// the write; `new_password` is absent if it can't be opened any more. It writes nothing, so it can be dropped.
pub(super) async fn find_out(
    directory: &dyn Directory,
    before: &Account,
    new_password: Option<&Password>,
    patience: &Patience,
    random: Arc<dyn Random>,
) -> Finding {
    let mut backoff = Backoff::new(patience.backoff_base, patience.backoff_max, random);
    loop {
        match ask(directory, before, new_password, patience.interval).await {
            Ok(finding) => return finding,
            // The account is gone, or may not be read any more.
            Err(DirectoryError::Refused { .. }) => return Finding::Unknown,
            // Questions have no deadline, so none is ever over.
            Err(DirectoryError::Unavailable(_) | DirectoryError::Uncertain(_) | DirectoryError::Expired) => {
                sleep(backoff.pause()).await;
            }
        }
    }
}

async fn ask(
    directory: &dyn Directory,
    before: &Account,
    new_password: Option<&Password>,
    interval: Duration,
) -> Result<Finding, DirectoryError> {
    let changed = directory.pwd_last_set(before).await? != before.pwd_last_set || {
        // The write may still have been under way at the first question.
        sleep(interval).await;
        directory.pwd_last_set(before).await? != before.pwd_last_set
    };
    // Every password that must be changed at the next logon leaves it at 0: this one, or somebody else's after this one.
    let proves_nothing = before.pwd_last_set == 0;
    if !changed && !proves_nothing {
        return Ok(Finding::NotDone);
    }
    let Some(password) = new_password else { return Ok(Finding::Unknown) };
    Ok(match directory.try_password(before, password).await? {
        PasswordCheck::Right => Finding::Done,
        // Even unchanged: it may have been done, and somebody else may have set another password the same way since.
        PasswordCheck::Wrong | PasswordCheck::Unclear => Finding::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{Scripted, deadline};
    use crate::clock::System;

    const PATIENCE: Patience = Patience {
        interval: Duration::from_millis(5),
        backoff_base: Duration::from_millis(1),
        backoff_max: Duration::from_millis(5),
    };

    fn down() -> DirectoryError {
        DirectoryError::Unavailable("no answer".into())
    }

    async fn finding(directory: &Scripted, before: i64) -> Finding {
        let password = Password::new("New-Passw0rd".into()).unwrap();
        let before = Scripted::account(before);
        let asked = find_out(directory, &before, Some(&password), &PATIENCE, System::random());
        deadline(asked).await
    }

    #[tokio::test]
    async fn unchanged_twice_is_not_done_and_no_password_is_tried() {
        let directory = Scripted::default().pwd_last_set([Ok(7), Ok(7)]);
        assert_eq!(finding(&directory, 7).await, Finding::NotDone);
        assert_eq!(directory.calls(), ["pwd_last_set", "pwd_last_set"]);
    }

    #[tokio::test]
    async fn a_write_that_arrives_between_the_questions_is_found() {
        let directory = Scripted::default().pwd_last_set([Ok(7), Ok(8)]).checks([Ok(PasswordCheck::Right)]);
        assert_eq!(finding(&directory, 7).await, Finding::Done);
    }

    #[tokio::test]
    async fn changed_is_done_only_if_the_new_password_is_right() {
        for (check, expected) in [
            (PasswordCheck::Right, Finding::Done),
            (PasswordCheck::Wrong, Finding::Unknown),
            (PasswordCheck::Unclear, Finding::Unknown),
        ] {
            let directory = Scripted::default().pwd_last_set([Ok(8)]).checks([Ok(check)]);
            assert_eq!(finding(&directory, 7).await, expected, "{check:?}");
        }
    }

    #[tokio::test]
    async fn where_unchanged_proves_nothing_only_the_right_password_proves_anything() {
        for (check, expected) in [
            (PasswordCheck::Right, Finding::Done),
            (PasswordCheck::Wrong, Finding::Unknown),
            (PasswordCheck::Unclear, Finding::Unknown),
        ] {
            let directory = Scripted::default().pwd_last_set([Ok(0), Ok(0)]).checks([Ok(check)]);
            assert_eq!(finding(&directory, 0).await, expected, "{check:?}");
        }
        let directory = Scripted::default().pwd_last_set([Ok(9)]).checks([Ok(PasswordCheck::Wrong)]);
        assert_eq!(finding(&directory, 0).await, Finding::Unknown);
    }

    #[tokio::test]
    async fn a_silent_controller_is_asked_until_it_answers() {
        let directory = Scripted::default()
            .pwd_last_set([Err(down()), Ok(8), Ok(8)])
            .checks([Err(down()), Ok(PasswordCheck::Right)]);
        assert_eq!(finding(&directory, 7).await, Finding::Done);
    }

    #[tokio::test]
    async fn an_account_that_is_gone_is_for_people() {
        let gone = DirectoryError::Refused { code: crate::protocol::outcome::Code::UserNotFound, detail: "".into() };
        let directory = Scripted::default().pwd_last_set([Err(gone)]);
        assert_eq!(finding(&directory, 7).await, Finding::Unknown);
    }
}
