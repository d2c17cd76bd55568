//! Was it done? The question after a crash between "started" and an outcome, and after a write that nobody answered.
//! Only the domain controller that was asked to write knows.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::agent::backoff::Backoff;
use crate::agent::directory::{Account, Deadline, Directory, DirectoryError, PasswordCheck};
use crate::agent::execution::finding::{Doubt, Finding, NewPassword};
use crate::agent::execution::task::Task;
use crate::clock::Random;
use crate::protocol::command::Operation;
use crate::protocol::password::Password;

/// How patiently it asks.
#[derive(Clone)]
pub(super) struct Patience {
    /// How long others wait for the account while its controller is silent.
    pub(super) hold: Duration,
    /// How long after a command's `exp` the answer to its write may still come.
    pub(super) late_answer: Duration,
    /// Between the two questions.
    pub(super) interval: Duration,
    /// The first pause after a question that was not answered.
    pub(super) backoff_base: Duration,
    /// The longest such pause.
    pub(super) backoff_max: Duration,
}

/// What the account should have become.
pub(super) enum Wanted<'a> {
    /// It has this password, and had the other one, as far as both are known.
    Password { new: Option<&'a Password>, current: Option<&'a Password> },
    /// It is not locked.
    Unlocked,
}

impl<'a> Wanted<'a> {
    /// Of a command, whose task is absent if it can't be opened any more.
    pub(super) fn of(operation: Operation, task: Option<&'a Task>) -> Self {
        match (operation, task) {
            (Operation::UnlockAccount, _) => Self::Unlocked,
            (_, Some(Task::Reset { new, .. })) => Self::Password { new: Some(new), current: None },
            (_, Some(Task::Change { current, new })) => Self::Password { new: Some(new), current: Some(current) },
            (_, Some(Task::Unlock) | None) => Self::Password { new: None, current: None },
        }
    }
}

/// Asks the account's controller until it answers, or nobody can want to know any more. `before` is the account as it was
/// before the write. It writes nothing, so it can be dropped.
pub(super) async fn find_out(
    directory: &dyn Directory,
    before: &Account,
    wanted: &Wanted<'_>,
    patience: &Patience,
    until: &Deadline,
    random: Arc<dyn Random>,
) -> Finding {
    let mut backoff = Backoff::new(patience.backoff_base, patience.backoff_max, random);
    loop {
        let asked = match wanted {
            Wanted::Password { new, current } => password(directory, before, *new, *current, patience.interval).await,
            Wanted::Unlocked => lock(directory, before, patience.interval).await,
        };
        match asked {
            Ok(finding) => return finding,
            // The account is gone, or may not be read any more.
            Err(DirectoryError::Refused { .. } | DirectoryError::LeftAlone { .. }) => {
                return Finding::Unknown(Doubt::Gone);
            }
            // Questions have no deadline, so none is ever over.
            Err(DirectoryError::Unavailable(_) | DirectoryError::Uncertain(_) | DirectoryError::Expired) => {
                if until.allows().is_err() {
                    return Finding::Silent;
                }
                sleep(backoff.pause()).await;
            }
        }
    }
}

/// Returns when a write that is under way has certainly been done, and otherwise never. A password is tried once at most:
/// a wrong one counts as a bad logon.
pub(super) async fn seen_done(
    directory: &dyn Directory,
    before: &Account,
    wanted: &Wanted<'_>,
    patience: &Patience,
    random: Arc<dyn Random>,
) {
    let mut backoff = Backoff::new(patience.interval, patience.backoff_max.max(patience.interval), random);
    loop {
        sleep(backoff.pause()).await;
        match wanted {
            Wanted::Unlocked if directory.lockout_time(before).await == Ok(0) => return,
            Wanted::Password { new: Some(new), .. }
                if directory.pwd_last_set(before).await.is_ok_and(|now| now != before.pwd_last_set) =>
            {
                match directory.try_password(before, new).await {
                    Ok(PasswordCheck::Right) => return,
                    // Somebody else's, or nobody can say.
                    Ok(PasswordCheck::Wrong | PasswordCheck::Unclear) => std::future::pending().await,
                    Err(_) => {}
                }
            }
            Wanted::Unlocked | Wanted::Password { .. } => {}
        }
    }
}

async fn password(
    directory: &dyn Directory,
    before: &Account,
    new: Option<&Password>,
    current: Option<&Password>,
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
    let doubt = |new| Finding::Unknown(if changed { Doubt::Changed(new) } else { Doubt::StillZero(new) });
    let Some(new) = new else { return Ok(doubt(NewPassword::NotOpened)) };
    match directory.try_password(before, new).await? {
        PasswordCheck::Right => return Ok(Finding::Done),
        PasswordCheck::Unclear => return Ok(doubt(NewPassword::NotTold)),
        PasswordCheck::Wrong => {}
    }
    // Even unchanged: it may have been done, and somebody else may have set another password the same way since. But if
    // the password before a change is still right, it is right because nothing came after it. (A controller may take the
    // last password for an hour, but then the new one, which was just wrong, would have been right.)
    Ok(match current {
        Some(current) if directory.try_password(before, current).await? == PasswordCheck::Right => Finding::NotDone,
        _ => doubt(NewPassword::Wrong),
    })
}

async fn lock(directory: &dyn Directory, before: &Account, interval: Duration) -> Result<Finding, DirectoryError> {
    let mut now = directory.lockout_time(before).await?;
    if now != 0 {
        // The write may still have been under way at the first question.
        sleep(interval).await;
        now = directory.lockout_time(before).await?;
    }
    Ok(match now {
        // Whoever did it: that is what was asked for.
        0 => Finding::Done,
        same if same == before.lockout_time => Finding::NotDone,
        // Locked anew. It may have been unlocked between.
        _ => Finding::Unknown(Doubt::LockedAgain),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{Scripted, deadline};
    use crate::clock::{System, UnixTime};

    const PATIENCE: Patience = Patience {
        hold: Duration::from_secs(30),
        late_answer: Duration::from_secs(30),
        interval: Duration::from_millis(5),
        backoff_base: Duration::from_millis(1),
        backoff_max: Duration::from_millis(5),
    };

    const CHANGED: Finding = Finding::Unknown(Doubt::Changed(NewPassword::Wrong));
    const STILL_ZERO: Finding = Finding::Unknown(Doubt::StillZero(NewPassword::Wrong));

    fn down() -> DirectoryError {
        DirectoryError::Unavailable("no answer".into())
    }

    async fn finding(directory: &Scripted, before: i64) -> Finding {
        let new = Password::new("New-Passw0rd".into()).unwrap();
        asked(directory, &Scripted::account(before), &Wanted::Password { new: Some(&new), current: None }).await
    }

    async fn of_a_change(directory: &Scripted, before: i64) -> Finding {
        let [new, current] = ["New-Passw0rd", "Old-Passw0rd"].map(|text| Password::new(text.into()).unwrap());
        let wanted = Wanted::Password { new: Some(&new), current: Some(&current) };
        asked(directory, &Scripted::account(before), &wanted).await
    }

    async fn of_an_unlock(directory: &Scripted, lockout_time: i64) -> Finding {
        let before = Account { lockout_time, ..Scripted::account(7) };
        asked(directory, &before, &Wanted::Unlocked).await
    }

    async fn asked(directory: &Scripted, before: &Account, wanted: &Wanted<'_>) -> Finding {
        let for_ever = Deadline::new(UnixTime(i64::MAX), System::clock());
        deadline(find_out(directory, before, wanted, &PATIENCE, &for_ever, System::random())).await
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
            (PasswordCheck::Wrong, CHANGED),
            (PasswordCheck::Unclear, Finding::Unknown(Doubt::Changed(NewPassword::NotTold))),
        ] {
            let directory = Scripted::default().pwd_last_set([Ok(8)]).checks([Ok(check)]);
            assert_eq!(finding(&directory, 7).await, expected, "{check:?}");
        }
    }

    #[tokio::test]
    async fn where_unchanged_proves_nothing_only_the_right_password_proves_anything() {
        for (check, expected) in [
            (PasswordCheck::Right, Finding::Done),
            (PasswordCheck::Wrong, STILL_ZERO),
            (PasswordCheck::Unclear, Finding::Unknown(Doubt::StillZero(NewPassword::NotTold))),
        ] {
            let directory = Scripted::default().pwd_last_set([Ok(0), Ok(0)]).checks([Ok(check)]);
            assert_eq!(finding(&directory, 0).await, expected, "{check:?}");
        }
        let directory = Scripted::default().pwd_last_set([Ok(9)]).checks([Ok(PasswordCheck::Wrong)]);
        assert_eq!(finding(&directory, 0).await, CHANGED);
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
        assert_eq!(finding(&directory, 7).await, Finding::Unknown(Doubt::Gone));
    }

    #[tokio::test]
    async fn of_a_change_the_current_password_is_a_second_witness() {
        use PasswordCheck::{Right, Unclear, Wrong};
        for (before, now, checks, expected) in [
            (7, vec![7, 7], vec![], Finding::NotDone),
            (7, vec![8], vec![Right], Finding::Done),
            // Somebody else has only said that it must be changed.
            (7, vec![0], vec![Wrong, Right], Finding::NotDone),
            (7, vec![8], vec![Wrong, Wrong], CHANGED),
            (7, vec![8], vec![Unclear], Finding::Unknown(Doubt::Changed(NewPassword::NotTold))),
            // Of one that had to be changed.
            (0, vec![0, 0], vec![Wrong, Right], Finding::NotDone),
            (0, vec![0, 0], vec![Wrong, Wrong], STILL_ZERO),
            (0, vec![0, 0], vec![Wrong, Unclear], STILL_ZERO),
            (0, vec![9], vec![Right], Finding::Done),
        ] {
            let tried = checks.len();
            let directory =
                Scripted::default().pwd_last_set(now.into_iter().map(Ok)).checks(checks.into_iter().map(Ok));
            assert_eq!(of_a_change(&directory, before).await, expected);
            let calls = directory.calls();
            assert_eq!(calls.iter().filter(|call| *call == "try_password").count(), tried, "{calls:?}");
        }
    }

    #[tokio::test]
    async fn an_unlock_is_done_if_the_account_is_not_locked_and_not_done_if_it_is_as_before() {
        for (before, now, expected) in [
            (5, vec![0], Finding::Done),
            (5, vec![5, 5], Finding::NotDone),
            (5, vec![5, 0], Finding::Done),
            (5, vec![6, 6], Finding::Unknown(Doubt::LockedAgain)),
            (0, vec![0], Finding::Done),
            (0, vec![6, 6], Finding::Unknown(Doubt::LockedAgain)),
        ] {
            let directory = Scripted::default().lockout_times(now.into_iter().map(Ok));
            assert_eq!(of_an_unlock(&directory, before).await, expected, "{before}");
        }
    }

    #[tokio::test]
    async fn a_controller_is_asked_only_as_long_as_somebody_can_want_to_know() {
        let directory = Scripted::default().lockout_times([Err(down())]);
        let over = Deadline::new(UnixTime(0), System::clock());
        let before = Scripted::account(7);
        let asked = find_out(&directory, &before, &Wanted::Unlocked, &PATIENCE, &over, System::random());
        assert_eq!(deadline(asked).await, Finding::Silent);
    }
}
