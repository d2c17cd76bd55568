//! Hindrances: what still keeps an account's user from logging on after a success, as codes of a closed list. Whoever reads
//! one shows the text that this program has for it, and takes codes that it does not know.

use super::untrusted::Untrusted;

macro_rules! hindrances {
    ($($(#[$doc:meta])* $name:ident, $code:literal, $text:literal;)*) => {
        /// What keeps a user from logging on, although the password is right. Each has one code and one text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Hindrance { $($(#[$doc])* $name,)* }

        impl Hindrance {
            /// Every hindrance.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As it stands in an outcome.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// For people.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

hindrances! {
    /// Wrong passwords have locked it, and nobody has asked to unlock it.
    Locked, "locked", "the account is locked by wrong passwords, until it is unlocked or its lock ends by itself";
    /// `accountExpires` is over.
    AccountExpired, "account_expired", "the account has expired";
    /// `logonHours` has none.
    NoLogonHours, "no_logon_hours", "the account has no logon hours: it may log on at no time";
    /// `logonHours` has not this one.
    OutsideLogonHours, "outside_logon_hours", "the account may not log on at this hour";
    /// `userWorkstations` names some.
    WorkstationsLimited, "workstations_limited", "the account may log on only at certain computers";
    /// `SMARTCARD_REQUIRED`.
    SmartCardRequired, "smart_card_required", "the account needs a smart card to log on at a computer, whatever its password is";
    /// `pwdLastSet` is 0, and nobody has asked for that now.
    PasswordMustChange, "password_must_change", "the password has to be changed at the next logon";
    /// The password is older than the policy allows.
    PasswordExpired, "password_expired", "the password has expired, and has to be changed at the next logon";
}

impl Hindrance {
    /// The hindrance of this code, if it is known here.
    #[must_use]
    pub fn from_code(code: &Untrusted) -> Option<Self> {
        Self::ALL.iter().copied().find(|hindrance| *code == *hindrance.as_str())
    }
}
