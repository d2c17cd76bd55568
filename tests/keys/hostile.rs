//! A relay that is not honest, beside an honest agent: it can hide a portal's new key, and nothing else.

use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::frame::{FromAgent, FromRelay, v1};
use writeback_relay::protocol::ids::{ObjectId, PortalId};
use writeback_relay::protocol::jose::SigningKey;
use writeback_relay::protocol::outcome::Status;
use writeback_relay::protocol::rotation::{About, Acknowledgement, PortalKey, PortalRotation};

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

    // Keys of its own, a chain of its own, a rotation of another relay's, one that the new key alone has signed, one with
    // another number than was signed.
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
    ] {
        carry(&mut socket, forged).await;
    }
    carry(&mut socket, genuine.clone()).await;
    let said = acknowledged(&mut socket, &relay).await;
    assert_eq!((said.seq, &said.key), (1, second.kid()));
    let refused = event_ids(running.dir.path()).iter().filter(|id| **id == 32003).count();
    assert_eq!(refused, 6);

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
    assert_eq!(refused, 6 + 4);
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
