//! The same kills around the write of a change, and of an unlock.

use super::crash::Moment::{self, Lost, Written};
use super::crash::{Crash, NOT_DONE, OTHER, UNKNOWN, assert_signed, pwd_last_set};
use super::{NEW, OLD, only_new_logs_on};
use crate::support::cli::Call;
use crate::support::eventually;
use crate::support::samba::{Ou, User, dc};

const CHANGED: &str =
    "done: password_changed (event 31007)\n  the agent says: \"the domain controller confirmed it afterwards\"\n";
const UNLOCKED: &str =
    "done: account_unlocked (event 31002)\n  the agent says: \"the domain controller confirmed it afterwards\"\n";
/// Of a change, which has an event of its own.
const CHANGE_UNKNOWN: &str = "it may have been done: somebody has to look at the account: unknown (event 31008)\n";

impl Crash {
    /// Kills the agent around the write of a change.
    async fn killed_at_a_change(&mut self, moment: Moment, user: &User) -> Call {
        let asking = self.held_asking(moment, |portal| portal.start_change(&user.upn, OLD, NEW)).await;
        self.kill().await;
        asking
    }

    /// Locks the account, and kills the agent around the write of its unlock.
    async fn killed_at_an_unlock(&mut self, moment: Moment, user: &User) -> Call {
        dc().lock(user).await;
        let asking = self.held_asking(moment, |portal| portal.start_unlock(&user.upn)).await;
        self.kill().await;
        asking
    }
}

#[tokio::test]
async fn killed_after_the_change_it_says_succeeded_and_does_not_change_again() {
    let mut crash = Crash::new().await;
    let user = dc().create_user("change-after", Ou::Staff, OLD).await;
    let asking = crash.killed_at_a_change(Written, &user).await;
    assert_eq!(dc().bind(&user.upn, NEW).await, Ok(()), "the domain controller has it");
    let written = pwd_last_set(&user).await;
    crash.stage.agent.start();
    assert_signed(&asking.said().await, 0, CHANGED);
    assert_eq!(pwd_last_set(&user).await, written);
    only_new_logs_on(&user.upn).await;
    assert_eq!(crash.stage.agent.event_ids_about(&user.upn), [31006, 31007]);
}

#[tokio::test]
async fn killed_with_a_change_on_its_way_that_never_arrived_it_says_interrupted() {
    let mut crash = Crash::new().await;
    let user = dc().create_user("change-lost", Ou::Staff, OLD).await;
    let asking = crash.killed_at_a_change(Lost, &user).await;
    crash.stage.agent.start();
    assert_signed(&asking.said().await, 3, NOT_DONE);
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
    assert_eq!(crash.stage.agent.event_ids_about(&user.upn), [31006, 32000, 31008]);
    // Safe to repeat, as it said.
    let again = crash.stage.portal.change(&user.upn, OLD, NEW).await;
    assert!(again.status == 0 && again.out.starts_with("done: password_changed (event 31007)\n"), "{again:?}");
}

#[tokio::test]
async fn a_change_that_had_to_be_made_and_never_arrived_is_known_by_the_current_password() {
    let mut crash = Crash::new().await;
    let user = dc().create_user("change-forced", Ou::Staff, OLD).await;
    dc().replace(&user, "pwdLastSet", "0").await;
    let asking = crash.killed_at_a_change(Lost, &user).await;
    crash.stage.agent.start();
    assert_signed(&asking.said().await, 3, NOT_DONE);
    assert_eq!(dc().bind(&user.upn, OLD).await, Err("773".to_owned()));
}

#[tokio::test]
async fn killed_after_the_change_and_somebody_else_wrote_meanwhile_it_says_unknown() {
    let mut crash = Crash::new().await;
    let user = dc().create_user("change-other", Ou::Staff, OLD).await;
    let asking = crash.killed_at_a_change(Written, &user).await;
    dc().set_password(&user, OTHER).await;
    crash.stage.agent.start();
    assert_signed(&asking.said().await, 4, CHANGE_UNKNOWN);
    assert_eq!(dc().bind(&user.upn, OTHER).await, Ok(()), "nothing was written over it");
}

#[tokio::test]
async fn killed_after_the_unlock_it_says_succeeded() {
    let mut crash = Crash::new().await;
    let user = dc().create_user("unlock-after", Ou::Staff, OLD).await;
    let asking = crash.killed_at_an_unlock(Written, &user).await;
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()), "the domain controller has it");
    crash.stage.agent.start();
    assert_signed(&asking.said().await, 0, UNLOCKED);
    assert_eq!(crash.stage.agent.event_ids_about(&user.upn), [31001, 31002]);
}

#[tokio::test]
async fn killed_with_an_unlock_on_its_way_that_never_arrived_it_says_interrupted() {
    let mut crash = Crash::new().await;
    let user = dc().create_user("unlock-lost", Ou::Staff, OLD).await;
    let asking = crash.killed_at_an_unlock(Lost, &user).await;
    crash.stage.agent.start();
    assert_signed(&asking.said().await, 3, NOT_DONE);
    assert_eq!(dc().bind(&user.upn, OLD).await, Err("775".to_owned()), "it is locked as before");
    assert_eq!(crash.stage.agent.event_ids_about(&user.upn), [31001, 32000, 31003]);
}

#[tokio::test]
async fn killed_after_the_unlock_and_the_account_was_locked_anew_it_says_unknown() {
    let mut crash = Crash::new().await;
    let user = dc().create_user("unlock-again", Ou::Staff, OLD).await;
    let asking = crash.killed_at_an_unlock(Written, &user).await;
    dc().lock(&user).await;
    crash.stage.agent.start();
    assert_signed(&asking.said().await, 4, UNKNOWN);
    assert_eq!(dc().bind(&user.upn, OLD).await, Err("775".to_owned()), "it was not unlocked a second time");
}

/// The domain controller is away when the agent comes back, and comes back later.
async fn waited_for(crash: &mut Crash, user: &User, asking: Call, begun: u64, headline: &str) {
    crash.away();
    let tried = crash.proxy.accepted();
    crash.stage.agent.start();
    // The preflight is one, the question after the command another, and it is asked again.
    eventually("it keeps asking", || std::future::ready(crash.proxy.accepted() >= tried + 4)).await;
    assert_eq!(crash.stage.agent.event_ids_about(&user.upn), [begun], "it says nothing that it does not know");
    crash.back();
    assert_signed(&asking.said().await, 0, headline);
}

#[tokio::test]
async fn a_domain_controller_that_is_away_after_a_change_is_waited_for() {
    let mut crash = Crash::new().await;
    let user = dc().create_user("change-patient", Ou::Staff, OLD).await;
    let asking = crash.killed_at_a_change(Written, &user).await;
    waited_for(&mut crash, &user, asking, 31006, CHANGED).await;
}

#[tokio::test]
async fn a_domain_controller_that_is_away_after_an_unlock_is_waited_for() {
    let mut crash = Crash::new().await;
    let user = dc().create_user("unlock-patient", Ou::Staff, OLD).await;
    let asking = crash.killed_at_an_unlock(Written, &user).await;
    waited_for(&mut crash, &user, asking, 31001, UNLOCKED).await;
}
