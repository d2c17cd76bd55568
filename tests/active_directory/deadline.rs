//! A write whose time runs out on the way to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use writeback_relay::agent::directory::Directory;
use writeback_relay::agent::directory::active_directory::ActiveDirectory;
use writeback_relay::agent::home::Home;
use writeback_relay::agent::{Agent, Options, enroll};
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::frame::FromAgent;
use writeback_relay::protocol::outcome::Status;

use super::ldap_proxy::through;
use super::{NEW, OLD, upn};
use crate::support::deadline;
use crate::support::ldap_proxy::{LdapProxy, Request};
use crate::support::samba::{Ou, dc};
use crate::support::scripted_relay::ScriptedRelay;

/// The system's clock, so many milliseconds ahead.
struct Ahead(AtomicU64);

impl Clock for Ahead {
    fn now_ms(&self) -> u64 {
        System.now_ms() + self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_read_that_lasts_until_exp_keeps_the_write_from_being_sent_and_the_outcome_is_expired() {
    let proxy = LdapProxy::start().await;
    let directory = Arc::new(ActiveDirectory::new(&through(&[&proxy])).unwrap());
    let user = dc().create_user("tara", Ou::Staff, OLD).await;
    directory.find(&upn(&user.upn)).await.unwrap();
    let asked = proxy.asked(Request::Search);
    let before = directory.find(&upn(&user.upn)).await.unwrap();
    let looks = proxy.asked(Request::Search) - asked;

    let (relay, dir) = (ScriptedRelay::start().await, tempfile::tempdir().unwrap());
    let home = Home::new(dir.path());
    enroll(&home, &relay.code(), Some(&relay.ca_file), System::clock(), System::random()).await.unwrap();
    let options = Options { ca_file: Some(relay.ca_file.clone()), ..Options::default() };
    let clock = Arc::new(Ahead(AtomicU64::new(0)));
    let agent = Agent::open(&home, directory.clone(), options, clock.clone(), System::random()).unwrap();
    let stop = CancellationToken::new();
    let ended = tokio::spawn(agent.run(stop.clone()));
    let mut session = relay.welcome().await;
    while !matches!(session.hear().await, FromAgent::Preflight(_)) {}

    // The account is found, and there was time; it is looked at once more, directly before the write.
    proxy.hold_after(looks, Request::Search);
    let command = relay.command(&user.upn, NEW);
    session.say(relay.deliver(&command)).await;
    proxy.holds(Request::Search).await;
    let lifetime = command.validity.iat.until(command.validity.exp);
    clock.0.store(u64::try_from(lifetime.as_millis()).unwrap(), Ordering::SeqCst);
    proxy.pass(Request::Search);
    let outcome = relay.read(&session.outcome().await.jws, &command);
    assert_eq!((outcome.status, outcome.retry_safe), (Status::Expired, true), "{:?}", outcome.detail);
    assert_eq!(proxy.asked(Request::Modify), 0);
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
    assert_eq!(directory.pwd_last_set(&before).await.unwrap(), before.pwd_last_set);

    session.stored(&command).await;
    stop.cancel();
    while session.next().await.is_some() {}
    deadline("the agent's end", ended).await.unwrap().unwrap();
}
