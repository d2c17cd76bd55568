//! What became of a write that nobody answered.

/// What the domain controller's answers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The account is as the command wants it.
    Done,
    /// The account has not been written.
    NotDone,
    /// It can't be said.
    Unknown(Doubt),
    /// The controller has not answered in all the time that somebody could have wanted to know.
    Silent,
}

/// Why it can't be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The password was written by somebody (`pwdLastSet` is another), and the new one shows nothing.
    Changed(NewPassword),
    /// `pwdLastSet` was 0 and is 0, which a write may leave so, and the new password shows nothing.
    StillZero(NewPassword),
    /// The account is locked by another lock than before.
    LockedAgain,
    /// The account is gone, or can't be read any more.
    Gone,
}

/// What the new password says of the account that it was meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewPassword {
    /// It is not the account's.
    Wrong,
    /// The controller does not say whether it is.
    NotTold,
    /// The agent can't open it any more.
    NotOpened,
}

impl Doubt {
    /// For people: what is known, and what is not.
    pub(super) fn text(self) -> &'static str {
        use NewPassword::{NotOpened, NotTold, Wrong};
        match self {
            Self::Changed(Wrong) => {
                "the account's password was changed since, and the new one is not it: whether it was set before, and \
                 replaced by somebody, can't be told"
            }
            Self::Changed(NotTold) => {
                "the account's password was changed since, and the domain controller does not say whether to the new one \
                 (the account may be locked): unlock it, and try the new password"
            }
            Self::Changed(NotOpened) => {
                "the account's password was changed since, and the agent can't open the new one any more to see whether it \
                 is that: try the new password"
            }
            Self::StillZero(Wrong) => {
                "nothing is known: pwdLastSet was 0 before and is 0 (asked twice), which whoever forces a change at the next logon \
                 leaves so; the new password is not the account's now"
            }
            Self::StillZero(NotTold) => {
                "nothing is known: pwdLastSet was 0 before and is 0 (asked twice), which whoever forces a change at the next logon \
                 leaves so, and the domain controller does not say whether the new password is the account's (it may be \
                 locked): unlock it, and try the new password"
            }
            Self::StillZero(NotOpened) => {
                "nothing is known: pwdLastSet was 0 before and is 0 (asked twice), which whoever forces a change at the next logon \
                 leaves so, and the agent can't open the new password any more to try it: try it"
            }
            Self::LockedAgain => {
                "the account is locked by later wrong passwords: whether it was unlocked before can't be told"
            }
            Self::Gone => "the account is gone, or the agent may not read it any more: what became of it can't be told",
        }
    }
}
