//! Each option of a reset with each state that an account may be in: it does what it says, or the answer is `unsupported`
//! and nothing was written. The same table stands in docs/agent.md.

use writeback_relay::agent::directory::Directory;
use writeback_relay::protocol::command::Options;
use writeback_relay::protocol::outcome::Code;

use super::{NEW, OLD, directory, in_time, password, refused, upn};
use crate::support::samba::{Ou, User, dc};

const PLAIN: Options = Options { unlock: false, force_change_at_next_logon: false, enforce_history: false };
const UNLOCK: Options = Options { unlock: true, ..PLAIN };
const FORCE: Options = Options { force_change_at_next_logon: true, ..PLAIN };
const BOTH: Options = Options { unlock: true, ..FORCE };

/// "User cannot change password", as Microsoft's tools write it: the extended right Change Password is denied to Everyone and
/// to the account itself.
pub(super) const CANNOT_CHANGE: &str =
    "(OD;;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;;WD)(OD;;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;;PS)";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ordinary,
    NeverExpires,
    SmartCard,
    CannotChange,
    NobodyGivesChange,
    Locked,
    MustChange,
}

impl State {
    async fn user(self) -> User {
        let user = dc().create_user("option", Ou::Staff, OLD).await;
        match self {
            Self::Ordinary => {}
            Self::NeverExpires => dc().replace(&user, "userAccountControl", "66048").await,
            Self::SmartCard => dc().replace(&user, "userAccountControl", "262656").await,
            Self::CannotChange => dc().permit(&user.dn, CANNOT_CHANGE).await,
            Self::NobodyGivesChange => super::rights::without_everybodys_right(&user).await,
            Self::Locked => dc().lock(&user).await,
            Self::MustChange => dc().replace(&user, "pwdLastSet", "0").await,
        }
        user
    }
}

/// What a logon with the new password says then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    LogsOn,
    /// The `data` code of the refusal.
    Says(&'static str),
    /// Whether a password logs on does not show it.
    Written,
    /// `unsupported`, with these words, and nothing was written.
    Unsupported(&'static str),
}

#[tokio::test]
async fn each_option_with_each_state_of_an_account_does_what_it_says_or_is_unsupported() {
    use State::{CannotChange, Locked, MustChange, NeverExpires, NobodyGivesChange, Ordinary, SmartCard};
    use Then::{LogsOn, Says, Unsupported, Written};
    let (never, card, cannot) = ("DONT_EXPIRE_PASSWORD", "SMARTCARD_REQUIRED", "User cannot change password");
    for (state, options, then) in [
        (Ordinary, PLAIN, LogsOn),
        (Ordinary, UNLOCK, LogsOn),
        (Ordinary, FORCE, Says("773")),
        (Ordinary, BOTH, Says("773")),
        (NeverExpires, PLAIN, LogsOn),
        (NeverExpires, UNLOCK, LogsOn),
        (NeverExpires, FORCE, Unsupported(never)),
        (NeverExpires, BOTH, Unsupported(never)),
        (SmartCard, PLAIN, Written),
        (SmartCard, UNLOCK, Written),
        (SmartCard, FORCE, Unsupported(card)),
        (CannotChange, PLAIN, LogsOn),
        (CannotChange, UNLOCK, LogsOn),
        (CannotChange, FORCE, Unsupported(cannot)),
        (NobodyGivesChange, PLAIN, LogsOn),
        (NobodyGivesChange, FORCE, Unsupported(cannot)),
        (Locked, PLAIN, Says("775")),
        (Locked, UNLOCK, LogsOn),
        (Locked, FORCE, Says("775")),
        (Locked, BOTH, Says("773")),
        (MustChange, PLAIN, LogsOn),
        (MustChange, UNLOCK, LogsOn),
        (MustChange, FORCE, Says("773")),
    ] {
        let user = state.user().await;
        let before = dc().attribute(&user, "pwdLastSet").await;
        let account = directory().find(&upn(&user.upn)).await.unwrap();
        let answer = directory().reset_password(&account, &password(NEW), options, &in_time()).await;
        let after = dc().attribute(&user, "pwdLastSet").await;
        let what = format!("{state:?}, {options:?}");
        if let Unsupported(why) = then {
            let (code, detail) = refused(answer);
            assert_eq!(code, Code::Unsupported, "{what}: {detail}");
            assert!(detail.contains(why) && detail.contains("nothing was changed"), "{what}: {detail}");
            assert_eq!(after, before, "{what}");
            if state != SmartCard {
                assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()), "{what}");
            }
            continue;
        }
        answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        match then {
            LogsOn => assert_eq!(dc().bind(&user.upn, NEW).await, Ok(()), "{what}"),
            Says(code) => assert_eq!(dc().bind(&user.upn, NEW).await, Err(code.to_owned()), "{what}"),
            _ => assert_ne!(after, before, "{what}"),
        }
        if options.force_change_at_next_logon {
            assert_eq!(after, "0", "{what}");
        }
    }
}

#[tokio::test]
async fn an_option_that_is_kept_by_a_state_that_has_ended_meanwhile_is_taken() {
    let (directory, user) = (directory(), State::NeverExpires.user().await);
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    // What counts is the account as it is when it is written.
    dc().enable(&user).await;
    directory.reset_password(&account, &password(NEW), FORCE, &in_time()).await.unwrap();
    assert_eq!(dc().bind(&user.upn, NEW).await, Err("773".to_owned()));
    dc().replace(&user, "userAccountControl", "66048").await;
    let answer = directory.reset_password(&account, &password(OLD), FORCE, &in_time()).await;
    assert_eq!(refused(answer).0, Code::Unsupported);
}

#[tokio::test]
async fn the_history_is_refused_before_the_state_of_the_account_is_looked_at() {
    let user = State::NeverExpires.user().await;
    let account = directory().find(&upn(&user.upn)).await.unwrap();
    let options = Options { enforce_history: true, ..FORCE };
    let answer = directory().reset_password(&account, &password(NEW), options, &in_time()).await;
    assert_eq!(refused(answer).0, Code::HistoryUnavailable);
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
}

#[tokio::test]
async fn a_change_and_an_unlock_do_what_they_say_with_each_state() {
    use State::{Locked, MustChange, NeverExpires, NobodyGivesChange, Ordinary};
    for state in [Ordinary, NeverExpires, MustChange] {
        let user = state.user().await;
        let account = directory().find(&upn(&user.upn)).await.unwrap();
        directory().unlock_account(&account, &in_time()).await.unwrap();
        let changed = directory().change_password(&account, &password(OLD), &password(NEW), &in_time()).await;
        changed.unwrap_or_else(|error| panic!("{state:?}: {error}"));
        assert_eq!(dc().bind(&user.upn, NEW).await, Ok(()), "{state:?}");
    }
    // The service account has the right that nobody else gives.
    let user = NobodyGivesChange.user().await;
    let account = directory().find(&upn(&user.upn)).await.unwrap();
    directory().change_password(&account, &password(OLD), &password(NEW), &in_time()).await.unwrap();
    let user = Locked.user().await;
    let account = directory().find(&upn(&user.upn)).await.unwrap();
    directory().unlock_account(&account, &in_time()).await.unwrap();
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
}
