//! What became of a write that nobody answered.

/// What the domain controller's answers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The account is as the command wants it.
    Done,
    /// The account has not been written.
    NotDone,
    /// Somebody has written the account, and it can't be said who.
    Unknown,
    /// The controller has not answered in all the time that somebody could have wanted to know.
    Silent,
}
