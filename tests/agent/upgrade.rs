//! A folder that an older version has left behind, killed in the middle of its work, under this one. `home-1.tar.gz` was
//! written by the last version before the files had a number: an outcome that the relay has, one that it has not, and a
//! command that was started.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use writeback_relay::agent::directory::demo;
use writeback_relay::agent::home::Home;
use writeback_relay::agent::journal::{Entry, Journal, Stage};
use writeback_relay::agent::{Agent, Options};
use writeback_relay::clock::System;
use writeback_relay::protocol::command::Command as Claims;
use writeback_relay::protocol::frame::{FromRelay, v1};
use writeback_relay::protocol::outcome::Outcome;
use writeback_relay::protocol::password::Password;

use crate::support::agent::INITIAL_PASSWORD;
use crate::support::deadline;
use crate::support::scripted_relay::{ScriptedRelay, event_ids};

fn unpacked() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agent/home-1.tar.gz");
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--gzip", "--no-same-owner", "--file"]).arg(archive).current_dir(&dir);
    assert!(tar.status().unwrap().success());
    dir
}

#[tokio::test]
async fn an_older_versions_folder_is_opened_and_its_journal_goes_on_where_it_was() {
    let dir = unpacked();
    let home = Home::new(dir.path());
    let relay = ScriptedRelay::start().await;
    // It is enrolled at a relay that is no more.
    let file = dir.path().join("identity.json");
    let identity = home.identity().unwrap().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("\"format\""), "{text}");
    std::fs::write(&file, text.replace(&identity.relay, &relay.url)).unwrap();
    let keys = home.keys().unwrap().public();
    relay.knows(identity.agent, identity.tenant.clone(), identity.journal, &keys);

    let entries = Journal::open(&home.journal(), identity.journal).unwrap().open_entries().unwrap();
    let [
        Entry { stage: Stage::Concluded { outcome, stored: false }, .. },
        Entry { stage: Stage::Started { jws, .. }, .. },
    ] = &entries[..]
    else {
        panic!("the fixture holds something else")
    };
    let config = demo::Config {
        accounts: Vec::new(),
        initial_password: Password::new(INITIAL_PASSWORD.to_owned()).unwrap(),
        state_file: Some(dir.path().join("demo.json")),
        minimum_age_seconds: 0,
        delay_before_ms: 0,
        delay_after_ms: 0,
    };
    let directory = Arc::new(demo::Demo::configured(&config, System::clock(), System::random()).unwrap());
    let options = Options {
        ca_file: Some(relay.ca_file.clone()),
        recovery_interval: std::time::Duration::from_millis(10),
        ..Options::default()
    };
    let agent = Agent::open(&home, directory, options, System::clock(), System::random()).unwrap();
    let stop = CancellationToken::new();
    let ended = tokio::spawn(agent.run(stop.clone()));
    let mut session = relay.welcome().await;

    let started: Claims = Claims::parse(jws).unwrap().unverified().unwrap();
    let (mut first, mut second) = (None, None);
    while first.is_none() || second.is_none() {
        let said = session.outcome().await;
        match said.command == started.jti.to_string() {
            true => second = Some(said.jws),
            false => first = Some(said.jws),
        }
        session.say(FromRelay::OutcomeStored(v1::OutcomeStored { command: said.command })).await;
    }
    assert_eq!(first.as_ref(), Some(outcome), "not the first outcome, byte for byte");
    let second = second.unwrap();
    let found = Outcome::verify(&second, &keys.signing, &started).unwrap();
    assert_eq!((found.code.as_data(), found.retry_safe), ("interrupted", true), "{:?}", found.detail);
    // Asked once more, it is not executed once more.
    let again = v1::Deliver { command_jws: jws.clone(), traceparent: String::new(), attempt: 2 };
    session.say(FromRelay::Deliver(again)).await;
    // An outcome that was not acknowledged in time may come twice.
    while session.outcome().await.jws != second {}
    assert!(!event_ids(dir.path()).contains(&32003));
    stop.cancel();
    while session.next().await.is_some() {}
    deadline("the agent's end", ended).await.unwrap().unwrap();
}
