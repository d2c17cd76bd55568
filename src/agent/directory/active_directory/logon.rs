//! What decides whether an account's user may log on, as Active Directory writes it.

use ldap3::SearchEntry;

use super::entry::{bytes, text};
use crate::agent::directory::{Logon, LogonHours};
use crate::clock::UnixTime;

/// `ADS_UF_DONT_EXPIRE_PASSWD` and `ADS_UF_SMARTCARD_REQUIRED` in `userAccountControl` ([MS-ADTS] 2.2.16).
const DONT_EXPIRE_PASSWORD: u32 = 0x1_0000;
const SMARTCARD_REQUIRED: u32 = 0x4_0000;

/// `ADS_UF_LOCKOUT` and `ADS_UF_PASSWORD_EXPIRED` in `msDS-User-Account-Control-Computed`: the controller has looked at the
/// lock's duration and the password's age, by whichever policy is the account's ([MS-ADTS] 3.1.1.4.5.17).
const LOCKOUT: u32 = 0x10;
const PASSWORD_EXPIRED: u32 = 0x80_0000;

/// 100 ns since 1601.
const PER_SECOND: i64 = 10_000_000;
/// Seconds from 1601 to 1970.
const SINCE_1601: i64 = 11_644_473_600;

impl Logon {
    /// Of an account with these `userAccountControl`, `pwdLastSet` and `lockoutTime`. What the service account may not read
    /// says nothing.
    pub(super) fn of(entry: &SearchEntry, flags: u32, pwd_last_set: i64, lockout_time: i64) -> Self {
        let computed = text(entry, "msDS-User-Account-Control-Computed").and_then(|flags| flags.parse::<i32>().ok());
        let computed = computed.map(i32::cast_unsigned);
        let smart_card_required = flags & SMARTCARD_REQUIRED != 0;
        let password_never_expires = flags & (DONT_EXPIRE_PASSWORD | SMARTCARD_REQUIRED) != 0;
        Self {
            locked: computed.map_or(lockout_time != 0, |computed| computed & LOCKOUT != 0),
            smart_card_required,
            password_never_expires,
            password_must_change: pwd_last_set == 0 && !password_never_expires,
            password_expired: computed.is_some_and(|computed| computed & PASSWORD_EXPIRED != 0),
            expires_at: text(entry, "accountExpires").and_then(|end| end.parse().ok()).and_then(expiry),
            hours: bytes(entry, "logonHours")
                .first()
                .and_then(|hours| hours.as_slice().try_into().ok())
                .map(LogonHours),
            workstations_limited: text(entry, "userWorkstations").is_some_and(|names| !names.trim().is_empty()),
        }
    }
}

/// 0 and the greatest number are never ([MS-ADA1] 2.3).
fn expiry(end: i64) -> Option<UnixTime> {
    (end != 0 && end != i64::MAX).then(|| UnixTime(end / PER_SECOND - SINCE_1601))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn logon(attributes: &[(&str, &str)], flags: u32, lockout_time: i64) -> Logon {
        let attrs = attributes.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]));
        let entry = SearchEntry { dn: "CN=a".to_owned(), attrs: attrs.collect(), bin_attrs: HashMap::new() };
        Logon::of(&entry, flags, 0, lockout_time)
    }

    #[test]
    fn a_lock_whose_time_is_over_is_none_where_the_controller_says_so() {
        let computed = |value| [("msDS-User-Account-Control-Computed", value)];
        assert!(logon(&computed("16"), 512, 7).locked);
        assert!(!logon(&computed("0"), 512, 7).locked);
        assert!(logon(&[], 512, 7).locked && !logon(&[], 512, 0).locked);
        let expired = logon(&computed("8388608"), 512, 0);
        assert!(expired.password_expired && !expired.locked);
    }

    #[test]
    fn a_password_that_never_expires_need_not_be_changed() {
        for (flags, never, must) in [(512, false, true), (66048, true, false), (262_656, true, false)] {
            let logon = logon(&[], flags, 0);
            assert_eq!((logon.password_never_expires, logon.password_must_change), (never, must), "{flags}");
        }
    }

    #[test]
    fn an_account_ends_unless_it_never_does() {
        let ends = |value| logon(&[("accountExpires", value)], 512, 0).expires_at;
        assert_eq!(ends("116444736010000000"), Some(UnixTime(1)));
        assert_eq!((ends("0"), ends("9223372036854775807"), ends("never")), (None, None, None));
    }

    #[test]
    fn hours_are_21_bytes_and_workstations_are_names() {
        let with = logon(&[("logonHours", &"\0".repeat(21)), ("userWorkstations", "PC7")], 512, 0);
        assert_eq!((with.hours, with.workstations_limited), (Some(LogonHours([0; 21])), true));
        let without = logon(&[("logonHours", "x"), ("userWorkstations", "")], 512, 0);
        assert_eq!((without.hours, without.workstations_limited), (None, false));
    }
}
