//! What decides whether an account's user may log on, apart from the password itself.

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::protocol::command::{Operation, Options};
use crate::protocol::hindrance::Hindrance;

/// What one domain controller knew of an account a moment ago, as far as the agent may read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logon {
    /// Locked by wrong passwords, and the lock's time is not over.
    pub locked: bool,
    /// A password alone logs on at no computer.
    pub smart_card_required: bool,
    /// The password never expires: then nothing asks for another one, whatever `pwdLastSet` says.
    pub password_never_expires: bool,
    /// Another password must be chosen at the next logon.
    pub password_must_change: bool,
    /// The password is too old.
    pub password_expired: bool,
    /// When the account ends, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixTime>,
    /// When it may log on, if not always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<LogonHours>,
    /// It may log on at certain computers only.
    pub workstations_limited: bool,
}

/// A week in hours, in UTC, from Sunday on: one bit for each, the lowest of a byte first ([MS-ADA1] 2.376).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogonHours(pub [u8; 21]);

impl LogonHours {
    /// Whether there is none.
    fn none(&self) -> bool {
        self.0 == [0; 21]
    }

    fn allow(&self, at: UnixTime) -> bool {
        const HOUR: i64 = 3600;
        // 1970 began on a Thursday.
        let hour = (at.0.div_euclid(HOUR) + 4 * 24).rem_euclid(7 * 24);
        let hour = usize::try_from(hour).unwrap_or_default();
        self.0.get(hour / 8).is_some_and(|byte| byte >> (hour % 8) & 1 == 1)
    }
}

impl Logon {
    /// What keeps the user from logging on at a time, if this was done to the account as it was.
    #[must_use]
    pub fn hindrances(&self, at: UnixTime, operation: Operation, options: Options) -> Vec<Hindrance> {
        let unlocked = options.unlock || operation == Operation::UnlockAccount;
        // A new password is not too old, and has to be changed only if that was asked for.
        let same_password = operation == Operation::UnlockAccount;
        let hours = self.hours.as_ref();
        let found = [
            (Hindrance::Locked, self.locked && !unlocked),
            (Hindrance::AccountExpired, self.expires_at.is_some_and(|end| end <= at)),
            (Hindrance::NoLogonHours, hours.is_some_and(LogonHours::none)),
            (Hindrance::OutsideLogonHours, hours.is_some_and(|hours| !hours.none() && !hours.allow(at))),
            (Hindrance::WorkstationsLimited, self.workstations_limited),
            (Hindrance::SmartCardRequired, self.smart_card_required),
            (Hindrance::PasswordMustChange, same_password && self.password_must_change),
            (Hindrance::PasswordExpired, same_password && self.password_expired && !self.password_must_change),
        ];
        found.into_iter().filter_map(|(hindrance, is_there)| is_there.then_some(hindrance)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESET: Operation = Operation::ResetPassword;
    /// Monday, 2026-01-05, 09:30 UTC.
    const MONDAY: UnixTime = UnixTime(1_767_605_400);

    fn hindrances(logon: &Logon, operation: Operation, options: Options) -> Vec<Hindrance> {
        logon.hindrances(MONDAY, operation, options)
    }

    fn of_a_reset(logon: Logon) -> Vec<Hindrance> {
        hindrances(&logon, RESET, Options::default())
    }

    #[test]
    fn a_lock_is_none_once_it_was_ended() {
        let locked = Logon { locked: true, ..Logon::default() };
        assert_eq!(of_a_reset(locked.clone()), [Hindrance::Locked]);
        assert_eq!(hindrances(&locked, RESET, Options { unlock: true, ..Options::default() }), []);
        assert_eq!(hindrances(&locked, Operation::UnlockAccount, Options::default()), []);
    }

    #[test]
    fn an_account_ends_at_its_time() {
        let ends = |seconds| of_a_reset(Logon { expires_at: Some(UnixTime(seconds)), ..Logon::default() });
        assert_eq!(ends(MONDAY.0), [Hindrance::AccountExpired]);
        assert_eq!(ends(MONDAY.0 + 1), []);
    }

    #[test]
    fn the_hours_are_those_of_utc_from_sunday_on() {
        let hours = |hours| of_a_reset(Logon { hours: Some(LogonHours(hours)), ..Logon::default() });
        assert_eq!(hours([0; 21]), [Hindrance::NoLogonHours]);
        assert_eq!(hours([0xff; 21]), []);
        // Monday, 9 to 10: hour 33 of the week.
        let mut only = [0; 21];
        only[4] = 0b10;
        assert_eq!(hours(only), []);
        assert_eq!(hours(only.map(|byte: u8| !byte)), [Hindrance::OutsideLogonHours]);
    }

    #[test]
    fn an_old_password_hinders_only_whoever_keeps_it() {
        let old = Logon { password_expired: true, ..Logon::default() };
        assert_eq!(of_a_reset(old.clone()), []);
        assert_eq!(hindrances(&old, Operation::ChangePassword, Options::default()), []);
        assert_eq!(hindrances(&old, Operation::UnlockAccount, Options::default()), [Hindrance::PasswordExpired]);
        let must = Logon { password_must_change: true, ..old };
        assert_eq!(hindrances(&must, Operation::UnlockAccount, Options::default()), [Hindrance::PasswordMustChange]);
    }

    #[test]
    fn several_are_all_told() {
        let logon = Logon { workstations_limited: true, smart_card_required: true, ..Logon::default() };
        assert_eq!(of_a_reset(logon), [Hindrance::WorkstationsLimited, Hindrance::SmartCardRequired]);
    }
}
