//! The rights that password writeback needs, and how they are called in each place where they have a name.

use uuid::{Uuid, uuid};

use super::security_descriptor::{Ace, Sid, Wanted};
use crate::agent::directory::Check;

/// The class whose objects are accounts of people.
pub(super) const USER: Uuid = uuid!("bf967aba-0de6-11d0-a285-00aa003049e2");

/// `RIGHT_DS_READ_PROPERTY` and the like ([MS-ADTS] 5.1.3.2).
const READ_PROPERTY: u32 = 0x10;
const CONTROL_ACCESS: u32 = 0x100;
const WRITE_PROPERTY: u32 = 0x20;

/// A right of the service account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Right {
    /// To read `pwdLastSet` and `userAccountControl`. Usually everybody may.
    ReadAccount,
    /// To set a new password.
    ResetPassword,
    /// To change a password with the current one. Usually everybody may: whoever has the password.
    ChangePassword,
    /// To unlock.
    WriteLockoutTime,
    /// To force another password at the next logon.
    WritePwdLastSet,
    /// To read `tokenGroups`: in which groups an account is. Usually everybody may.
    ReadTokenGroups,
    /// On the domain itself: to make an expired password valid again. Usually every account may.
    UnexpirePassword,
}

impl Right {
    /// Those that are looked at on each unit.
    pub(super) const ON_USERS: [Self; 6] = [
        Self::ReadAccount,
        Self::ReadTokenGroups,
        Self::ResetPassword,
        Self::ChangePassword,
        Self::WriteLockoutTime,
        Self::WritePwdLastSet,
    ];
    /// Those of them that are delegated.
    pub(super) const DELEGATED: [Self; 4] =
        [Self::ResetPassword, Self::ChangePassword, Self::WriteLockoutTime, Self::WritePwdLastSet];

    pub(super) fn check(self) -> Check {
        match self {
            Self::ReadAccount => Check::ReadAccount,
            Self::ResetPassword => Check::ResetPassword,
            Self::ChangePassword => Check::ChangePassword,
            Self::WriteLockoutTime => Check::WriteLockoutTime,
            Self::WritePwdLastSet => Check::WritePwdLastSet,
            Self::ReadTokenGroups => Check::ReadTokenGroups,
            Self::UnexpirePassword => Check::UnexpirePassword,
        }
    }

    /// What an entry may name to be about it ([MS-ADTS] 5.1.3.2.1, the schema's `attributeSecurityGUID`, and the class).
    fn names(self) -> &'static [Uuid] {
        match self {
            // The property set User-Account-Restrictions, and the two attributes.
            Self::ReadAccount => &[
                uuid!("4c164200-20c0-11d0-a768-00aa006e0529"),
                uuid!("bf967a0a-0de6-11d0-a285-00aa003049e2"),
                uuid!("bf967a68-0de6-11d0-a285-00aa003049e2"),
                USER,
            ],
            Self::ResetPassword => &[uuid!("00299570-246d-11d0-a768-00aa006e0529"), USER],
            Self::ChangePassword => &[uuid!("ab721a53-1e2f-11d0-9819-00aa0040529b"), USER],
            Self::WriteLockoutTime => &[uuid!("28630ebf-41d5-11d1-a9c1-0000f80367c1"), USER],
            // The second is the property set User-Account-Restrictions.
            Self::WritePwdLastSet => {
                &[uuid!("bf967a0a-0de6-11d0-a285-00aa003049e2"), uuid!("4c164200-20c0-11d0-a768-00aa006e0529"), USER]
            }
            // The second is the property set Remote-Access-Information.
            Self::ReadTokenGroups => {
                &[uuid!("b7c69e6d-2cc7-11d2-854e-00a0c983f608"), uuid!("037088f8-0ae1-11d2-b422-00a0c968f939"), USER]
            }
            Self::UnexpirePassword => &[uuid!("ccc2dc7d-a6ad-4a7a-8846-c04e3cc53501")],
        }
    }

    /// Its own GUID.
    fn guid(self) -> Uuid {
        self.names().first().copied().unwrap_or_default()
    }

    /// As an access mask has it, and as SDDL does.
    fn kind(self) -> (u32, &'static str) {
        match self {
            Self::ReadAccount | Self::ReadTokenGroups => (READ_PROPERTY, "RP"),
            Self::WriteLockoutTime | Self::WritePwdLastSet => (WRITE_PROPERTY, "WP"),
            Self::ResetPassword | Self::ChangePassword | Self::UnexpirePassword => (CONTROL_ACCESS, "CR"),
        }
    }

    /// Whether it is an extended right, and not one to read or write an attribute.
    pub(super) fn is_extended(self) -> bool {
        self.kind().0 == CONTROL_ACCESS
    }

    pub(super) fn wanted(self) -> Wanted<'static> {
        Wanted { mask: self.kind().0, object_types: self.names() }
    }

    /// An entry that gives it to `trustee`: on a unit, for all users below.
    pub(super) fn entry(self, trustee: &Sid, users_below: bool) -> Ace {
        Ace::allow(self.kind().0, self.guid(), users_below.then_some(USER), trustee.clone())
    }

    /// The same in SDDL ([MS-DTYP] 2.5.1.1). `type_` is `OA`, which gives, or `OD`, which takes.
    pub(super) fn sddl(self, type_: &str, trustee: &str, users_below: bool) -> String {
        let (_, rights) = self.kind();
        let (flags, class) = if users_below { ("CIIO", USER.to_string()) } else { ("", String::new()) };
        format!("({type_};{flags};{rights};{};{class};{trustee})", self.guid())
    }

    /// As `dsacls` calls it.
    pub(super) fn dsacls(self) -> &'static str {
        match self {
            Self::ReadAccount => "RP;Account Restrictions",
            Self::ResetPassword => "CA;Reset Password",
            Self::ChangePassword => "CA;Change Password",
            Self::WriteLockoutTime => "WP;lockoutTime",
            Self::WritePwdLastSet => "WP;pwdLastSet",
            Self::ReadTokenGroups => "RP;tokenGroups",
            Self::UnexpirePassword => "CA;Unexpire Password",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_right_is_written_as_administrators_know_it() {
        let sddl = |right: Right| right.sddl("OA", "S-1-5-21-1-2-3-1104", true);
        assert_eq!(
            sddl(Right::ResetPassword),
            "(OA;CIIO;CR;00299570-246d-11d0-a768-00aa006e0529;bf967aba-0de6-11d0-a285-00aa003049e2;S-1-5-21-1-2-3-1104)"
        );
        assert_eq!(
            sddl(Right::WritePwdLastSet),
            "(OA;CIIO;WP;bf967a0a-0de6-11d0-a285-00aa003049e2;bf967aba-0de6-11d0-a285-00aa003049e2;S-1-5-21-1-2-3-1104)"
        );
        assert_eq!(
            Right::UnexpirePassword.sddl("OA", "S-1-1-0", false),
            "(OA;;CR;ccc2dc7d-a6ad-4a7a-8846-c04e3cc53501;;S-1-1-0)"
        );
    }
}
