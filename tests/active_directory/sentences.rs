//! Every cause has its sentence, and no sentence says what is not so: each is produced here by the directory itself, or by a
//! proxy before it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use writeback_relay::agent::directory::active_directory::{ActiveDirectory, Config};
use writeback_relay::agent::directory::{Account, Check, Directory};
use writeback_relay::agent::home::Home;
use writeback_relay::agent::{Agent, Options as AgentOptions, enroll};
use writeback_relay::clock::System;
use writeback_relay::protocol::api::PreflightState::{Ok as Green, Warning};
use writeback_relay::protocol::command::{Command, Options};
use writeback_relay::protocol::frame::FromAgent;
use writeback_relay::protocol::outcome::{Code, Outcome, Status};

use super::ldap_proxy::through;
use super::options::CANNOT_CHANGE;
use super::{NEW, OLD, config, directory, in_time, password, refused, upn};
use crate::support::deadline;
use crate::support::ldap_proxy::{LdapProxy, Request, When};
use crate::support::samba::{Ou, User, dc};
use crate::support::scripted_relay::{ScriptedRelay, Socket};

const PLAIN: Options = Options { unlock: false, force_change_at_next_logon: false, enforce_history: false };

/// What the domain's policy looks at only in a change.
const HISTORY: &str = "one of the last ones";
const AGE: &str = "not old enough";

async fn account(user: &User) -> Account {
    directory().find(&upn(&user.upn)).await.unwrap()
}

#[tokio::test]
async fn a_refused_reset_blames_neither_history_nor_age_and_names_what_else_it_may_be() {
    let user = dc().create_user("Reginald", Ou::Staff, OLD).await;
    let name = dc().attribute(&user, "sAMAccountName").await;
    let (named, short) = (format!("{name}-A1!"), "Ab1!");
    for new in [short, "aaaaaaaaaaaaaa", &named] {
        let answer = directory().reset_password(&account(&user).await, &password(new), PLAIN, &in_time()).await;
        // Samba lets the user's name pass; a domain controller of Windows does not.
        if new == named && answer.is_ok() {
            continue;
        }
        let (code, detail) = refused(answer);
        assert_eq!(code, Code::PasswordPolicy, "{detail}");
        assert!(["length", "complexity", "user's name", "password filter"].iter().all(|why| detail.contains(why)));
        assert!(!detail.contains(HISTORY) && !detail.contains(AGE), "{detail}");
    }
}

#[tokio::test]
async fn a_refused_change_names_history_and_age_too() {
    let user = dc().create_user("hilda", Ou::Staff, OLD).await;
    let change = async |current: &str, new: &str| {
        directory().change_password(&account(&user).await, &password(current), &password(new), &in_time()).await
    };
    change(OLD, NEW).await.unwrap();
    let (code, detail) = refused(change(NEW, OLD).await);
    assert_eq!(code, Code::PasswordPolicy);
    assert!(detail.contains(HISTORY) && detail.contains(AGE) && detail.contains("user's name"), "{detail}");
    dc().set_minimum_age(&user, 1).await;
    let (code, detail) = refused(change(NEW, "Another-Passw0rd-3").await);
    assert_eq!(code, Code::PasswordPolicy);
    assert!(detail.contains(AGE) && detail.contains("too young"), "{detail}");
}

#[tokio::test]
async fn windows_refusals_name_the_right_that_is_missing_or_might_be() {
    let proxy = LdapProxy::start().await;
    let directory = ActiveDirectory::new(&through(&[&proxy])).unwrap();
    let (staff, other) = (dc().create_user("wim", Ou::Staff, OLD).await, dc().create_user("wom", Ou::Other, OLD).await);
    let (extended, attribute) = (
        "00000005: SecErr: DSID-031A1190, problem 4003 (INSUFF_ACCESS_RIGHTS), data 0",
        "00002098: SecErr: DSID-03150E49, problem 4003 (INSUFF_ACCESS_RIGHTS), data 0",
    );
    let (unlock, force) = (Options { unlock: true, ..PLAIN }, Options { force_change_at_next_logon: true, ..PLAIN });
    for (user, said, options, named) in [
        // Outside of the delegated unit the directory itself shows which.
        (&other, extended, PLAIN, "the right \"Reset Password\" is missing"),
        (&other, attribute, unlock, "the right \"Write lockoutTime\" is missing"),
        (&other, attribute, force, "the right \"Write pwdLastSet\" is missing"),
        // Inside it shows none, and the error alone is left.
        (&staff, extended, unlock, "the right \"Reset Password\" is missing"),
        (&staff, attribute, unlock, "the right \"Write lockoutTime\" is missing"),
    ] {
        let account = directory.find(&upn(&user.upn)).await.unwrap();
        proxy.answer_next(1, Request::Modify, 50, said);
        let answer = directory.reset_password(&account, &password(NEW), options, &in_time()).await;
        let (code, detail) = refused(answer);
        assert_eq!(code, Code::InsufficientRights);
        assert!(detail.contains(named) && detail.contains("the same is refused until it has it"), "{detail}");
    }
}

#[tokio::test]
async fn who_may_not_change_his_password_is_told_apart_from_a_service_account_that_may_not() {
    let unit = dc().create_unit("keepers", dc().base_dn()).await;
    let sid = dc().sid(&format!("CN=svc-reset,OU=Service,{}", dc().base_dn())).await;
    let user_class = "bf967aba-0de6-11d0-a285-00aa003049e2";
    for right in [
        "CR;00299570-246d-11d0-a768-00aa006e0529",
        "CR;ab721a53-1e2f-11d0-9819-00aa0040529b",
        "WP;28630ebf-41d5-11d1-a9c1-0000f80367c1",
        "WP;bf967a0a-0de6-11d0-a285-00aa003049e2",
    ] {
        dc().permit(&unit, &format!("(OA;CIIO;{right};{user_class};{sid})")).await;
    }
    let (keeper, other) =
        (dc().create_user_in("keeper", &unit, OLD).await, dc().create_user_in("other", &unit, OLD).await);
    dc().permit(&keeper.dn, CANNOT_CHANGE).await;
    let config = Config { base_dn: vec![unit], ..config() };
    let directory = ActiveDirectory::new(&config).unwrap();

    let change = async |user: &User| {
        let account = directory.find(&upn(&user.upn)).await.unwrap();
        directory.change_password(&account, &password(OLD), &password(NEW), &in_time()).await
    };
    let (code, detail) = refused(change(&keeper).await);
    assert_eq!((code, code.event().id()), (Code::UserCannotChangePassword, 33004));
    assert!(detail.contains("the account's own setting") && detail.contains("nothing was changed"), "{detail}");
    assert!(!detail.contains("service account"), "{detail}");
    // It is refused before the current password is tried.
    assert_eq!(dc().attribute(&keeper, "badPwdCount").await, "0");
    assert_eq!(dc().bind(&keeper.upn, OLD).await, Ok(()));

    // The check names it, and advises nothing.
    let row = async || {
        let rows = directory.preflight(&System).await;
        rows.into_iter().find(|row| row.check == Check::ChangePassword).unwrap()
    };
    let found = row().await;
    assert_eq!((found.state, found.remedy.clone()), (Green, None), "{found:?}");
    assert!(found.detail.contains("but 1,") && found.detail.contains("keeper"), "{found:?}");
    change(&other).await.unwrap();
    dc().permit(&other.dn, CANNOT_CHANGE).await;
    let found = row().await;
    assert_eq!((found.state, found.remedy.clone()), (Warning, None), "{found:?}");
    assert!(found.detail.contains("none of the 2 users"), "{found:?}");
}

#[tokio::test]
async fn the_minimum_age_is_that_of_the_users_that_were_looked_at() {
    let unit = dc().create_unit("ages", dc().base_dn()).await;
    let config = Config { base_dn: vec![unit.clone()], ..config() };
    let row = async || {
        let rows = ActiveDirectory::new(&config).unwrap().preflight(&System).await;
        rows.into_iter().find(|row| row.check == Check::MinimumPasswordAge).unwrap()
    };
    dc().create_user_in("quick", &unit, OLD).await;
    assert_eq!(row().await.state, Green, "{:?}", row().await);
    let slow = dc().create_user_in("slow", &unit, OLD).await;
    dc().set_minimum_age(&slow, 1).await;
    let found = row().await;
    assert_eq!((found.state, found.remedy.is_some()), (Warning, false), "{found:?}");
    // Samba shows the object to everybody; where it is not shown, that is said.
    let told = ["24 hours old for 1 of the 2 users", "can't be read for 1 of the 2 users"];
    assert!(told.iter().any(|told| found.detail.contains(told)), "{found:?}");
}

/// An agent of a scripted relay, with a domain controller behind a proxy.
struct Stage {
    relay: ScriptedRelay,
    session: Socket,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<Result<(), writeback_relay::agent::AgentError>>,
    _home: tempfile::TempDir,
}

impl Stage {
    async fn new(proxy: &LdapProxy) -> Self {
        let directory = Arc::new(ActiveDirectory::new(&through(&[proxy])).unwrap());
        let (relay, dir) = (ScriptedRelay::start().await, tempfile::tempdir().unwrap());
        let home = Home::new(dir.path());
        enroll(&home, &relay.code(), Some(&relay.ca_file), System::clock(), System::random()).await.unwrap();
        let options = AgentOptions {
            ca_file: Some(relay.ca_file.clone()),
            recovery_interval: Duration::from_millis(20),
            backoff_max: Duration::from_millis(50),
            ..AgentOptions::default()
        };
        let agent = Agent::open(&home, directory, options, System::clock(), System::random()).unwrap();
        let stop = CancellationToken::new();
        let ended = tokio::spawn(agent.run(stop.clone()));
        let mut session = relay.welcome().await;
        while !matches!(session.hear().await, FromAgent::Preflight(_)) {}
        Self { relay, session, stop, ended, _home: dir }
    }

    async fn outcome(&mut self, command: &Command) -> Outcome {
        self.session.say(self.relay.deliver(command)).await;
        let said = loop {
            match self.session.hear().await {
                FromAgent::Outcome(said) if said.command == command.jti.to_string() => break said,
                _ => {}
            }
        };
        self.session.stored(command).await;
        self.relay.read(&said.jws, command)
    }

    async fn end(mut self) {
        self.stop.cancel();
        while self.session.next().await.is_some() {}
        deadline("the agent's end", self.ended).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_write_that_was_cut_off_is_said_to_be_what_it_was() {
    let proxy = LdapProxy::start().await;
    let mut stage = Stage::new(&proxy).await;

    // It had to be changed before: pwdLastSet shows nothing, and the new password is wrong.
    let user = dc().create_user("cut", Ou::Staff, OLD).await;
    dc().replace(&user, "pwdLastSet", "0").await;
    proxy.cut(Request::Modify, When::Before);
    let command = stage.relay.command(&user.upn, NEW);
    let outcome = stage.outcome(&command).await;
    assert_eq!((outcome.status, outcome.retry_safe, &outcome.hindrances), (Status::Unknown, false, &None));
    assert!(outcome.detail.contains("nothing is known") && outcome.detail.contains("asked twice"), "{outcome:?}");
    assert!(!outcome.detail.contains("was changed"), "{outcome:?}");

    // It had not: then unchanged is not done.
    let user = dc().create_user("cut", Ou::Staff, OLD).await;
    let command = stage.relay.command(&user.upn, NEW);
    let outcome = stage.outcome(&command).await;
    assert_eq!((outcome.status, outcome.retry_safe), (Status::Failed, true), "{outcome:?}");
    assert!(outcome.detail.contains("asked afterwards, the account is as it was before"), "{outcome:?}");

    // The answer alone is lost: it is done, and what hinders is said, too.
    let user = dc().create_user("cut", Ou::Staff, OLD).await;
    dc().replace(&user, "userWorkstations", "NOWHERE").await;
    proxy.cut(Request::Modify, When::After);
    let command = stage.relay.command(&user.upn, NEW);
    let outcome = stage.outcome(&command).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    assert_eq!(outcome.hindrances.as_deref(), Some(&["workstations_limited".into()][..]));
    assert!(outcome.detail.contains("confirmed it afterwards"), "{outcome:?}");
    stage.end().await;
}
