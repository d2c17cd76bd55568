//! A domain controller that takes longer over a write than an answer usually takes: nobody says "not done" of what it may
//! still do, and the account's next command waits.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use writeback_relay::agent::directory::active_directory::ActiveDirectory;
use writeback_relay::agent::home::Home;
use writeback_relay::agent::{Agent, Options, enroll};
use writeback_relay::clock::System;
use writeback_relay::protocol::frame::FromAgent;
use writeback_relay::protocol::outcome::Status;
use writeback_relay::storage::PrivateFile;

use super::{NEW, config};
use crate::support::fake_dc::{ACCOUNT, FakeDc};
use crate::support::scripted_relay::ScriptedRelay;
use crate::support::{deadline, eventually};

#[tokio::test]
async fn a_slow_controllers_late_answer_is_the_outcome_and_the_next_command_for_the_account_waits_for_it() {
    let dc = FakeDc::offering(&[]).await;
    let (relay, dir) = (ScriptedRelay::start().await, tempfile::tempdir().unwrap());
    let password = PrivateFile::new(dir.path().join("bind-password"));
    password.replace("anything").unwrap();
    let mut config = config();
    (config.url, config.ca_file) = (vec![dc.url.clone()], Some(dc.ca_file.clone()));
    (config.bind_password_file, config.operation_timeout_seconds) = (password.path().to_owned(), 1);
    let home = Home::new(dir.path().join("home"));
    enroll(&home, &relay.code(), Some(&relay.ca_file), System::clock(), System::random()).await.unwrap();
    let options = Options {
        ca_file: Some(relay.ca_file.clone()),
        recovery_interval: Duration::from_millis(20),
        backoff_max: Duration::from_millis(50),
        ..Options::default()
    };
    let directory = Arc::new(ActiveDirectory::new(&config).unwrap());
    let agent = Agent::open(&home, directory, options, System::clock(), System::random()).unwrap();
    let stop = CancellationToken::new();
    let ended = tokio::spawn(agent.run(stop.clone()));
    let mut session = relay.welcome().await;
    while !matches!(session.hear().await, FromAgent::Preflight(_)) {}

    dc.work();
    let (first, next) = (relay.command(ACCOUNT, NEW), relay.command(ACCOUNT, "Third-Passw0rd-3"));
    session.say(relay.deliver(&first)).await;
    eventually("the controller works on the write", || std::future::ready(dc.modifies().len() == 1)).await;
    session.say(relay.deliver(&next)).await;
    // Found, read before the write, found for the next command; and then the agent asks whether it has been done.
    eventually("the agent asks what became of it", || std::future::ready(dc.searches() >= 3 + 20)).await;
    assert_eq!(dc.modifies().len(), 1, "the next command has not overtaken it");
    dc.finish();
    for command in [&first, &next] {
        let said = session.outcome().await;
        assert_eq!(said.command, command.jti.to_string());
        let outcome = relay.read(&said.jws, command);
        assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.detail);
        session.stored(command).await;
    }
    assert_eq!(dc.modifies().len(), 2);
    stop.cancel();
    while session.next().await.is_some() {}
    deadline("the agent's end", ended).await.unwrap().unwrap();
}
