//! A relay that is not honest, beside honest agents: it can hide a portal's new key, and nothing else.

use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::command::{Command, Subject};
use writeback_relay::protocol::frame::{FromAgent, FromRelay, v1};
use writeback_relay::protocol::ids::{ObjectId, PortalId};
use writeback_relay::protocol::jose::{SigningKey, base64url, from_base64url};
use writeback_relay::protocol::outcome::Status;
use writeback_relay::protocol::password::Password;
use writeback_relay::protocol::rotation::{About, Acknowledgement, PortalKey, PortalRotation};
use writeback_relay::protocol::sealed::{Secrets, seal_for};

use crate::agent::sessions::{JANE, Running};
use crate::support::scripted_relay::{ScriptedRelay, Socket, event_ids};

fn portal() -> PortalId {
    "portal-1".parse().unwrap()
}

fn rotation(relay: &str, old: &SigningKey, new: &SigningKey, seq: u64) -> PortalRotation {
    let (jti, iat) = (ObjectId::new(&System, &System), System.now());
    let about = About { iss: portal(), relay: relay.to_owned(), tenant: None, jti, iat };
    let key = |key: &SigningKey| PortalKey { signing: key.public().clone() };
    PortalRotation::new(about, seq, key(old), key(new), new).unwrap()
}

async fn carry(socket: &mut Socket, jws: String) {
    socket.say(FromRelay::PortalRotation(v1::PortalRotation { jws })).await;
}

async fn acknowledged(socket: &mut Socket, relay: &ScriptedRelay) -> Acknowledgement {
    loop {
        if let FromAgent::Acknowledgement(said) = socket.hear().await {
            let agent = relay.agent();
            let who = (agent.agent, &agent.tenant, &portal());
            return Acknowledgement::verify(&said.jws, [&agent.signing_key], who).unwrap();
        }
    }
}

#[tokio::test]
async fn a_relay_can_neither_make_nor_alter_nor_replay_a_portals_rotation() {
    let relay = ScriptedRelay::start().await;
    let running = Running::start(&relay).await;
    let mut socket = relay.welcome().await;
    let key = || SigningKey::generate(&System).unwrap();
    let (second, third, own) = (key(), key(), key());
    let (url, first) = (relay.url.as_str(), &relay.portal);

    // Keys of its own, a chain of its own, a rotation of another relay's, one with another number than the new key has
    // signed, and its own keys under the genuine signature.
    let genuine = rotation(url, first, &second, 1).sign(first).unwrap();
    let mut altered = rotation(url, first, &second, 1);
    altered.seq = 7;
    for forged in [
        rotation(url, first, &own, 1).sign(&own).unwrap(),
        rotation(url, &own, &third, 1).sign(&own).unwrap(),
        rotation("https://other.example", first, &second, 1).sign(first).unwrap(),
        altered.sign(first).unwrap(),
        genuine.replace('.', ".A"),
        genuine[..genuine.len() - 4].to_owned(),
        self::altered(&genuine, 1, |claims| *claims = claims_of(&rotation(url, first, &own, 1).sign(&own).unwrap())),
    ] {
        carry(&mut socket, forged).await;
    }
    carry(&mut socket, genuine.clone()).await;
    let said = acknowledged(&mut socket, &relay).await;
    assert_eq!((said.seq, &said.key), (1, second.kid()));
    let refused = event_ids(running.dir.path()).iter().filter(|id| **id == 32003).count();
    assert_eq!(refused, 7);

    // Once it has followed the next one, it does not go back, whatever it is shown again.
    carry(&mut socket, rotation(url, &second, &third, 2).sign(&second).unwrap()).await;
    assert_eq!(acknowledged(&mut socket, &relay).await.seq, 2);
    carry(&mut socket, genuine).await;
    carry(&mut socket, rotation(url, &third, first, 1).sign(&third).unwrap()).await;
    let command = relay.command(JANE, "New-Passw0rd-1");
    let deliver = |by: &SigningKey| {
        let (command_jws, traceparent) = (command.sign(by).unwrap(), String::new());
        FromRelay::Deliver(v1::Deliver { command_jws, traceparent, attempt: 1 })
    };
    // Neither the relay's key nor the first one, two rotations ago, makes a command.
    socket.say(deliver(&own)).await;
    socket.say(deliver(first)).await;
    socket.say(deliver(&third)).await;
    let outcome = socket.outcome().await;
    assert_eq!(relay.read(&outcome.jws, &command).status, Status::Succeeded);
    let refused = event_ids(running.dir.path()).iter().filter(|id| **id == 32003).count();
    assert_eq!(refused, 7 + 4);
}

#[tokio::test]
async fn a_portals_rotation_that_is_hidden_changes_nothing() {
    let relay = ScriptedRelay::start().await;
    let running = Running::start(&relay).await;
    let mut socket = relay.welcome().await;
    let second = SigningKey::generate(&System).unwrap();
    let command = relay.command(JANE, "New-Passw0rd-1");
    let (command_jws, traceparent) = (command.sign(&second).unwrap(), String::new());
    socket.say(FromRelay::Deliver(v1::Deliver { command_jws, traceparent, attempt: 1 })).await;
    socket.say(relay.deliver(&command)).await;
    let outcome = socket.outcome().await;
    assert_eq!(relay.read(&outcome.jws, &command).status, Status::Succeeded, "the key that is pinned is still good");
    assert!(event_ids(running.dir.path()).contains(&32003));
}

async fn hand(socket: &mut Socket, command_jws: &str) {
    let (command_jws, traceparent) = (command_jws.to_owned(), String::new());
    socket.say(FromRelay::Deliver(v1::Deliver { command_jws, traceparent, attempt: 1 })).await;
}

/// What a JWS says.
fn claims_of(jws: &str) -> serde_json::Value {
    serde_json::from_slice(&from_base64url(jws.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// The same signature over other claims, or another header.
fn altered(jws: &str, part: usize, change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut parts: Vec<String> = jws.split('.').map(str::to_owned).collect();
    let mut json = serde_json::from_slice(&from_base64url(&parts[part]).unwrap()).unwrap();
    change(&mut json);
    parts[part] = base64url(&serde_json::to_vec(&json).unwrap());
    parts.join(".")
}

/// What an agent did: how many resets it made, and how many commands it refused as not its portal's.
fn did(agent: &Running) -> (usize, usize) {
    let events = event_ids(agent.dir.path());
    let count = |id| events.iter().filter(|event| **event == id).count();
    (count(31002), count(32003))
}

#[tokio::test]
async fn a_relay_that_alters_redirects_and_replays_a_command_and_hands_it_to_two_agents_has_it_executed_once_as_it_was()
{
    let relay = ScriptedRelay::start().await;
    let named = Running::start(&relay).await;
    let mut to_named = relay.welcome().await;
    let command = relay.command(JANE, "New-Passw0rd-1");
    let (genuine, reader) = (command.sign(&relay.portal).unwrap(), relay.agent());
    let other = Running::start(&relay).await;
    let mut to_other = relay.welcome().await;

    // Its own password, sealed to the agent as anybody can.
    let mut resealed = Command { sealed: None, ..command.clone() };
    let own = Secrets { new_password: Password::new("The-Relays-0wn".into()).unwrap(), current_password: None };
    resealed.sealed = Some(seal_for(&resealed, &own, &reader.sealing_key, &System).unwrap());
    let mallory = SigningKey::generate(&System).unwrap();
    let forged = [
        resealed.sign(&mallory).unwrap(),
        altered(&genuine, 1, |claims| claims["sealed"] = resealed.sealed.clone().unwrap().into()),
        altered(&genuine, 1, |claims| {
            claims["sub_id"] = serde_json::to_value(Subject::upn("joe@corp.example").unwrap()).unwrap();
        }),
        altered(&genuine, 1, |claims| claims["exp"] = (claims["exp"].as_u64().unwrap() + 60).into()),
        altered(&genuine, 1, |claims| claims["options"]["unlock"] = true.into()),
        altered(&genuine, 0, |header| header["alg"] = "none".into()),
        altered(&genuine, 0, |header| header["kid"] = mallory.kid().to_string().into()),
        genuine.rsplit_once('.').unwrap().0.to_owned() + ".",
    ];
    for jws in &forged {
        hand(&mut to_named, jws).await;
    }
    // To the agent that it does not name, as it is, and with its name.
    hand(&mut to_other, &genuine).await;
    let aud = relay.agent().agent.to_string();
    hand(&mut to_other, &altered(&genuine, 1, |claims| claims["aud"] = aud.clone().into())).await;
    // And to the one that it names, again and again.
    for _ in 0..5 {
        hand(&mut to_named, &genuine).await;
    }
    let first = to_named.outcome().await;
    for _ in 0..3 {
        hand(&mut to_named, &genuine).await;
        assert_eq!(to_named.outcome().await, first, "the first outcome, byte for byte");
    }
    let read = writeback_relay::protocol::outcome::Outcome::verify(&first.jws, &reader.signing_key, &command).unwrap();
    assert_eq!(read.status, Status::Succeeded);
    assert_eq!(did(&named), (1, forged.len()));
    assert!(named.directory.password_is(JANE, "New-Passw0rd-1"));

    // The other one has heard all of it by the time that it answers to a command of its own.
    let own = relay.command(JANE, "New-Passw0rd-2");
    hand(&mut to_other, &own.sign(&relay.portal).unwrap()).await;
    let outcome = to_other.outcome().await;
    assert_eq!((&*outcome.command, did(&other)), (&*own.jti.to_string(), (1, 2)));
    assert!(other.directory.password_is(JANE, "New-Passw0rd-2"));
}
