//! The agent is killed with SIGKILL around its one write, and started again: what the portal then reads, signed, is
//! what the domain controller has.
//!
//! A proxy stands between agent and domain controller, and holds the question for the account, the write, or the answer to the
//! write. Changes and unlocks are in `crash_operations`.

use writeback_relay::clock::{Clock, System};

use super::{NEW, OLD, Stage, only_new_logs_on};
use crate::support::cli::{Call, Said};
use crate::support::eventually;
use crate::support::ldap_proxy::{LdapProxy, Request, When};
use crate::support::portal_cli::PortalCli;
use crate::support::samba::{Ou, User, dc};

/// Where the agent is when it is killed.
#[derive(Clone, Copy)]
pub(super) enum Moment {
    /// It looks for the account.
    Begun,
    /// It has sent the write, and the directory never gets it.
    Lost,
    /// The directory has it, and the agent does not know that.
    Written,
}

impl Moment {
    fn at(self) -> (Request, When) {
        match self {
            Self::Begun => (Request::Search, When::Before),
            Self::Lost => (Request::Modify, When::Before),
            Self::Written => (Request::Modify, When::After),
        }
    }
}

/// What somebody else sets meanwhile.
pub(super) const OTHER: &str = "Somebody-Elses-4";

pub(super) struct Crash {
    pub(super) proxy: LdapProxy,
    held: Option<Moment>,
    pub(super) stage: Stage,
}

impl Crash {
    /// The agent keeps a connection, on which nothing is going on.
    pub(super) async fn new() -> Self {
        let proxy = LdapProxy::start().await;
        let stage = Stage::at(&proxy.url()).await;
        let first = dc().create_user("first", Ou::Staff, OLD).await;
        assert_eq!(stage.portal.reset(&first.upn, NEW, &[]).await.status, 0);
        Self { proxy, held: None, stage }
    }

    /// Begins a reset, and returns when the proxy holds a request or an answer back.
    async fn held(&mut self, moment: Moment, user: &User, more: &[&str]) -> Call {
        self.held_asking(moment, |portal| portal.start_reset(&user.upn, NEW, more)).await
    }

    /// The same, of anything that the portal is asked.
    pub(super) async fn held_asking(&mut self, moment: Moment, ask: impl FnOnce(&PortalCli) -> Call) -> Call {
        let (request, when) = moment.at();
        self.proxy.hold(request, when);
        self.held = Some(moment);
        let asking = ask(&self.stage.portal);
        self.proxy.holds(request).await;
        asking
    }

    /// Kills the agent; what was held back is lost.
    pub(super) async fn kill(&mut self) {
        self.stage.agent.kill();
        if let Some((request, when)) = self.held.take().map(Moment::at) {
            self.proxy.cut(request, when);
            self.proxy.all_closed().await;
            self.proxy.pass(request);
        }
    }

    /// From now on nobody reaches the domain controller.
    pub(super) fn away(&self) {
        self.proxy.cut(Request::RootDse, When::Before);
    }

    /// It is back.
    pub(super) fn back(&self) {
        self.proxy.pass(Request::RootDse);
    }

    /// Kills the agent when the domain controller has written, and the agent does not know it yet.
    async fn killed_after_the_write(&mut self, user: &User, more: &[&str]) -> Call {
        let asking = self.held(Moment::Written, user, more).await;
        self.kill().await;
        asking
    }
}

/// What the portal has read is signed by the agent, and this.
#[track_caller]
pub(super) fn assert_signed(said: &Said, status: i32, headline: &str) {
    assert!(said.status == status && said.out.starts_with(headline), "{said:?}");
    assert!(said.out.contains("signed by agent "), "{}", said.out);
}

#[track_caller]
fn assert_confirmed(said: &Said) {
    assert_signed(
        said,
        0,
        "done: password_reset (event 31002)\n  the agent says: \"the domain controller confirmed it afterwards\"\n",
    );
}

pub(super) const NOT_DONE: &str = "not done, for a technical reason: interrupted (event 32000)\n";
pub(super) const UNKNOWN: &str = "it may have been done: somebody has to look at the account: unknown (event 31003)\n";

pub(super) async fn pwd_last_set(user: &User) -> String {
    dc().attribute(user, "pwdLastSet").await
}

#[tokio::test]
async fn killed_before_it_touched_the_directory_it_executes_once_if_there_is_time() {
    let mut crash = Crash::new().await;
    let user = dc().create_user("before", Ou::Staff, OLD).await;
    let asking = crash.held(Moment::Begun, &user, &[]).await;
    crash.kill().await;
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
    crash.stage.agent.start();
    assert_signed(
        &asking.said().await,
        0,
        "done: password_reset (event 31002)\n  the agent says: \"the new password is set\"\n",
    );
    only_new_logs_on(&user.upn).await;
    assert_eq!(crash.stage.agent.event_ids_about(&user.upn), [31001, 31001, 31002], "begun twice, done once");
}

#[tokio::test]
async fn killed_before_it_touched_the_directory_it_says_expired_if_there_is_no_time_left() {
    let mut crash = Crash::new().await;
    let user = dc().create_user("late", Ou::Staff, OLD).await;
    let begun = System.now().0;
    let asking = crash.held(Moment::Begun, &user, &["--wait", "3"]).await;
    crash.kill().await;
    let said = asking.said().await;
    assert!(said.status == 4 && said.out.starts_with("not known: "), "{said:?}");
    assert!(System.now().0 >= begun + 3, "the portal waits until exp");
    crash.stage.agent.start();
    let command = crash.stage.agent.event(31003, &user.upn).await["command"].as_str().unwrap().to_owned();
    assert!(said.out.contains(&format!("ask again: writeback-portal status contoso {command}\n")), "{}", said.out);
    let said = crash.stage.portal.status(&command, &["--wait", "30"]).await;
    assert_signed(&said, 3, "not done: its time was over before it began: expired (event 31003)\n");
    assert!(said.out.contains("a new command may be sent: yes"), "{}", said.out);
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
}

#[tokio::test]
async fn killed_with_a_write_on_its_way_that_never_arrived_it_says_interrupted() {
    let mut crash = Crash::new().await;
    let user = dc().create_user("lost", Ou::Staff, OLD).await;
    let before = pwd_last_set(&user).await;
    let asking = crash.held(Moment::Lost, &user, &[]).await;
    crash.kill().await;
    crash.stage.agent.start();
    let said = asking.said().await;
    assert_signed(&said, 3, NOT_DONE);
    assert!(said.out.contains("a new command may be sent: yes"), "{}", said.out);
    assert_eq!(pwd_last_set(&user).await, before);
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
    assert_eq!(crash.stage.agent.event_ids_about(&user.upn), [31001, 32000, 31003]);
}

#[tokio::test]
async fn killed_after_the_write_it_says_succeeded_and_does_not_write_again() {
    let mut crash = Crash::new().await;
    let user = dc().create_user("after", Ou::Staff, OLD).await;
    let asking = crash.killed_after_the_write(&user, &[]).await;
    assert_eq!(dc().bind(&user.upn, NEW).await, Ok(()), "the domain controller has it");
    let written = pwd_last_set(&user).await;
    crash.stage.agent.start();
    assert_confirmed(&asking.said().await);
    assert_eq!(pwd_last_set(&user).await, written);
    only_new_logs_on(&user.upn).await;
    assert_eq!(crash.stage.agent.event_ids_about(&user.upn), [31001, 31002]);
}

/// A reset that leaves `pwdLastSet` at 0, where it was before.
async fn from_zero_to_zero(moment: Moment, status: i32, headline: &str, right: &str) {
    let mut crash = Crash::new().await;
    let user = dc().create_user("zero", Ou::Staff, OLD).await;
    dc().replace(&user, "pwdLastSet", "0").await;
    let asking = crash.held(moment, &user, &["--force-change"]).await;
    crash.kill().await;
    assert_eq!(pwd_last_set(&user).await, "0");
    crash.stage.agent.start();
    assert_signed(&asking.said().await, status, headline);
    assert_eq!(dc().bind(&user.upn, right).await, Err("773".to_owned()));
    assert_eq!(pwd_last_set(&user).await, "0");
}

#[tokio::test]
async fn where_pwd_last_set_was_zero_and_stays_zero_the_password_proves_the_write() {
    from_zero_to_zero(Moment::Written, 0, "done: password_reset (event 31002)\n", NEW).await;
}

#[tokio::test]
async fn where_pwd_last_set_was_zero_and_stays_zero_another_password_proves_nothing() {
    // Nothing was written; but somebody else might have set this one afterwards.
    from_zero_to_zero(Moment::Lost, 4, UNKNOWN, OLD).await;
}

#[tokio::test]
async fn killed_after_the_write_and_the_account_was_locked_meanwhile_it_says_unknown() {
    let mut crash = Crash::new().await;
    let user = dc().create_user("locked", Ou::Staff, OLD).await;
    let asking = crash.killed_after_the_write(&user, &[]).await;
    dc().lock(&user).await;
    crash.stage.agent.start();
    assert_signed(&asking.said().await, 4, UNKNOWN);
}

#[tokio::test]
async fn killed_after_the_write_and_somebody_else_wrote_meanwhile_it_says_unknown() {
    let mut crash = Crash::new().await;
    let user = dc().create_user("changed", Ou::Staff, OLD).await;
    let asking = crash.killed_after_the_write(&user, &[]).await;
    dc().set_password(&user, OTHER).await;
    crash.stage.agent.start();
    let said = asking.said().await;
    assert_signed(&said, 4, UNKNOWN);
    assert!(said.out.contains("a new command may be sent: no"), "{}", said.out);
    assert_eq!(dc().bind(&user.upn, OTHER).await, Ok(()), "nothing was written over it");
}

#[tokio::test]
async fn a_domain_controller_that_is_away_when_the_agent_comes_back_is_waited_for() {
    let mut crash = Crash::new().await;
    let user = dc().create_user("patient", Ou::Staff, OLD).await;
    let asking = crash.killed_after_the_write(&user, &[]).await;
    let written = pwd_last_set(&user).await;
    crash.away();
    let tried = crash.proxy.accepted();
    crash.stage.agent.start();
    // The preflight takes two, the question after the command another, and it is asked again.
    eventually("it keeps asking", || std::future::ready(crash.proxy.accepted() >= tried + 5)).await;
    let command = crash.stage.agent.event(31001, &user.upn).await["command"].as_str().unwrap().to_owned();
    let said = crash.stage.portal.status(&command, &[]).await;
    assert!(said.status == 4 && said.out.starts_with("not known: the command is still on its way\n"), "{said:?}");
    eventually("the relay has heard of it", || async {
        let said = crash.stage.portal.availability().await;
        said.status == 3 && said.out.contains("preflight_failed")
    })
    .await;
    crash.back();
    assert_confirmed(&asking.said().await);
    assert_eq!(pwd_last_set(&user).await, written);
}
